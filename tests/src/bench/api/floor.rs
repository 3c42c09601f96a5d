//! What a client meets beside others even if no agent has a part in it: the kernel's work for
//! writes that are made durable, and for bytes that a socket takes and throws away.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::FileExt,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

/// A thread that does the same over and over, as any process of the machine may.
#[derive(Debug)]
pub struct Work {
    /// Dropped, it ends the thread.
    stop: Sender<()>,
    thread: JoinHandle<io::Result<u32>>,
}

impl Work {
    /// Does it over and over, with a `pause` before each time.
    fn start(pause: Duration, mut round: impl FnMut() -> io::Result<()> + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut rounds = 0;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                round()?;
                rounds += 1;
            }
            Ok(rounds)
        });
        Self { stop, thread }
    }

    /// Ends it; how many rounds it was.
    ///
    /// # Errors
    /// Where one had failed.
    pub fn end(self) -> Result<u32> {
        drop(self.stop);
        let ended = self.thread.join();
        Ok(ended.map_err(|_| anyhow!("it panicked"))??)
    }
}

/// Writes 4 KiB over again in a file and makes that durable, with a `pause` before each time.
///
/// # Errors
/// Where there can't be such a file.
pub fn durable_writes(path: &Path, pause: Duration) -> Result<Work> {
    let file = File::create(path).with_context(|| format!("{}", path.display()))?;
    // Its blocks are there, so that a round is what a round of a database is.
    file.write_all_at(&[7; 4096], 0)?;
    file.sync_all()?;
    Ok(Work::start(pause, move || {
        file.write_all_at(&[7; 4096], 0)?;
        file.sync_data()
    }))
}

/// Looks for HTTP requests after pauses of a millisecond, and refuses each after its head.
///
/// # Errors
/// Where it can't listen on loopback.
pub fn refuser() -> Result<(SocketAddr, Work)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let work = Work::start(Duration::from_millis(1), move || {
        loop {
            match listener.accept() {
                Ok((client, _)) => refuse(client)?,
                Err(none) if none.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    Ok((address, work))
}

fn refuse(mut client: TcpStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let mut head = [0; 512];
    let _ = client.read(&mut head)?;
    // The client may have gone.
    let _ = client.write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n");
    Ok(())
}
