//! Who has the UDP port of VXLAN: what the planner expects, and what the kernel answers.

use std::{process::Command, time::Duration};

use xpu_linux::kernel::Follower;
use xpu_model::{LogicalBridgeSpec, Spec, status::State};

use crate::{
    witness::{command, link},
    world::{World, id, in_namespace, network},
};

/// Why the kernel does not set our VXLAN device up; nothing where it does.
fn refusal() -> String {
    let words = ["link", "set", "vxlan", "up"];
    let output = Command::new("ip").args(words).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_kernel_refuses_what_the_planner_holds_back() {
    for (words, is_refused) in [
        ("id 4096 local 192.0.2.1 dstport 4789 nolearning", true),
        ("id 4096 dev up0 dstport 4789", true),
        ("id 4096 local 2001:db8::1 dstport 4789", true),
        ("external dstport 4789", true),
        ("external vnifilter dstport 4789", false),
        ("id 4096 local 192.0.2.1 dstport 8473", false),
    ] {
        in_namespace(move || async move {
            let mut world = World::new();
            command("ip -6 addr add 2001:db8::1/128 dev up0 nodad");
            command(&format!("ip link add vxlan.calico type vxlan {words}"));
            command("ip link set vxlan.calico up");
            let before = link("vxlan.calico");
            world.put("net-a", network(10, 1010));
            let report = world.pass().await;
            let state = |report: &xpu_model::status::PassReport| {
                report.objects[&LogicalBridgeSpec::key(&id("net-a"))]
                    .state
                    .clone()
            };
            assert_eq!(link("vxlan.calico"), before, "{words}");
            assert_eq!(link("vxlan")["linkinfo"]["info_data"]["port"], 4789);
            if !is_refused {
                assert_eq!(state(&report), State::Success, "{words}");
                return;
            }
            let State::Refused(reason) = state(&report) else {
                panic!("{words}: {report:#?}");
            };
            assert!(reason.contains("vxlan.calico"), "{reason}");
            assert!(!report.wants_retry(), "{report:#?}");
            let answer = refusal();
            assert!(
                answer.contains("Address already in use"),
                "{words}: {answer}"
            );

            // The kernel tells when it is free.
            let mut follower = Follower::new().unwrap();
            command("ip link set vxlan.calico down");
            let event = tokio::time::timeout(Duration::from_secs(5), follower.changed());
            event.await.expect(words).unwrap();
            let report = world.pass().await;
            assert_eq!(state(&report), State::Success, "{words}");
        });
    }
}

#[test]
fn another_port_is_free_of_somebodys_device() {
    in_namespace(|| async {
        let mut world = World::new();
        command("ip link add vxlan.calico type vxlan id 4096 local 192.0.2.1 dstport 4789");
        command("ip link set vxlan.calico up");
        world.node.vxlan_port = 8473.try_into().unwrap();
        world.tenant();
        let report = world.pass().await;
        assert!(report.refusals.is_empty(), "{report:#?}");
        for device in ["vxlan", "vxl3"] {
            let link = link(device);
            assert_eq!(link["linkinfo"]["info_data"]["port"], 8473, "{device}");
            assert_eq!(link["operstate"], "UNKNOWN", "{device}");
        }
        let sockets = command("ss -Hlun");
        assert!(sockets.contains(":8473"), "{sockets}");
    });
}

#[test]
fn the_devices_stay_at_their_port_while_somebody_has_the_new_one() {
    in_namespace(|| async {
        let mut world = World::new();
        command("ip link set flannel.1 up");
        world.tenant();
        let report = world.pass().await;
        assert!(report.refusals.is_empty(), "{report:#?}");
        let ours = || ["vxlan", "vxl3"].map(link);
        let before = ours();
        world.node.vxlan_port = 8472.try_into().unwrap();
        let report = world.pass().await;
        assert_eq!(ours(), before);
        let [refusal] = &report.refusals[..] else {
            panic!("{report:#?}");
        };
        assert!(refusal.contains("flannel.1"), "{refusal}");
        command("ip link set flannel.1 down");
        let report = world.pass().await;
        assert!(report.refusals.is_empty(), "{report:#?}");
        for link in ours() {
            assert_eq!(link["linkinfo"]["info_data"]["port"], 8472, "{link}");
            assert_eq!(link["operstate"], "UNKNOWN", "{link}");
        }
    });
}
