//! What sysfs tells of a PCI function: is it a VF, of which PF, with which netdevs.
//!
//! Reading sysfs takes no RTNL, which every `RTM_GETLINK` does. A sysfs mount lists
//! the devices of the network namespace it was mounted in, so what it says about
//! netdevs is a hint that the caller confirms.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use xpu_model::IfName;

/// Why sysfs didn't answer.
#[derive(Debug, thiserror::Error)]
pub enum SysfsError {
    /// No function has this address.
    #[error("there is no PCI device {0}; see `lspci -D`")]
    NoDevice(PciAddr),
    /// A file or link can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A text that is no PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no PCI address; write domain:bus:device.function, as in 0000:af:06.0")]
pub struct PciAddrError(String);

/// The address of a PCI function, `dddd:bb:dd.f` in lower-case hex: the only name of
/// a VF that a pod can't change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddr(String);

impl PciAddr {
    /// The address as sysfs writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PciAddr {
    type Err = PciAddrError;

    fn from_str(text: &str) -> Result<Self, PciAddrError> {
        let refused = || PciAddrError(text.escape_debug().to_string());
        let hex = |part: &str, len: std::ops::RangeInclusive<usize>| {
            len.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let mut colons = text.split(':');
        let (Some(domain), Some(bus), Some(rest), None) =
            (colons.next(), colons.next(), colons.next(), colons.next())
        else {
            return Err(refused());
        };
        let (device, function) = rest.split_once('.').ok_or_else(refused)?;
        // A VMD's domain has five digits and more.
        let ok = hex(domain, 4..=8) && hex(bus, 2..=2) && hex(device, 2..=2);
        let ok = ok && matches!(function.as_bytes(), [b'0'..=b'7']);
        if ok {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for PciAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PciAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A PF, seen from one of its VFs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The PF's address.
    pub pci: PciAddr,
    /// The PF's netdev, unless it has none on this host (a DPU keeps it to itself).
    pub netdev: Option<IfName>,
}

/// A mounted sysfs.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    /// The sysfs at `root`, `/sys` on every real host.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn dir(&self, pci: &PciAddr) -> PathBuf {
        self.root.join("bus/pci/devices").join(pci.as_str())
    }

    /// The netdevs of a function that this sysfs shows: none when it is bound to a
    /// userspace driver, or when its netdev is in another namespace.
    ///
    /// # Errors
    /// [`SysfsError::NoDevice`], or what kept a folder from being read.
    pub fn netdevs(&self, pci: &PciAddr) -> Result<Vec<IfName>, SysfsError> {
        let dir = self.dir(pci);
        let direct = device_names(&dir.join("net"))?;
        if !direct.is_empty() {
            return Ok(direct);
        }
        if !dir.exists() {
            return Err(SysfsError::NoDevice(pci.clone()));
        }
        // virtio functions have their netdev one bus further down.
        let mut found = Vec::new();
        for child in entries(&dir)?
            .iter()
            .filter(|name| name.starts_with("virtio"))
        {
            found.extend(device_names(&dir.join(child).join("net"))?);
        }
        Ok(found)
    }

    /// Whether `child` is a bus device right below the function, as `virtio7` is.
    #[must_use]
    pub fn has_child(&self, pci: &PciAddr, child: &str) -> bool {
        !child.contains('/') && child.starts_with("virtio") && self.dir(pci).join(child).exists()
    }

    /// A netdev's alias (`ifalias`); `None` without one, and where this sysfs doesn't show the
    /// netdev. What is no UTF-8 comes as replacement characters.
    #[must_use]
    pub fn alias(&self, netdev: &IfName) -> Option<String> {
        let dir = self.root.join("class/net").join(netdev.as_str());
        let bytes = fs::read(dir.join("ifalias")).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The group of devices that a netdev is in; `None` where this sysfs doesn't show the netdev.
    #[must_use]
    pub fn group(&self, netdev: &IfName) -> Option<u32> {
        let dir = self.root.join("class/net").join(netdev.as_str());
        // As few system calls as there can be; ten digits and the line's end fit.
        let mut text = [0; 16];
        let read = File::open(dir.join("netdev_group")).and_then(|mut file| file.read(&mut text));
        let text = std::str::from_utf8(text.get(..read.ok()?)?).ok()?;
        text.trim_end().parse().ok()
    }

    /// The bridge, bond or other device that a netdev is a port of.
    #[must_use]
    pub fn master(&self, netdev: &IfName) -> Option<String> {
        let dir = self.root.join("class/net").join(netdev.as_str());
        let link = fs::read_link(dir.join("master")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// The kernel driver bound to a function.
    #[must_use]
    pub fn driver(&self, pci: &PciAddr) -> Option<String> {
        let link = fs::read_link(self.dir(pci).join("driver")).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    }

    /// The PF that `vf` belongs to; `None` when the function is no VF.
    ///
    /// # Errors
    /// [`SysfsError::Read`] when what it links to is no PCI function.
    pub fn parent(&self, vf: &PciAddr) -> Result<Option<Parent>, SysfsError> {
        let link = self.dir(vf).join("physfn");
        let Ok(target) = fs::read_link(&link) else {
            return Ok(None);
        };
        let pci = target
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let pci: PciAddr = pci
            .parse()
            .map_err(|error: PciAddrError| SysfsError::Read {
                path: link,
                source: io::Error::new(io::ErrorKind::InvalidData, error),
            })?;
        let netdev = self.own_netdev(&pci)?;
        Ok(Some(Parent { pci, netdev }))
    }

    /// The netdev of a PF itself. In switchdev mode those that represent its VFs stand beside it,
    /// and a driver may number them before it.
    fn own_netdev(&self, pf: &PciAddr) -> Result<Option<IfName>, SysfsError> {
        let net = self.dir(pf).join("net");
        let mut names = device_names(&net)?;
        if names.len() > 1 {
            let is_uplink = |name: &IfName| {
                let port = net.join(name.as_str()).join("phys_port_name");
                fs::read_to_string(port).is_ok_and(|port| is_physical(port.trim_end()))
            };
            let uplink = names.iter().position(is_uplink);
            return Ok(Some(names.swap_remove(uplink.unwrap_or_default())));
        }
        Ok(names.pop())
    }

    /// A VF's number on its PF (`IFLA_VF_*` call it `vf`).
    ///
    /// # Errors
    /// [`SysfsError::Read`] when the PF's folder doesn't list the VF.
    pub fn vf_number(&self, pf: &PciAddr, vf: &PciAddr) -> Result<u32, SysfsError> {
        let dir = self.dir(pf);
        for name in entries(&dir)? {
            let Some(number) = name.strip_prefix("virtfn").and_then(|n| n.parse().ok()) else {
                continue;
            };
            let target = fs::read_link(dir.join(&name)).unwrap_or_default();
            if target.file_name().is_some_and(|file| file == vf.as_str()) {
                return Ok(number);
            }
        }
        let source = io::Error::new(io::ErrorKind::NotFound, format!("no virtfn leads to {vf}"));
        Err(SysfsError::Read { path: dir, source })
    }
}

/// Whether a port's name is that of a wire, `p0`, and not of a function, `pf0vf3`
/// (`Documentation/networking/switchdev.rst`).
fn is_physical(port: &str) -> bool {
    let number = port.strip_prefix('p').unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// The entries of a folder; none when the folder isn't there.
fn entries(dir: &Path) -> Result<Vec<String>, SysfsError> {
    let failed = |source| SysfsError::Read {
        path: dir.to_owned(),
        source,
    };
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in listing {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn device_names(dir: &Path) -> Result<Vec<IfName>, SysfsError> {
    Ok(entries(dir)?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const VF: &str = "0000:af:06.0";
    const PF: &str = "0000:af:00.0";

    fn tree(name: &str) -> (PathBuf, Sysfs) {
        let root = std::env::temp_dir().join(format!("xpu-sysfs-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join("bus/pci/devices")).unwrap();
        let sysfs = Sysfs::at(&root);
        (root, sysfs)
    }

    fn pci(text: &str) -> PciAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_addresses_are_addresses() {
        for text in [VF, "0000:00:1f.7", "10000:01:00.0"] {
            assert_eq!(text.parse::<PciAddr>().unwrap().as_str(), text);
        }
        assert_eq!("0000:AF:06.0".parse::<PciAddr>().unwrap().as_str(), VF);
        let bad = [
            "",
            "af:06.0",
            "0000:af:06.8",
            "0000:af:06",
            "../../etc",
            "0000:af:06.0/..",
            "0000:af:06.0:1",
        ];
        for text in bad {
            assert!(text.parse::<PciAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_vf_its_number_and_its_pf() {
        let (root, sysfs) = tree("vf");
        let devices = root.join("bus/pci/devices");
        fs::create_dir_all(devices.join(VF).join("net/ens1v3")).unwrap();
        fs::create_dir_all(devices.join(PF).join("net/ens1")).unwrap();
        symlink(format!("../{PF}"), devices.join(VF).join("physfn")).unwrap();
        symlink("../0000:af:05.0", devices.join(PF).join("virtfn1")).unwrap();
        symlink(format!("../{VF}"), devices.join(PF).join("virtfn3")).unwrap();
        let parent = sysfs.parent(&pci(VF)).unwrap().unwrap();
        assert_eq!(
            parent,
            Parent {
                pci: pci(PF),
                netdev: Some("ens1".parse().unwrap())
            }
        );
        assert_eq!(
            sysfs.netdevs(&pci(VF)).unwrap(),
            ["ens1v3".parse().unwrap()]
        );
        assert_eq!(sysfs.parent(&pci(PF)).unwrap(), None);
        assert_eq!(sysfs.vf_number(&pci(PF), &pci(VF)).unwrap(), 3);
        assert!(sysfs.vf_number(&pci(PF), &pci(PF)).is_err());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn only_a_virtio_device_right_below_a_function_is_its_child() {
        let (root, sysfs) = tree("child");
        let device = root.join("bus/pci/devices").join(VF);
        fs::create_dir_all(device.join("virtio7/net")).unwrap();
        fs::create_dir_all(device.join("power")).unwrap();
        assert!(sysfs.has_child(&pci(VF), "virtio7"));
        for other in ["virtio8", "power", "virtio7/net", "", "..", "virtio7/.."] {
            assert!(!sysfs.has_child(&pci(VF), other), "{other}");
        }
        assert!(!sysfs.has_child(&pci(PF), "virtio7"), "another function's");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_pf_is_told_from_those_that_represent_its_vfs() {
        let (root, sysfs) = tree("switchdev");
        let devices = root.join("bus/pci/devices");
        fs::create_dir_all(devices.join(VF)).unwrap();
        symlink(format!("../{PF}"), devices.join(VF).join("physfn")).unwrap();
        let pf = || sysfs.parent(&pci(VF)).unwrap().unwrap().netdev;
        assert_eq!(pf(), None);
        let port = |name: &str, port: &str| {
            let net = devices.join(PF).join("net").join(name);
            fs::create_dir_all(&net).unwrap();
            fs::write(net.join("phys_port_name"), format!("{port}\n")).unwrap();
        };
        port("eth0", "pf0vf0");
        assert_eq!(pf(), "eth0".parse().ok(), "the only one");
        port("eth1", "pf0vf10");
        port("eth7", "p0");
        port("eth9", "pf0sf1");
        assert_eq!(pf(), "eth7".parse().ok());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_virtio_vf_has_its_netdev_one_bus_down() {
        let (root, sysfs) = tree("virtio");
        fs::create_dir_all(
            root.join("bus/pci/devices")
                .join(VF)
                .join("virtio7/net/eth9"),
        )
        .unwrap();
        assert_eq!(sysfs.netdevs(&pci(VF)).unwrap(), ["eth9".parse().unwrap()]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_group_is_a_number_or_not_known() {
        let (root, sysfs) = tree("group");
        let name = "ens1v3".parse().unwrap();
        assert_eq!(sysfs.group(&name), None);
        let dir = root.join("class/net/ens1v3");
        fs::create_dir_all(&dir).unwrap();
        for (text, group) in [
            ("0\n", Some(0)),
            ("4294967295\n", Some(u32::MAX)),
            ("", None),
            ("5x\n", None),
        ] {
            fs::write(dir.join("netdev_group"), text).unwrap();
            assert_eq!(sysfs.group(&name), group, "{text:?}");
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn an_alias_is_read_as_it_was_set() {
        let (root, sysfs) = tree("alias");
        let name = "ens1v3".parse().unwrap();
        assert_eq!(sysfs.alias(&name), None);
        let dir = root.join("class/net/ens1v3");
        fs::create_dir_all(&dir).unwrap();
        for (text, alias) in [("\n", None), ("xpu:node\n", Some("xpu:node"))] {
            fs::write(dir.join("ifalias"), text).unwrap();
            assert_eq!(sysfs.alias(&name).as_deref(), alias);
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn no_device_is_told_from_no_netdev() {
        let (root, sysfs) = tree("none");
        assert!(matches!(
            sysfs.netdevs(&pci(VF)),
            Err(SysfsError::NoDevice(_))
        ));
        fs::create_dir_all(root.join("bus/pci/devices").join(VF)).unwrap();
        assert!(sysfs.netdevs(&pci(VF)).unwrap().is_empty());
        fs::remove_dir_all(root).unwrap();
    }
}
