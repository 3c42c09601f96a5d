//! What the targets have in common.
//!
//! A target fails by a panic: that of the code under it, or that of an assertion about what it
//! gave. Seeds are files that a person can read; where a target takes several texts, NUL bytes
//! keep them apart.

use xpu_cni::{error::Error, version::Version};

/// The texts of an input; those that it lacks are empty, those too many are dropped.
#[must_use]
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = data.split(|byte| *byte == 0);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// An error of the plugin must have one of the codes, and words that a terminal can show.
///
/// # Panics
/// Where it has not.
pub fn told(error: impl Into<Error>, codes: &[u32]) {
    let error = error.into();
    assert!(codes.contains(&error.code()), "{error:?}");
    let document = error.document(Version::LATEST, &[]);
    let msg = document["msg"].as_str().unwrap_or_default();
    assert!(!msg.is_empty(), "{error:?}");
    assert!(!msg.contains(char::is_control), "{msg:?}");
}
