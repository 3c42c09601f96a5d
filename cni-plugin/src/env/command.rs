//! Which command is called, and what each is about.

use super::Attachment;
use crate::version::Version;

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Compare an attachment with what ADD answered.
    Check,
    /// Tell whether an ADD could be served.
    Status,
    /// Detach all but the listed.
    Gc,
    /// Tell the versions.
    Version,
}

impl Command {
    /// The specification that first has the command, whose configurations alone may ask
    /// for it.
    #[must_use]
    pub const fn since(self) -> Version {
        match self {
            Self::Add | Self::Del | Self::Version => Version::V0_3_0,
            Self::Check => Version::V0_4_0,
            Self::Status | Self::Gc => Version::V1_1_0,
        }
    }

    /// As `CNI_COMMAND` writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }
}

/// What is asked of this node: every command but `VERSION`, with the attachment where it is about
/// one. The others are about a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// [`Command::Add`].
    Add(Attachment),
    /// [`Command::Del`].
    Del(Attachment),
    /// [`Command::Check`].
    Check(Attachment),
    /// [`Command::Status`].
    Status,
    /// [`Command::Gc`].
    Gc,
}

impl Verb {
    /// The command.
    #[must_use]
    pub const fn command(&self) -> Command {
        match self {
            Self::Add(_) => Command::Add,
            Self::Del(_) => Command::Del,
            Self::Check(_) => Command::Check,
            Self::Status => Command::Status,
            Self::Gc => Command::Gc,
        }
    }

    /// The attachment that it is about.
    #[must_use]
    pub const fn attachment(&self) -> Option<&Attachment> {
        match self {
            Self::Add(attachment) | Self::Del(attachment) | Self::Check(attachment) => {
                Some(attachment)
            }
            Self::Status | Self::Gc => None,
        }
    }
}
