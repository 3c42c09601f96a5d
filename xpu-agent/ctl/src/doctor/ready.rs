//! What the agent's `/readyz` says: 200, or 503 and what is waited for.

use std::future;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::http::uri::Authority;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::Uri;

use super::Finding;
use crate::args::bare;
use crate::connect::https;
use crate::failure::chain;
use crate::settings::TlsFiles;

const WHAT: &str = "readiness";

/// More than this is no answer of an agent.
const LARGEST: usize = 64 << 10;

type Any = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Deserialize)]
struct Answer {
    ready: bool,
    #[serde(default)]
    waiting: Vec<Waiting>,
}

#[derive(Debug, Deserialize)]
struct Waiting {
    #[serde(rename = "for")]
    what: String,
    reason: String,
}

/// Asks, over TLS with these files where the URL says so; `answers` is whether the agent's API
/// does.
pub async fn finding(url: &str, files: &TlsFiles, timeout: Duration, answers: bool) -> Finding {
    let asked = tokio::time::timeout(timeout, ask(url, files)).await;
    let answer = asked.unwrap_or_else(|_| Err("no answer in time".into()));
    match answer {
        Ok(answer) => judge(url, &answer),
        // Without HTTP the API still works.
        Err(error) if answers => Finding::notice(
            WHAT,
            format!("{url}/readyz can't be asked: {}", chain(error.as_ref())),
            "see `http.listen` in the agent's configuration; --http names another address",
        ),
        Err(error) => Finding::wrong(
            WHAT,
            format!("{url}/readyz can't be asked: {}", chain(error.as_ref())),
            "start the agent: systemctl start xpu-agent",
        ),
    }
}

fn judge(url: &str, answer: &Answer) -> Finding {
    let waiting = answer.waiting.iter();
    let waiting: Vec<_> = waiting
        .map(|it| format!("{}: {}", it.what, it.reason))
        .collect();
    match answer.ready {
        true => Finding::fine(WHAT, format!("{url}/readyz says ready")),
        false => Finding::wrong(
            WHAT,
            format!("the agent waits: {}", waiting.join("; ")),
            "do what the reasons say; the agent's log has more: journalctl -u xpu-agent",
        ),
    }
}

async fn ask(url: &str, files: &TlsFiles) -> Result<Answer, Any> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or("there is no host in it")?;
    match uri.scheme_str() {
        Some("http") => {
            let address = (bare(authority.host()), authority.port_u16().unwrap_or(80));
            exchange(TcpStream::connect(address).await?, authority).await
        }
        Some("https") => exchange(https(&uri, files).await?, authority).await,
        _ => Err("only http:// and https:// can be asked".into()),
    }
}

/// One request and its answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    authority: &Authority,
) -> Result<Answer, Any> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz")
        .header("host", authority.as_str())
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await?;
        serde_json::from_slice(&body.to_bytes())
            .map_err(|_| Any::from(format!("it answers {status} with something else than JSON")))
    };
    // The connection does the work of the exchange, and ends after it.
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    future::poll_fn(|context| {
        let _ = connection.as_mut().poll(context);
        exchange.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn the_answer_is_judged() {
        let judged = |text: &str| judge("http://a", &serde_json::from_str(text).expect("JSON"));
        assert_eq!(judged(r#"{"ready":true,"waiting":[]}"#).level, Level::Fine);
        let waits = judged(r#"{"ready":false,"waiting":[{"for":"frr","reason":"no zebra"}]}"#);
        assert_eq!(waits.level, Level::Wrong);
        assert_eq!(waits.seen, "the agent waits: frr: no zebra");
    }
}
