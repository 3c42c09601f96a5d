//! New ids for objects whose ids the agent made. They say what the object is: `lb-7` has VLAN 7.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use xpu_model::{Id, ObjectKey};

use crate::live::{self, Objects};
use crate::manifest::Spec;

/// New names by old ones.
pub type Names = BTreeMap<ObjectKey, ObjectKey>;

/// A new name for each object whose id the agent made. The same objects always get the same.
pub fn names(objects: &Objects) -> Names {
    let mut taken: BTreeSet<_> = objects.keys().cloned().collect();
    let mut names = Names::new();
    // A network has its name before its gateway, whose name is made of it: kinds are in the order
    // of dependency.
    let agents = objects.iter().filter(|(key, _)| live::has_agents_id(key));
    for (key, live) in agents {
        let stem = stem(&live.spec, &names);
        let mut free = (1..)
            .filter_map(|number| id(&stem, number))
            .map(|id| ObjectKey::new(key.kind, id))
            .filter(|new| !taken.contains(new));
        if let Some(new) = free.next() {
            taken.insert(new.clone());
            names.insert(key.clone(), new);
        }
    }
    names
}

/// The objects under their new names, with the references to them.
pub fn renamed(objects: Objects, names: &Names) -> Objects {
    let renamed = objects.into_iter().map(|(key, mut live)| {
        live.spec.rename(names);
        (names.get(&key).cloned().unwrap_or(key), live)
    });
    renamed.collect()
}

fn stem(spec: &Spec, names: &Names) -> String {
    match spec {
        Spec::Vrf(vrf) => match vrf.vni {
            Some(vni) => format!("vrf-{vni}"),
            None => {
                let address = vrf.loopback_ip_prefix.0.addr().to_string();
                format!("vrf-{}", address.replace(['.', ':'], "-"))
            }
        },
        Spec::LogicalBridge(bridge) => format!("lb-{}", bridge.vlan_id),
        Spec::BridgePort(port) => {
            let mac = port.mac_address.0.to_string();
            format!("port-{}", mac.replace(':', ""))
        }
        Spec::Svi(svi) => {
            let bridge = ObjectKey::new(xpu_model::Kind::LogicalBridge, svi.logical_bridge.clone());
            let id = names.get(&bridge).map_or(&bridge.id, |new| &new.id);
            format!("svi-{id}")
        }
    }
}

/// The longest id (AIP-122).
const LONGEST: usize = 63;

/// `lb-7`, and `lb-7-2` where that is taken; none if it would be no id.
fn id(stem: &str, number: u32) -> Option<Id> {
    let end = match number {
        1 => String::new(),
        number => format!("-{number}"),
    };
    // A stem is ASCII.
    let room = stem.len().min(LONGEST.saturating_sub(end.len()));
    let stem = stem.get(..room)?.trim_end_matches('-');
    Id::user(&format!("{stem}{end}")).ok()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::{Value, json};
    use xpu_model::Kind;

    use super::*;
    use crate::live::Live;
    use crate::view::Oper;

    const FIRST: &str = "0f8b7a6c-0000-4000-8000-000000000001";
    const SECOND: &str = "9f8b7a6c-0000-4000-8000-000000000002";

    fn live(all: &[(Kind, &str, Value)]) -> Objects {
        let live = |(kind, id, spec): &(Kind, &str, Value)| {
            let live = Live {
                spec: Spec::read(*kind, spec.clone()).expect("a spec"),
                oper: Oper::Up,
                components: Vec::new(),
            };
            (ObjectKey::parse(*kind, id).expect("a name"), live)
        };
        all.iter().map(live).collect()
    }

    fn named(all: &[(Kind, &str, Value)]) -> Vec<String> {
        let all = live(all);
        let named = renamed(all.clone(), &names(&all));
        assert_eq!(named.len(), all.len(), "none takes another's place");
        named.keys().map(ToString::to_string).collect()
    }

    fn bridge(vlan: u16) -> Value {
        json!({ "vlanId": vlan })
    }

    fn vrf(loopback: &str, vni: Option<u32>) -> Value {
        json!({"loopbackIpPrefix": loopback, "vni": vni})
    }

    #[test]
    fn names_say_what_it_is_and_no_name_is_given_twice() {
        assert_eq!(
            named(&[
                (Kind::Vrf, FIRST, vrf("10.0.0.1/32", Some(5001))),
                (Kind::Vrf, SECOND, vrf("fd00::/64", None)),
                (Kind::Vrf, "vrf-5001", vrf("10.0.0.1/32", None)),
                (Kind::LogicalBridge, FIRST, bridge(7)),
                (Kind::LogicalBridge, "blue", bridge(8)),
            ]),
            [
                "vrfs/vrf-5001",
                "vrfs/vrf-5001-2",
                "vrfs/vrf-fd00",
                "logicalBridges/blue",
                "logicalBridges/lb-7",
            ]
        );
    }

    #[test]
    fn who_refers_follows() {
        let port = json!({"ptype": "TRUNK", "logicalBridges": ["blue", FIRST],
            "macAddress": "02:00:00:00:00:0a"});
        let svi = json!({"vrf": SECOND, "logicalBridge": FIRST,
            "macAddress": "02:00:00:00:00:01", "gwIpPrefix": ["10.1.0.1/24"]});
        let all = live(&[
            (Kind::Vrf, SECOND, vrf("10.0.0.1/32", None)),
            (Kind::LogicalBridge, FIRST, bridge(7)),
            (Kind::LogicalBridge, "blue", bridge(8)),
            (Kind::BridgePort, FIRST, port),
            (Kind::Svi, SECOND, svi),
        ]);
        let named = renamed(all.clone(), &names(&all));
        let references = |name: &str| {
            let mut found = named.iter().filter(|(key, _)| key.to_string() == name);
            let (_, live) = found.next().expect("is there");
            let references = live.spec.references().into_iter();
            references.map(|key| key.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            references("bridgePorts/port-02000000000a"),
            ["blue", "lb-7"]
        );
        assert_eq!(references("svis/svi-lb-7"), ["vrf-10-0-0-1", "lb-7"]);
    }

    #[test]
    fn long_names_are_cut_and_still_differ() {
        let long = "a".repeat(63);
        let svi = |bridge: &str| {
            json!({"vrf": "prod", "logicalBridge": bridge, "macAddress": "02:00:00:00:00:01",
                "gwIpPrefix": ["10.1.0.1/24"]})
        };
        let other = format!("{}b", &long[1..]);
        let names = named(&[
            (Kind::Svi, FIRST, svi(&long)),
            (Kind::Svi, SECOND, svi(&other)),
        ]);
        let cut = &long[..59];
        assert_eq!(
            names,
            [
                format!("svis/svi-{}-2", &cut[..57]),
                format!("svis/svi-{cut}"),
            ]
        );
    }
}
