//! `[log]` and `[telemetry]`.

use serde::{Deserialize, Serialize};

use super::{ConfigError, error::value};
use crate::telemetry::logs;

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A level, or targets with levels; read again at SIGHUP.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// The collector of traces, OTLP over gRPC; an empty text sends none.
    pub otlp_endpoint: String,
    /// The part of traces begun here that is kept, from 0 to 1. A caller's decision, by its
    /// `traceparent`, goes before it.
    pub sample_ratio: f64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            sample_ratio: 1.0,
        }
    }
}

impl LogConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the key of the first value that cannot be used.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        logs::parse(&self.filter)
            .map(drop)
            .map_err(|error| value("log.filter", format!("{error:#}")))
    }
}

impl TelemetryConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// [`ConfigError::Value`] with the key of the first value that cannot be used.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            let problem = format!("{} is not from 0 to 1", self.sample_ratio);
            return Err(value("telemetry.sample_ratio", problem));
        }
        let endpoint = &self.otlp_endpoint;
        let problem = match endpoint.parse::<http::Uri>() {
            _ if endpoint.is_empty() => return Ok(()),
            Ok(uri) if uri.scheme_str() == Some("http") && uri.authority().is_some() => {
                return Ok(());
            }
            Ok(uri) if uri.scheme_str() == Some("https") => {
                "TLS to a collector is not supported; name one on this node, which forwards"
            }
            _ => "write http://127.0.0.1:4317",
        };
        Err(value(
            "telemetry.otlp_endpoint",
            format!("`{endpoint}` cannot be used; {problem}"),
        ))
    }
}
