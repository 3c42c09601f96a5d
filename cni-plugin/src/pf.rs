//! What a PF is asked to set for a VF, and what it is told again at the end.
//!
//! [`changes`] decides, and is pure; the journal keeps the changes, each with its way back, before
//! any of them happens.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use xpu_linux::sync::{
    Request, Rtnl, RtnlError, ioctl,
    vf_side::{self, Carrier, VfSide},
};
use xpu_model::{IfIndex, IfName, Mac};

use crate::{device::MacBy, error::Error};

mod restore;
mod setting;

pub use restore::{NotRestored, restore};
pub use setting::{Setting, SettingKey, carrier_text};

/// What the configuration asks of the PF.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VfSettings {
    /// The VF's address.
    pub mac: Option<Mac>,
    /// Guaranteed Mbit/s; 0: none.
    pub min_tx_rate: Option<u32>,
    /// Mbit/s at most; 0: no limit.
    pub max_tx_rate: Option<u32>,
    /// Drop frames with a source address that isn't the VF's.
    pub spoofchk: Option<bool>,
    /// The VF may change its address and go promiscuous.
    pub trust: Option<bool>,
    /// Whether the VF's link follows the PF's.
    pub link_state: Option<Carrier>,
    /// The priority of its frames, 0 to 7; the port VLAN stays as it is.
    pub vlan_qos: Option<u8>,
}

impl VfSettings {
    /// The first setting that only a PF can do. An address the VF can be told itself where it has a
    /// netdev.
    #[must_use]
    pub fn needs_pf(&self, has_netdev: bool) -> Option<(SettingKey, Setting)> {
        let others = Self {
            mac: self.mac.filter(|_| !has_netdev),
            ..self.clone()
        };
        settings(&others, &VfSide::default()).next()
    }
}

/// The PF's half of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PfSide {
    /// The PF's netdev.
    pub netdev: IfName,
    /// The VF's number.
    pub vf: u32,
    /// What is set, in this order.
    pub changes: Vec<PfChange>,
    /// The address that it had for the VF, where the VF, which is trusted, can make it another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

impl PfSide {
    /// What is to be done at a PF that has this for the VF; `None`: nothing, then or later.
    #[must_use]
    pub fn new(netdev: IfName, vf: u32, asked: &VfSettings, has: &VfSide) -> Option<Self> {
        let changes = changes(asked, has);
        let trusts = asked.trust.unwrap_or(has.trust);
        // An address that is changed has its way back among the changes.
        let mac = has.mac.filter(|_| trusts && !changes.iter().any(is_mac));
        (!changes.is_empty() || mac.is_some()).then_some(Self {
            netdev,
            vf,
            changes,
            mac,
        })
    }
}

/// One setting and its way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PfChange {
    /// The configuration's key.
    pub key: SettingKey,
    /// What it is set to.
    pub set: Setting,
    /// What it was.
    pub back: Setting,
}

/// The changes that make a VF, as its PF has it, what is asked for: only what differs.
#[must_use]
pub fn changes(asked: &VfSettings, has: &VfSide) -> Vec<PfChange> {
    settings(asked, has)
        .map(|(key, set)| PfChange {
            key,
            set,
            back: set.now(has),
        })
        .filter(|change| change.set != change.back)
        .collect()
}

/// What is asked for, by key, in the order in which it is set; what stands beside it in a message
/// of the kernel's as the VF has it.
fn settings(
    asked: &VfSettings,
    has: &VfSide,
) -> impl Iterator<Item = (SettingKey, Setting)> + use<> {
    let VfSettings {
        mac,
        min_tx_rate,
        max_tx_rate,
        spoofchk,
        trust,
        link_state,
        vlan_qos,
    } = asked;
    let rates = (min_tx_rate.is_some() || max_tx_rate.is_some()).then(|| Setting::Rates {
        min: min_tx_rate.unwrap_or(has.min_tx_rate),
        max: max_tx_rate.unwrap_or(has.max_tx_rate),
    });
    // The kernel sets both rates as one; drivers that know no guarantee refuse because of it.
    let rate_key = match min_tx_rate {
        Some(1..) => SettingKey::MinTxRate,
        _ => SettingKey::MaxTxRate,
    };
    let vlan = has.vlan;
    [
        (SettingKey::Trust, trust.map(Setting::Trust)),
        (SettingKey::Mac, mac.map(|mac| Setting::Mac(Some(mac)))),
        (
            SettingKey::VlanQos,
            vlan_qos.map(|qos| Setting::Vlan { vlan, qos }),
        ),
        (rate_key, rates),
        (SettingKey::Spoofchk, spoofchk.map(Setting::Spoofchk)),
        (SettingKey::LinkState, link_state.map(Setting::LinkState)),
    ]
    .into_iter()
    .filter_map(|(key, set)| Some((key, set?)))
}

/// Has the PF make the changes. Gives how the VF comes to a MAC among them: by a reset, or by a
/// message if the PF's driver gives VFs none. For a VF without a netdev, which can't be told, that
/// is an error.
///
/// # Errors
/// [`Error::Setting`] with key, value and the driver's answer: the first change that was refused,
/// or that the PF doesn't show afterwards.
pub fn apply(home: &mut Rtnl, side: &PfSide, has_netdev: bool) -> Result<MacBy, Error> {
    let index = index(home, side)?;
    let requests: Vec<_> = side
        .changes
        .iter()
        .map(|change| request(index, side, change.set))
        .collect();
    let mut mac_by = MacBy::Reset;
    for (change, verdict) in side.changes.iter().zip(home.apply_each(&requests)?) {
        match verdict {
            Ok(()) => {}
            Err(error)
                if has_netdev && is_mac(change) && error.errno() == Some(Errno::EOPNOTSUPP) =>
            {
                mac_by = MacBy::Message;
            }
            Err(error) => return Err(refused(side, change, answer(&error))),
        }
    }
    if shown_by_pf(&side.changes, has_netdev).next().is_none() {
        return Ok(mac_by);
    }
    let now = vf_side::read(home, index, side.vf)?.unwrap_or_default();
    match first_not_made(&side.changes, has_netdev, &now) {
        None => Ok(mac_by),
        Some((change, has)) => Err(refused(side, change, format!("its driver keeps {has}"))),
    }
}

/// The changes that only the PF shows. An address shows in the VF's netdev, where it is looked at
/// anyway.
fn shown_by_pf(changes: &[PfChange], has_netdev: bool) -> impl Iterator<Item = &PfChange> {
    changes
        .iter()
        .filter(move |change| !(has_netdev && is_mac(change)))
}

/// The first change that a driver has accepted and not made, and what the PF shows instead.
fn first_not_made<'a>(
    changes: &'a [PfChange],
    has_netdev: bool,
    now: &VfSide,
) -> Option<(&'a PfChange, Setting)> {
    shown_by_pf(changes, has_netdev)
        .map(|change| (change, change.set.now(now)))
        .find(|(change, has)| *has != change.set)
}

fn index(home: &Rtnl, side: &PfSide) -> Result<IfIndex, Error> {
    ioctl::index(home, &side.netdev).map_err(|source| Error::Io {
        what: format!("find the PF {}", side.netdev),
        source,
    })
}

fn request(index: IfIndex, side: &PfSide, setting: Setting) -> Request {
    let PfSide { netdev, vf, .. } = side;
    let what = format!("set {setting} on VF {vf} of {netdev}");
    vf_side::set(index, *vf, setting.into(), what)
}

fn is_mac(change: &PfChange) -> bool {
    matches!(change.set, Setting::Mac(_))
}

fn refused(side: &PfSide, change: &PfChange, reason: String) -> Error {
    Error::Setting {
        key: change.key.as_str(),
        value: change.set.to_string(),
        whom: format!("VF {} of {}", side.vf, side.netdev),
        reason,
    }
}

/// A refusal in the kernel's words.
pub(crate) fn answer(error: &RtnlError) -> String {
    match error {
        RtnlError::Refused { errno, reason, .. } => match reason {
            Some(reason) => format!("{} ({reason})", errno.desc()),
            None => errno.desc().to_owned(),
        },
        other => crate::error::chain(other),
    }
}

#[cfg(test)]
#[path = "../tests/unit/pf.rs"]
mod tests;
