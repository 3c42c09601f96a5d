//! Random calls against the reference model: store and answers must equal it after every call, over
//! either face, across restarts. `tests/tests/e2e/model.rs` does so with the kernel.

use proptest::{
    prelude::*,
    sample::{select, subsequence},
};
use serde_json::Value;

use crate::{
    calls::{BRIDGE_PORT, Call, KINDS, Kind, LOGICAL_BRIDGE, VRF},
    face::Face,
    reference::Reference,
    rig::{Rig, Script},
    world::{access, bridge, svi, trunk, vrf},
};

#[derive(Clone, Debug)]
enum Step {
    Call(Face, Call),
    Restart,
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
    const GATEWAYS: [&str; 6] = [
        "10.1.0.1/24",
        "10.1.0.129/25",
        "10.2.0.1/24",
        "10.0.0.9/8",
        "fd00:1::1/64",
        "fd00:1::2/48",
    ];
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
    let mut model = Reference::default();
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
