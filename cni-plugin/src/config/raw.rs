//! The configuration's keys as written, of the network and of the host, and what ADD reads of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use xpu_model::{Mac, Mtu};

use super::{AddConfig, AskedMac, Common, ConfigError, invalid, is_right_below, text, typed};
use crate::{
    install,
    pf::Asked,
    port::Attach,
    settings,
    version::{Version, VersionError},
};

/// Where the public plugin keeps the MACs of VFs that have no netdev.
const PCI_TO_MAC: &str = "/etc/cni/net.d/evpn-gw.d/pci_to_mac.conf";

/// The keys of a configuration, as written.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    pub(super) map: Map<String, Value>,
    pub(super) host: Map<String, Value>,
    remarks: Vec<String>,
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
        if let Some(named) = text(&read.map, "", "configuration_path")? {
            read.add_named(&named, host_files)?;
        }
        let unused = [read.unused_log_file(), read.unused_trunk()];
        read.remarks.extend(unused.into_iter().flatten());
        Ok(read)
    }

    /// A host-wide `trunk` is ignored; this remark tells the host's owner.
    fn unused_trunk(&self) -> Option<String> {
        let trunk = self.host.get("trunk").filter(|trunk| !trunk.is_null())?;
        Some(format!(
            "`trunk`: {trunk} of the host-wide file is not used: a network that is for every bridge \
             says so itself"
        ))
    }

    /// A network's `logFile` is ignored; this remark tells its author where the log goes.
    fn unused_log_file(&self) -> Option<String> {
        const KEY: &str = "logFile";
        let named = self.map.get(KEY)?.as_str()?;
        let used = self.log().1 == Some(named);
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
        self.map
            .get("prevResult")
            .filter(|result| !result.is_null())
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
    pub fn log(&self) -> (Option<&str>, Option<&str>) {
        fn said<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
            map.get(key)?.as_str().filter(|text| !text.is_empty())
        }
        const LEVEL: &str = "logLevel";
        let level = said(&self.map, LEVEL).or_else(|| said(&self.host, LEVEL));
        (level, said(&self.host, "logFile"))
    }

    /// What every command needs.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a key that is missing or has a wrong value.
    pub fn common(&self) -> Result<Common, ConfigError> {
        let network: String = self
            .net("name")?
            .ok_or_else(|| invalid("name", "is required"))?;
        let ipam: Option<Map<String, Value>> = self.net("ipam")?;
        let ipam = ipam.filter(|ipam| !ipam.is_empty()).map(|ipam| {
            let name = ipam.get("type").and_then(Value::as_str).unwrap_or_default();
            if name.is_empty() || name.contains('/') {
                Err(invalid(
                    "ipam.type",
                    "names the IPAM plugin's executable, without a path",
                ))
            } else if install::NAMES.contains(&name) {
                Err(invalid("ipam.type", format!("{name} is no IPAM plugin")))
            } else {
                Ok(name.to_owned())
            }
        });
        Ok(Common {
            network,
            agent: self.peer()?,
            ipam: ipam.transpose()?,
        })
    }

    /// What ADD needs.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a key that is missing or has a wrong value;
    /// [`ConfigError::Unsupported`] for what nobody could set.
    pub fn add(&self, common: Common, version: Version) -> Result<AddConfig, ConfigError> {
        let runtime: Map<String, Value> = self.net("runtimeConfig")?.unwrap_or_default();
        if common.ipam.is_none() {
            let cni = self.args()?;
            for (map, at) in [(&runtime, "runtimeConfig."), (&cni, "args.cni.")] {
                nobody_sets(map, at)?;
            }
        }
        let device = match text(&runtime, "runtimeConfig.", "deviceID")? {
            Some(device) => Some(device),
            None => self.net("deviceID")?,
        };
        let device = device.ok_or_else(|| {
            invalid(
                "deviceID",
                "is required: the VF's PCI address, which Multus fills in from the pod's resource",
            )
        })?;
        let device = device.parse().map_err(|error| invalid("deviceID", error))?;
        let attach = self.attach()?;
        let mac = self.mac(&runtime)?;
        let (asked, remarks) = self.asked(&runtime, &attach)?;
        Ok(AddConfig {
            device,
            attach,
            mac,
            asked,
            mtu: self.mtu()?,
            is_mtu_default: self.net("mtu")?.filter(is_mtu).is_none(),
            macs: self.macs()?,
            dns: self.net("dns")?,
            device_info: text(&runtime, "runtimeConfig.", "CNIDeviceInfoFile")?,
            prev_result: self.net("prevResult")?,
            remarks,
            common,
            version,
        })
    }

    pub(super) fn net<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        typed(&self.map, "", key)
    }

    /// The NAD's value, else the host-wide file's.
    fn either<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        self.either_set(key, |_| true)
    }

    /// The same of those values that are `set`: Go programs write what is not as 0 or as an empty
    /// text.
    fn either_set<T: DeserializeOwned>(
        &self,
        key: &str,
        set: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, ConfigError> {
        Ok(match self.net(key)?.filter(&set) {
            Some(value) => Some(value),
            None => typed(&self.host, "", key)?.filter(set),
        })
    }

    fn mac(&self, runtime: &Map<String, Value>) -> Result<Option<AskedMac>, ConfigError> {
        let parse = |key: &str, text: String| -> Result<Mac, ConfigError> {
            text.parse()
                .map_err(|error: xpu_model::mac::MacError| invalid(key, error))
        };
        if let Some(mac) = text(runtime, "runtimeConfig.", "mac")? {
            let mac = parse("runtimeConfig.mac", mac)?;
            return Ok(Some(AskedMac::Runtime(mac)));
        }
        let cni = self.args()?;
        if let Some(mac) = text(&cni, "args.cni.", "mac")? {
            let mac = parse("args.cni.mac", mac)?;
            return Ok(Some(AskedMac::Network(mac)));
        }
        let mac = text(&self.map, "", "mac")?
            .map(|mac| parse("mac", mac))
            .transpose()?;
        Ok(mac.map(AskedMac::Network))
    }

    /// The VF settings, without the MAC; and remarks about defaults that are left out.
    fn asked(
        &self,
        runtime: &Map<String, Value>,
        attach: &Attach,
    ) -> Result<(Asked, Vec<String>), ConfigError> {
        let bandwidth: Map<String, Value> =
            typed(runtime, "runtimeConfig.", "bandwidth")?.unwrap_or_default();
        let egress = settings::egress_rate(&bandwidth)?;
        let mut asked = Asked {
            mac: None,
            min_tx_rate: self.either("min_tx_rate")?,
            max_tx_rate: match egress {
                Some(rate) => Some(rate),
                None => self.either("max_tx_rate")?,
            },
            spoofchk: self.on_off("spoofchk")?,
            trust: self.on_off("trust")?,
            link_state: self
                .setting("link_state")?
                .map(|value| settings::link_state(&value))
                .transpose()?,
            vlan_qos: self
                .either("vlan_qos")?
                .map(settings::priority)
                .transpose()?,
        };
        let remarks = self.reconcile(&mut asked, attach, egress.is_some())?;
        Ok((asked, remarks))
    }

    fn on_off(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.setting(key)?
            .map(|value| settings::on_off(key, &value))
            .transpose()
    }

    /// The value of a setting that is a word.
    fn setting(&self, key: &str) -> Result<Option<Value>, ConfigError> {
        self.either_set(key, |value| value != "")
    }

    /// The host says where the file is; a network can't have root read another.
    fn macs(&self) -> Result<PathBuf, ConfigError> {
        const KEY: &str = "pci_to_mac_path";
        let host: Option<String> = text(&self.host, "", KEY)?;
        let path = host.unwrap_or_else(|| PCI_TO_MAC.to_owned());
        match text(&self.map, "", KEY)? {
            Some(asked) if asked != path => Err(invalid(
                KEY,
                format!("is {path} on this host and can't be changed by a network"),
            )),
            _ => Ok(path.into()),
        }
    }

    /// What the pod asks for, as the runtime passes it on.
    fn args(&self) -> Result<Map<String, Value>, ConfigError> {
        let args: Map<String, Value> = self.net("args")?.unwrap_or_default();
        Ok(typed(&args, "args.", "cni")?.unwrap_or_default())
    }

    fn mtu(&self) -> Result<Option<Mtu>, ConfigError> {
        let mtu = self.either_set("mtu", is_mtu)?;
        mtu.map(|mtu| Mtu::try_from(mtu).map_err(|error| invalid("mtu", error)))
            .transpose()
    }
}

/// Whether an MTU is set.
fn is_mtu(mtu: &u32) -> bool {
    *mtu != 0
}

/// Addresses that the runtime or the pod asks for are IPAM's to give; without one the pod would
/// silently go without.
fn nobody_sets(map: &Map<String, Value>, at: &str) -> Result<(), ConfigError> {
    const KEY: &str = "ips";
    let asked: Option<Vec<Value>> = typed(map, at, KEY)?;
    match asked.filter(|ips| !ips.is_empty()) {
        None => Ok(()),
        Some(ips) => Err(no_ipam(&format!("{at}{KEY}"), ips)),
    }
}

/// The refusal of addresses that nobody would set.
#[must_use]
pub fn no_ipam(key: &str, value: impl Into<Value>) -> ConfigError {
    ConfigError::Unsupported {
        key: key.to_owned(),
        value: value.into(),
        reason: "can't be set without IPAM: give the network an `ipam` that takes addresses, or ask \
                 for none",
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn host_file(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, ConfigError> {
    object(bytes).map_err(|reason| ConfigError::HostFile {
        path: path.to_owned(),
        reason,
    })
}
