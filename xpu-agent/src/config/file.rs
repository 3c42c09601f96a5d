//! Which file the configuration is read from.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::ConfigError;

/// Where the configuration is where nobody names a file.
pub const USUAL: &str = "/etc/xpu-agent/agent.toml";

/// The file of the configuration. One that was named has to be there: who names it wants what is
/// in it. The usual one may be absent, since an agent needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    path: PathBuf,
    may_be_absent: bool,
}

/// The text of a configuration, and what to call it in errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigText {
    /// TOML.
    pub text: String,
    /// The file, or that there is none.
    pub origin: String,
}

impl ConfigFile {
    /// The file that was named; without one [`USUAL`], if it is there.
    #[must_use]
    pub fn chosen(named: Option<PathBuf>) -> Self {
        Self {
            may_be_absent: named.is_none(),
            path: named.unwrap_or_else(|| USUAL.into()),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it: nothing where it may be absent and is.
    ///
    /// # Errors
    /// [`ConfigError::Read`] when the file cannot be read; that it is not there is an error only for
    /// a file that was named.
    pub fn read(&self) -> Result<ConfigText, ConfigError> {
        let path = self.path.display();
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(ConfigText {
                text,
                origin: path.to_string(),
            }),
            Err(error) if self.may_be_absent && error.kind() == io::ErrorKind::NotFound => {
                Ok(ConfigText {
                    text: String::new(),
                    origin: format!("the default configuration (there is no {path})"),
                })
            }
            Err(source) => Err(ConfigError::Read {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_nobody_named_may_be_absent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        let usual = ConfigFile {
            path: path.clone(),
            may_be_absent: true,
        };
        let named = ConfigFile::chosen(Some(path.clone()));
        let absent = usual.read().unwrap();
        assert_eq!(absent.text, "");
        assert!(absent.origin.contains("there is no /"), "{}", absent.origin);
        let error = named.read().unwrap_err().to_string();
        assert_eq!(error, format!("cannot read {}", path.display()));

        std::fs::write(&path, "[log]\n").unwrap();
        for file in [&usual, &named] {
            let read = file.read().unwrap();
            assert_eq!(read.text, "[log]\n");
            assert_eq!(read.origin, path.display().to_string());
        }
        // What is there and can't be read is no absence.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(usual.read(), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn without_a_name_it_is_the_usual_one() {
        assert_eq!(ConfigFile::chosen(None).path(), Path::new(USUAL));
        assert!(ConfigFile::chosen(None).may_be_absent);
    }
}
