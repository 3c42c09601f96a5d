//! The machine's life: boot it where it is not up, find out how it is, end it.
//!
//! One machine per work tree. Everything that changes its state holds the lock of the run
//! directory, so that programs that need the machine at the same time boot it once.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use super::accel::{self, Accel};
use super::client;
use super::image::{self, Image};
use super::machine;
use super::paths::{Paths, short_hex};
use super::preflight::{QEMU, ensure_packages};
use super::progress::{Progress, tail};
use super::share;

/// How long a boot may take. Emulated on a busy host it takes about 15 s.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// How long QEMU may take to end when asked to.
const QUIT_LIMIT: Duration = Duration::from_secs(5);

/// Makes sure that the machine is up and ready for jobs. Builds and boots what is missing.
///
/// # Errors
/// Where that fails; the message has what the guest's console said last.
pub fn ensure_up(paths: &Paths) -> Result<()> {
    let progress = Progress::start();
    let _lock = lock(paths, progress)?;
    if let Some(reason) = stale(paths) {
        progress.say(format_args!("restarting the machine: {reason}"));
        end(paths)?;
    }
    if process(paths).is_some() {
        return Ok(());
    }
    let mut log = File::create(paths.run.join("packages.log"))?;
    ensure_packages(progress, &mut log)?;
    let image = image::ensure(paths, progress)?;
    let accel = accel::choose(paths, &image, progress)?;
    match boot(paths, &image, accel, progress) {
        Err(error) if accel == Accel::Kvm => {
            progress.say(format_args!(
                "KVM does not carry the guest, going on without: {error:#}"
            ));
            accel::remember(paths, Accel::Tcg)?;
            boot(paths, &image, Accel::Tcg, progress)
        }
        result => result,
    }
}

/// Ends the machine; answers whether there was one.
///
/// # Errors
/// Where it can't be ended.
pub fn down(paths: &Paths) -> Result<bool> {
    let _lock = lock(paths, Progress::start())?;
    end(paths)
}

/// QEMU's process, where it runs.
pub fn process(paths: &Paths) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(paths.pid_file())
        .ok()?
        .trim()
        .parse()
        .ok()?;
    // A process id may have a new owner: ours names our run directory on its command line.
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = paths.pid_file();
    let is_ours = command_line
        .split(|byte| *byte == 0)
        .any(|word| word == ours.as_os_str().as_encoded_bytes());
    is_ours.then(|| Pid::from_raw(pid))
}

/// What the guest's console and QEMU said last, for a message about a machine in trouble.
pub fn last_words(paths: &Paths) -> String {
    let text = fs::read(paths.serial_log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    if lines.is_empty() {
        return "its console is empty".to_owned();
    }
    format!(
        "the end of its console ({}):\n{}",
        paths.serial_log().display(),
        tail(&lines)
    )
}

fn lock(paths: &Paths, progress: Progress) -> Result<File> {
    let path = paths.run.join("vm.lock");
    let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if lock.try_lock().is_err() {
        progress.say("waiting for another `lab` that starts or ends the machine");
        lock.lock()?;
    }
    Ok(lock)
}

fn boot(paths: &Paths, image: &Image, accel: Accel, progress: Progress) -> Result<()> {
    share::forget_tests(paths)?;
    share::install_runner(paths)?;
    let arguments = machine::arguments(paths, image, accel);
    let identity = fresh_identity(paths)?;
    let started = Command::new(QEMU)
        .args(&arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {QEMU}"))?;
    if !started.status.success() {
        let words = String::from_utf8_lossy(&started.stderr);
        bail!(
            "QEMU refused the machine ({}): {}",
            started.status,
            words.trim()
        );
    }
    fs::write(paths.run.join("identity"), &identity)?;
    fs::write(paths.run.join("fingerprint"), fingerprint(&arguments))?;
    progress.say("booting the guest");
    if let Err(error) = client::wait_ready(paths, BOOT_LIMIT) {
        let error = anyhow!("the guest did not boot: {error}; {}", last_words(paths));
        end(paths)?;
        return Err(error);
    }
    progress.say("the guest is ready");
    Ok(())
}

/// Why a machine that is up is not the one that this program would boot, if so.
fn stale(paths: &Paths) -> Option<&'static str> {
    process(paths)?;
    let read = |path: &Path| fs::read_to_string(path).ok();
    // Whoever removes the target folder takes the guest's share away under it.
    if read(&paths.run.join("identity")) != read(&paths.share.join("sys/identity")) {
        return Some("its shared folder was removed");
    }
    let Some(image) = image::cached(paths) else {
        return Some("the recipe of its image has changed");
    };
    let known = read(&paths.run.join("fingerprint"))?;
    let current = |accel| fingerprint(&machine::arguments(paths, &image, accel));
    let same = [Accel::Tcg, Accel::Kvm]
        .into_iter()
        .any(|accel| current(accel) == known);
    (!same).then_some("its image or its devices have changed")
}

fn fingerprint(arguments: &[std::ffi::OsString]) -> String {
    let mut digest = Sha256::new();
    for argument in arguments {
        digest.update(argument.as_encoded_bytes());
        digest.update([0]);
    }
    short_hex(&digest.finalize())
}

/// Marks the share as this machine's.
fn fresh_identity(paths: &Paths) -> Result<String> {
    let identity = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    fs::write(paths.share.join("sys/identity"), &identity)?;
    Ok(identity)
}

fn end(paths: &Paths) -> Result<bool> {
    let Some(pid) = process(paths) else {
        return Ok(false);
    };
    // The answer to `quit` is the end of the connection, which is the end of the process.
    if quit(paths).is_err() {
        kill(pid, Signal::SIGKILL).with_context(|| format!("cannot end QEMU, process {pid}"))?;
    }
    fs::remove_file(paths.pid_file()).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    Ok(true)
}

/// Asks QEMU to end, in its machine protocol (QMP), and waits until it has.
fn quit(paths: &Paths) -> Result<()> {
    let mut socket = UnixStream::connect(paths.run.join("qmp.sock"))?;
    socket.set_read_timeout(Some(QUIT_LIMIT))?;
    socket.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n")?;
    socket.read_to_end(&mut Vec::new())?;
    Ok(())
}
