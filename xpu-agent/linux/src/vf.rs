//! Finding a VF's netdev where it is now.
//!
//! A VF is its PCI address. The name is whatever the pod, or the kernel when it
//! took the device back from a dead namespace, made of it.

use std::collections::BTreeSet;

use xpu_model::{IfIndex, IfName};

use crate::{
    sync::{
        LinkFacts, Rtnl, RtnlError, ioctl,
        link::{self, Lower},
        peers,
    },
    sysfs::{PciAddr, Sysfs, SysfsError},
};

mod nested;

pub use nested::{Nested, PodSide};

/// How a link proves to be a VF's: by its parent device on every real host.
pub type Proof = fn(&Sysfs, &LinkFacts, &PciAddr) -> bool;

/// The proof that the kernel gives (5.14 and later): `IFLA_PARENT_DEV_NAME` is the PCI
/// function itself or, for virtio, the bus device below it.
#[must_use]
pub fn by_parent(sysfs: &Sysfs, link: &LinkFacts, pci: &PciAddr) -> bool {
    link.parent
        .as_deref()
        .is_some_and(|parent| parent == pci.as_str() || sysfs.has_child(pci, parent))
}

/// The VF's netdev in the socket's namespace, by a look at every link.
///
/// # Errors
/// The kernel's refusal.
pub fn find(
    sysfs: &Sysfs,
    rtnl: &mut Rtnl,
    pci: &PciAddr,
    proof: Proof,
) -> Result<Option<LinkFacts>, RtnlError> {
    let mut links = link::links(rtnl)?.into_iter();
    Ok(links.find(|link| proof(sysfs, link, pci)))
}

/// The upper devices of another, which stand on it, as VLANs and macvlans do.
#[derive(Debug, Default)]
pub struct Uppers {
    /// The indexes of those in its namespace.
    pub devices: Vec<IfIndex>,
    /// A group that no device of their namespace is in.
    pub free_group: u32,
    /// Those in further namespaces.
    pub nested: Nested,
}

/// As [`find`], with the VF's upper devices in that namespace and in those that it knows.
///
/// # Errors
/// The kernel's refusal.
pub fn find_with_uppers(
    sysfs: &Sysfs,
    mut pod: PodSide<'_>,
    pci: &PciAddr,
    proof: Proof,
) -> Result<Option<(LinkFacts, Uppers)>, RtnlError> {
    let (mut links, known) = peers::links_and_peers(pod.rtnl, pod.home)?;
    let Some(at) = links.iter().position(|link| proof(sysfs, link, pci)) else {
        return Ok(None);
    };
    let vf = links.swap_remove(at);
    let lower = Lower {
        index: vf.index,
        netns: None,
    };
    let nested = pod.nested(vf.index, pod.netns, &known)?;
    Ok(Some((vf, Uppers::among(&links, Some(lower), nested))))
}

/// The upper devices that a VF, which is home already, has in its pod's namespace and in those that
/// this knows.
///
/// # Errors
/// The kernel's refusal.
pub fn uppers_behind(mut pod: PodSide<'_>, vf: IfIndex) -> Result<Uppers, RtnlError> {
    let (links, known) = peers::links_and_peers(pod.rtnl, pod.home)?;
    let is_like = |lower: Lower| lower.index == vf && lower.netns.is_some();
    // Which namespace it is has to be asked for, and most pods have nothing that could be meant.
    let has_any = links.iter().filter_map(|link| link.lower).any(is_like);
    let lower = has_any.then(|| pod.lower(vf, pod.home)).transpose()?;
    let nested = pod.nested(vf, pod.home, &known)?;
    Ok(Uppers::among(&links, lower, nested))
}

impl Uppers {
    /// Whether none was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.nested.devices.is_empty()
    }

    /// Those among the links that stand on `lower`; `None`: none does.
    fn among(links: &[LinkFacts], lower: Option<Lower>, nested: Nested) -> Self {
        let groups: BTreeSet<u32> = links.iter().filter_map(|link| link.group).collect();
        let uppers = links
            .iter()
            .filter(|link| lower.is_some() && link.lower == lower);
        Self {
            devices: uppers.map(|link| link.index).collect(),
            // Never 0, which every device is in that nobody put elsewhere.
            free_group: (1..)
                .find(|group| !groups.contains(group))
                .unwrap_or(u32::MAX),
            nested,
        }
    }
}

/// The VF's netdev in the namespace that both `sysfs` and the socket belong to: its
/// name and index, without RTNL.
///
/// # Errors
/// [`SysfsError`], as when there is no such PCI device.
pub fn at_home(
    sysfs: &Sysfs,
    rtnl: &Rtnl,
    pci: &PciAddr,
) -> Result<Option<(IfName, IfIndex)>, SysfsError> {
    for name in sysfs.netdevs(pci)? {
        // It may have left between the two looks.
        if let Ok(index) = ioctl::index_of_known(rtnl, &name) {
            return Ok(Some((name, index)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::link::{SetFlags, XdpPrograms};

    #[test]
    fn a_link_is_a_vfs_by_its_function_or_by_the_virtio_device_below_that() {
        let root = std::env::temp_dir().join(format!("xpu-vf-{}", std::process::id()));
        let (vf, other) = ("0000:af:06.0", "0000:af:06.1");
        let devices = root.join("bus/pci/devices");
        std::fs::create_dir_all(devices.join(vf).join("virtio7")).unwrap();
        std::fs::create_dir_all(devices.join(other).join("virtio8")).unwrap();
        let sysfs = Sysfs::at(&root);
        let is_vfs = |parent: Option<&str>| {
            let link = LinkFacts {
                index: IfIndex::new(7).unwrap(),
                name: "net1".to_owned(),
                alt_names: Vec::new(),
                mac: None,
                mtu: 1500,
                up: false,
                flags: SetFlags::ETHERNET,
                promiscuity: 0,
                lower_up: false,
                txqlen: None,
                group: None,
                alias: Some(vf.to_owned()),
                parent: parent.map(str::to_owned),
                lower: None,
                xdp: XdpPrograms::default(),
            };
            by_parent(&sysfs, &link, &vf.parse().unwrap())
        };
        assert!(is_vfs(Some(vf)) && is_vfs(Some("virtio7")));
        for parent in [None, Some(other), Some("virtio8"), Some("virtio9")] {
            assert!(!is_vfs(parent), "{parent:?}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
