//! A reference model of the API: a map of specs as JSON, with the rules written once more, in the
//! plainest way. For calls that a generator can make, not for all that a client can send.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tonic::Code;

use crate::calls::{BRIDGE_PORT, Call, Kind, LOGICAL_BRIDGE, SVI, VRF};

/// What a call must answer: the spec, or the code with the field that is told.
pub type Answer = Result<Option<Value>, (Code, Option<String>)>;

/// The objects' specs, by collection and id.
#[derive(Default)]
pub struct Reference(BTreeMap<(&'static str, String), Value>);

impl Reference {
    /// The objects of a kind, by id.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.0.iter();
        let of = all.filter(move |((collection, _), _)| *collection == kind.collection);
        of.map(|((_, id), spec)| (id.as_str(), spec))
    }

    /// The others of a kind with the same value, which must not be nothing, in a field.
    fn has(&self, kind: Kind, but: &str, field: &str, value: &Value) -> bool {
        let mut others = self.of(kind).filter(|(id, _)| *id != but);
        !value.is_null() && others.any(|(_, spec)| spec[field] == *value)
    }

    fn exists(&self, name: &Value) -> bool {
        let (collection, id) = name.as_str().unwrap().split_once('/').unwrap();
        self.0
            .keys()
            .any(|(it, its)| *it == collection && its == id)
    }

    /// Makes a call; nothing changes where it is refused.
    pub fn apply(&mut self, call: &Call) -> Answer {
        match call {
            Call::Create(kind, id, spec) => {
                let spec = canonical(*kind, spec);
                valid(*kind, &spec)?;
                match self.0.get(&(kind.collection, id.clone())) {
                    Some(stored) if *stored == spec => Ok(Some(spec)),
                    Some(_) => Err((Code::AlreadyExists, None)),
                    None => self.put(*kind, id, spec),
                }
            }
            Call::Update {
                kind,
                name,
                spec,
                mask,
                allow_missing,
            } => {
                let change = canonical(*kind, spec);
                let Some(stored) = self.0.get(&(kind.collection, name.clone())) else {
                    if !allow_missing {
                        return Err((Code::NotFound, None));
                    }
                    valid(*kind, &change)?;
                    return self.put(*kind, name, change);
                };
                let mut merged = stored.clone();
                let fields: Vec<&str> = match mask {
                    Some(mask) => mask
                        .split(',')
                        .map(|it| it.strip_prefix("spec.").unwrap())
                        .collect(),
                    None => change
                        .as_object()
                        .unwrap()
                        .keys()
                        .map(String::as_str)
                        .collect(),
                };
                for field in fields {
                    merged[field] = change[field].clone();
                }
                let merged = canonical(*kind, &merged);
                valid(*kind, &merged)?;
                self.put(*kind, name, merged)
            }
            Call::Delete(kind, name, allow_missing) => {
                let key = (kind.collection, name.clone());
                if !self.0.contains_key(&key) {
                    return if *allow_missing {
                        Ok(None)
                    } else {
                        Err((Code::NotFound, None))
                    };
                }
                let full = json!(format!("{}/{name}", kind.collection));
                let refers = |spec: &Value| {
                    let list = spec["logicalBridges"].as_array().into_iter().flatten();
                    let single = [&spec["vrf"], &spec["logicalBridge"]];
                    list.chain(single).any(|name| *name == full)
                };
                if self.0.values().any(refers) {
                    return Err((Code::FailedPrecondition, None));
                }
                self.0.remove(&key);
                Ok(None)
            }
            Call::Get(kind, name) => match self.0.get(&(kind.collection, name.clone())) {
                Some(spec) => Ok(Some(spec.clone())),
                None => Err((Code::NotFound, None)),
            },
            Call::List(..) => Ok(None),
        }
    }

    fn put(&mut self, kind: Kind, id: &str, spec: Value) -> Answer {
        let unmet = |field: &str| Err((Code::FailedPrecondition, Some(field.to_owned())));
        let vni_taken = || {
            [VRF, LOGICAL_BRIDGE].into_iter().any(|other| {
                let own = if other == kind { id } else { "" };
                self.has(other, own, "vni", &spec["vni"])
            })
        };
        match kind {
            VRF if vni_taken() => return unmet("vrf.spec.vni"),
            LOGICAL_BRIDGE if self.has(kind, id, "vlanId", &spec["vlanId"]) => {
                return unmet("logical_bridge.spec.vlan_id");
            }
            LOGICAL_BRIDGE if vni_taken() => return unmet("logical_bridge.spec.vni"),
            BRIDGE_PORT => {
                let names = |spec: &Value| {
                    spec["logicalBridges"]
                        .as_array()
                        .cloned()
                        .unwrap_or_default()
                };
                if names(&spec).iter().any(|name| !self.exists(name)) {
                    return unmet("bridge_port.spec.logical_bridges");
                }
                // A port without names is in all of them.
                let meets = |other: &Value| {
                    let (own, other) = (names(&spec), names(other));
                    own.is_empty() || other.is_empty() || own.iter().any(|it| other.contains(it))
                };
                let clash = |(other, its): (&str, &Value)| {
                    other != id && its["macAddress"] == spec["macAddress"] && meets(its)
                };
                if self.of(kind).any(clash) {
                    return unmet("bridge_port.spec.mac_address");
                }
            }
            SVI => {
                if !self.exists(&spec["vrf"]) {
                    return unmet("svi.spec.vrf");
                }
                if !self.exists(&spec["logicalBridge"]) {
                    return unmet("svi.spec.logical_bridge");
                }
                if self.has(kind, id, "logicalBridge", &spec["logicalBridge"]) {
                    return unmet("svi.spec.logical_bridge");
                }
                let clash = |(other, its): (&str, &Value)| {
                    other != id && its["vrf"] == spec["vrf"] && overlap(its, &spec)
                };
                if self.of(kind).any(clash) {
                    return unmet("svi.spec.gw_ip_prefix");
                }
            }
            _ => {}
        }
        self.0
            .insert((kind.collection, id.to_owned()), spec.clone());
        Ok(Some(spec))
    }
}

/// A spec as it comes back: full names, sorted; nothing that is empty.
fn canonical(kind: Kind, spec: &Value) -> Value {
    let full = |kind: Kind, name: &Value| {
        let name = name.as_str().unwrap();
        let id = name.rsplit('/').next().unwrap();
        json!(format!("{}/{id}", kind.collection))
    };
    let mut spec = spec.clone();
    let fields = spec.as_object_mut().unwrap();
    if kind == BRIDGE_PORT
        && let Some(names) = fields
            .get_mut("logicalBridges")
            .and_then(Value::as_array_mut)
    {
        names
            .iter_mut()
            .for_each(|name| *name = full(LOGICAL_BRIDGE, name));
        names.sort_by_key(|name| name.as_str().map(str::to_owned));
    }
    if kind == SVI {
        for (field, kind) in [("vrf", VRF), ("logicalBridge", LOGICAL_BRIDGE)] {
            if let Some(name) = fields.get_mut(field).filter(|name| !name.is_null()) {
                *name = full(kind, name);
            }
        }
    }
    fields.retain(|_, value| !value.is_null() && *value != 0 && *value != json!([]));
    spec
}

/// What the generator can get wrong in a spec by itself.
fn valid(kind: Kind, spec: &Value) -> Result<(), (Code, Option<String>)> {
    let wrong = |field: &str| Err((Code::InvalidArgument, Some(field.to_owned())));
    let count = spec["logicalBridges"].as_array().map_or(0, Vec::len);
    match kind {
        LOGICAL_BRIDGE if spec["vlanId"].is_null() => wrong("logical_bridge.spec.vlan_id"),
        BRIDGE_PORT if spec["ptype"] == "BRIDGE_PORT_TYPE_ACCESS" && count != 1 => {
            wrong("bridge_port.spec.logical_bridges")
        }
        _ => Ok(()),
    }
}

/// Whether a subnet of one Svi has addresses of the other's.
fn overlap(one: &Value, other: &Value) -> bool {
    // Of one family: as many bits as it has, from the left of 128.
    let subnets = |spec: &Value| -> Vec<(bool, u128, u64)> {
        let all = spec["gwIpPrefix"].as_array().unwrap().iter();
        let subnet = |prefix: &Value| {
            let (address, len) = (&prefix["addr"], prefix["len"].as_u64().unwrap());
            match address["v4Addr"].as_u64() {
                Some(v4) => (true, u128::from(v4) << 96, len),
                None => {
                    let bytes = BASE64_STANDARD.decode(address["v6Addr"].as_str().unwrap());
                    let bytes: [u8; 16] = bytes.unwrap().try_into().unwrap();
                    (false, u128::from_be_bytes(bytes), len)
                }
            }
        };
        all.map(subnet).collect()
    };
    let common = |(v4, a, len_a): (bool, u128, u64), (its, b, len_b): (bool, u128, u64)| {
        let shift = 128 - len_a.min(len_b);
        v4 == its && a >> shift == b >> shift
    };
    let others = subnets(other);
    subnets(one)
        .into_iter()
        .any(|a| others.iter().any(|b| common(a, *b)))
}
