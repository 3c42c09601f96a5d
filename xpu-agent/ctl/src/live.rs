//! The agent's objects of several kinds in one map, with what commands over all kinds need of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;
use xpu_model::{Id, Kind, ObjectKey};
use xpu_proto::evpn_gw::v1alpha1::{BridgePort, Component, LogicalBridge, Svi, Vrf};

use crate::commands::{Resource, Session};
use crate::failure::Failure;
use crate::manifest::{Manifest, Spec};
use crate::view::{Oper, State};

/// An object as the agent has it.
#[derive(Clone, Debug)]
pub struct Live {
    /// What was asked for.
    pub spec: Spec,
    /// What has become of it.
    pub oper: Oper,
    /// Each component's part.
    pub components: Vec<Component>,
}

impl Live {
    /// What keeps the object from being up.
    pub fn trouble(&self) -> Option<String> {
        let state = State {
            oper: self.oper,
            components: &self.components,
        };
        state.trouble()
    }

    /// Whether it is being deleted.
    pub fn is_going(&self) -> bool {
        self.oper == Oper::ToBeDeleted
    }
}

/// Objects by name.
pub type Objects = BTreeMap<ObjectKey, Live>;

/// Ports whose ids begin so were made by `xpu-cni` for pods (design of its port ids), and go
/// with them. They are nobody's manifest.
pub const POD_PORTS: &str = "cni-";

/// Whether a pod's attachment made the object.
pub fn is_pods(key: &ObjectKey) -> bool {
    key.kind == Kind::BridgePort && key.id.as_str().starts_with(POD_PORTS)
}

/// Whether the agent chose the id, as it does where `create` names none. It accepts no such id
/// from a user.
pub fn has_agents_id(key: &ObjectKey) -> bool {
    Id::user(key.id.as_str()).is_err()
}

/// The objects as manifests, without those that are being deleted.
pub fn manifests(objects: &Objects) -> Vec<Manifest> {
    let staying = objects.iter().filter(|(_, live)| !live.is_going());
    let manifest = |(key, live): (&ObjectKey, &Live)| Manifest {
        key: key.clone(),
        spec: live.spec.clone(),
    };
    staying.map(manifest).collect()
}

/// The far ends of an object's network, where a component's details name them, under
/// `remoteVteps`.
pub fn remote_vteps(live: &Live) -> BTreeSet<IpAddr> {
    let details = live.components.iter();
    let details = details.filter_map(|it| serde_json::from_str::<Value>(&it.details).ok());
    let named = details.flat_map(|mut it| match it.get_mut("remoteVteps").map(Value::take) {
        Some(Value::Array(named)) => named,
        _ => Vec::new(),
    });
    named.filter_map(|it| it.as_str()?.parse().ok()).collect()
}

impl Session {
    /// All objects of some kinds.
    pub async fn objects(&self, kinds: &[Kind]) -> Result<Objects, Failure> {
        let mut objects = Objects::new();
        for kind in kinds {
            match kind {
                Kind::Vrf => self.collect::<Vrf>(&mut objects).await?,
                Kind::LogicalBridge => self.collect::<LogicalBridge>(&mut objects).await?,
                Kind::BridgePort => self.collect::<BridgePort>(&mut objects).await?,
                Kind::Svi => self.collect::<Svi>(&mut objects).await?,
            }
        }
        Ok(objects)
    }

    async fn collect<K: Resource>(&self, objects: &mut Objects) -> Result<(), Failure> {
        for object in self.list::<K>().await? {
            let (key, live) = read(&object).map_err(|why| Failure::Answer {
                name: object.name().to_owned(),
                why,
            })?;
            objects.insert(key, live);
        }
        Ok(())
    }
}

/// The manifests' own reader serves: it knows the API's canonical JSON.
fn read<K: Resource>(object: &K) -> Result<(ObjectKey, Live), String> {
    let key = ObjectKey::parse(K::KIND, object.name()).map_err(|error| error.to_string())?;
    let mut json = serde_json::to_value(object).map_err(|error| error.to_string())?;
    let spec = json.get_mut("spec").map_or(Value::Null, Value::take);
    let spec = Spec::read(K::KIND, spec).map_err(|error| error.to_string())?;
    let State { oper, components } = object.state();
    let components = components.to_vec();
    Ok((
        key,
        Live {
            spec,
            oper,
            components,
        },
    ))
}
