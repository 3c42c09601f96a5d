//! What ADD reads of the configuration: of the network's own keys, of those that runtime and pod pass
//! on with it, and of the host's defaults.

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Value;
use xpu_linux::sysfs::PciAddr;
use xpu_model::{Mac, Mtu};

use super::{AddConfig, AskedMac, Common, ConfigError, Raw, Section};
use crate::{pf::VfSettings, port::PortMode, settings, version::Version};

/// Where the public plugin keeps the MACs of VFs that have no netdev.
const PCI_TO_MAC: &str = "/etc/cni/net.d/evpn-gw.d/pci_to_mac.conf";

impl Raw {
    /// What ADD needs.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a key that is missing or has a wrong value;
    /// [`ConfigError::Unsupported`] for what nobody could set.
    pub fn add(&self, common: Common, version: Version) -> Result<AddConfig, ConfigError> {
        let network = self.network();
        let runtime = self.runtime()?;
        if common.ipam.is_none() {
            nobody_sets(&runtime)?;
            nobody_sets(&self.pods_args()?)?;
        }
        let device = device(&network, &runtime)?;
        let attach = self.attach()?;
        let mac = self.mac(&runtime)?;
        let (asked, remarks) = self.asked(&runtime, &attach)?;
        Ok(AddConfig {
            device,
            attach,
            mac,
            asked,
            mtu: self.mtu()?,
            is_mtu_default: network.get("mtu")?.filter(is_mtu).is_none(),
            macs: self.macs()?,
            dns: network.get("dns")?,
            prev_result: network.get("prevResult")?,
            remarks,
            common,
            version,
        })
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
        Ok(match self.network().get(key)?.filter(&set) {
            Some(value) => Some(value),
            None => self.host().get(key)?.filter(set),
        })
    }

    fn mac(&self, runtime: &Section<'_>) -> Result<Option<AskedMac>, ConfigError> {
        if let Some(mac) = mac_in(runtime)? {
            return Ok(Some(AskedMac::Runtime(mac)));
        }
        let mac = match mac_in(&self.pods_args()?)? {
            Some(mac) => Some(mac),
            None => mac_in(&self.network())?,
        };
        Ok(mac.map(AskedMac::Network))
    }

    /// The VF settings, without the MAC; and remarks about defaults that are left out.
    fn asked(
        &self,
        runtime: &Section<'_>,
        attach: &PortMode,
    ) -> Result<(VfSettings, Vec<String>), ConfigError> {
        let egress = settings::egress_rate(&runtime.section("bandwidth")?)?;
        let mut asked = VfSettings {
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
        let network = self.network();
        let path = self.host().text(KEY)?;
        let path = path.unwrap_or_else(|| PCI_TO_MAC.to_owned());
        match network.text(KEY)? {
            Some(asked) if asked != path => {
                let reason = format!(
                    "is {path} on this host and can't be changed by a network; leave it out there"
                );
                Err(network.invalid(KEY, reason))
            }
            _ => Ok(path.into()),
        }
    }

    /// What the pod asks for, as the runtime passes it on.
    fn pods_args(&self) -> Result<Section<'_>, ConfigError> {
        self.network().section("args")?.section("cni")
    }

    fn mtu(&self) -> Result<Option<Mtu>, ConfigError> {
        const KEY: &str = "mtu";
        let mtu = self.either_set(KEY, is_mtu)?;
        mtu.map(|mtu| Mtu::try_from(mtu).map_err(|error| self.network().invalid(KEY, error)))
            .transpose()
    }
}

/// Whether an MTU is set.
fn is_mtu(mtu: &u32) -> bool {
    *mtu != 0
}

/// The VF's address, which Multus writes to either place.
fn device(network: &Section<'_>, runtime: &Section<'_>) -> Result<PciAddr, ConfigError> {
    const KEY: &str = "deviceID";
    let (section, device) = match runtime.text(KEY)? {
        Some(device) => (runtime, Some(device)),
        None => (network, network.get::<String>(KEY)?),
    };
    let device = device.ok_or_else(|| {
        let reason = "is required: the VF's PCI address, which Multus fills in from the pod's \
                      resource";
        section.invalid(KEY, reason)
    })?;
    device.parse().map_err(|error| section.invalid(KEY, error))
}

fn mac_in(section: &Section<'_>) -> Result<Option<Mac>, ConfigError> {
    const KEY: &str = "mac";
    let mac = section.text(KEY)?.map(|text| text.parse::<Mac>());
    mac.transpose().map_err(|error| section.invalid(KEY, error))
}

/// Addresses that the runtime or the pod asks for are IPAM's to give; without one the pod would
/// silently go without.
fn nobody_sets(section: &Section<'_>) -> Result<(), ConfigError> {
    const KEY: &str = "ips";
    let asked: Option<Vec<Value>> = section.get(KEY)?;
    match asked.filter(|ips| !ips.is_empty()) {
        None => Ok(()),
        Some(ips) => Err(no_ipam(&section.path(KEY), ips)),
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
