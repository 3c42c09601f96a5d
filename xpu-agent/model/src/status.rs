//! What backends report about objects.
//!
//! A backend ends each pass with a [`PassReport`]: the generation it has seen and one
//! [`Component`] per object that concerns it. Whoever serves the API makes an object's status
//! from the components of all backends.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::Value;

use crate::{intent::Generation, name::ObjectKey};

/// A part of the agent that realises objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The kernel: bridges, VXLAN, VRFs, SVIs, ports.
    Linux,
    /// FRR: BGP EVPN.
    Frr,
    /// strongSwan: protection between VTEPs.
    Ipsec,
    /// The hardware pipeline.
    Pipeline,
}

impl Backend {
    /// The component's name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Frr => "frr",
            Self::Ipsec => "ipsec",
            Self::Pipeline => "pipeline",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a backend is with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As asked.
    Success,
    /// Not yet; the reason says what is waited for. Comes by itself.
    Pending(String),
    /// An attempt failed; the reason says what to do. Retried with back-off.
    Error(String),
    /// Refused in a way that no retry mends, such as a full table.
    Refused(String),
}

impl State {
    /// The reason, unless all is well.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Success => None,
            Self::Pending(reason) | Self::Error(reason) | Self::Refused(reason) => Some(reason),
        }
    }
}

/// One backend's word on one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// How far it is.
    pub state: State,
    /// Facts worth knowing, such as `routingTable` or `rd`; shown as JSON.
    pub facts: BTreeMap<&'static str, Value>,
}

impl Component {
    /// A component without facts.
    #[must_use]
    pub const fn new(state: State) -> Self {
        Self {
            state,
            facts: BTreeMap::new(),
        }
    }

    /// Adds a fact.
    #[must_use]
    pub fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.insert(name, value.into());
        self
    }

    /// The `details` of the API as a JSON object: facts, the reason if there is one, and
    /// `"retried":false` where no retry mends it.
    #[must_use]
    pub fn details(&self) -> String {
        let mut details = self.facts.clone();
        if let Some(reason) = self.state.reason() {
            details.insert("reason", reason.into());
        }
        if matches!(self.state, State::Refused(_)) {
            details.insert("retried", false.into());
        }
        Value::from_iter(
            details
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        )
        .to_string()
    }
}

/// What one pass of a backend came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassReport {
    /// The intent's generation that the pass worked on.
    pub generation: Generation,
    /// How many actions were planned; 0 over an unchanged world.
    pub planned: usize,
    /// How many of them failed.
    pub failed: usize,
    /// How many of them put right what an earlier pass had found, or left, as asked.
    pub repaired: usize,
    /// A word per object of this backend. A live object without an entry does not concern the
    /// backend; a tombstone without an entry is gone from it.
    pub objects: BTreeMap<ObjectKey, Component>,
    /// Trouble that belongs to no object, such as a device of ours that cannot be made.
    pub node: Vec<String>,
    /// Trouble that belongs to no object and that no retry mends, such as somebody else's device
    /// with a name that we need. An event tells when it has gone.
    pub refusals: Vec<String>,
    /// What an operator is to know of the node and only he can change: another pass would find the
    /// same. An event tells when it has changed.
    pub notices: Vec<String>,
    /// Why the backend could not be looked at; nothing was planned then, and nobody knows how
    /// its objects are.
    pub unobserved: Option<String>,
}

impl PassReport {
    /// Whether an object was as asked, or, where the backend had no word of it, had nothing to be
    /// done.
    #[must_use]
    pub fn was_well(&self, object: &ObjectKey) -> bool {
        let known = self.objects.get(object);
        known.is_none_or(|component| component.state == State::Success)
    }

    /// Whether what belongs to no object was as it should be.
    #[must_use]
    pub const fn was_node_well(&self) -> bool {
        self.node.is_empty() && self.refusals.is_empty()
    }

    /// Whether another pass is needed soon, without an event to cause it.
    #[must_use]
    pub fn wants_retry(&self) -> bool {
        let erring = |component: &Component| matches!(component.state, State::Error(_));
        self.failed > 0 || !self.node.is_empty() || self.objects.values().any(erring)
    }
}
