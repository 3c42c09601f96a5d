//! The owner of what is removed. A deleted object (a tombstone) is gone when no removal is left
//! that has it for an owner.

use std::collections::{BTreeMap, BTreeSet};

use xpu_model::{IfName, TableId, VlanId, Vni};

use crate::{
    linux::{Inputs, desired::Desired},
    ownership::{self, Mark},
};

/// The owners, by what the kernel identifies their things by.
pub(super) struct Accounts<'a> {
    desired: &'a Desired,
    bridges: BTreeMap<VlanId, Mark>,
    svis: BTreeMap<VlanId, BTreeSet<Mark>>,
    l3_vlans: BTreeMap<VlanId, Mark>,
    vnis: BTreeMap<Vni, Mark>,
    tables: BTreeMap<TableId, Mark>,
    ports: BTreeMap<IfName, BTreeSet<Mark>>,
}

impl<'a> Accounts<'a> {
    pub(super) fn new(inputs: &Inputs<'_>, desired: &'a Desired) -> Self {
        let mut accounts = Self {
            desired,
            bridges: BTreeMap::new(),
            svis: BTreeMap::new(),
            l3_vlans: BTreeMap::new(),
            vnis: BTreeMap::new(),
            tables: BTreeMap::new(),
            ports: BTreeMap::new(),
        };
        let intent = inputs.intent;
        for bridge in intent.logical_bridges.values() {
            let mark = Mark::Object(bridge.key());
            accounts
                .vnis
                .extend(bridge.spec.vni.map(|vni| (vni, mark.clone())));
            accounts.bridges.insert(bridge.spec.vlan, mark);
        }
        for vrf in intent.vrfs.values() {
            let mark = Mark::Object(vrf.key());
            accounts
                .vnis
                .extend(vrf.spec.vni.map(|vni| (vni, mark.clone())));
            accounts.tables.insert(vrf.allocation.table, mark.clone());
            accounts.l3_vlans.insert(vrf.allocation.l3_vlan, mark);
        }
        for svi in intent.svis.values() {
            if let Some(bridge) = intent.logical_bridges.get(&svi.spec.logical_bridge) {
                let marks = accounts.svis.entry(bridge.spec.vlan).or_default();
                marks.insert(Mark::Object(svi.key()));
            }
        }
        for port in intent.bridge_ports.values() {
            if let Some(netdev) = inputs.node.ports.resolve(&port.id, port.spec.mac) {
                let marks = accounts.ports.entry(netdev).or_default();
                marks.insert(Mark::Object(port.key()));
            }
        }
        accounts
    }

    /// Of a VLAN on a device.
    pub(super) fn of_vlan(&self, device: &IfName, vlan: VlanId) -> BTreeSet<Mark> {
        let bridge = || self.bridges.get(&vlan).cloned().into_iter();
        let found: BTreeSet<Mark> = match device.as_str() {
            ownership::TENANT_BRIDGE => return self.of_gateway(vlan),
            ownership::L2_VXLAN => bridge().collect(),
            ownership::L3_BRIDGE | ownership::L3_VXLAN => {
                self.l3_vlans.get(&vlan).cloned().into_iter().collect()
            }
            _ => bridge()
                .chain(self.ports.get(device).into_iter().flatten().cloned())
                .collect(),
        };
        or_node(found)
    }

    pub(super) fn of_gateway(&self, vlan: VlanId) -> BTreeSet<Mark> {
        or_node(self.svis.get(&vlan).cloned().unwrap_or_default())
    }

    pub(super) fn of_vni(&self, vni: Vni) -> BTreeSet<Mark> {
        or_node(self.vnis.get(&vni).cloned().into_iter().collect())
    }

    pub(super) fn of_table(&self, table: TableId) -> BTreeSet<Mark> {
        or_node(self.tables.get(&table).cloned().into_iter().collect())
    }

    pub(super) fn of_port(&self, netdev: &IfName) -> BTreeSet<Mark> {
        or_node(self.ports.get(netdev).cloned().unwrap_or_default())
    }

    pub(super) fn of_device(&self, device: &IfName) -> BTreeSet<Mark> {
        let owner = self
            .desired
            .links
            .get(device)
            .map(|link| link.owner.clone());
        or_node(owner.into_iter().collect())
    }
}

fn or_node(marks: BTreeSet<Mark>) -> BTreeSet<Mark> {
    if marks.is_empty() {
        BTreeSet::from([Mark::Node])
    } else {
        marks
    }
}
