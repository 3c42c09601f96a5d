//! As many networks as a bridge has VLANs.

use serde_json::Value;
use xpu_model::{Generation, Object};

use crate::{
    witness::{command, json},
    world::{World, id, in_namespace, network},
};

/// Numbers that make no range are the worst case for the kernel's messages.
#[test]
fn four_thousand_scattered_networks_fit() {
    in_namespace(|| async {
        let mut world = World::new();
        for vlan in 1..=4000 {
            // Neighbouring VLANs have VNIs far apart.
            world.intent.restore(Object {
                id: id(&format!("net-{vlan}")),
                spec: network(vlan, 10_000 + (vlan * 7919) % 4001),
                allocation: (),
                created: Generation(1),
                generation: Generation(1),
                deleting: false,
            });
        }
        let started = std::time::Instant::now();
        let report = world.pass().await;
        println!(
            "4000 scattered networks: {} actions in {:?}",
            report.planned,
            started.elapsed()
        );
        // `bridge vlan tunnelshow` asks the old way, whose answer is cut at this size. The way of
        // `-s` has no tunnels; that one is there shows in that the VLAN can't be mapped again.
        let ranges = json("bridge -j vni show dev vxlan")[0]["vnis"].clone();
        let count = |range: &Value| {
            let first = range["vni"].as_u64().unwrap();
            range["vniEnd"].as_u64().unwrap_or(first) + 1 - first
        };
        let admitted: u64 = ranges.as_array().unwrap().iter().map(count).sum();
        assert!((4000..=4001).contains(&admitted), "{admitted} VNIs");
        let parts = json("bridge -j -s vlan show dev vxlan");
        let vlans = parts.as_array().unwrap().iter();
        let vlans: usize = vlans.map(|it| it["vlans"].as_array().unwrap().len()).sum();
        assert!((4000..=4001).contains(&vlans), "{vlans} VLANs");
        let again = "bridge vlan add dev vxlan vid 3999 tunnel_info id 5";
        let mapped = std::panic::catch_unwind(|| command(again)).is_err();
        assert!(mapped, "VLAN 3999 was not mapped");
    });
}
