//! What probes, Prometheus and plain clients ask the agent, as plain as HTTP gets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::agent;
use super::command::parse_json;
use super::netns::Netns;

/// Where the agent listens.
const ADDRESS: &str = "127.0.0.1:8082";
/// Longer than the agent's own limit in the lab.
const LIMIT: Duration = Duration::from_secs(40);

/// `GET path` from the agent's own namespace: the status and the body.
///
/// # Errors
/// Where nobody answers in time, or what comes is no HTTP.
pub fn get(netns: &Netns, path: &str) -> Result<(u16, String)> {
    send(netns, "GET", path, None)
}

/// A request from the agent's own namespace, with JSON in its body: the status and the body of the
/// answer.
///
/// # Errors
/// As of [`get`].
pub fn send(
    netns: &Netns,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, String)> {
    let (kind, body) = match body {
        Some(body) => ("Content-Type: application/json\r\n", body.to_string()),
        None => ("", String::new()),
    };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: agent\r\nAccept: */*\r\n{kind}\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let answer = netns.within(|| {
        let mut stream = TcpStream::connect(ADDRESS).context(ADDRESS)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// `/readyz`: whether the agent is ready, and the answer.
///
/// # Errors
/// As of [`get`], and where the status contradicts the answer.
pub fn readiness(netns: &Netns) -> Result<(bool, Value)> {
    let (status, body) = get(netns, "/readyz")?;
    let answer = parse_json("/readyz", &body)?;
    let ready = status == 200;
    ensure!(
        answer["ready"] == ready && (ready || status == 503),
        "{status} {answer}"
    );
    Ok((ready, answer))
}

/// Fails unless the agent is ready, with its first passes behind it.
///
/// # Errors
/// As of [`readiness`], and where it is not ready.
pub fn is_ready(netns: &Netns) -> Result<()> {
    let (ready, answer) = readiness(netns)?;
    ensure!(ready, "{answer}; {}", agent::log_tail());
    Ok(())
}

/// The sum of a metric's samples whose line has all of these words.
///
/// # Errors
/// As of [`get`].
pub fn metric(netns: &Netns, name: &str, words: &[&str]) -> Result<f64> {
    let (status, text) = get(netns, "/metrics")?;
    ensure!(status == 200, "/metrics: {status}");
    let of = |line: &&str| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && words.iter().all(|word| line.contains(word))
    };
    let values = text.lines().filter(of).map(|line| {
        let value = line.rsplit(' ').next().unwrap_or_default();
        value.parse::<f64>().with_context(|| line.to_owned())
    });
    values.sum()
}
