//! What others change is noticed, and put right; what tenants make is not even noticed.

use std::time::Duration;

use xpu_linux::kernel::{Follower, Moved};
use xpu_plan::linux::{FdbEntry, Inputs};

use crate::{
    witness::{command, witness_fabric, witness_ports, witness_routing},
    world::{World, in_namespace},
};

#[test]
fn drift_is_noticed_and_repaired() {
    in_namespace(|| async {
        let mut world = World::new();
        let mut follower = Follower::new().unwrap();
        world.tenant();
        world.pass().await;
        for line in [
            "ip link del svi-10",
            "ip link del l3-1",
            "ip link del vxlan",
            "ip link del br-tenant",
            "ip link del blue",
            "ip link set port1 nomaster",
            "ip link set svi-10 down",
            "ip link set br-tenant mtu 1400",
            "ip link set vxlan nomaster",
            "ip addr flush dev svi-10",
            "ip addr add 192.0.2.77/24 dev svi-10",
            "bridge vlan del dev vxlan vid 10",
            "bridge vlan del dev vxlan vid 11 tunnel_info id 1011",
            "bridge vlan del dev br-tenant vid 10 self",
            "bridge vlan add dev port1 vid 77",
            "bridge vni del dev vxlan vni 1010",
            "bridge link set dev vxlan learning on",
            "bridge fdb del 02:00:5e:00:00:10 dev br-tenant vlan 10 self",
            "ip route del unreachable default metric 4278198272 table 1001 proto redirect",
            "ip -6 route del unreachable default metric 4278198272 table 1001 proto redirect",
            "ip route replace unreachable default metric 4278198272 table 1001 proto static",
            "sysctl -q net.ipv4.ip_forward=0",
            "sysctl -q net.ipv6.conf.all.forwarding=0",
            "sysctl -q net.ipv4.conf.svi-10.rp_filter=1",
        ] {
            // What the passes themselves cause is drained first.
            while tokio::time::timeout(Duration::from_millis(50), follower.changed())
                .await
                .is_ok()
            {}
            command(line);
            let noticed = tokio::time::timeout(Duration::from_secs(5), follower.changed()).await;
            noticed
                .unwrap_or_else(|_| panic!("`{line}` went unnoticed"))
                .unwrap();
            assert!(!world.plan().await.is_empty(), "`{line}` calls for nothing");
            world.pass().await;
        }
        witness_fabric();
        witness_routing();
        witness_ports();
    });
}

/// Neighbours, learned addresses and routes come by the thousand, and wake nobody.
#[test]
fn what_tenants_make_goes_unnoticed() {
    in_namespace(|| async {
        let mut world = World::new();
        world.tenant();
        world.pass().await;
        command("ip link set up0 up");
        let mut follower = Follower::new().unwrap();
        for template in [
            "bridge fdb add 02:aa:00:00:00:0N dev port1 vlan 10 master dynamic",
            "bridge fdb add 02:aa:00:00:01:0N dev vxlan dst 192.0.2.9 vni 1010 self permanent",
            "bridge fdb add 02:aa:00:00:01:0N dev vxlan vlan 10 master extern_learn",
            "ip neigh add 10.0.10.7N lladdr 02:aa:00:00:00:01 dev svi-10 nud stale",
            "ip route add 203.0.113.N via 10.0.10.77 dev svi-10 table 1001 proto bgp",
            "ip route add default via 10.0.10.77 dev svi-10 metric N table 1001 proto bgp",
            "ip route del 203.0.113.N table 1001",
        ] {
            // A bridge speaks of its ports by itself now and then, but not three times in a row.
            let mut wakes = 0;
            for number in ["1", "2", "3"] {
                command(&template.replace('N', number));
                let noticed = tokio::time::timeout(Duration::from_millis(300), follower.changed());
                wakes += usize::from(noticed.await.is_ok());
            }
            assert!(wakes < 3, "`{template}` wakes the agent");
        }
    });
}

/// A gateway's entry is asked for when an event is about it, and not before.
#[test]
fn the_entry_that_an_event_is_about_is_asked_for_anew() {
    in_namespace(|| async {
        let mut world = World::new();
        world.tenant();
        world.pass().await;
        let mut follower = Follower::new().unwrap();
        let entry = FdbEntry {
            vlan: 10.try_into().unwrap(),
            mac: "02:00:5e:00:00:10".parse().unwrap(),
        };
        let stands = async |moved| {
            let inputs = Inputs {
                intent: &world.intent,
                node: &world.node,
                frr: &world.frr,
            };
            let observed = world.linux.observe_moved(&inputs, moved).await.unwrap();
            observed.fdb.contains(&entry)
        };
        for (change, after) in [("del", false), ("add", true)] {
            command(&format!(
                "bridge fdb {change} {} dev br-tenant vlan 10 self permanent",
                entry.mac
            ));
            assert_ne!(stands(Moved::default()).await, after, "it was asked for");
            let told = follower.catch_up();
            assert_ne!(told, Moved::all());
            assert_eq!(stands(told).await, after, "{change}");
        }
    });
}

/// What no event tells is found by looking.
#[test]
fn quiet_drift_is_found_by_an_audit() {
    in_namespace(|| async {
        let mut world = World::new();
        world.tenant();
        world.pass().await;
        command("sysctl -q net.ipv4.conf.svi-10.arp_accept=0");
        assert_eq!(world.plan().await.len(), 1);
        world.pass().await;
        witness_routing();
    });
}
