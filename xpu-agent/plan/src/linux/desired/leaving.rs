//! What stays although nobody wants it any more, because FRR may still work with it: zebra can
//! crash when the devices of an L3VNI go before it has let go of that (FRR issues 17342, 19756).
//!
//! Only what is there stays; nothing is made on this account.

use std::collections::BTreeMap;

use xpu_model::{IfName, Object, VlanId, Vni, VrfSpec};

use super::{Builder, Hold, Inputs, LinkKind, Observed, VlanEntry};
use crate::ownership::{self, Mark};

/// The L3VNIs that stay, by the device of the Vrf that had each.
pub(super) fn kept(inputs: &Inputs<'_>, observed: &Observed) -> BTreeMap<Vni, IfName> {
    let vrfs = inputs.intent.vrfs.values();
    let kept = vrfs.filter_map(|vrf| {
        let vni = leaving_vni(vrf, inputs, observed)?;
        Some((vni, vrf.allocation.device.clone()))
    });
    kept.collect()
}

/// The L3VNI that is mapped for a Vrf, is not wanted for it, and that FRR may work with.
fn leaving_vni(vrf: &Object<VrfSpec>, inputs: &Inputs<'_>, observed: &Observed) -> Option<Vni> {
    let vni = mapped(vrf.allocation.l3_vlan, observed)?;
    let wanted = !vrf.deleting && vrf.spec.vni == Some(vni);
    let stays = !wanted && is_made(vrf, observed) && inputs.frr.may_hold(&vrf.id, vni);
    stays.then_some(vni)
}

/// The L3VNI that a VLAN of the L3 bridge is mapped to.
pub(super) fn mapped(vlan: VlanId, observed: &Observed) -> Option<Vni> {
    let vxlan = ownership::l3_vxlan();
    observed.ours(&vxlan)?;
    observed.vlans.get(&vxlan)?.get(&vlan)?.tunnel
}

/// Whether the Vrf's own device is there.
pub(super) fn is_made(vrf: &Object<VrfSpec>, observed: &Observed) -> bool {
    let allocation = &vrf.allocation;
    let link = observed.ours(&allocation.device);
    link.is_some_and(|link| {
        link.kind == LinkKind::Vrf(allocation.table) && link.mark == Some(Mark::Object(vrf.key()))
    })
}

impl Builder<'_> {
    /// A deleted Vrf, as long as FRR may have something that stands on it.
    pub(super) fn leaving_vrf(&mut self, vrf: &Object<VrfSpec>, owner: &Mark) -> Result<(), Hold> {
        if !self.inputs.frr.may_use(&vrf.id) || !is_made(vrf, self.observed) {
            return Ok(());
        }
        self.vrf_device(vrf, owner)?;
        self.leaving_l3vni(vrf, owner)?;
        Err(Hold::FrrUses(vrf.allocation.device.clone()))
    }

    /// The devices of an L3VNI that its Vrf no longer has, as long as FRR may work with it.
    pub(super) fn leaving_l3vni(
        &mut self,
        vrf: &Object<VrfSpec>,
        owner: &Mark,
    ) -> Result<(), Hold> {
        let Some(vni) = leaving_vni(vrf, self.inputs, self.observed) else {
            return Ok(());
        };
        let vlan = vrf.allocation.l3_vlan;
        let vxlan = ownership::l3_vxlan();
        let bridge = ownership::l3_bridge();
        if !self.out.links.contains_key(&vxlan) {
            return Ok(());
        }
        if self.has_device(&ownership::l3_device(vlan), owner) {
            self.l3_device(vrf, owner)?;
        }
        self.vlan(&bridge, vlan, VlanEntry::default(), owner);
        self.tunnel(&vxlan, vlan, vni, owner);
        Err(Hold::FrrHolds {
            vrf: vrf.allocation.device.clone(),
            vni,
        })
    }

    /// Fails if a VNI stays with another object until FRR has let go of it: the kernel has each
    /// once.
    pub(super) fn require_vni_released(&self, vni: Vni) -> Result<(), Hold> {
        match self.kept.get(&vni) {
            Some(vrf) => Err(Hold::FrrHolds {
                vrf: vrf.clone(),
                vni,
            }),
            None => Ok(()),
        }
    }
}
