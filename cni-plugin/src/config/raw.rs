//! The configuration's keys as written, of the network and of the host: which files are read, and
//! which of them has a say in what.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{Common, ConfigError, Section, is_right_below};
use crate::{
    install,
    version::{Version, VersionError},
};

/// The keys of a configuration, as written.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    map: Map<String, Value>,
    host: Map<String, Value>,
    remarks: Vec<String>,
}

/// How much is logged, and where besides stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings<'a> {
    /// `logLevel`.
    pub level: Option<&'a str>,
    /// `logFile`.
    pub file: Option<&'a str>,
}

impl Raw {
    /// Reads stdin, the first host-wide file that exists, and the one that the network names
    /// (`configuration_path`), which fills in what the first leaves out. One that isn't there, or
    /// not where host-wide files are, counts as absent.
    ///
    /// # Errors
    /// [`ConfigError::Decode`] for stdin, [`ConfigError::HostFile`] for a file.
    pub fn read(stdin: &[u8], host_files: &[PathBuf]) -> Result<Self, ConfigError> {
        let mut read = Self::read_first(stdin, host_files)?;
        if let Some(named) = read.network().text("configuration_path")? {
            read.add_named(&named, host_files)?;
        }
        let unused = [read.unused_log_file(), read.unused_trunk()];
        read.remarks.extend(unused.into_iter().flatten());
        Ok(read)
    }

    /// A host-wide `trunk` is ignored; this remark tells the host's owner.
    fn unused_trunk(&self) -> Option<String> {
        let trunk = self.host().value("trunk")?;
        Some(format!(
            "`trunk`: {trunk} of the host-wide file is not used: a network that is for every bridge \
             says so itself"
        ))
    }

    /// A network's `logFile` is ignored; this remark tells its author where the log goes.
    fn unused_log_file(&self) -> Option<String> {
        const KEY: &str = "logFile";
        let named = self.map.get(KEY)?.as_str()?;
        let used = self.log().file == Some(named);
        (!named.is_empty() && !used).then(|| {
            format!(
                "`{KEY}`: {named} is not written: where the log goes only the host-wide file says"
            )
        })
    }

    fn add_named(&mut self, named: &str, host_files: &[PathBuf]) -> Result<(), ConfigError> {
        let mut path = PathBuf::from(named);
        let known = |path: &Path| {
            let mut folders = host_files.iter().filter_map(|file| file.parent());
            folders.any(|folder| is_right_below(folder, path))
        };
        // The public plugin's networks name the file or its folder.
        if !known(&path)
            && let Some(file) = host_files.iter().find(|file| {
                let folder = file.parent().map(Path::as_os_str);
                folder.is_some_and(|folder| folder == named.trim_end_matches('/'))
            })
        {
            path.clone_from(file);
        }
        if !known(&path) {
            // The public plugin's networks work unchanged, but root reads no file that they choose.
            self.remarks.push(format!(
                "`configuration_path`: {named} is not where host-wide files are, and not read"
            ));
            return Ok(());
        }
        let refused = |reason: String| ConfigError::HostFile {
            path: path.clone(),
            reason,
        };
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(|error| refused(error.to_string()))?,
        };
        for (key, value) in object(&bytes).map_err(refused)? {
            // A network can't replace, by another file, what the host has set for all networks.
            self.host.entry(key).or_insert(value);
        }
        Ok(())
    }

    fn read_first(stdin: &[u8], host_files: &[PathBuf]) -> Result<Self, ConfigError> {
        for path in host_files {
            match fs::read(path) {
                Ok(bytes) => return Self::parse(stdin, Some((path, &bytes))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    // What is wrong with the network's own configuration is told first, as
                    // everywhere.
                    Self::parse(stdin, None)?;
                    return Err(ConfigError::HostFile {
                        path: path.clone(),
                        reason: error.to_string(),
                    });
                }
            }
        }
        Self::parse(stdin, None)
    }

    /// A network's configuration, and the host-wide file where there is one.
    ///
    /// # Errors
    /// [`ConfigError::Decode`] for stdin, [`ConfigError::HostFile`] for the file.
    pub fn parse(stdin: &[u8], host: Option<(&Path, &[u8])>) -> Result<Self, ConfigError> {
        let map = object(stdin).map_err(ConfigError::Decode)?;
        let host = host.map_or_else(|| Ok(Map::new()), |(path, bytes)| host_file(path, bytes))?;
        Ok(Self {
            map,
            host,
            remarks: Vec::new(),
        })
    }

    /// What was passed over in reading, for the log.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The network's configuration as it came.
    #[must_use]
    pub fn document(&self) -> Value {
        Value::Object(self.map.clone())
    }

    /// The result of an earlier ADD, as it came.
    #[must_use]
    pub fn prev_result(&self) -> Option<&Value> {
        self.network().value("prevResult")
    }

    /// The version to answer in, errors included.
    ///
    /// # Errors
    /// [`VersionError`] when it is missing or unknown.
    pub fn version(&self) -> Result<Version, VersionError> {
        self.map
            .get("cniVersion")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .parse()
    }

    /// `logLevel` and `logFile`, taken as they are: a wrong one must not keep a pod from
    /// starting. The file is the host's choice alone: a network's author can't have root write
    /// to a path.
    #[must_use]
    pub fn log(&self) -> LogSettings<'_> {
        fn said<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
            map.get(key)?.as_str().filter(|text| !text.is_empty())
        }
        const LEVEL: &str = "logLevel";
        LogSettings {
            level: said(&self.map, LEVEL).or_else(|| said(&self.host, LEVEL)),
            file: said(&self.host, "logFile"),
        }
    }

    /// What every command needs.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a key that is missing or has a wrong value.
    pub fn common(&self) -> Result<Common, ConfigError> {
        let keys = self.network();
        let network: Option<String> = keys.get("name")?;
        let network = network
            .ok_or_else(|| keys.invalid("name", "is required: what the network is called"))?;
        let ipam = keys.section("ipam")?;
        let ipam = (!ipam.is_empty()).then(|| ipam_name(&ipam));
        Ok(Common {
            network,
            agent: self.peer()?,
            ipam: ipam.transpose()?,
        })
    }

    /// The network's keys.
    pub(crate) fn network(&self) -> Section<'_> {
        Section::whole(&self.map)
    }

    /// What the runtime passes on with the network.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where it is no object.
    pub(crate) fn runtime(&self) -> Result<Section<'_>, ConfigError> {
        self.network().section("runtimeConfig")
    }

    /// The host-wide file's keys.
    pub(super) fn host(&self) -> Section<'_> {
        Section::whole(&self.host)
    }
}

/// The IPAM plugin's name.
fn ipam_name(ipam: &Section<'_>) -> Result<String, ConfigError> {
    const KEY: &str = "type";
    let name = ipam.value(KEY).and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() || name.contains('/') {
        let reason = "names the IPAM plugin's executable, without a path";
        Err(ipam.invalid(KEY, reason))
    } else if install::NAMES.contains(&name) {
        Err(ipam.invalid(
            KEY,
            format!("{name} is no IPAM plugin; name one, as `host-local` is"),
        ))
    } else {
        Ok(name.to_owned())
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("it is JSON, but no object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn host_file(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    object(bytes).map_err(|reason| ConfigError::HostFile {
        path: path.to_owned(),
        reason,
    })
}
