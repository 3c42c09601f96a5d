//! Random nodes, users and neighbours.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    sync::Arc,
};

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};
use xpu_model::{
    BridgePortSpec, Gateways, Id, IfAddr, Intent, LogicalBridgeSpec, Mtu, Node, Object, PortMode,
    Spec, SviSpec, VrfSpec,
    alloc::AllocationRules,
    node::{PortResolver, RouteTargets, VXLAN_PORT},
};

use super::{
    kernel::{FRESH_IPV6, Kernel},
    named,
};
use crate::{
    FrrFacts, VrfInFrr,
    linux::{
        Family, Link, LinkKind, Setting,
        link::{BridgeParams, PortFlags, Settings, VlanEntry, VxlanParams},
    },
};

/// Flannel's, which a node may have for its own, too.
const OTHER_PORT: NonZeroU16 = NonZeroU16::new(8472).unwrap();

/// What a user may do, with numbers from small pools so that they meet.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Vrf(Id, VrfSpec),
    LogicalBridge(Id, LogicalBridgeSpec),
    Svi(Id, SviSpec),
    BridgePort(Id, BridgePortSpec),
    DeleteVrf(Id),
    DeleteLogicalBridge(Id),
    DeleteSvi(Id),
    DeleteBridgePort(Id),
}

pub(super) fn rules() -> AllocationRules {
    AllocationRules {
        tables: 1001..=1020,
        node_seed: [7; 16],
        foreign_devices: BTreeSet::new(),
    }
}

/// Does what the rules between objects allow, as the store would.
pub(super) fn perform(intent: &mut Intent, ops: &[Op]) {
    fn put<S: Spec>(intent: &mut Intent, id: &Id, spec: &S) {
        let rules = rules();
        if intent.update(id.clone(), spec.clone(), &rules).is_err() {
            let _ = intent.create(id.clone(), spec.clone(), &rules);
        }
    }
    for op in ops {
        match op {
            Op::Vrf(id, spec) => put(intent, id, spec),
            Op::LogicalBridge(id, spec) => put(intent, id, spec),
            Op::Svi(id, spec) => put(intent, id, spec),
            Op::BridgePort(id, spec) => put(intent, id, spec),
            Op::DeleteVrf(id) => drop(intent.delete::<VrfSpec>(id)),
            Op::DeleteLogicalBridge(id) => drop(intent.delete::<LogicalBridgeSpec>(id)),
            Op::DeleteSvi(id) => drop(intent.delete::<SviSpec>(id)),
            Op::DeleteBridgePort(id) => drop(intent.delete::<BridgePortSpec>(id)),
        }
    }
}

pub(super) fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn ids(prefix: &'static str) -> impl Strategy<Value = Id> {
    (1..=3).prop_map(move |n| id(&format!("{prefix}{n}")))
}

fn parsed<T: std::str::FromStr + std::fmt::Debug>(
    texts: &'static [&'static str],
) -> impl Strategy<Value = T> {
    select(texts).prop_map(|text| text.parse().ok().unwrap())
}

fn vni() -> impl Strategy<Value = xpu_model::Vni> {
    select(&[100, 101, 102, 103, 0x00ff_fffe, 0x00ff_ffff][..])
        .prop_map(|n: u32| n.try_into().unwrap())
}

fn vlan() -> impl Strategy<Value = xpu_model::VlanId> {
    select(&[10, 11, 12, 13, 4093, 4094][..]).prop_map(|n: u32| n.try_into().unwrap())
}

fn own_vtep() -> impl Strategy<Value = Option<xpu_model::IfAddr>> {
    let addr = parsed(&["192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128"]);
    option::weighted(0.2, addr)
}

fn vrf() -> impl Strategy<Value = VrfSpec> {
    let loopback = parsed(&["10.255.0.1/32", "10.255.0.2/32", "fd00::ff/128"]);
    (option::of(vni()), loopback, own_vtep()).prop_map(|(vni, loopback, vtep)| VrfSpec {
        vni,
        loopback,
        vtep,
    })
}

fn logical_bridge() -> impl Strategy<Value = LogicalBridgeSpec> {
    (vlan(), option::weighted(0.8, vni()), own_vtep())
        .prop_map(|(vlan, vni, vtep)| LogicalBridgeSpec { vlan, vni, vtep })
}

fn svi() -> impl Strategy<Value = SviSpec> {
    let mac = parsed(&["02:00:5e:00:00:01", "02:00:5e:00:00:02"]);
    let gateways = [
        "10.0.1.1/24",
        "10.0.1.2/24",
        "10.0.2.1/24",
        "fd00:1::1/64",
        "fd00:2::1/64",
    ];
    let gateways = gateways.map(|it| it.parse::<IfAddr>().unwrap()).to_vec();
    let gateways = subsequence(gateways, 1..3).prop_map(|it| Gateways::try_from(it).unwrap());
    (ids("vrf-"), ids("net-"), mac, gateways).prop_map(|(vrf, logical_bridge, mac, gateways)| {
        SviSpec {
            vrf,
            logical_bridge,
            mac,
            gateways,
            bgp: None,
        }
    })
}

fn bridge_port() -> impl Strategy<Value = BridgePortSpec> {
    let mac = parsed(&[
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        "02:00:00:00:00:03",
    ]);
    let mode = prop_oneof![
        ids("net-").prop_map(PortMode::Access),
        vec(ids("net-"), 0..4).prop_map(|ids| PortMode::trunk(ids.into_iter().collect())),
    ];
    (mac, mode).prop_map(|(mac, mode)| BridgePortSpec { mac, mode })
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (ids("vrf-"), vrf()).prop_map(|(id, spec)| Op::Vrf(id, spec)),
        4 => (ids("net-"), logical_bridge()).prop_map(|(id, spec)| Op::LogicalBridge(id, spec)),
        4 => (ids("gate"), svi()).prop_map(|(id, spec)| Op::Svi(id, spec)),
        4 => (ids("port"), bridge_port()).prop_map(|(id, spec)| Op::BridgePort(id, spec)),
        1 => ids("vrf-").prop_map(Op::DeleteVrf),
        1 => ids("net-").prop_map(Op::DeleteLogicalBridge),
        2 => ids("gate").prop_map(Op::DeleteSvi),
        2 => ids("port").prop_map(Op::DeleteBridgePort),
    ];
    vec(op, 4..32)
}

pub(super) fn node() -> impl Strategy<Value = Node> {
    let vtep = option::weighted(0.8, parsed(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]));
    let mtu = select(&[1500, 9000, 1300][..]).prop_map(|n: u32| Mtu::try_from(n).unwrap());
    let ports = prop_oneof![
        3 => Just(PortResolver::Name),
        1 => Just(PortResolver::Map {
            // Two ports with one netdev, one port with a device of ours, one with none.
            by_mac: BTreeMap::from([("02:00:00:00:00:01".parse().unwrap(), named("port1"))]),
            by_id: BTreeMap::from([(id("port3"), named("port1")), (id("port2"), named("vxlan"))]),
        }),
    ];
    let vxlan_port = prop_oneof![3 => Just(VXLAN_PORT), 1 => Just(OTHER_PORT)];
    let node = (vtep, mtu, vxlan_port, ports);
    node.prop_map(|(vtep, underlay_mtu, vxlan_port, ports)| Node {
        vtep,
        underlay_mtu,
        vxlan_port,
        ports,
        bgp: None,
        route_targets: RouteTargets::Auto,
    })
}

/// What FRR knows: nothing, everything that is asked, or something out of date.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frr {
    Unmanaged,
    Unknown,
    UpToDate,
    Empty,
    /// It has not let go of anything yet.
    Behind,
}

impl Frr {
    pub(super) fn facts(self, intent: &Intent) -> FrrFacts {
        match self {
            Self::Unmanaged => FrrFacts::Unmanaged,
            Self::Unknown => FrrFacts::Unknown,
            Self::Empty => FrrFacts::Known {
                vrfs: BTreeMap::new(),
            },
            Self::UpToDate => in_frr(intent.live::<VrfSpec>()),
            Self::Behind => in_frr(intent.vrfs.values()),
        }
    }
}

/// FRR with these Vrfs.
pub(super) fn in_frr<'a>(vrfs: impl Iterator<Item = &'a Arc<Object<VrfSpec>>>) -> FrrFacts {
    let vrfs = vrfs.map(|vrf| {
        let in_frr = VrfInFrr {
            told: vrf.spec.vni,
            holds: vrf.spec.vni,
            instance: vrf.spec.vni.is_some(),
        };
        (vrf.id.clone(), in_frr)
    });
    FrrFacts::Known {
        vrfs: vrfs.collect(),
    }
}

pub(super) fn frr() -> impl Strategy<Value = Frr> {
    let all = [
        Frr::Unmanaged,
        Frr::Unknown,
        Frr::UpToDate,
        Frr::Empty,
        Frr::Behind,
    ];
    select(all.to_vec())
}

pub(super) fn link(kind: LinkKind) -> Link {
    Link {
        kind,
        mark: None,
        mac: Some("02:00:00:00:00:99".parse().unwrap()),
        mtu: 1500,
        up: false,
        carrier: true,
        master: None,
        port: None,
        addr_gen_none: false,
        settings: Settings::from([
            (Setting::ArpAccept, 0),
            (Setting::RpFilter, 2),
            (Setting::PromoteSecondaries, 0),
            (Setting::DisableIpv6, 0),
            (Setting::AcceptUntrackedNa, 0),
            (Setting::AcceptRa, 1),
        ]),
        addresses: BTreeSet::new(),
    }
}

pub(super) fn dummy() -> Link {
    link(LinkKind::Other("dummy".to_owned()))
}

/// The device with the addresses of the VTEPs that the generator knows.
pub(super) fn loopback() -> Link {
    let addresses = ["192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128"];
    Link {
        addresses: addresses.map(|addr| addr.parse().unwrap()).into(),
        ..dummy()
    }
}

/// A machine with neighbours: container networks, VRFs, VXLAN, ports that are there or not, and
/// now and then a device with one of our names.
pub(super) fn neighbours() -> impl Strategy<Value = Kernel> {
    let ours = select(
        &[
            "br-tenant",
            "br-l3",
            "vxlan",
            "vxl3",
            "svi-10",
            "l3-1",
            "vrf-1",
        ][..],
    );
    let collisions = option::weighted(0.2, ours);
    let ports = proptest::collection::btree_set(1..=3_u8, 0..=3);
    let held = option::weighted(0.2, 1..=3_u8);
    // A port's name, and a netdev that the node itself uses.
    let uplink = option::weighted(0.2, 1..=3_u8);
    // An alias that reads like our mark, on a device of a kind that nobody makes with it.
    let alias = option::weighted(
        0.2,
        select(&["svis/gate1", "vrfs/vrf-1", "bridgePorts/port1"][..]),
    );
    let no_ipv6 = proptest::bool::weighted(0.1);
    let rule = proptest::bool::weighted(0.1);
    let advertised = proptest::bool::weighted(0.1);
    let no_untracked_na = proptest::bool::weighted(0.1);
    let flannel_is_up = any::<bool>();
    let kernels = (no_ipv6, no_untracked_na);
    let odd = (uplink, alias, kernels, rule, advertised, flannel_is_up);
    (collisions, ports, held, any::<bool>(), odd).prop_map(|(collision, ports, held, vrf, odd)| {
        let (uplink, alias, kernels, rule, advertised, flannel_is_up) = odd;
        let (no_ipv6, no_untracked_na) = kernels;
        let mut kernel = Kernel::default();
        if advertised && !no_ipv6 {
            kernel.0.advertised.insert(named("docker0"));
        }
        let links = &mut kernel.0.links;
        let docker = BridgeParams {
            vlan_filtering: true,
            default_pvid: 1,
            mcast_snooping: true,
        };
        let flannel = VxlanParams {
            local: None,
            port: OTHER_PORT.get(),
            external: false,
            vnifilter: false,
            learning: false,
        };
        links.insert(named("lo"), loopback());
        links.insert(named("docker0"), link(LinkKind::Bridge(docker)));
        let mut flannel = link(LinkKind::Vxlan(flannel));
        flannel.up = flannel_is_up;
        links.insert(named("flannel.1"), flannel);
        links.insert(named("red"), link(LinkKind::Vrf(500.try_into().unwrap())));
        if vrf {
            links.insert(named("blue"), link(LinkKind::Vrf(1001.try_into().unwrap())));
        }
        for port in ports {
            let mut netdev = dummy();
            if held == Some(port) {
                netdev.master = Some(named("docker0"));
                netdev.port = Some(PortFlags {
                    vlan_tunnel: false,
                    learning: true,
                    neigh_suppress: false,
                });
            }
            if uplink == Some(port) {
                netdev.addresses = ["198.51.100.7/24".parse().unwrap()].into();
            }
            if let Some(alias) = alias {
                netdev.mark = Some(format!("xpu:{alias}").parse().unwrap());
            }
            links.insert(named(&format!("port{port}")), netdev);
        }
        if let Some(name) = collision {
            links.insert(named(name), dummy());
        }
        kernel.0.no_ipv6 = no_ipv6;
        kernel.0.no_untracked_na = no_untracked_na;
        kernel.0.rules_in_way = rule.then_some(Family::V4).into_iter().collect();
        if no_ipv6 {
            for link in kernel.0.links.values_mut() {
                for (setting, _) in FRESH_IPV6 {
                    link.settings.remove(&setting);
                }
                link.addr_gen_none = true;
            }
        }
        let pvid = VlanEntry {
            pvid: true,
            untagged: true,
            tunnel: None,
        };
        let one = BTreeMap::from([(1.try_into().unwrap(), pvid)]);
        kernel.0.vlans.insert(named("docker0"), one.clone());
        if let Some(port) = held.map(|port| named(&format!("port{port}")))
            && kernel.0.links.contains_key(&port)
        {
            kernel.0.vlans.insert(port, one);
        }
        kernel
    })
}
