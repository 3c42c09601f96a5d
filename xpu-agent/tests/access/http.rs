//! Who may what at the HTTP listener, and what its limits say. The client is curl.

use std::{process::Command, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;
use xpu_agent::access::limits::Reason;

use crate::{
    certs::{Identity, Leaf},
    rig::{Rig, run},
    tls::Secured,
};

const VRFS: &str = "/v1/vrfs";
const PORTS: &str = "/v1/bridgePorts";
/// JSON of a request, but of no valid one: who gets through is told so.
const NONSENSE: &str = "{}";

/// An answer: its HTTP status and its JSON.
#[derive(Debug)]
struct Page {
    status: u16,
    json: Value,
}

impl Page {
    #[track_caller]
    fn is(&self, status: u16, code: Code, message: &str) {
        let is_said = self.json["code"] == code as i32
            && self.json["message"]
                .as_str()
                .is_some_and(|it| it.contains(message));
        assert!(
            self.status == status && is_said,
            "{self:?}, not {status} {code:?} `{message}`"
        );
    }

    /// A detail of `google.rpc`.
    fn detail(&self, name: &str) -> Option<&Value> {
        let kind = format!("type.googleapis.com/google.rpc.{name}");
        let details = self.json["details"].as_array();
        let mut details = details.into_iter().flatten();
        details.find(|it| it["@type"] == kind.as_str())
    }
}

/// curl's options for a connection.
fn connection(rig: &Rig, identity: Option<(&Secured, &Identity)>) -> Vec<String> {
    let Some((agent, identity)) = identity else {
        return vec![format!("http://{}", rig.http)];
    };
    let target = agent.target(Some(identity));
    let port = rig.http.port();
    [
        "--cacert".to_owned(),
        target.ca.display().to_string(),
        "--resolve".to_owned(),
        format!("localhost:{port}:127.0.0.1"),
        "--cert".to_owned(),
        identity.cert.display().to_string(),
        "--key".to_owned(),
        identity.key.display().to_string(),
        format!("https://localhost:{port}"),
    ]
    .into()
}

/// GET, or POST with a body.
async fn ask(mut connection: Vec<String>, path: &str, body: Option<&str>) -> Page {
    let origin = connection.pop().unwrap();
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20"]);
    command.args(["--write-out", "\n%{http_code}"]);
    command.args(connection).arg(format!("{origin}{path}"));
    let file = tempfile::NamedTempFile::new().unwrap();
    if let Some(body) = body {
        std::fs::write(file.path(), body).unwrap();
        command.args(["--header", "content-type: application/json"]);
        command.arg("--data-binary");
        command.arg(format!("@{}", file.path().display()));
    }
    let output = run(command).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let (json, status) = text.rsplit_once('\n').unwrap();
    Page {
        status: status.parse().unwrap(),
        json: serde_json::from_str(json)
            .unwrap_or_else(|error| panic!("{error}: {text} {:?}", output.stderr)),
    }
}

#[tokio::test]
async fn loopback_gets_and_does_not_post() {
    let rig = Rig::new("").await;
    let clear = || connection(&rig, None);
    let listed = ask(clear(), VRFS, None).await;
    assert_eq!((listed.status, listed.json), (200, serde_json::json!({})));
    let refused = ask(clear(), VRFS, Some(NONSENSE)).await;
    refused.is(403, Code::PermissionDenied, "access.loopback = \"admin\"");
    let info = refused.detail("ErrorInfo").unwrap();
    assert_eq!(info["reason"], "ROLE_REQUIRED");
    // gRPC's paths are there neither way.
    let grpc = crate::rig::path("Vrf", "CreateVrf");
    ask(clear(), &grpc, Some(NONSENSE))
        .await
        .is(404, Code::NotFound, "there is no");
    rig.stop().await;

    let rig = Rig::new("[access]\nloopback = \"none\"").await;
    let refused = ask(connection(&rig, None), VRFS, None).await;
    refused.is(401, Code::Unauthenticated, "over loopback in clear");
    rig.stop().await;

    let rig = Rig::new("[access]\nloopback = \"admin\"").await;
    let reached = ask(connection(&rig, None), VRFS, Some(NONSENSE)).await;
    reached.is(400, Code::InvalidArgument, "vrf");
    rig.stop().await;
}

#[tokio::test]
async fn a_certificate_has_the_role_of_its_names() {
    let agent = Secured::new().await;
    let issue = |name: &str, names: &[&str]| {
        let leaf = Leaf {
            names,
            ..Leaf::good()
        };
        agent.issue(name, &leaf)
    };
    let admin = issue("admin", &["DNS:n7.ops.lab"]);
    let cni = issue("cni", &["URI:spiffe://lab/cni/host-1"]);
    let viewer = issue("viewer", &["DNS:desk.lab"]);
    let nobody = issue("nobody", &["DNS:elsewhere.lab"]);
    let asked = async |who, path, body| {
        let connection = connection(&agent.rig, Some((&agent, who)));
        ask(connection, path, body).await
    };

    assert_eq!(asked(&admin, VRFS, None).await.status, 200);
    let reached = asked(&admin, VRFS, Some(NONSENSE)).await;
    reached.is(400, Code::InvalidArgument, "vrf");

    assert_eq!(asked(&cni, PORTS, None).await.status, 200);
    let reached = asked(&cni, PORTS, Some(NONSENSE)).await;
    reached.is(400, Code::InvalidArgument, "bridge_port");
    for body in [None, Some(NONSENSE)] {
        let refused = asked(&cni, VRFS, body).await;
        let who = "by the certificate of URI:spiffe://lab/cni/host-1 has the role cni";
        refused.is(403, Code::PermissionDenied, who);
    }

    for path in [VRFS, PORTS] {
        assert_eq!(asked(&viewer, path, None).await.status, 200);
        let refused = asked(&viewer, path, Some(NONSENSE)).await;
        refused.is(403, Code::PermissionDenied, "the role viewer");
    }

    let refused = asked(&nobody, VRFS, None).await;
    refused.is(403, Code::PermissionDenied, "has no role");

    let limits = agent.rig.gate.limits();
    assert_eq!(limits.refused(Reason::Handshake), 0);
    agent.rig.stop().await;
}

#[tokio::test]
async fn what_is_too_large_for_any_time_is_not_told_to_come_again() {
    let rig = Rig::new("[access]\nloopback = \"admin\"\n[limits]\nmessage_bytes = 65536").await;
    let body = |length: usize| format!("{{{}}}", " ".repeat(length - 2));
    let clear = || connection(&rig, None);
    let reached = ask(clear(), VRFS, Some(&body(65_536))).await;
    reached.is(400, Code::InvalidArgument, "vrf");
    // By the length in the header, or by what has come where there is none.
    let chunked = ["--header", "transfer-encoding: chunked"].map(str::to_owned);
    let chunked = || [chunked.to_vec(), clear()].concat();
    let lengths = [65_537, 65_541, 65_542, 200_000];
    let cases = lengths
        .into_iter()
        .flat_map(|length| [(length, clear()), (length, chunked())]);
    for (length, connection) in cases {
        let refused = ask(connection, VRFS, Some(&body(length))).await;
        let limit = "the limit is 65536 (limits.message_bytes)";
        refused.is(413, Code::ResourceExhausted, limit);
        let info = refused.detail("ErrorInfo").unwrap();
        assert_eq!(info["metadata"]["config"], "limits.message_bytes");
        assert_eq!(refused.detail("RetryInfo"), None);
    }
    assert_eq!(rig.gate.limits().refused(Reason::MessageBytes), 8);
    rig.stop().await;
}

/// What is answered to a POST with these header lines, and this much of its body.
async fn answered(rig: &Rig, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(rig.http).await.unwrap();
    let host = rig.http;
    let request = format!("POST {VRFS} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer);
    let length = tokio::time::timeout(Duration::from_secs(5), read)
        .await
        .unwrap()
        .unwrap();
    answer.truncate(length);
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn what_will_be_refused_is_refused_before_it_comes() {
    let rig = Rig::new("[access]\nloopback = \"admin\"\n[limits]\nmessage_bytes = 65536").await;
    for (headers, status) in [
        (
            "content-type: application/json\r\ncontent-length: 65537",
            "HTTP/1.1 413",
        ),
        (
            "content-type: text/plain\r\ncontent-length: 5\r\nexpect: 100-continue",
            "HTTP/1.1 415",
        ),
        (
            "content-type: application/json\r\ncontent-encoding: gzip\r\n\
             transfer-encoding: chunked",
            "HTTP/1.1 415",
        ),
    ] {
        let answer = answered(&rig, headers, "").await;
        assert!(answer.starts_with(status), "{headers}: {answer}");
    }
    rig.stop().await;
}

/// It is the client's mistake, so neither 5xx nor a code that makes it come again.
#[tokio::test]
async fn a_body_that_breaks_off_its_framing_is_the_clients_mistake() {
    let rig = Rig::new("[access]\nloopback = \"admin\"").await;
    let headers = "content-type: application/json\r\ntransfer-encoding: chunked";
    for body in ["zz\r\n{}", "2\r\n{}}\r\n0\r\n\r\n"] {
        let answer = answered(&rig, headers, body).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{body:?}: {answer}");
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        let json: Value = serde_json::from_str(json).unwrap();
        let message = json["message"].as_str().unwrap();
        assert!(
            json["code"] == Code::InvalidArgument as i32
                && message.starts_with("the body cannot be read: "),
            "{body:?}: {json}"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_again() {
    let rig = Rig::new("[limits]\ncalls_per_second = 1\ncalls_burst = 1").await;
    let clear = || connection(&rig, None);
    assert_eq!(ask(clear(), VRFS, None).await.status, 200);
    let refused = ask(clear(), VRFS, None).await;
    refused.is(429, Code::ResourceExhausted, "limits.calls_per_second");
    let info = refused.detail("ErrorInfo").unwrap();
    assert_eq!(info["reason"], "LIMIT_REACHED");
    let retry = refused.detail("RetryInfo").unwrap();
    assert!(
        retry["retryDelay"]
            .as_str()
            .is_some_and(|it| it.ends_with('s')),
        "{retry}"
    );
    rig.stop().await;
}
