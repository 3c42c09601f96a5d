//! `topology`: the objects as a picture. Ports on the left, then their LogicalBridges, the
//! Svis, the Vrfs; remote VTEPs on the right, where the agent names them.
//!
//! `Graph` is what is drawn; `layout` gives each node its place; `svg` and `text` write it.

mod layout;
mod svg;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use clap::ValueEnum;
use xpu_model::{Id, Kind, ObjectKey};

use crate::commands::Session;
use crate::failure::Failure;
use crate::live::{Live, Objects, remote_vteps};
use crate::manifest::{PortType, Spec};
use crate::screen::emit;
use crate::view::Oper;

/// What to write the picture as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A picture for every browser.
    Svg,
    /// For Markdown pages that draw Mermaid.
    Mermaid,
    /// For Graphviz.
    Dot,
}

/// The columns, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Port,
    Bridge,
    Svi,
    Vrf,
    Vtep,
}

/// A box.
#[derive(Clone, Debug, PartialEq)]
struct Node {
    layer: Layer,
    /// The first line.
    name: String,
    /// The lines below.
    facts: Vec<String>,
    /// A VTEP has no state that the agent knows.
    oper: Option<Oper>,
    /// What is wrong, if anything is.
    trouble: Option<String>,
    /// The remote VTEPs that share the network, as nodes.
    vteps: Vec<usize>,
}

/// What is drawn. Nodes of a layer are in the order in which they are drawn, downwards.
#[derive(Clone, Debug, Default, PartialEq)]
struct Graph {
    nodes: Vec<Node>,
    /// From a node to one of a layer more to the right.
    edges: Vec<(usize, usize)>,
}

impl Session {
    /// Draws all objects.
    pub async fn topology(&self, form: Form) -> Result<(), Failure> {
        let graph = Graph::of(&self.objects(&Kind::ALL).await?);
        emit(&match form {
            Form::Svg => svg::picture(&graph),
            Form::Mermaid => text::mermaid(&graph),
            Form::Dot => text::dot(&graph),
        })
    }
}

impl Graph {
    /// Orders each layer so that few lines cross: networks of one Vrf beside each other, a
    /// port beside its networks.
    fn of(objects: &Objects) -> Self {
        let mut graph = Self::default();
        let mut places = BTreeMap::new();

        let vteps: BTreeSet<_> = objects.values().flat_map(remote_vteps).collect();
        let vteps: BTreeMap<IpAddr, usize> = vteps
            .into_iter()
            .map(|address| (address, graph.add_vtep(address)))
            .collect();

        let bridges = bridges_by_vrf(objects);
        let order: BTreeMap<_, _> = bridges
            .iter()
            .map(|(key, _)| &key.id)
            .zip(0_usize..)
            .collect();

        let mut ports = of_kind(objects, Kind::BridgePort);
        ports.sort_by_key(|(key, live)| (middle(live, &order), key.id.clone()));
        let mut svis = of_kind(objects, Kind::Svi);
        svis.sort_by_key(|(_, live)| match &live.spec {
            Spec::Svi(svi) => order.get(&svi.logical_bridge).copied(),
            _ => None,
        });
        let vrfs = of_kind(objects, Kind::Vrf);

        for (key, live) in ports.into_iter().chain(bridges).chain(svis).chain(vrfs) {
            let seen = remote_vteps(live);
            let seen = seen.iter().filter_map(|it| vteps.get(it)).copied();
            let place = graph.add(key, live, seen.collect());
            places.insert(key, place);
        }
        graph.connect(objects, &places);
        graph.count_networks();
        graph
    }

    fn add_vtep(&mut self, address: IpAddr) -> usize {
        self.nodes.push(Node {
            layer: Layer::Vtep,
            name: address.to_string(),
            facts: Vec::new(),
            oper: None,
            trouble: None,
            vteps: Vec::new(),
        });
        self.nodes.len() - 1
    }

    fn add(&mut self, key: &ObjectKey, live: &Live, vteps: Vec<usize>) -> usize {
        let (layer, facts) = facts(live);
        self.nodes.push(Node {
            layer,
            name: key.id.to_string(),
            facts,
            oper: Some(live.oper),
            trouble: live.trouble().filter(|_| live.oper != Oper::Up),
            vteps,
        });
        self.nodes.len() - 1
    }

    /// Each VTEP has a short name, by which networks call it: `v1`.
    fn count_networks(&mut self) {
        for (place, short) in self.layer(Layer::Vtep).into_iter().zip(1..) {
            let nodes = self.nodes.iter();
            let shared = nodes.filter(|node| node.vteps.contains(&place)).count();
            let networks = if shared == 1 { "network" } else { "networks" };
            self.nodes[place].facts = vec![format!("v{short}, in {shared} {networks}")];
        }
    }

    /// The short name of a VTEP.
    fn short(&self, vtep: usize) -> String {
        let place = self.layer(Layer::Vtep).iter().position(|it| *it == vtep);
        format!("v{}", place.map_or(0, |place| place + 1))
    }

    fn connect(&mut self, objects: &Objects, places: &BTreeMap<&ObjectKey, usize>) {
        for (key, live) in objects {
            let Some(from) = places.get(key).copied() else {
                continue;
            };
            for reference in live.spec.references() {
                // An agent holds no reference to nothing; a foreign one may.
                if let Some(to) = places.get(&reference).copied() {
                    let leftwards = self.nodes[to].layer < self.nodes[from].layer;
                    self.edges
                        .push(if leftwards { (to, from) } else { (from, to) });
                }
            }
        }
        self.edges.sort_unstable();
    }

    /// The nodes of a layer, downwards.
    fn layer(&self, layer: Layer) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        let of_layer = nodes.filter(|(_, node)| node.layer == layer);
        of_layer.map(|(place, _)| place).collect()
    }
}

fn of_kind(objects: &Objects, kind: Kind) -> Vec<(&ObjectKey, &Live)> {
    objects.iter().filter(|(key, _)| key.kind == kind).collect()
}

/// The LogicalBridges, those of a Vrf beside each other; those that none routes are last.
fn bridges_by_vrf(objects: &Objects) -> Vec<(&ObjectKey, &Live)> {
    let routed = objects.values().filter_map(|live| match &live.spec {
        Spec::Svi(svi) => Some((&svi.logical_bridge, &svi.vrf)),
        _ => None,
    });
    let vrfs: BTreeMap<&Id, &Id> = routed.collect();
    let mut bridges = of_kind(objects, Kind::LogicalBridge);
    bridges.sort_by_key(|(key, _)| {
        let vrf = vrfs.get(&key.id).copied();
        (vrf.is_none(), vrf, &key.id)
    });
    bridges
}

/// Twice the mean place of a port's networks, to stay with whole numbers; a transparent trunk
/// has all, and comes last.
fn middle(live: &Live, order: &BTreeMap<&Id, usize>) -> usize {
    let Spec::BridgePort(port) = &live.spec else {
        return usize::MAX;
    };
    let places = port.logical_bridges.iter().filter_map(|id| order.get(id));
    let (count, sum) = places.fold((0, 0), |(count, sum), place| (count + 1, sum + place));
    (2 * sum).checked_div(count).unwrap_or(usize::MAX)
}

fn facts(live: &Live) -> (Layer, Vec<String>) {
    match &live.spec {
        Spec::BridgePort(port) => {
            let kind = match (port.ptype, port.logical_bridges.len()) {
                (PortType::Access, _) => "access",
                (PortType::Trunk, 0) => "trunk all",
                (PortType::Trunk, _) => "trunk",
            };
            let mac = port.mac_address.0;
            (Layer::Port, vec![format!("{mac} {kind}")])
        }
        Spec::LogicalBridge(bridge) => {
            let vni = bridge.vni.map(|vni| format!(", VNI {vni}"));
            let text = format!("VLAN {}{}", bridge.vlan_id, vni.unwrap_or_default());
            (Layer::Bridge, vec![text])
        }
        Spec::Svi(svi) => {
            let gateways = svi.gw_ip_prefix.iter().map(|it| it.0.to_string());
            (Layer::Svi, gateways.collect())
        }
        Spec::Vrf(vrf) => {
            let vni = vrf.vni.map(|vni| format!("VNI {vni}"));
            let loopback = vrf.loopback_ip_prefix.0.to_string();
            (Layer::Vrf, vni.into_iter().chain([loopback]).collect())
        }
    }
}

#[cfg(test)]
mod drawn_tests;
#[cfg(test)]
mod tests;
