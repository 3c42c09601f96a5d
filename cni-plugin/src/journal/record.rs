//! What is kept of one attachment, as text: versioned JSON, one value to a line.

use std::{ffi::OsString, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xpu_linux::{netns::NetNsId, sysfs::PciAddr};
use xpu_model::{IfName, Mac, Mtu};

use crate::{
    agent::{AgentError, Peer, TlsFiles},
    env::Attachment,
    pf::PfSide,
    port::{Key, Port},
};

/// A side effect, the end of them all, or the begin of their undo. Noted before it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The agent is asked for the port.
    Port,
    /// IPAM is asked for addresses.
    Ipam,
    /// The PF is told the VF's settings.
    Pf,
    /// The VF moves into the pod.
    Move,
    /// The device-info file is written.
    DeviceInfo,
    /// Everything is as asked; only the answer is left.
    Attached,
    /// The attachment is undone: it is dead from here on, whether its pod is gone or not. Says
    /// nothing of how far the step before it has come. Earlier versions take it for the text's end.
    Detaching,
}

impl Step {
    pub(super) const ALL: [Self; 7] = [
        Self::Port,
        Self::Ipam,
        Self::Pf,
        Self::Move,
        Self::DeviceInfo,
        Self::Attached,
        Self::Detaching,
    ];

    /// The step's name in checkpoints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Ipam => "ipam",
            Self::Pf => "pf",
            Self::Move => "move",
            Self::DeviceInfo => "device-info",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
        }
    }

    /// Its line in a record, with what became known since the last one.
    #[must_use]
    pub fn line(self, learned: &Learned) -> String {
        let line = Line {
            learned: learned.clone(),
            step: self,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// What becomes known of an attachment only after its record was written. It stands in the line of
/// the step that began next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// The alternative names that the VF had at home.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "names")]
    pub alt_names: Option<Vec<OsString>>,
    /// The VF's own MAC, which the port takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// A step's line.
#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    learned: Learned,
    step: Step,
}

/// One attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of its text.
    pub format: u32,
    /// The container.
    pub container_id: String,
    /// The interface's name in it.
    pub ifname: IfName,
    /// The network's name, for people: two networks can have the same.
    pub network: String,
    /// The pod's namespace.
    pub netns: NetNsRef,
    /// The kernel's boot in which this was written.
    pub boot_id: String,
    /// The VF as it was before.
    pub vf: Vf,
    /// The port.
    pub port: Port,
    /// The agent that has it.
    pub agent: String,
    /// What that agent is spoken to with, if by TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// The addresses' keeper.
    pub ipam: Option<Ipam>,
    /// The device-info file.
    #[serde(default)]
    pub device_info: Option<PathBuf>,
}

/// A namespace: where it is found and which one it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetNsRef {
    /// `CNI_NETNS`.
    pub path: String,
    /// Device number of the namespace file system.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

impl NetNsRef {
    /// Whether an open namespace is this one.
    #[must_use]
    pub fn is(&self, id: NetNsId) -> bool {
        (self.dev, self.ino) == (id.dev, id.ino)
    }
}

/// A VF as it was before, which is how it goes home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vf {
    /// Its PCI address.
    #[serde(with = "pci_text")]
    pub pci: PciAddr,
    /// Its netdev; a VF that a userspace driver has got has none.
    pub netdev: Option<Netdev>,
    /// What its PF is told.
    pub pf: Option<PfSide>,
}

/// A VF's netdev as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netdev {
    /// Its name.
    pub name: IfName,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: Mtu,
    /// Whether it was administratively up.
    pub up: bool,
    /// Its [other flags](xpu_linux::sync::link::SetFlags) that a pod can set; `None`, as earlier
    /// versions write it: those that an Ethernet device has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<u32>,
    /// Packets that its queue took; `None`: not known, and left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txqlen: Option<u32>,
    /// The group of devices that it was in; `None`: not known, and left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Its alias, if it had one. A pod can give it another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Its alternative names; `None`: not known. They show without RTNL only in the event of its
    /// arrival in the pod, so they stand in the line of a later step.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "names")]
    pub alt_names: Option<Vec<OsString>>,
}

/// Who keeps the addresses, and the configuration to give them back with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ipam {
    /// The executable's name.
    pub name: String,
    /// The network configuration as ADD had it.
    pub config: Value,
    /// `CNI_ARGS` as ADD had them: they name the pod.
    #[serde(default)]
    pub args: Option<String>,
    /// `CNI_PATH` as ADD had it: where the executable was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Record {
    /// The version of the text that this plugin writes. It reads every one up to it.
    pub const FORMAT: u32 = 1;

    /// The attachment's key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::of_interface(&self.container_id, &self.ifname)
    }

    /// Which attachment this is.
    #[must_use]
    pub fn attachment(&self) -> Attachment {
        Attachment {
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
            netns: Some(self.netns.path.clone().into()),
        }
    }

    /// The agent that has the port.
    ///
    /// # Errors
    /// [`AgentError::Unusable`] when address and files can't be used, or don't go together.
    pub fn peer(&self) -> Result<Peer, AgentError> {
        Peer::of_journal(&self.agent, self.tls.as_ref())
    }

    /// Its text: one line, without the line's end.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a record and the steps after it. The last line may be torn.
    ///
    /// # Errors
    /// What is wrong with the first line.
    pub fn parse(text: &str) -> Result<(Self, Vec<Step>), String> {
        let (first, rest) = text.split_once('\n').ok_or("the first line is not whole")?;
        let mut record: Self = serde_json::from_str(first).map_err(|error| error.to_string())?;
        if record.format > Self::FORMAT {
            return Err("it is of a newer format".to_owned());
        }
        let mut steps = Vec::new();
        let lines = rest.lines();
        for line in lines.map_while(|line| serde_json::from_str::<Line>(line).ok()) {
            steps.push(line.step);
            record.learn(line.learned);
        }
        Ok((record, steps))
    }

    /// Takes over what became known.
    pub(super) fn learn(&mut self, Learned { alt_names, mac }: Learned) {
        self.port.mac = mac.unwrap_or(self.port.mac);
        if let (Some(netdev), Some(_)) = (&mut self.vf.netdev, &alt_names) {
            netdev.alt_names = alt_names;
        }
    }
}

/// Names of devices: a text, or numbers for the bytes of what is none.
mod names {
    use std::{
        ffi::OsString,
        os::unix::ffi::{OsStrExt, OsStringExt},
    };

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub fn value(name: &OsString) -> Value {
        match name.to_str() {
            Some(text) => text.into(),
            None => name.as_bytes().into(),
        }
    }

    pub fn serialize<S: Serializer>(
        names: &Option<Vec<OsString>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let names = names.as_ref();
        let values = names.map(|names| Vec::from_iter(names.iter().map(value)));
        values.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<OsString>>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Name {
            Text(String),
            Bytes(Vec<u8>),
        }
        let name = |name| match name {
            Name::Text(text) => text.into(),
            Name::Bytes(bytes) => OsString::from_vec(bytes),
        };
        let names = Option::<Vec<Name>>::deserialize(from)?;
        Ok(names.map(|names| names.into_iter().map(name).collect()))
    }
}

/// A PCI address as text.
mod pci_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use xpu_linux::sysfs::PciAddr;

    pub fn serialize<S: Serializer>(pci: &PciAddr, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(pci.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PciAddr, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
