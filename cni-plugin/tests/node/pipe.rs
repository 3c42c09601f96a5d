//! A call that is stopped in the middle: at a named pipe, whose reader and whose writer wait for
//! each other.

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::{
    harness::{Answer, Node, run},
    scripts,
};

/// Makes a pipe.
pub fn make(path: &Path) {
    run("mkfifo", &[path.to_str().unwrap()]);
}

/// Makes a program that waits, once, until the node's pipe has been written to or closed. Gives its
/// path.
pub fn make_waiter(node: &Node) -> String {
    let (pipe, waiter) = (node.root.path().join("pipe"), node.root.path().join("wait"));
    make(&pipe);
    let at = pipe.display();
    let script = format!("[ ! -p {at} ] || {{ cat {at}; rm {at}; }} > /dev/null");
    scripts::write(&waiter, &script);
    waiter.to_str().unwrap().to_owned()
}

/// Makes a call and, when it has come to the pipe, does what is to be done meanwhile, with the
/// pipe's other end. The call goes on when that is written to or closed.
#[track_caller]
pub fn stopped_at(
    pipe: &Path,
    call: impl FnOnce() -> Answer,
    meanwhile: impl FnOnce(File) + Send,
) -> Answer {
    let has_ended = AtomicBool::new(false);
    let (answer, came) = thread::scope(|scope| {
        let meanwhile = scope.spawn(|| {
            // Waits for who reads.
            let end = File::options().write(true).open(pipe).unwrap();
            let came = !has_ended.load(Ordering::SeqCst);
            if came {
                meanwhile(end);
            }
            came
        });
        let answer = call();
        has_ended.store(true, Ordering::SeqCst);
        // Lets go of one that still waits, for a call that never came to the pipe.
        let mut options = File::options();
        let _gone = options.read(true).custom_flags(libc::O_NONBLOCK).open(pipe);
        (answer, meanwhile.join().unwrap())
    });
    assert!(came, "it never came to the pipe: {answer:?}");
    answer
}
