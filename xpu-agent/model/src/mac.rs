//! Ethernet addresses of interfaces.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::shown::shown;

/// The MAC address of one interface: unicast (I/G bit clear, IEEE 802-2014 8.2) and not zero.
///
/// Group addresses and the all-zero address, which the kernel uses for flood entries, are no
/// interface's address and cannot be held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// Why bytes or text are no [`Mac`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// Text, and not `aa:bb:cc:dd:ee:ff`.
    #[error("`{0}` is no MAC address; write six bytes as aa:bb:cc:dd:ee:ff")]
    Malformed(String),
    /// Neither six bytes nor as many as the text has.
    #[error("`{head}` ({count} bytes) is no MAC address; send its six bytes")]
    Size {
        /// The first of them, escaped.
        head: String,
        /// How many there are.
        count: usize,
    },
    /// 00:00:00:00:00:00.
    #[error("the MAC address is all zero; give the interface's own address")]
    Zero,
    /// The group bit is set.
    #[error("{0} is a multicast or broadcast address; an interface needs a unicast one")]
    Multicast(String),
}

impl Mac {
    /// The address's bytes, in transmission order.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// A locally administered unicast address made of `seed`'s low 40 bits (`02:…`).
    #[must_use]
    pub const fn local(seed: [u8; 5]) -> Self {
        Self([0x02, seed[0], seed[1], seed[2], seed[3], seed[4]])
    }

    /// Reads the address from the wire of the API: six bytes, or (a public client sends that)
    /// 17 bytes of text.
    ///
    /// # Errors
    /// [`MacError`] when it is neither, zero, or a group address.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, MacError> {
        if let Ok(octets) = <[u8; 6]>::try_from(bytes) {
            return Self::try_from(octets);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if bytes.len() == 17 => text.parse(),
            _ => {
                let head = bytes.iter().take(17).copied().collect::<Vec<_>>();
                Err(MacError::Size {
                    head: head.escape_ascii().to_string(),
                    count: bytes.len(),
                })
            }
        }
    }
}

impl TryFrom<[u8; 6]> for Mac {
    type Error = MacError;

    fn try_from(octets: [u8; 6]) -> Result<Self, MacError> {
        if octets == [0; 6] {
            Err(MacError::Zero)
        } else if octets[0] & 1 == 1 {
            Err(MacError::Multicast(Self(octets).to_string()))
        } else {
            Ok(Self(octets))
        }
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let malformed = || MacError::Malformed(shown(text));
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(malformed)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(malformed());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| malformed())?;
        }
        if parts.next().is_some() {
            return Err(malformed());
        }
        Self::try_from(octets)
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_forms_agree() {
        let from_bytes = Mac::from_wire(&[2, 0, 0, 0, 0, 0x1f]).unwrap();
        assert_eq!(from_bytes, Mac::from_wire(b"02:00:00:00:00:1F").unwrap());
        assert_eq!(from_bytes.to_string(), "02:00:00:00:00:1f");
    }

    #[rstest::rstest]
    #[case(b"\0\0\0\0\0\0", MacError::Zero)]
    #[case(b"\x01\0\x5e\0\0\x01", MacError::Multicast("01:00:5e:00:00:01".into()))]
    #[case(b"\x02\0\0\0\0", MacError::Size { head: "\\x02\\x00\\x00\\x00\\x00".into(), count: 5 })]
    #[case(b"02:00:00:00:00:+1", MacError::Malformed("02:00:00:00:00:+1".into()))]
    fn refusals(#[case] wire: &[u8], #[case] error: MacError) {
        assert_eq!(Mac::from_wire(wire), Err(error));
    }
}
