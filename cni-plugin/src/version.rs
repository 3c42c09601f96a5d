//! The versions of the CNI specification that this plugin speaks.

use std::{fmt, str::FromStr};

use serde_json::{Value, json};

/// A version of the specification; the order is that of their release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.0.
    V0_3_0,
    /// 0.3.1.
    V0_3_1,
    /// 0.4.0.
    V0_4_0,
    /// 1.0.0.
    V1_0_0,
    /// 1.1.0.
    V1_1_0,
}

/// A version this plugin doesn't speak; code 1.
#[derive(Debug, thiserror::Error)]
#[error("cniVersion `{}` is not supported; use one of {}", .0.escape_debug(), Version::listing())]
pub struct VersionError(String);

impl Version {
    /// All, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The newest.
    pub const LATEST: Self = Self::V1_1_0;

    /// As the specification writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    fn listing() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let known = Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text);
        known.ok_or_else(|| VersionError(text.to_owned()))
    }
}

/// The answer to VERSION. It echoes the version asked with, where one was (CNI
/// specification, section 4, "Version").
#[must_use]
pub fn answer(stdin: &[u8]) -> Value {
    let asked = serde_json::from_slice::<Value>(stdin).ok();
    let asked = asked
        .as_ref()
        .and_then(|config| config.get("cniVersion")?.as_str());
    json!({
        "cniVersion": asked.unwrap_or(Version::LATEST.as_str()),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_reads_back_and_others_are_refused() {
        for version in Version::ALL {
            assert_eq!(version.as_str().parse::<Version>().unwrap(), version);
        }
        for text in ["", "0.2.0", "1.0", "1.2.0", "1.1.0 "] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn version_answers_whatever_stdin_holds() {
        let told = answer(br#"{"cniVersion":"0.4.0"}"#);
        assert_eq!(told["cniVersion"], "0.4.0");
        for stdin in [&b""[..], b"{", b"[]", br#"{"cniVersion":1}"#] {
            assert_eq!(answer(stdin)["cniVersion"], "1.1.0");
        }
        assert_eq!(told["supportedVersions"].as_array().unwrap().len(), 5);
    }
}
