//! What FRR should have: the lines that the intent and the node's settings come to.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use xpu_model::{
    Asn, IfAddr, LogicalBridgeSpec, Object, SviSpec, Vni, VrfSpec,
    node::{BgpBase, BgpPeer, PeerAddress, RemoteAs, RouteTargets},
};

use super::{
    Inputs,
    line::{Daemon, EVPN, FAMILIES, Instance, Line, MADE_BY_US},
    observed::Observed,
};
use crate::ownership;

/// The lines that zebra and bgpd should have.
#[derive(Debug, Default)]
pub(super) struct Desired {
    pub(super) lines: BTreeSet<Line>,
}

impl Desired {
    pub(super) fn new(inputs: &Inputs<'_>, observed: &Observed) -> Self {
        let mut desired = Self::default();
        if let Some(bgp) = &inputs.node.bgp
            && inputs.other_asn(observed).is_none()
        {
            desired.base(bgp, inputs.vtep(observed), observed);
            desired.l2vnis(&Instance::base(bgp.asn).to_string(), inputs, observed);
        }
        let vrfs = inputs.intent.live::<VrfSpec>();
        for vrf in vrfs.filter(|vrf| !inputs.is_foreign(vrf)) {
            desired.vrf(vrf, inputs, observed);
        }
        // A line of the configuration cannot be without its contexts.
        let contexts: Vec<Line> = desired.lines.iter().flat_map(Line::contexts).collect();
        desired.lines.extend(contexts);
        desired
    }

    fn add(&mut self, path: &[&str], text: impl Into<String>) {
        self.lines.insert(Line::new(Daemon::Bgpd, path, text));
    }

    /// What every instance of ours has; the profile `datacenter` has some of it by default and
    /// does not show it.
    fn common(&mut self, instance: &str, observed: &Observed) {
        self.add(&[instance], MADE_BY_US);
        if !observed.is_datacenter() {
            self.add(&[instance], "no bgp ebgp-requires-policy");
        }
    }

    fn base(&mut self, bgp: &BgpBase, vtep: Option<IpAddr>, observed: &Observed) {
        let BgpBase {
            asn,
            router_id,
            peers,
            timers,
        } = bgp;
        let instance = Instance::base(*asn).to_string();
        self.common(&instance, observed);
        self.add(&[&instance], format!("bgp router-id {router_id}"));
        self.add(&[&instance], "bgp bestpath as-path multipath-relax");
        // The profile's defaults are not shown, and need saying only to replace others.
        let set = observed.has_timers(&instance);
        if let Some(timers) = timers
            && (set || (timers.keepalive, timers.hold) != observed.default_timers())
        {
            let line = format!("timers bgp {} {}", timers.keepalive, timers.hold);
            self.add(&[&instance], line);
        }
        for peer in peers {
            self.peer(&instance, peer, vtep);
        }
        if let Some(vtep) = vtep {
            let length = if vtep.is_ipv4() { 32 } else { 128 };
            let line = format!("network {vtep}/{length}");
            self.add(&[&instance, family(vtep)], line);
        }
        self.add(&[&instance, EVPN], "advertise-all-vni");
    }

    /// The route targets of L2VNIs, where the automatic ones are not wanted.
    fn l2vnis(&mut self, instance: &str, inputs: &Inputs<'_>, observed: &Observed) {
        let bridges = inputs.intent.live::<LogicalBridgeSpec>();
        for vni in bridges.filter_map(|bridge| bridge.spec.vni) {
            let context = format!("vni {vni}");
            self.route_targets(&[instance, EVPN, &context], vni, inputs, observed);
        }
    }

    fn route_targets(&mut self, path: &[&str], vni: Vni, inputs: &Inputs<'_>, observed: &Observed) {
        if let Ok(Some(target)) = route_target(inputs, observed, vni) {
            self.add(path, format!("route-target import {target}"));
            self.add(path, format!("route-target export {target}"));
        }
    }

    /// A peer of the node's, in the family of the session, in the VTEP's, or nobody beyond could
    /// send to that, and in EVPN.
    fn peer(&mut self, instance: &str, peer: &BgpPeer, vtep: Option<IpAddr>) {
        let BgpPeer { at, remote_as, bfd } = peer;
        let remote_as = match remote_as {
            RemoteAs::External => "external".to_owned(),
            RemoteAs::Internal => "internal".to_owned(),
            RemoteAs::Is(asn) => asn.to_string(),
        };
        let (name, own) = match at {
            PeerAddress::Ip(address) => (address.to_string(), family(*address)),
            PeerAddress::Interface(interface) => (interface.to_string(), FAMILIES[0]),
        };
        let line = match at {
            PeerAddress::Ip(_) => format!("neighbor {name} remote-as {remote_as}"),
            PeerAddress::Interface(_) => format!("neighbor {name} interface remote-as {remote_as}"),
        };
        self.add(&[instance], line);
        if *bfd {
            self.add(&[instance], format!("neighbor {name} bfd"));
        }
        // Of itself FRR offers IPv4 routes with IPv6 next hops over link-local addresses only
        // (FRR documentation, "BGP", `neighbor PEER capability extended-nexthop`).
        if let (PeerAddress::Ip(IpAddr::V6(_)), Some(IpAddr::V4(_))) = (at, vtep) {
            let line = format!("neighbor {name} capability extended-nexthop");
            self.add(&[instance], line);
        }
        for family in [Some(own), vtep.map(family), Some(EVPN)]
            .into_iter()
            .flatten()
        {
            self.add(&[instance, family], format!("neighbor {name} activate"));
        }
    }

    fn vrf(&mut self, vrf: &Object<VrfSpec>, inputs: &Inputs<'_>, observed: &Observed) {
        let device = &vrf.allocation.device;
        let peers: Vec<_> = bgp_svis(vrf, inputs).collect();
        if let Some(vni) = vrf.spec.vni {
            self.lines.insert(Line::l3vni(device, vni));
        } else if peers.is_empty() {
            return;
        }
        let Some(asn) = inputs.asn(observed) else {
            return;
        };
        let instance = Instance::of(asn, device).to_string();
        self.common(&instance, observed);
        let router_id = router_id(vrf, inputs, observed);
        if let Some(router_id) = router_id {
            self.add(&[&instance], format!("bgp router-id {router_id}"));
        }
        for family in FAMILIES {
            self.add(&[&instance, family], "redistribute connected");
            self.add(&[&instance, family], "redistribute static");
        }
        if let Some(vni) = vrf.spec.vni {
            let evpn = [instance.as_str(), EVPN];
            if let Some(rd) = distinguisher(vrf, inputs, observed) {
                self.add(&evpn, format!("rd {rd}"));
            }
            self.add(&evpn, "advertise ipv4 unicast");
            self.add(&evpn, "advertise ipv6 unicast");
            self.route_targets(&evpn, vni, inputs, observed);
        }
        for (svi, bridge) in peers {
            self.svi(&instance, asn, svi, bridge);
        }
    }

    /// Sessions with tenant routers in the gateway's subnets.
    fn svi(
        &mut self,
        instance: &str,
        asn: Asn,
        svi: &Object<SviSpec>,
        bridge: &Object<LogicalBridgeSpec>,
    ) {
        let Some(bgp) = svi.spec.bgp else { return };
        let group = ownership::svi_device(bridge.spec.vlan);
        self.add(&[instance], format!("neighbor {group} peer-group"));
        self.add(
            &[instance],
            format!("neighbor {group} remote-as {}", bgp.remote_as),
        );
        for subnet in svi.spec.gateways.iter().copied().map(IfAddr::subnet) {
            self.add(
                &[instance],
                format!("bgp listen range {subnet} peer-group {group}"),
            );
        }
        for family in FAMILIES {
            self.add(&[instance, family], format!("neighbor {group} activate"));
            // FRR refuses it to iBGP peers, whose paths do not have their own AS in them.
            if bgp.remote_as != asn {
                self.add(&[instance, family], format!("neighbor {group} as-override"));
            }
        }
    }
}

/// The unicast family of an address.
const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => FAMILIES[0],
        IpAddr::V6(_) => FAMILIES[1],
    }
}

fn router_id(vrf: &Object<VrfSpec>, inputs: &Inputs<'_>, observed: &Observed) -> Option<Ipv4Addr> {
    match vrf.spec.loopback.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => inputs.router_id(observed),
    }
}

/// The route distinguisher of a Vrf's L3VNI. The table tells Vrfs with the same loopback apart
/// (RFC 4364 section 4.2: two bytes after an address).
pub(super) fn distinguisher(
    vrf: &Object<VrfSpec>,
    inputs: &Inputs<'_>,
    observed: &Observed,
) -> Option<String> {
    let router_id = router_id(vrf, inputs, observed)?;
    let number = vrf.allocation.table.get() & 0xffff;
    Some(format!("{router_id}:{number}"))
}

/// The route target that a VNI is to have; none: FRR's automatic ones.
///
/// # Errors
/// Why there is no such route target.
pub(super) fn route_target(
    inputs: &Inputs<'_>,
    observed: &Observed,
    vni: Vni,
) -> Result<Option<String>, String> {
    let RouteTargets::Fixed(configured) = inputs.node.route_targets else {
        return Ok(None);
    };
    // A new AS is in none of the node's lines before FRR runs it.
    let asn = match inputs.other_asn(observed) {
        Some(running) => running,
        None => configured,
    };
    // RFC 4360 section 3 and RFC 5668: beside an AS of four bytes there are two for the rest.
    if asn.get() > 0xffff && vni.get() > 0xffff {
        return Err(format!(
            "there is no route target {asn}:{vni}: beside an AS above 65535, a number has room up \
             to 65535; use such a VNI, or set bgp.route_targets to \"auto\""
        ));
    }
    Ok(Some(format!("{asn}:{vni}")))
}

/// The Svis of a Vrf that want BGP, with their LogicalBridges.
pub(super) fn bgp_svis<'a>(
    vrf: &'a Object<VrfSpec>,
    inputs: &Inputs<'a>,
) -> impl Iterator<Item = (&'a Object<SviSpec>, &'a Object<LogicalBridgeSpec>)> {
    let intent = inputs.intent;
    intent.live::<SviSpec>().filter_map(move |svi| {
        let bridge = intent.get::<LogicalBridgeSpec>(&svi.spec.logical_bridge)?;
        let wanted = svi.spec.vrf == vrf.id && svi.spec.bgp.is_some();
        wanted.then_some((svi.as_ref(), bridge.as_ref()))
    })
}
