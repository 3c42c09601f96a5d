//! IP addresses with a prefix length, in the two meanings that must not be mixed.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::shown::shown;

/// An interface's address with the length of its subnet, host bits kept: `10.0.0.1/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfAddr(IpNetwork);

/// A network, host bits zero: `10.0.0.0/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(IpNetwork);

/// Why a text or a pair is no address with a length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    /// Not `address/length`.
    #[error("`{0}` is no address with a length; write it like 10.0.0.1/24 or fd00::1/64")]
    Malformed(String),
    /// Longer than the family allows.
    #[error("{addr}/{len}: the length must be from 0 to {max}")]
    Length {
        /// The address.
        addr: IpAddr,
        /// The length given.
        len: i64,
        /// 32 or 128.
        max: u8,
    },
    /// Not an address that an interface can own.
    #[error(
        "{0} is unspecified, multicast, loopback or broadcast; an interface needs a unicast address"
    )]
    NotUnicast(IpAddr),
}

/// The longest prefix length of the address's family: 32 or 128.
#[must_use]
pub const fn max_len(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl IfAddr {
    /// Joins an address and a length.
    ///
    /// # Errors
    /// [`AddrError`] when the length does not fit the family, or no interface can own the
    /// address.
    pub fn new(addr: IpAddr, len: i64) -> Result<Self, AddrError> {
        let max = max_len(addr);
        let fits = u8::try_from(len).ok().filter(|len| *len <= max);
        let network = fits
            .and_then(|len| IpNetwork::new(addr, len).ok())
            .ok_or(AddrError::Length { addr, len, max })?;
        let broadcast = matches!(addr, IpAddr::V4(v4) if v4.is_broadcast());
        if addr.is_unspecified() || addr.is_multicast() || addr.is_loopback() || broadcast {
            return Err(AddrError::NotUnicast(addr));
        }
        Ok(Self(network))
    }

    /// The address alone.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.0.ip()
    }

    /// The prefix length in bits.
    #[must_use]
    pub fn len(self) -> u8 {
        self.0.prefix()
    }

    /// Always false: an address is never empty (for clippy's sake beside [`Self::len`]).
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// The subnet the address lies in.
    #[must_use]
    pub fn subnet(self) -> Prefix {
        Prefix::covering(self)
    }
}

impl Prefix {
    /// The network an interface address lies in.
    #[must_use]
    pub fn covering(addr: IfAddr) -> Self {
        // The length was checked when `addr` was made, so the network always exists.
        Self(IpNetwork::new(addr.0.network(), addr.0.prefix()).unwrap_or(addr.0))
    }

    /// The network's first address.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.0.ip()
    }

    /// The prefix length in bits.
    #[must_use]
    pub fn len(self) -> u8 {
        self.0.prefix()
    }

    /// True for the default route's prefix, which has length 0.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.prefix() == 0
    }

    /// True if the two networks share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        match (self.0, other.0) {
            (IpNetwork::V4(a), IpNetwork::V4(b)) => a.overlaps(b),
            (IpNetwork::V6(a), IpNetwork::V6(b)) => a.overlaps(b),
            _ => false,
        }
    }
}

impl FromStr for IfAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let malformed = || AddrError::Malformed(shown(text));
        let (addr, len) = text.split_once('/').ok_or_else(malformed)?;
        let addr = addr.parse().map_err(|_| malformed())?;
        Self::new(addr, len.parse().map_err(|_| malformed())?)
    }
}

impl FromStr for Prefix {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let network: IpNetwork = text
            .parse()
            .map_err(|_| AddrError::Malformed(shown(text)))?;
        Ok(Self(
            IpNetwork::new(network.network(), network.prefix()).unwrap_or(network),
        ))
    }
}

macro_rules! text_forms {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.0.ip(), self.0.prefix())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl TryFrom<String> for $name {
            type Error = AddrError;
            fn try_from(text: String) -> Result<Self, AddrError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}
text_forms!(IfAddr);
text_forms!(Prefix);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_kept_or_dropped_by_type() {
        let addr: IfAddr = "10.0.10.1/24".parse().unwrap();
        assert_eq!(addr.to_string(), "10.0.10.1/24");
        assert_eq!(addr.subnet().to_string(), "10.0.10.0/24");
        assert_eq!(addr.subnet(), "10.0.10.7/24".parse().unwrap());
    }

    #[rstest::rstest]
    #[case("10.0.0.1")]
    #[case("10.0.0.1/33")]
    #[case("fd00::1/129")]
    #[case("224.0.0.1/24")]
    #[case("0.0.0.0/0")]
    #[case("10.0.0.1/-1")]
    #[case("ten/8")]
    fn refused(#[case] text: &str) {
        assert!(text.parse::<IfAddr>().is_err(), "{text}");
    }

    #[test]
    fn overlap_is_symmetric_and_by_family() {
        let wide: Prefix = "10.0.0.0/8".parse().unwrap();
        let narrow: Prefix = "10.1.2.0/24".parse().unwrap();
        let v6: Prefix = "::/0".parse().unwrap();
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide));
        assert!(!wide.overlaps(v6));
    }
}
