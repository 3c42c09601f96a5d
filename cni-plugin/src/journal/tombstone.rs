//! A port that outlived its attachment because the agent was away.

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::{
    agent::{AgentError, Peer, TlsFiles},
    port::Key,
};

/// What is needed to delete the port later, and to know whom it stands in the way of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    format: u32,
    key: Key,
    /// The VF whose MAC the port still holds.
    pub pci: String,
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
        let (pci, agent) = (record.vf.pci().to_string(), record.agent.clone());
        Self {
            format: Self::FORMAT,
            key: record.key(),
            pci,
            agent,
            tls: record.tls.clone(),
        }
    }

    /// The attachment's key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The port's id.
    #[must_use]
    pub fn port_id(&self) -> String {
        self.key.port_id()
    }

    /// The agent that has the port.
    ///
    /// # Errors
    /// [`AgentError::Unusable`].
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
