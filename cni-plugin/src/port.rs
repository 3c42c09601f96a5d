//! The port that an attachment asks the agent for: its id and its content. Pure.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xpu_model::{IfName, Mac, ObjectKey};

use crate::env::Attachment;

/// Where a port's frames go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortMode {
    /// Untagged, in one LogicalBridge.
    Access(ObjectKey),
    /// Tagged, in these.
    Trunk(Vec<ObjectKey>),
    /// Tagged, in all there are and all to come.
    Transparent,
}

impl PortMode {
    /// Whether both say the same, in whatever order they name the bridges.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Trunk(one), Self::Trunk(other)) => {
                one.iter().all(|key| other.contains(key))
                    && other.iter().all(|key| one.contains(key))
            }
            _ => self == other,
        }
    }
}

/// What stands for one attachment on this node, wherever an id is needed: in the
/// journal and in the port's name. The same attachment has the same key for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// The key of an attachment: 160 bits of SHA-256 over container and interface,
    /// kept apart by a NUL, which neither can hold.
    #[must_use]
    pub fn of(attachment: &Attachment) -> Self {
        Self::of_interface(&attachment.container_id, &attachment.ifname)
    }

    /// The same of an interface in a container.
    #[must_use]
    pub fn of_interface(container_id: &str, ifname: &IfName) -> Self {
        let mut hash = Sha256::new();
        hash.update(container_id);
        hash.update([0]);
        hash.update(ifname.as_str());
        Self(hex(&hash.finalize()[..20]))
    }

    /// A key read back from a file's name.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let ok = name.len() == 40
            && name
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ok.then(|| Self(name.to_owned()))
    }

    /// As hexadecimal text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The port's id: 44 characters of the 63 allowed, first a letter.
    #[must_use]
    pub fn port_id(&self) -> String {
        format!("cni-{}", self.0)
    }
}

/// Bytes as hexadecimal text. Not by `format!`, of which each byte costs hundreds of instructions.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for half in [byte >> 4, byte & 0xf] {
            text.push(char::from(DIGITS[usize::from(half)]));
        }
    }
    text
}

/// The port as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its id.
    pub id: String,
    /// The VF's MAC.
    pub mac: Mac,
    /// Where its frames go.
    pub attach: PortMode,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container_id: &str, ifname: &str) -> Key {
        let (container_id, ifname) = (container_id.to_owned(), ifname.parse().unwrap());
        Key::of(&Attachment {
            container_id,
            ifname,
            netns: None,
        })
    }

    #[test]
    fn the_id_is_stable_unique_and_within_the_apis_rule() {
        let id = key("cont1", "net1").port_id();
        // Golden: a change of this value orphans the ports of running pods.
        assert_eq!(id, "cni-0bd8bdeb5157d8c02a65f3c14132ea07679f554c");
        assert_eq!(xpu_model::Id::user(&id).unwrap().as_str(), id);
        assert_ne!(key("cont1", "net1"), key("cont", "1net1"));
        assert_ne!(key("cont1", "net1"), key("cont1", "net2"));
    }

    #[test]
    fn bytes_have_two_digits_each() {
        let all = Vec::from_iter(0..=u8::MAX);
        let slowly: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex(&all), slowly);
        assert_eq!(hex(&[]), "");
    }

    #[test]
    fn the_order_of_bridges_is_no_difference_and_another_bridge_is() {
        let bridges = |names: &[&str]| {
            let key = |name: &&str| ObjectKey::parse(xpu_model::Kind::LogicalBridge, name).unwrap();
            names.iter().map(key).collect::<Vec<_>>()
        };
        let trunk = |names: &[&str]| PortMode::Trunk(bridges(names));
        assert!(trunk(&["blue", "green"]).is_as(&trunk(&["green", "blue"])));
        assert!(!trunk(&["blue", "green"]).is_as(&trunk(&["blue"])));
        assert!(!trunk(&["blue"]).is_as(&trunk(&["blue", "green"])));
        let access = PortMode::Access(bridges(&["blue"]).remove(0));
        assert!(access.is_as(&access) && !access.is_as(&trunk(&["blue"])));
        assert!(!trunk(&["blue"]).is_as(&PortMode::Transparent));
    }

    #[test]
    fn a_key_reads_back_from_its_file_name_only() {
        let key = key("cont1", "net1");
        assert_eq!(Key::from_file_name(key.as_str()), Some(key.clone()));
        for name in [
            "",
            "..",
            &key.as_str()[1..],
            &format!("{}.tmp", key.as_str()),
        ] {
            assert_eq!(Key::from_file_name(name), None, "{name}");
        }
    }
}
