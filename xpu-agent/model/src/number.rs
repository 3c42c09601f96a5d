//! Numbers with a range: VLAN ids, VNIs, AS numbers, interface indexes, routing tables, MTUs.

use std::{fmt, num::NonZero};

use serde::{Deserialize, Serialize};

/// A number outside the range its type allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value} is no {what}; it must be from {min} to {max}")]
pub struct OutOfRange {
    /// What the number was meant to be.
    pub what: &'static str,
    /// The number given.
    pub value: u64,
    /// Smallest allowed.
    pub min: u64,
    /// Largest allowed.
    pub max: u64,
}

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident($repr:ty) $what:literal $min:literal..=$max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u32", into = "u32")]
        pub struct $name($repr);

        impl $name {
            /// Smallest value.
            pub const MIN: Self = Self($min);
            /// Largest value.
            pub const MAX: Self = Self($max);

            /// The bare number.
            #[must_use]
            pub const fn get(self) -> $repr {
                self.0
            }
        }

        impl TryFrom<u32> for $name {
            type Error = OutOfRange;

            fn try_from(value: u32) -> Result<Self, OutOfRange> {
                let bad = OutOfRange {
                    what: $what,
                    value: u64::from(value),
                    min: $min,
                    max: u64::from(Self::MAX.0),
                };
                match <$repr>::try_from(value) {
                    Ok(number) if (Self::MIN.0..=Self::MAX.0).contains(&number) => Ok(Self(number)),
                    _ => Err(bad),
                }
            }
        }

        impl From<$name> for u32 {
            fn from(number: $name) -> u32 {
                u32::from(number.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

ranged! {
    /// An IEEE 802.1Q VLAN id that can carry frames: 1 to 4094.
    VlanId(u16) "VLAN id" 1..=4094
}
ranged! {
    /// A VXLAN network identifier (RFC 7348 section 5): 1 to 2^24-1.
    Vni(u32) "VNI" 1..=0x00ff_ffff
}
ranged! {
    /// An autonomous system number (RFC 6793): 1 to 2^32-1.
    Asn(u32) "AS number" 1..=u32::MAX
}
ranged! {
    /// A kernel routing table id: 1 to 2^32-1 (253 to 255 are the kernel's own).
    TableId(u32) "routing table" 1..=u32::MAX
}
ranged! {
    /// A link's MTU in bytes: 68 (RFC 791's least) to 65535.
    Mtu(u16) "MTU" 68..=u16::MAX
}

/// A kernel interface index (`if_nametoindex(3)`); never 0, and valid in one namespace only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(NonZero<u32>);

impl IfIndex {
    /// The index, unless it is 0, which the kernel uses for "none".
    #[must_use]
    pub const fn new(index: u32) -> Option<Self> {
        match NonZero::new(index) {
            Some(index) => Some(Self(index)),
            None => None,
        }
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        assert!(VlanId::try_from(0).is_err());
        assert_eq!(VlanId::try_from(4094).map(VlanId::get), Ok(4094));
        let error = VlanId::try_from(4095).unwrap_err();
        assert_eq!(
            error.to_string(),
            "4095 is no VLAN id; it must be from 1 to 4094"
        );
        assert!(
            VlanId::try_from(65_537).is_err(),
            "no wrap-around into the range"
        );
        assert_eq!(Vni::try_from(16_777_215), Ok(Vni::MAX));
        assert!(Vni::try_from(16_777_216).is_err());
        assert_eq!(IfIndex::new(0), None);
    }
}
