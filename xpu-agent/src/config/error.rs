//! Why a configuration cannot be used.

use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or a key is unknown or of the wrong type.
    #[error("{origin} is not valid")]
    Parse {
        /// The file, or the environment.
        origin: String,
        /// Where and what.
        source: toml::de::Error,
    },
    /// A value does not make sense.
    #[error("{key}: {problem}")]
    Value {
        /// The key's path.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
}

pub(super) fn value(key: &str, problem: impl ToString) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        problem: problem.to_string(),
    }
}

/// Where the agent is started from must not matter.
pub(super) fn absolute(key: &str, path: &Path) -> Result<(), ConfigError> {
    if path.is_absolute() {
        return Ok(());
    }
    let problem = format!("`{}` is no absolute path", path.display());
    Err(value(key, problem))
}
