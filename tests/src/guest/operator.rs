//! The operator: `xpuctl` as a person runs it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::command;

/// Runs `xpuctl` with a line of words; answers with what it printed.
///
/// # Errors
/// Where it refuses; the message has its own words.
pub fn xpuctl(line: &str) -> Result<String> {
    // Longer than the agent's own limit, which is long because the processor is emulated.
    command::run(&format!("xpuctl --timeout 40s {line}"))
}

/// Creates an object and asserts that it is up, with the components' words if it is not.
///
/// # Errors
/// Where it is refused, or not up when the agent answers.
pub fn create(line: &str) -> Result<Value> {
    let printed = xpuctl(&format!("-o json create {line}"))?;
    let object = command::parse_json("xpuctl create", &printed)?;
    let state = object["status"]["operStatus"].as_str().unwrap_or_default();
    ensure!(
        state.ends_with("_UP"),
        "`create {line}` is {state}: {}; {}",
        object["status"]["components"],
        super::agent::log_tail()
    );
    Ok(object)
}

/// Reads an object.
///
/// # Errors
/// Where there is none.
pub fn get(kind: &str, name: &str) -> Result<Value> {
    let printed = xpuctl(&format!("-o json get {kind} {name}"))?;
    command::parse_json("xpuctl get", &printed)
}

/// Whether an object is up, as an assertion for waits.
///
/// # Errors
/// Where it is not; the message has its components.
pub fn is_up(kind: &str, name: &str) -> Result<()> {
    let object = get(kind, name)?;
    let state = object["status"]["operStatus"].as_str().unwrap_or_default();
    ensure!(
        state.ends_with("_UP"),
        "{name} is {state}: {}",
        object["status"]["components"]
    );
    Ok(())
}

/// The names of a kind's objects.
///
/// # Errors
/// As of [`xpuctl`].
pub fn names(kind: &str) -> Result<Vec<String>> {
    let printed = xpuctl(&format!("-o name list {kind}"))?;
    Ok(printed.lines().map(str::to_owned).collect())
}

/// What a refused command said on standard error, and its exit code.
///
/// # Errors
/// Where the command succeeds.
pub fn refusal(line: &str) -> Result<(i32, String)> {
    let words: Vec<_> = std::iter::once("xpuctl")
        .chain(line.split_whitespace())
        .collect();
    let output = command::outcome(&words)?;
    ensure!(!output.status.success(), "`xpuctl {line}` succeeded");
    let code = output.status.code().context("killed")?;
    Ok((code, String::from_utf8_lossy(&output.stderr).into_owned()))
}
