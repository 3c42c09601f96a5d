//! Logs as a collector reads them: from the stderr of a process, which is this test's binary once
//! more.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use xpu_agent::{
    config::{LogConfig, LogFormat, TelemetryConfig},
    telemetry::Telemetry,
};

/// Set for the process that logs: the format.
const LOGS: &str = "LOGS_AS";

/// Says the same in any format.
fn agent(format: &str) {
    let format = serde_json::from_value(json!(format)).unwrap();
    let config = LogConfig {
        filter: "info".to_owned(),
        format,
    };
    let _telemetry = Telemetry::start(&config, &TelemetryConfig::default()).unwrap();
    let _call = tracing::info_span!("call", method = "CreateVrf").entered();
    tracing::warn!(error = %"line one\nline \"two\"", more = 3, "a name with \u{1b}[31m colour");
    tracing::debug!("nobody asked for this");
}

fn logged(format: &str) -> String {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logs::each_line_is_one_json_object"])
        .env(LOGS, format)
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stderr).unwrap()
}

#[test]
fn each_line_is_one_json_object() {
    if let Ok(format) = std::env::var(LOGS) {
        return agent(&format);
    }
    assert_eq!(serde_json::to_value(LogFormat::Json).unwrap(), "json");
    let lines = logged("json");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let [line] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["target"], "observability::logs");
    let timestamp = line["timestamp"].as_str().unwrap();
    assert!(timestamp.ends_with('Z'), "{timestamp}");
    let fields = json!({
        "message": "a name with \u{1b}[31m colour", "error": "line one\nline \"two\"", "more": 3,
    });
    assert_eq!(line["fields"], fields);
    assert_eq!(line["span"], json!({"name": "call", "method": "CreateVrf"}));

    let text = logged("text");
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
    assert!(text.contains("WARN") && !text.contains('\u{1b}'), "{text}");
}
