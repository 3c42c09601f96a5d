//! Random calls against a reference model of the API: a map of specs as JSON, with the rules
//! written once more, in the plainest way. Store and answers must equal it after every call, over
//! either face, across restarts.

use std::collections::BTreeMap;

use proptest::{
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    face::{BRIDGE_PORT, Call, Face, KINDS, Kind, LOGICAL_BRIDGE, SVI, VRF},
    rig::{Rig, Script},
    world::{access, bridge, svi, trunk, vrf},
};

/// What a call must answer: the spec, or the code with the field that is told.
type Answer = Result<Option<Value>, (Code, Option<&'static str>)>;

#[derive(Clone, Debug)]
enum Step {
    Call(Face, Call),
    Restart,
}

#[derive(Default)]
struct Model(BTreeMap<(&'static str, String), Value>);

impl Model {
    fn of(&self, kind: Kind) -> impl Iterator<Item = (&str, &Value)> {
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

    fn apply(&mut self, call: &Call) -> Answer {
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
        let unmet = |field| Err((Code::FailedPrecondition, Some(field)));
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
fn valid(kind: Kind, spec: &Value) -> Result<(), (Code, Option<&'static str>)> {
    let wrong = |field| Err((Code::InvalidArgument, Some(field)));
    let count = spec["logicalBridges"].as_array().map_or(0, Vec::len);
    match kind {
        LOGICAL_BRIDGE if spec["vlanId"].is_null() => wrong("logical_bridge.spec.vlan_id"),
        BRIDGE_PORT if spec["ptype"] == "BRIDGE_PORT_TYPE_ACCESS" && count != 1 => {
            wrong("bridge_port.spec.logical_bridges")
        }
        _ => Ok(()),
    }
}

/// The generator's gateways are IPv4.
fn overlap(one: &Value, other: &Value) -> bool {
    let subnets = |spec: &Value| -> Vec<(u64, u64)> {
        let all = spec["gwIpPrefix"].as_array().unwrap().iter();
        all.map(|it| {
            (
                it["addr"]["v4Addr"].as_u64().unwrap(),
                it["len"].as_u64().unwrap(),
            )
        })
        .collect()
    };
    let common = |(a, len_a): (u64, u64), (b, len_b): (u64, u64)| {
        let shift = 32 - len_a.min(len_b);
        a >> shift == b >> shift
    };
    let others = subnets(other);
    subnets(one)
        .into_iter()
        .any(|a| others.iter().any(|b| common(a, *b)))
}

// Few values of everything, so that calls meet.

fn id(kind: Kind) -> impl Strategy<Value = String> {
    (1..=3).prop_map(move |number| format!("{}-{number}", kind.field.replace('_', "-")))
}

fn vni() -> impl Strategy<Value = Option<u32>> {
    prop::option::of(1..=4_u32)
}

fn spec(kind: Kind) -> BoxedStrategy<Value> {
    const NETS: [&str; 3] = [
        "logical-bridge-1",
        "logical-bridge-2",
        "logicalBridges/logical-bridge-3",
    ];
    const GATEWAYS: [&str; 4] = ["10.1.0.1/24", "10.1.0.129/25", "10.2.0.1/24", "10.0.0.9/8"];
    match kind {
        VRF => vni().prop_map(vrf).boxed(),
        LOGICAL_BRIDGE => (0..=4_u32, vni())
            .prop_map(|(vlan, vni)| bridge(vlan, vni))
            .boxed(),
        BRIDGE_PORT => {
            let access =
                (1..=3_u8, select(NETS.as_slice())).prop_map(|(mac, net)| access(mac, net));
            let trunk = (1..=3_u8, subsequence(NETS.as_slice(), 0..=3))
                .prop_map(|(mac, nets)| trunk(mac, &nets));
            prop_oneof![access, trunk].boxed()
        }
        _ => (
            id(VRF),
            select(NETS.as_slice()),
            subsequence(GATEWAYS.as_slice(), 1..=2),
        )
            .prop_map(|(vrf, net, gateways)| svi(&vrf, net, &gateways))
            .boxed(),
    }
}

fn mask(kind: Kind) -> impl Strategy<Value = Option<String>> {
    let fields: &[&str] = match kind {
        VRF => &["spec.vni"],
        LOGICAL_BRIDGE => &["spec.vlanId", "spec.vni"],
        BRIDGE_PORT => &["spec.macAddress", "spec.ptype", "spec.logicalBridges"],
        _ => &["spec.vrf", "spec.logicalBridge", "spec.gwIpPrefix"],
    };
    let some = subsequence(fields, 1..=fields.len()).prop_map(|fields| fields.join(","));
    prop::option::of(some)
}

fn step() -> impl Strategy<Value = Step> {
    let face = select([Face::Grpc, Face::Http].as_slice());
    let call = select(KINDS.as_slice()).prop_flat_map(|kind| {
        let create =
            (id(kind), spec(kind)).prop_map(move |(id, spec)| Call::Create(kind, id, spec));
        let update = (id(kind), spec(kind), mask(kind), any::<bool>());
        let update = update.prop_map(move |(name, spec, mask, allow_missing)| Call::Update {
            kind,
            name,
            spec,
            mask,
            allow_missing,
        });
        let delete = (id(kind), any::<bool>())
            .prop_map(move |(name, allow_missing)| Call::Delete(kind, name, allow_missing));
        let get = id(kind).prop_map(move |name| Call::Get(kind, name));
        prop_oneof![4 => create, 3 => update, 2 => delete, 1 => get]
    });
    prop_oneof![
        30 => (face, call).prop_map(|(face, call)| Step::Call(face, call)),
        1 => Just(Step::Restart),
    ]
}

async fn stored(rig: &Rig, face: Face, kind: Kind) -> Vec<(String, Value)> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = face.call(rig, &Call::List(kind, 2, token)).await.unwrap();
        for object in page[kind.collection].as_array().into_iter().flatten() {
            let name = object["name"].as_str().unwrap();
            let (_, id) = name.split_once('/').unwrap();
            all.push((id.to_owned(), object["spec"].clone()));
        }
        token = page["nextPageToken"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if token.is_empty() {
            return all;
        }
    }
}

async fn play(steps: Vec<Step>) {
    let script = Script {
        // Nothing but the object's state ends a wait.
        deadline: std::time::Duration::from_secs(3_600),
        ..Script::default()
    };
    let mut rig = Rig::with(script).await;
    let mut model = Model::default();
    for step in steps {
        let face = match step {
            Step::Restart => {
                rig = rig.restart().await;
                Face::Grpc
            }
            Step::Call(face, call) => {
                let expected = model.apply(&call);
                let answer = match face.call(&rig, &call).await {
                    Ok(object) => Ok(object.get("spec").cloned()),
                    Err(refusal) => {
                        let field = refusal.fields.first().map(|(field, _)| field.clone());
                        Err((refusal.code, field))
                    }
                };
                let expected = expected.map_err(|(code, field)| (code, field.map(str::to_owned)));
                assert_eq!(answer, expected, "{face:?} {call:?}");
                face
            }
        };
        for kind in KINDS {
            let expected: Vec<_> = model
                .of(kind)
                .map(|(id, spec)| (id.to_owned(), spec.clone()))
                .collect();
            assert_eq!(stored(&rig, face, kind).await, expected, "{}", kind.message);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn store_and_answers_equal_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}
