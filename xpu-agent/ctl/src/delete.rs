//! Deleting, and whether the object is gone. The agent answers Delete at the call's deadline at the
//! latest, even if its machine has not let go of the object yet; until it has, the object holds its
//! values.

use std::time::{Duration, Instant};

use tonic::Code;
use xpu_model::{Kind, ObjectKey};
use xpu_proto::evpn_gw::v1alpha1::{BridgePort, LogicalBridge, Svi, Vrf};

use crate::advice;
use crate::commands::{Resource, Session};
use crate::failure::Failure;
use crate::screen::say;
use crate::view::{NO_REASON, Oper};
use crate::wait;

/// What has become of an object that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is no more.
    Gone,
    /// It is being deleted; a warning has said why.
    Going,
}

impl Deleted {
    /// As it stands behind the object's name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Gone => "deleted",
            Self::Going => "is being deleted",
        }
    }
}

impl Session {
    /// Removes an object; warns where it isn't gone yet.
    pub async fn remove<K: Resource>(
        &self,
        key: &ObjectKey,
        allow_missing: bool,
    ) -> Result<Deleted, Failure> {
        let deleted = K::delete(&self.agent, key, allow_missing).await;
        deleted.map_err(|s| self.failure::<K>("delete", &key.to_string(), s))?;
        let Some(why) = self.what_keeps::<K>(key).await? else {
            return Ok(Deleted::Gone);
        };
        let (kind, id) = (advice::word(key.kind), &key.id);
        say(&format!(
            "warning: {key} is not gone yet: {why}; `xpuctl wait {kind} {id} --for deleted` waits \
             for it"
        ));
        Ok(Deleted::Going)
    }

    /// Removes an object that may be gone already.
    pub async fn remove_any(&self, key: &ObjectKey) -> Result<Deleted, Failure> {
        match key.kind {
            Kind::Vrf => self.remove::<Vrf>(key, true).await,
            Kind::LogicalBridge => self.remove::<LogicalBridge>(key, true).await,
            Kind::BridgePort => self.remove::<BridgePort>(key, true).await,
            Kind::Svi => self.remove::<Svi>(key, true).await,
        }
    }

    /// Waits until an object that is being deleted is gone, for as long as a call may take.
    /// Where that is too short, the agent refuses the change that needs it gone, and says why.
    pub async fn until_gone(&self, key: &ObjectKey) -> Result<(), Failure> {
        let end = Instant::now() + self.agent.timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let kept = match key.kind {
                Kind::Vrf => self.what_keeps::<Vrf>(key).await?,
                Kind::LogicalBridge => self.what_keeps::<LogicalBridge>(key).await?,
                Kind::BridgePort => self.what_keeps::<BridgePort>(key).await?,
                Kind::Svi => self.what_keeps::<Svi>(key).await?,
            };
            if kept.is_none() || left == Duration::ZERO {
                return Ok(());
            }
            wait::pause(wait::LOOK.min(left)).await;
        }
    }

    /// Why an object is not gone yet; none if it is, or somebody has made it anew.
    async fn what_keeps<K: Resource>(&self, key: &ObjectKey) -> Result<Option<String>, Failure> {
        match self.get::<K>(key).await {
            Ok(object) => {
                let state = object.state();
                let going = state.oper == Oper::ToBeDeleted;
                let why = || state.trouble().unwrap_or_else(|| NO_REASON.to_owned());
                Ok(going.then(why))
            }
            Err(Failure::Refused { source, .. }) if source.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
