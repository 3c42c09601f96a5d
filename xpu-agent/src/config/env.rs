//! The environment's variables, laid over the file's keys.

use std::{ffi::OsString, os::unix::ffi::OsStrExt};

use super::error::{ConfigError, value};

/// Prefix of the environment variables.
pub(super) const ENV_PREFIX: &str = "XPU_AGENT_";

/// Variables with the prefix that are not keys: they belong to the command line.
const NOT_KEYS: [&str; 2] = ["XPU_AGENT_CONFIG", "XPU_AGENT_LOG"];

/// Sets the keys that variables name.
pub(super) fn overlay(
    table: &mut toml::Table,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(), ConfigError> {
    for (name, text) in env {
        // Others' variables may be any bytes.
        if !name.as_bytes().starts_with(ENV_PREFIX.as_bytes()) {
            continue;
        }
        let name = decoded(name)?;
        let path = name.strip_prefix(ENV_PREFIX).unwrap_or_default();
        if NOT_KEYS.contains(&name.as_str()) || is_service_link(path) {
            continue;
        }
        let text = text
            .into_string()
            .map_err(|_| value(&name, "is not UTF-8"))?;
        let path = path.to_ascii_lowercase();
        let mut keys: Vec<_> = path.split("__").collect();
        let Some(last) = keys.pop() else { continue };
        let mut at = &mut *table;
        for key in keys {
            let inner = at.entry(key).or_insert_with(|| toml::Table::new().into());
            at = inner
                .as_table_mut()
                .ok_or_else(|| value(&name, format!("`{key}` is a value, not a section")))?;
        }
        at.insert(last.to_owned(), toml_value(text));
    }
    Ok(())
}

fn decoded(name: OsString) -> Result<String, ConfigError> {
    name.into_string()
        .map_err(|name| value(&name.to_string_lossy(), "is not UTF-8"))
}

/// Whether a variable, named without its prefix, is one that Kubernetes sets in every pod beside
/// a Service `xpu-agent` or `xpu-agent-…` (its documentation, "Accessing the Service", and Docker's
/// links of old). Our own keys are in sections, so that `__` is in each.
fn is_service_link(path: &str) -> bool {
    let path = format!("_{path}");
    let is_of_docker = || {
        let (_, rest) = path.rsplit_once("_PORT_").unwrap_or_default();
        rest.starts_with(|first: char| first.is_ascii_digit())
    };
    !path.contains("__")
        && (["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"]
            .iter()
            .any(|end| path.ends_with(end))
            || path.contains("_SERVICE_PORT_")
            || is_of_docker())
}

fn toml_value(text: String) -> toml::Value {
    let document = format!("value = {text}");
    let parsed = document
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"));
    parsed.unwrap_or(toml::Value::String(text))
}
