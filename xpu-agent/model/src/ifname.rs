//! Names of network devices.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A name the kernel accepts for a device: 1 to 15 bytes, no `/`, no `:`, no white space, not
/// `.` or `..` (`dev_valid_name()`), no `%`, which makes it a pattern that the kernel completes or
/// refuses (`dev_get_valid_name()`), and here printable ASCII only, since names reach FRR, logs and
/// terminals too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(Arc<str>);

/// A text that is no device name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no device name; use 1 to 15 printable ASCII characters without `/`, `:`, `%` or space"
)]
pub struct IfNameError(String);

/// `IFNAMSIZ - 1`: the longest device name in bytes.
pub const MAX_LEN: usize = 15;

impl IfName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = IfNameError;

    fn from_str(text: &str) -> Result<Self, IfNameError> {
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
        let ok = (1..=MAX_LEN).contains(&text.len())
            && text.bytes().all(allowed)
            && !matches!(text, "." | "..");
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(IfNameError(text.escape_debug().to_string()))
        }
    }
}

impl TryFrom<String> for IfName {
    type Error = IfNameError;

    fn try_from(text: String) -> Result<Self, IfNameError> {
        text.parse()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("eth0", true)]
    #[case("a23456789012345", true)]
    #[case("a234567890123456", false)]
    #[case("", false)]
    #[case("..", false)]
    #[case("a/b", false)]
    #[case("a:b", false)]
    #[case("a b", false)]
    #[case("a\n", false)]
    #[case("net%d", false)]
    #[case("100%", false)]
    #[case("$(reboot)", true)]
    fn rules(#[case] name: &str, #[case] ok: bool) {
        assert_eq!(name.parse::<IfName>().is_ok(), ok, "{name:?}");
    }
}
