//! BridgePorts: which netdev each has, and its VLANs.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use xpu_model::{
    BridgePortSpec, IfAddr, IfName, LogicalBridgeSpec, Object, PortMode, VlanId,
    node::{BgpPeer, PeerAddress},
};

use super::{Builder, Hold, LinkKind, VlanEntry};
use crate::{
    linux::{Link, NodeUse},
    ownership::{self, Mark},
};

impl Builder<'_> {
    pub(super) fn ports(&mut self) {
        let mut ports: Vec<_> = self.inputs.intent.live::<BridgePortSpec>().collect();
        // Of two ports with one netdev the one that was there first has it.
        ports.sort_by_key(|port| (port.created, &port.id));
        for port in ports {
            let owner = Mark::Object(port.key());
            match self.netdev(port) {
                Err(hold) => self.hold(owner, hold),
                Ok(netdev) => {
                    let vlans = self.port_vlans(&port.spec.mode);
                    let owned = vlans
                        .into_iter()
                        .map(|(vlan, entry)| (vlan, (entry, owner.clone())));
                    self.out.vlans.insert(netdev.clone(), owned.collect());
                    self.out.ports.insert(netdev, port.key());
                }
            }
        }
    }

    /// The netdev of a port, if it is there and free for the tenant bridge.
    fn netdev(&self, port: &Object<BridgePortSpec>) -> Result<IfName, Hold> {
        let mac = port.spec.mac;
        let netdev = self
            .inputs
            .node
            .ports
            .resolve(&port.id, mac)
            .ok_or(Hold::NetdevUnknown(mac))?;
        if let Some(by) = self.out.ports.get(&netdev) {
            return Err(Hold::NetdevTaken {
                device: netdev,
                by: by.clone(),
            });
        }
        if ownership::is_reserved(&netdev) || self.out.links.contains_key(&netdev) {
            return Err(Hold::NetdevOurs(netdev));
        }
        let Some(link) = self.observed.links.get(&netdev) else {
            return Err(Hold::NetdevMissing(netdev));
        };
        if link.is_ours() {
            return Err(Hold::NetdevOurs(netdev));
        }
        let tenant = ownership::tenant_bridge();
        if !self.out.links.contains_key(&tenant) {
            return Err(self.fabric_hold(&tenant));
        }
        match &link.master {
            Some(master) if *master == tenant => Ok(netdev),
            Some(master) => Err(Hold::NetdevEnslaved {
                device: netdev,
                master: master.clone(),
            }),
            None => match self.node_use(&netdev, link) {
                Some(by) => Err(Hold::NetdevInUse { device: netdev, by }),
                None => Ok(netdev),
            },
        }
    }

    /// What the node itself does with a netdev. A link-local address says nothing: the kernel
    /// gives every device that is up one.
    fn node_use(&self, netdev: &IfName, link: &Link) -> Option<NodeUse> {
        let kind = match &link.kind {
            LinkKind::Bridge(_) => Some("bridge"),
            LinkKind::Vrf(_) => Some("VRF"),
            LinkKind::Vxlan(_) => Some("VXLAN device"),
            LinkKind::Vlan { .. } | LinkKind::Other(_) => None,
        };
        let own = |addr: &&IfAddr| match addr.addr() {
            IpAddr::V4(v4) => !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        };
        let address = link.addresses.iter().find(own);
        let mut others = self.observed.links.iter();
        let slave = others.find(|(_, other)| other.master.as_ref() == Some(netdev));
        let on_it = |other: &Link| matches!(&other.kind, LinkKind::Vlan { parent: Some(parent), .. } if parent == netdev);
        let mut others = self.observed.links.iter();
        let above = others.find(|(_, other)| on_it(other));
        let bgp = self.inputs.node.bgp.as_ref();
        let is_peer = |peer: &BgpPeer| peer.at == PeerAddress::Interface(netdev.clone());
        let peers = bgp.is_some_and(|bgp| bgp.peers.iter().any(is_peer));
        let routed = self.observed.routed.contains(netdev);
        kind.map(NodeUse::Kind)
            .or_else(|| address.map(|addr| NodeUse::Address(*addr)))
            .or_else(|| slave.map(|(name, _)| NodeUse::MasterOf(name.clone())))
            .or_else(|| above.map(|(name, _)| NodeUse::Below(name.clone())))
            .or_else(|| peers.then_some(NodeUse::BgpPeer))
            .or_else(|| routed.then_some(NodeUse::Routes))
    }

    fn port_vlans(&self, mode: &PortMode) -> BTreeMap<VlanId, VlanEntry> {
        let intent = self.inputs.intent;
        let untagged = matches!(mode, PortMode::Access(_));
        let entry = VlanEntry {
            pvid: untagged,
            untagged,
            tunnel: None,
        };
        let vlan = |bridge: &Arc<Object<LogicalBridgeSpec>>| (bridge.spec.vlan, entry);
        match mode {
            PortMode::TransparentTrunk => intent.live().map(vlan).collect(),
            // Look the named bridges up; do not scan them all.
            PortMode::Access(_) | PortMode::Trunk(_) => {
                let named = mode.named().into_iter();
                named.filter_map(|id| intent.get(id)).map(vlan).collect()
            }
        }
    }
}
