//! A port that outlived its attachment because the agent was away.

use serde::{Deserialize, Serialize};
use xpu_model::Mac;

use super::{backoff::digest, record::Record};
use crate::{
    agent::{AgentError, Peer, TlsFiles},
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
    pub(super) fn is_file(name: &str) -> bool {
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

/// The name of the file for an attachment's port at an agent.
pub(super) fn file(key: &Key, agent: &str) -> String {
    format!("{}-{:.8}", key.as_str(), digest(agent))
}
