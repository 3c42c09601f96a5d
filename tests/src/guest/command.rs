//! Running programs: what they printed, or an error that says what was run and why it failed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Runs a line of words without blanks in them, no shell; answers with its standard output.
///
/// # Errors
/// Where it can't be started or exits with anything but 0; the message has its standard error.
pub fn run(line: &str) -> Result<String> {
    run_words(&line.split_whitespace().collect::<Vec<_>>())
}

/// Runs a program with arguments as they are; answers with its standard output.
///
/// # Errors
/// As of [`run`].
pub fn run_words(words: &[&str]) -> Result<String> {
    succeed(words, output(words, None)?)
}

/// Runs a program that reads `input`; answers with its standard output.
///
/// # Errors
/// As of [`run`].
pub fn run_with_input(words: &[&str], input: &str) -> Result<String> {
    let output = output(words, Some(input))?;
    succeed(words, output).with_context(|| format!("its input was:\n{input}"))
}

/// Runs a program that puts itself into the background, and waits until it has. Such a program
/// keeps its standard streams, so they go to a file.
///
/// # Errors
/// As of [`run`]; the message has what it wrote to the file.
pub fn run_daemon(words: &[&str], log: &Path) -> Result<()> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let streams = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(streams.try_clone()?)
        .stderr(streams)
        .status()
        .with_context(|| format!("cannot start `{}`", words.join(" ")))?;
    if !status.success() {
        let said = fs::read_to_string(log).unwrap_or_default();
        bail!("`{}` failed ({status}): {}", words.join(" "), said.trim());
    }
    Ok(())
}

/// Runs a program and leaves its exit code to the caller.
///
/// # Errors
/// Where it can't be started.
pub fn outcome(words: &[&str]) -> Result<Output> {
    output(words, None)
}

/// Runs a line like [`run`] and reads its standard output as JSON.
///
/// # Errors
/// As of [`run`], and where the output is no JSON.
pub fn json(line: &str) -> Result<Value> {
    parse_json(line, &run(line)?)
}

/// Reads what `command` printed as JSON.
///
/// # Errors
/// Where it is no JSON; the message has both.
pub fn parse_json(command: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("`{command}` printed no JSON: {text:?}"))
}

/// Starts a program that reads nothing, and whose standard output the caller reads.
///
/// # Errors
/// Where it can't be started.
pub fn start(words: &[&str], stderr: Stdio) -> Result<Child> {
    spawn(words, Stdio::null(), stderr)
}

fn spawn(words: &[&str], stdin: Stdio, stderr: Stdio) -> Result<Child> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    Command::new(program)
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .with_context(|| format!("cannot start `{}`", words.join(" ")))
}

fn output(words: &[&str], input: Option<&str>) -> Result<Output> {
    let stdin = match input {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    };
    let mut child = spawn(words, stdin, Stdio::piped())?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A program that ends without reading says why by its exit code.
        let _ = stdin.write_all(input.as_bytes());
    }
    Ok(child.wait_with_output()?)
}

fn succeed(words: &[&str], output: Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            words.join(" "),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_input_pass_through() {
        assert_eq!(run("echo a b").expect("runs"), "a b\n");
        assert_eq!(
            run_with_input(&["tr", "a", "b"], "aXa").expect("runs"),
            "bXb"
        );
        assert_eq!(json("echo {\"a\":1}").expect("runs")["a"], 1);
    }

    #[test]
    fn a_daemon_that_keeps_its_streams_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let log = folder.path().join("log");
        let start = std::time::Instant::now();
        run_daemon(&["sh", "-c", "sleep 5 & echo up"], &log).expect("starts");
        assert!(start.elapsed().as_secs() < 5);
        let error = run_daemon(&["sh", "-c", "echo no socket; exit 1"], &log).expect_err("fails");
        assert!(error.to_string().contains("no socket"), "{error}");
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = run("ls /no/such/place").expect_err("fails").to_string();
        assert!(
            error.contains("`ls /no/such/place`") && error.contains("No such"),
            "{error}"
        );
    }
}
