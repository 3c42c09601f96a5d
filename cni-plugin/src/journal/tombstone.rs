//! Ports that outlived their attachments because the agent was away.

use std::{fs, io::ErrorKind, path::PathBuf};

use serde::{Deserialize, Serialize};
use xpu_model::Mac;

use super::{
    Journal, JournalError,
    backoff::digest,
    files::{file_error, remove, temporary, write_durably},
    newer_format,
    record::Record,
};
use crate::{
    agent::{AgentError, Peer, TlsFiles},
    host::read_small,
    port::Key,
};

/// What is needed to delete the port later, and to know whom it stands in the way of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    format: u32,
    key: Key,
    /// The VF that the port was for; empty: not known.
    pub pci: String,
    /// The MAC that the port holds; `None`, also of earlier versions: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The agent that has the port.
    pub agent: String,
    /// What that agent is spoken to with, if by TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<TlsFiles>,
}

impl Tombstone {
    /// The version of the text that this plugin writes.
    pub const FORMAT: u32 = 1;

    /// The tombstone of an attachment's port.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let (pci, agent) = (record.vf.pci.to_string(), record.agent.clone());
        Self {
            format: Self::FORMAT,
            key: record.key(),
            pci,
            mac: Some(record.port.mac),
            agent,
            tls: record.tls.clone(),
        }
    }

    /// The tombstone of a port at `agent` whose attachment's record can't be read.
    #[must_use]
    pub fn without_record(key: Key, agent: &Peer) -> Self {
        Self {
            format: Self::FORMAT,
            key,
            pci: String::new(),
            mac: None,
            agent: agent.addr().to_string(),
            tls: agent.tls().cloned(),
        }
    }

    /// The attachment's key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its file's name. Two agents may each have a port of one attachment.
    pub(super) fn file(&self) -> String {
        file(&self.key, &self.agent)
    }

    /// Whether a file in the folder of tombstones is one: by its name, which in earlier versions
    /// was the key alone. Others are temporary files of writers at work.
    fn is_file(name: &str) -> bool {
        let key = name.split_once('-').map_or(name, |(key, _)| key);
        Key::from_file_name(key).is_some() && !name.contains('.')
    }

    /// The port's id.
    #[must_use]
    pub fn port_id(&self) -> String {
        self.key.port_id()
    }

    /// The agent that has the port.
    ///
    /// # Errors
    /// [`AgentError::Unusable`] when address and files can't be used, or don't go together.
    pub fn peer(&self) -> Result<Peer, AgentError> {
        Peer::of_journal(&self.agent, self.tls.as_ref())
    }

    /// Its text.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tombstone: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if tombstone.format > Self::FORMAT || Key::from_file_name(tombstone.key.as_str()).is_none()
        {
            return Err("it is of a newer format, or its key is no key".to_owned());
        }
        Ok(tombstone)
    }
}

impl Journal {
    fn tombstone_path(&self, file: &str) -> PathBuf {
        self.root.join("tombstones").join(file)
    }

    /// Keeps a port that is still to be deleted, durably.
    ///
    /// # Errors
    /// [`JournalError::File`] when it is not on disk; the attachment must not be forgotten then.
    pub fn add_tombstone(&self, tombstone: &Tombstone) -> Result<(), JournalError> {
        write_durably(&self.tombstone_path(&tombstone.file()), &tombstone.line()).map(drop)
    }

    /// The ports that are still to be deleted. What is none is set aside; what a newer plugin wrote
    /// is left to it.
    ///
    /// # Errors
    /// [`JournalError::File`] when one, or the folder, can't be read.
    pub fn tombstones(&self) -> Result<Vec<Tombstone>, JournalError> {
        let dir = self.root.join("tombstones");
        let listing = fs::read_dir(&dir).map_err(|source| file_error("list", &dir, source))?;
        let mut found = Vec::new();
        for entry in listing {
            let path = entry
                .map_err(|source| file_error("list", &dir, source))?
                .path();
            let name = path.file_name().and_then(|name| name.to_str());
            if !name.is_some_and(Tombstone::is_file) {
                continue;
            }
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) if error.kind() == ErrorKind::InvalidData => String::new(),
                // It may be readable the next time, so it stays.
                Err(source) => return Err(file_error("read", &path, source)),
            };
            match Tombstone::parse(&text) {
                Ok(tombstone) => found.push(tombstone),
                Err(_) if newer_format(&text).is_some() => {}
                Err(_) => {
                    // The file is kept for people; an error would make every call fail.
                    let _kept = self.set_aside(&path, String::new());
                }
            }
        }
        Ok(found)
    }

    /// Forgets a port that is gone.
    ///
    /// # Errors
    /// [`JournalError::File`] when it can't be removed; the port is deleted once more then.
    pub fn remove_tombstone(&self, tombstone: &Tombstone) -> Result<(), JournalError> {
        remove(&self.tombstone_path(&tombstone.file()))?;
        // Earlier versions had one name for the ports of all agents.
        let earlier = self.tombstone_path(tombstone.key().as_str());
        let text = read_small(&earlier).unwrap_or_default();
        match Tombstone::parse(&text) {
            Ok(kept) if kept.agent == tombstone.agent => remove(&earlier),
            _ => Ok(()),
        }
    }

    /// Removes what a writer of a tombstone left that ended while it wrote it.
    pub(super) fn forget_unwritten_tombstone(
        &self,
        key: &Key,
        agent: &str,
    ) -> Result<(), JournalError> {
        remove(&temporary(&self.tombstone_path(&file(key, agent))))
    }
}

/// The name of the file for an attachment's port at an agent.
fn file(key: &Key, agent: &str) -> String {
    format!("{}-{:.8}", key.as_str(), digest(agent))
}
