//! The attachment, by which a runtime says what ADD, DEL and CHECK are about.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use xpu_model::IfName;

use super::EnvError;

/// One interface of one container: what ADD makes and DEL ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The container.
    pub container_id: String,
    /// The interface's name in it.
    pub ifname: IfName,
    /// Its namespace; a DEL may come without.
    pub netns: Option<PathBuf>,
}

impl Attachment {
    /// The namespace, for the commands that need one.
    ///
    /// # Errors
    /// [`EnvError::Missing`].
    pub fn netns(&self) -> Result<&Path, EnvError> {
        self.netns.as_deref().ok_or(EnvError::Missing("CNI_NETNS"))
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of container {}", self.ifname, self.container_id)
    }
}

/// The rule of the specification: `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`.
pub(super) fn is_container_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
