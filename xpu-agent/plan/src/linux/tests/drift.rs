//! What somebody else, or an accident, does to the kernel behind the agent's back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::select};
use xpu_model::IfName;

use super::{kernel::Kernel, named};
use crate::{linux::LinkKind, ownership};

/// Something that happens to a device of ours behind the agent's back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Drift {
    Delete,
    Down,
    Release,
    Enslave,
    Vlans,
    Settings,
    Addresses,
    Mtu,
    Fdb,
    Routes,
    Vnis,
    Flags,
}

pub(super) fn drift() -> impl Strategy<Value = (Drift, prop::sample::Index)> {
    use Drift as D;
    let all = [
        D::Delete,
        D::Down,
        D::Release,
        D::Enslave,
        D::Vlans,
        D::Settings,
        D::Addresses,
        D::Mtu,
        D::Fdb,
        D::Routes,
        D::Vnis,
        D::Flags,
    ];
    (select(all.to_vec()), any::<prop::sample::Index>())
}

impl Drift {
    /// Happens to the device chosen by `index` among ours and our ports.
    pub(super) fn happen(self, index: prop::sample::Index, kernel: &mut Kernel) {
        let tenant = ownership::tenant_bridge();
        let mut names: Vec<IfName> = kernel.0.all_ours().map(|(name, _)| name.clone()).collect();
        names.extend(kernel.0.tenant_ports().map(|(name, _)| name.clone()));
        let name = index.get(&names).clone();
        match self {
            Self::Delete => delete(&name, kernel),
            Self::Release => kernel.leave(&name),
            Self::Enslave => enslave(&name, kernel),
            Self::Vlans => drop(kernel.0.vlans.get_mut(&name).map(BTreeMap::clear)),
            Self::Vnis => drop(kernel.0.vnis.get_mut(&name).map(BTreeSet::clear)),
            Self::Fdb => kernel.0.fdb.clear(),
            Self::Routes => kernel.0.routes.clear(),
            Self::Down | Self::Settings | Self::Addresses | Self::Mtu | Self::Flags => {
                let Some(link) = kernel.0.links.get_mut(&name) else {
                    return;
                };
                match self {
                    Self::Down => {
                        link.up = false;
                        link.addresses.retain(|addr| addr.addr().is_ipv4());
                    }
                    Self::Settings => link.settings.values_mut().for_each(|value| *value = 3),
                    Self::Addresses => {
                        link.addresses = BTreeSet::from(["192.0.2.9/24".parse().unwrap()])
                    }
                    Self::Mtu if name != tenant => link.mtu = link.mtu.min(1290),
                    Self::Flags => {
                        if let Some(flags) = link.port.as_mut() {
                            flags.learning = !flags.learning;
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Deletes a device with all the kernel deletes along with it.
fn delete(name: &IfName, kernel: &mut Kernel) {
    let above: Vec<IfName> = kernel
        .0
        .links
        .iter()
        .filter(|(_, link)| {
            matches!(&link.kind, LinkKind::Vlan { parent: Some(parent), .. } if parent == name)
        })
        .map(|(name, _)| name.clone())
        .collect();
    above.iter().for_each(|name| delete(name, kernel));
    let slaves: Vec<IfName> = kernel
        .0
        .links
        .iter()
        .filter(|(_, link)| link.master.as_ref() == Some(name))
        .map(|(name, _)| name.clone())
        .collect();
    slaves.iter().for_each(|name| kernel.leave(name));
    kernel.0.links.remove(name);
    kernel.0.vlans.remove(name);
    kernel.0.vnis.remove(name);
    if name.as_str() == ownership::TENANT_BRIDGE {
        kernel.0.fdb.clear();
    }
}

/// Somebody puts a device of ours into a bridge or VRF of his: what the kernel lets him.
fn enslave(name: &IfName, kernel: &mut Kernel) {
    let master = match kernel.0.ours(name).map(|link| &link.kind) {
        Some(LinkKind::Bridge(_) | LinkKind::Vlan { .. }) => "red",
        Some(LinkKind::Vxlan(_)) => "docker0",
        _ => return,
    };
    kernel.join(name, &named(master)).unwrap();
}
