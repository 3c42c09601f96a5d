//! A test's binary over several machines: its tests are dealt out, and each machine runs its hand.
//!
//! Most of an end-to-end test is waiting for what converges by its own clocks, so two machines on
//! two processors take little more than half the time of one.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::paths::{MACHINE, MOST_MACHINES};

/// How many machines tests may be dealt to.
const MACHINES: &str = "XPU_LAB_MACHINES";
/// Memory, in KiB, that must be available for each: what the guest has, and QEMU's own.
const MEMORY_KIB: u64 = 4 << 20;
/// What libtest takes beside names and leaves each machine's run as it is.
const PLAIN: [&str; 4] = [
    "--ignored",
    "--include-ignored",
    "--nocapture",
    "--show-output",
];

/// The hands of a test's binary, where it is for more than one machine; empty where it is not:
/// one machine is wanted, memory is short, or the arguments ask for more than some tests.
///
/// # Errors
/// Where the binary doesn't list its tests.
pub fn hands(binary: &Path, arguments: &[String]) -> Result<Vec<Vec<String>>> {
    let machines = wanted()?.min(affordable()?);
    let is_plain = |word: &String| !word.starts_with('-') || PLAIN.contains(&word.as_str());
    if machines < 2 || !arguments.iter().all(is_plain) {
        return Ok(Vec::new());
    }
    let names = names(binary, arguments)?;
    Ok(deal(&names, machines))
}

fn wanted() -> Result<usize> {
    let Ok(text) = std::env::var(MACHINES) else {
        return Ok(1);
    };
    let number = text.parse().ok();
    number
        .filter(|number| (1..=MOST_MACHINES).contains(number))
        .with_context(|| format!("{MACHINES} is {text:?}: it takes 1 to {MOST_MACHINES}"))
}

fn affordable() -> Result<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    let available = number.context("/proc/meminfo has no MemAvailable")?;
    Ok(usize::try_from(available / MEMORY_KIB)?.max(1))
}

/// The tests of a binary that has libtest's `main`; others list none.
fn names(binary: &Path, arguments: &[String]) -> Result<Vec<String>> {
    let listed = Command::new(binary)
        .args(["--list", "--format", "terse"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    ensure!(
        listed.status.success(),
        "{} lists no tests ({})",
        binary.display(),
        listed.status
    );
    let text = String::from_utf8(listed.stdout)?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// Deals one by one: tests of one subject, which often take alike, go to different machines.
fn deal(names: &[String], machines: usize) -> Vec<Vec<String>> {
    if names.len() < 2 {
        return Vec::new();
    }
    let mut hands = vec![Vec::new(); machines.min(names.len())];
    let count = hands.len();
    for (number, name) in names.iter().enumerate() {
        hands[number % count].push(name.clone());
    }
    hands
}

/// Runs each hand on its machine, all at once; answers with the first exit code that is not 0.
///
/// # Errors
/// Where one can't be run.
pub fn run(binary: &Path, arguments: &[String], hands: &[Vec<String>]) -> Result<i32> {
    let own = std::env::current_exe()?;
    let flags = arguments.iter().filter(|word| word.starts_with('-'));
    let flags: Vec<_> = flags.collect();
    let run = |machine: usize, hand: &[String]| -> Result<i32> {
        let mut child = Command::new(&own)
            .arg("test")
            .arg(binary)
            .args(&flags)
            .arg("--exact")
            .args(hand)
            .env(MACHINE, machine.to_string())
            .env_remove(MACHINES)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            scope.spawn(|| pass(stderr, std::io::stderr()));
            pass(stdout, std::io::stdout());
        });
        Ok(child.wait()?.code().unwrap_or(1))
    };
    std::thread::scope(|scope| {
        let runs: Vec<_> = (1..)
            .zip(hands)
            .map(|(machine, hand)| scope.spawn(move || run(machine, hand)))
            .collect();
        let mut code = 0;
        for run in runs {
            let ended = match run.join() {
                Ok(ended) => ended?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            code = if code == 0 { ended } else { code };
        }
        Ok(code)
    })
}

/// Whole lines, so that those of two machines don't run into each other.
fn pass(from: Option<impl Read>, mut to: impl Write) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        // Nobody reads any more: the tests' exit code still counts.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_are_dealt_once_and_alike() {
        let names = texts(&["a", "b", "c", "d", "e"]);
        assert_eq!(
            deal(&names, 2),
            [texts(&["a", "c", "e"]), texts(&["b", "d"])]
        );
        assert_eq!(deal(&texts(&["a", "b"]), 4).len(), 2);
        assert!(deal(&texts(&["a"]), 2).is_empty(), "one machine will do");
    }

    #[test]
    fn a_binary_is_asked_for_its_tests() {
        let own = std::env::current_exe().expect("this test's binary");
        let all = names(&own, &texts(&["lab::deal"])).expect("listed");
        assert!(all.contains(&"lab::deal::tests::all_are_dealt_once_and_alike".to_owned()));
        assert!(all.iter().all(|name| name.contains("lab::deal")), "{all:?}");
    }
}
