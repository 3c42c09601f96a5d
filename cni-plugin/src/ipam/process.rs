//! An IPAM plugin's process: started, fed, read, and gone by its deadline.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl::set_pdeathsig,
        signal::Signal,
    },
    unistd::{getpid, getppid},
};
use serde::{Deserialize, de::IgnoredAny};

use super::{Delegate, IpamError, find, nullable};
use crate::budget::{IPAM_LATECOMERS, IPAM_LEAST};

/// The most that is read of an answer; an honest one has some hundred bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Runs the executable with our environment and the network's configuration, and reads its answer.
///
/// # Errors
/// [`IpamError::NotFound`], [`IpamError::NoTime`] and [`IpamError::Run`] when nothing was run;
/// [`IpamError::Deadline`] when it was killed, and may have done its work or not;
/// [`IpamError::Failed`] and [`IpamError::Answer`] when it says no, or nothing that can be read.
pub fn run(call: &Delegate<'_>) -> Result<Vec<u8>, IpamError> {
    let program = find(call.name, call.path)?;
    if call.deadline.saturating_duration_since(Instant::now()) < IPAM_LEAST {
        return Err(IpamError::NoTime { program });
    }
    let failed = |source| IpamError::Run {
        program: program.clone(),
        source,
    };
    let mut command = Command::new(&program);
    // The rest of our environment goes along, as the specification asks.
    command
        .env("CNI_COMMAND", call.command)
        .env("CNI_PATH", call.path);
    match call.attachment {
        Some(attachment) => command
            .env("CNI_CONTAINERID", &attachment.container_id)
            .env("CNI_IFNAME", attachment.ifname.as_str()),
        None => command
            .env_remove("CNI_CONTAINERID")
            .env_remove("CNI_IFNAME"),
    };
    match call
        .attachment
        .and_then(|attachment| attachment.netns.as_ref())
    {
        Some(netns) => command.env("CNI_NETNS", netns),
        None => command.env_remove("CNI_NETNS"),
    };
    match call.args {
        Some(args) => command.env("CNI_ARGS", args),
        None => command.env_remove("CNI_ARGS"),
    };
    // If we are killed our locks are released, so the child must die with us, or it would allocate
    // unlocked.
    let parent = getpid();
    let with_us = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // If we were killed before that, no signal will come.
        if getppid() == parent {
            Ok(())
        } else {
            Err(Errno::ESRCH.into())
        }
    };
    // SAFETY: between fork and exec nothing but prctl(2) and getppid(2) runs, which are
    // async-signal-safe.
    unsafe { command.pre_exec(with_us) };
    let stdin = memory_file(call.config).map_err(failed)?;
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(failed)?;
    let ended = answer_of(&mut child, call.deadline);
    let (answer, status) = match ended {
        Ok(Some(ended)) => ended,
        Ok(None) => {
            reap(&mut child);
            return Err(IpamError::Deadline { program });
        }
        Err(source) => {
            reap(&mut child);
            let reason = format!("{}: {source}", program.display());
            return Err(IpamError::Answer { reason });
        }
    };
    if status.success() {
        Ok(answer)
    } else {
        Err(refusal(call.name, &status.to_string(), &answer))
    }
}

/// The configuration as a file: unlike a pipe it never blocks the writer, whatever
/// the reader does.
fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"cni-config", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Waits for the end of a process and reads what it has written; `None` when its end doesn't come by
/// the deadline.
fn answer_of(child: &mut Child, deadline: Instant) -> io::Result<Option<(Vec<u8>, ExitStatus)>> {
    let process = pidfd(child)?;
    let Some(answer) = read_answer(child, &process, deadline)? else {
        return Ok(None);
    };
    let status = wait(child, &process, deadline)?;
    Ok(status.map(|status| (answer, status)))
}

/// Reads stdout to its end, or to what is there when the process has ended: another that it has
/// started may hold it open. `None` when neither comes by the deadline.
fn read_answer(
    child: &mut Child,
    process: &OwnedFd,
    deadline: Instant,
) -> io::Result<Option<Vec<u8>>> {
    let Some(mut stdout) = child.stdout.take() else {
        return Ok(Some(Vec::new()));
    };
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    // Until when others may write, once the process has ended.
    let mut ended: Option<Instant> = None;
    loop {
        let written = PollFd::new(stdout.as_fd(), PollFlags::POLLIN);
        let ends = PollFd::new(process.as_fd(), PollFlags::POLLIN);
        let mut both = [written, ends];
        let found = match ended {
            Some(_) if is_document(&answer) => poll(&mut both[..1], PollTimeout::ZERO),
            Some(until) => poll(&mut both[..1], left(until)),
            None => poll(&mut both, left(deadline)),
        };
        match found {
            Ok(0) => return Ok(ended.map(|_| answer)),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        let [written, _] = both;
        if !written.any().unwrap_or(true) {
            // All that it wrote is there now, but may not have been when that was looked at.
            ended = Some(deadline.min(Instant::now() + IPAM_LATECOMERS));
            continue;
        }
        let read = stdout.read(&mut chunk)?;
        if read == 0 {
            return Ok(Some(answer));
        }
        answer.extend(&chunk[..read]);
        if u64::try_from(answer.len()).is_ok_and(|length| length > MAX_ANSWER) {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "its answer does not end",
            ));
        }
    }
}

fn is_document(answer: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(answer).is_ok()
}

/// Waits for the end of a process that has closed its stdout, which need not be the same; `None`
/// when that doesn't come by the deadline.
fn wait(child: &mut Child, process: &OwnedFd, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    // Most are done by now.
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    loop {
        match poll(
            &mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)],
            left(deadline),
        ) {
            Ok(0) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return child.wait().map(Some),
        }
    }
}

/// A descriptor that becomes readable when the process ends.
fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two numbers; the process is our child and not reaped yet, so the
    // id is still its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = Errno::result(fd)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The time until a deadline, as `poll` takes it.
fn left(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX)
}

fn reap(child: &mut Child) {
    // It may have ended by itself meanwhile; either way nothing of it must stay.
    let _ended = child.kill();
    let _reaped = child.wait();
}

/// An answer that is an error, or none at all.
pub fn refusal(name: &str, status: &str, answer: &[u8]) -> IpamError {
    #[derive(Deserialize)]
    struct Document {
        code: u32,
        #[serde(default, deserialize_with = "nullable")]
        msg: String,
        #[serde(default, deserialize_with = "nullable")]
        details: String,
    }
    let name = name.to_owned();
    match serde_json::from_slice::<Document>(answer) {
        Ok(Document { code, msg, details }) => IpamError::Failed {
            name,
            code,
            msg,
            details,
        },
        Err(_) => IpamError::Answer {
            reason: format!("{name} ended with {status} and no error document"),
        },
    }
}
