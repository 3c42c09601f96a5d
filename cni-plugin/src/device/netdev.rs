//! Netdevs as they are now, however that was read: a VF's own, and the names that others have.

use std::{ffi::OsString, io};

use xpu_linux::sync::{LinkFacts, Rtnl, ioctl, link::SetFlags};
use xpu_model::{IfIndex, IfName, Mac};

use crate::host::Host;

/// A netdev as it is now, as far as it is compared with what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its index, where it is.
    pub index: IfIndex,
    /// Its name; the kernel allows more than [`IfName`] does.
    pub name: String,
    /// Its address; `None`: it has none.
    pub mac: Option<Mac>,
    /// Bytes of payload per frame.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Its other flags that can be set.
    pub flags: SetFlags,
    /// Packets that its queue takes; `None`: not known.
    pub txqlen: Option<u32>,
    /// The group of devices that it is in; `None`: not known.
    pub group: Option<u32>,
    /// Its alias, if it has one.
    pub alias: Option<String>,
}

impl From<&LinkFacts> for Current {
    fn from(link: &LinkFacts) -> Self {
        Self {
            index: link.index,
            name: link.name.clone(),
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            flags: link.flags,
            txqlen: link.txqlen,
            group: link.group,
            alias: link.alias.clone(),
        }
    }
}

/// A netdev in our own namespace, which sysfs shows. Read without RTNL, for which all of the node
/// may be waiting.
///
/// # Errors
/// `ENODEV` when no device has that name any more.
pub fn read_netdev(host: &Host, home: &Rtnl, name: &IfName, index: IfIndex) -> io::Result<Current> {
    let (up, flags) = ioctl::up_and_flags(home, name)?;
    Ok(Current {
        index,
        name: name.as_str().to_owned(),
        mac: ioctl::mac(home, name)?,
        mtu: ioctl::mtu(home, name)?,
        up,
        flags,
        txqlen: ioctl::txqlen(home, name).ok(),
        group: host.sysfs.group(name),
        alias: host.sysfs.alias(name),
    })
}

/// The names that devices of a socket's namespace have already.
pub fn taken_by(there: &Rtnl, names: &[OsString]) -> Vec<OsString> {
    let taken = |name: &&OsString| match name.to_str().and_then(|name| name.parse::<IfName>().ok())
    {
        // If the look fails, the name counts as taken: the move is tried without it then.
        Some(name) => {
            let found = ioctl::index(there, &name);
            found.map_or_else(|error| error.raw_os_error() != Some(libc::ENODEV), |_| true)
        }
        // No text, too long for a look without RTNL, or no name for a device: it goes as well.
        None => true,
    };
    names.iter().filter(taken).cloned().collect()
}
