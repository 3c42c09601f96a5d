//! What a PF is asked to set for a VF, and what it is told again at the end.
//!
//! [`changes`] decides, and is pure; the journal keeps the changes, each with its way back, before
//! any of them happens.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use xpu_linux::{
    sync::{
        Rtnl, RtnlError, ioctl,
        vf_side::{self, Carrier, VfSetting, VfSide},
    },
    sysfs::PciAddr,
};
use xpu_model::{IfIndex, IfName, Mac};

use crate::{error::Error, host::Host};

/// What the configuration asks of the PF.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
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

impl Asked {
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
    pub fn new(netdev: IfName, vf: u32, asked: &Asked, has: &VfSide) -> Option<Self> {
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

/// A setting as the journal writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The address; null: the VF's own choice.
    Mac(Option<Mac>),
    /// Port VLAN and priority.
    Vlan {
        /// 0: none.
        vlan: u16,
        /// 0 to 7.
        qos: u8,
    },
    /// Mbit/s.
    Rates {
        /// Guaranteed.
        min: u32,
        /// At most.
        max: u32,
    },
    /// Source addresses are checked.
    Spoofchk(bool),
    /// The VF is trusted.
    Trust(bool),
    /// `auto`, `enable` or `disable`.
    LinkState(#[serde(with = "carrier_text")] Carrier),
}

/// A key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the key of that name, see `Asked`")]
pub enum SettingKey {
    Trust,
    Mac,
    VlanQos,
    MinTxRate,
    MaxTxRate,
    Spoofchk,
    LinkState,
}

impl SettingKey {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Mac => "mac",
            Self::VlanQos => "vlan_qos",
            Self::MinTxRate => "min_tx_rate",
            Self::MaxTxRate => "max_tx_rate",
            Self::Spoofchk => "spoofchk",
            Self::LinkState => "link_state",
        }
    }
}

/// The changes that make a VF, as its PF has it, what is asked for: only what differs.
#[must_use]
pub fn changes(asked: &Asked, has: &VfSide) -> Vec<PfChange> {
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
fn settings(asked: &Asked, has: &VfSide) -> impl Iterator<Item = (SettingKey, Setting)> + use<> {
    let Asked {
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

/// Who sets the MAC that a VF is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacSetBy {
    /// Its PF, whose MAC the VF takes when its driver resets. Also where it has it already.
    Pf,
    /// The VF itself must be told: there is no PF, or its driver gives VFs none.
    VfItself,
}

/// Has the PF make the changes. Gives who sets the VF's MAC. A driver that gives VFs none is an
/// error for a VF without a netdev, which nobody else could tell.
///
/// # Errors
/// [`Error::Setting`] with key, value and the driver's answer: the first change that was refused,
/// or that the PF doesn't show afterwards.
pub fn apply(home: &mut Rtnl, side: &PfSide, has_netdev: bool) -> Result<MacSetBy, Error> {
    let index = index(home, side)?;
    let requests: Vec<_> = side
        .changes
        .iter()
        .map(|change| request(index, side, change.set))
        .collect();
    let mut mac_set_by = MacSetBy::Pf;
    for (change, verdict) in side.changes.iter().zip(home.apply_each(&requests)?) {
        match verdict {
            Ok(()) => {}
            Err(error)
                if has_netdev && is_mac(change) && error.errno() == Some(Errno::EOPNOTSUPP) =>
            {
                mac_set_by = MacSetBy::VfItself;
            }
            Err(error) => return Err(refused(side, change, answer(&error))),
        }
    }
    if shown_by_pf(&side.changes, has_netdev).next().is_none() {
        return Ok(mac_set_by);
    }
    let now = vf_side::read(home, index, side.vf)?.unwrap_or_default();
    match first_not_made(&side.changes, has_netdev, &now) {
        None => Ok(mac_set_by),
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

/// A setting that is not as it was.
#[derive(Debug)]
pub struct NotRestored {
    /// Why.
    pub error: Error,
    /// Whether it stays so however often its PF is asked.
    pub is_final: bool,
}

/// Tells the PF what it had before: that the VF is not trusted any more, then the rest, last change
/// first. Goes on past refusals.
///
/// # Errors
/// A refusal, where the VF is not as it was nevertheless: one that another try may mend if there is
/// any, else the first.
pub fn restore(
    host: &Host,
    home: &mut Rtnl,
    pci: &PciAddr,
    side: &PfSide,
) -> Result<(), NotRestored> {
    // The PF may have another name by now, and its old one may be another device's.
    let parent = host.sysfs.parent(pci).map_err(|error| NotRestored {
        error: error.into(),
        is_final: false,
    })?;
    let netdev = parent.and_then(|parent| parent.netdev);
    let side = &PfSide {
        netdev: netdev.unwrap_or_else(|| side.netdev.clone()),
        ..side.clone()
    };
    let left = left_by_refusals(home, side).unwrap_or_else(|error| vec![error]);
    if left.is_empty() {
        return Ok(());
    }
    let state = ioctl::up_and_running(home, &side.netdev);
    let pf_runs = state.is_ok_and(|(up, running)| up && running);
    gravest(left, pf_runs).map_or(Ok(()), Err)
}

/// Tells the PF what it had before. Gives why what is not as it was is not.
fn left_by_refusals(home: &mut Rtnl, side: &PfSide) -> Result<Vec<Error>, Error> {
    let index = index(home, side)?;
    let changes = way_back(&side.changes);
    let requests = changes
        .iter()
        .map(|change| request(index, side, change.back));
    let verdicts = home.apply_each(&Vec::from_iter(requests))?;
    // Refused or not: what the VF was allowed has ended in any case.
    let mac = restore_mac(home, index, side).err();
    let mut refused = changes
        .into_iter()
        .zip(verdicts)
        .filter_map(|(change, verdict)| Some((change, verdict.err()?)))
        .peekable();
    if refused.peek().is_none() {
        return Ok(Vec::from_iter(mac));
    }
    // What a driver can't set, it had not set before either: then it is as it was. A driver that is
    // busy may not tell.
    let now = vf_side::read(home, index, side.vf)?;
    let is_back = |change: &PfChange| {
        let now = now.as_ref();
        now.is_some_and(|now| change.back.now(now) == change.back)
    };
    let left = refused
        .filter(|(change, _)| !is_back(change))
        .map(|(_, error)| Error::from(error));
    Ok(mac.into_iter().chain(left).collect())
}

/// The changes in the order in which they are taken back: what ends trust, then the others, last
/// change first. A VF that is still trusted could change its address right after it was put back,
/// and no PF's driver needs trust to set one.
fn way_back(changes: &[PfChange]) -> Vec<&PfChange> {
    let mut order = Vec::from_iter(changes.iter().rev());
    order.sort_by_key(|change| change.back != Setting::Trust(false));
    order
}

/// Gives a VF that was trusted the address back that its PF had for it: what the VF made of it is
/// what the VF would take at its next reset.
fn restore_mac(home: &mut Rtnl, index: IfIndex, side: &PfSide) -> Result<(), Error> {
    let Some(had) = side.mac else { return Ok(()) };
    let has = vf_side::read(home, index, side.vf)?;
    if has.is_none_or(|has| has.mac == Some(had)) {
        return Ok(());
    }
    let verdicts = home.apply_each(&[request(index, side, Setting::Mac(Some(had)))])?;
    Ok(verdicts.into_iter().collect::<Result<(), _>>()?)
}

/// Whether a setting stays as it is however often its PF is asked to put it back: the PF is gone,
/// or its driver doesn't do such a thing. One that is at a reset, as i40e's, says otherwise; and
/// one whose PF has no link may say that a value is invalid which is not, as igb's and ixgbe's of a
/// rate.
fn is_final(error: &Error, pf_runs: bool) -> bool {
    let errno = match error {
        Error::Rtnl(error) => error.errno(),
        Error::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
        _ => None,
    };
    match errno {
        Some(Errno::EINVAL) => pf_runs,
        Some(Errno::EOPNOTSUPP | Errno::EPERM | Errno::ENODEV) => true,
        _ => false,
    }
}

/// The first that is worth another try, else the first.
fn gravest(mut errors: Vec<Error>, pf_runs: bool) -> Option<NotRestored> {
    let at = errors.iter().position(|error| !is_final(error, pf_runs));
    let at = at.unwrap_or_default();
    let error = (at < errors.len()).then(|| errors.swap_remove(at))?;
    Some(NotRestored {
        is_final: is_final(&error, pf_runs),
        error,
    })
}

fn index(home: &Rtnl, side: &PfSide) -> Result<IfIndex, Error> {
    ioctl::index(home, &side.netdev).map_err(|source| Error::Io {
        what: format!("find the PF {}", side.netdev),
        source,
    })
}

fn request(index: IfIndex, side: &PfSide, setting: Setting) -> xpu_linux::sync::Request {
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

impl Setting {
    /// The same setting as a PF has it.
    const fn now(self, has: &VfSide) -> Self {
        match self {
            Self::Mac(_) => Self::Mac(has.mac),
            Self::Vlan { .. } => Self::Vlan {
                vlan: has.vlan,
                qos: has.qos,
            },
            Self::Rates { .. } => Self::Rates {
                min: has.min_tx_rate,
                max: has.max_tx_rate,
            },
            Self::Spoofchk(_) => Self::Spoofchk(has.spoofchk),
            Self::Trust(_) => Self::Trust(has.trust),
            Self::LinkState(_) => Self::LinkState(has.link_state),
        }
    }
}

impl From<Setting> for VfSetting {
    fn from(setting: Setting) -> Self {
        match setting {
            Setting::Mac(mac) => Self::Mac(mac),
            Setting::Vlan { vlan, qos } => Self::Vlan { vlan, qos },
            Setting::Rates { min, max } => Self::Rates { min, max },
            Setting::Spoofchk(on) => Self::SpoofChk(on),
            Setting::Trust(on) => Self::Trust(on),
            Setting::LinkState(carrier) => Self::LinkState(carrier),
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let on_off = |on: bool| if on { "on" } else { "off" };
        match self {
            Self::Mac(Some(mac)) => write!(f, "MAC {mac}"),
            Self::Mac(None) => write!(f, "no MAC"),
            Self::Vlan { vlan, qos } => write!(f, "priority {qos} (port VLAN {vlan})"),
            Self::Rates { min, max } => write!(f, "rates {min} to {max} Mbit/s"),
            Self::Spoofchk(on) => write!(f, "spoofchk {}", on_off(*on)),
            Self::Trust(on) => write!(f, "trust {}", on_off(*on)),
            Self::LinkState(carrier) => write!(f, "link_state {}", carrier_text::name(*carrier)),
        }
    }
}

/// A carrier as the configuration and the journal write it.
pub mod carrier_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use xpu_linux::sync::vf_side::Carrier;

    /// Its word.
    #[must_use]
    pub const fn name(carrier: Carrier) -> &'static str {
        match carrier {
            Carrier::Auto => "auto",
            Carrier::Enable => "enable",
            Carrier::Disable => "disable",
        }
    }

    /// Reads a word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Carrier> {
        [Carrier::Auto, Carrier::Enable, Carrier::Disable]
            .into_iter()
            .find(|carrier| name(*carrier) == text)
    }

    pub(super) fn serialize<S: Serializer>(carrier: &Carrier, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name(*carrier))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Carrier, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no link state")))
    }
}

#[cfg(test)]
#[path = "../tests/unit/pf.rs"]
mod tests;
