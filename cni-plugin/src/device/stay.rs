//! A VF whose pod is the host: it never moves, so it doesn't lose what a move takes from a device.

use nix::errno::Errno;
use xpu_linux::{
    sync::{Rtnl, address::del_address, link::Change, look},
    sysfs::PciAddr,
};
use xpu_model::IfName;

use super::{Away, home::locate::locate};
use crate::{error::Error, host::Host, journal::Netdev};

/// Takes all addresses and routes from a VF that ADD made `name` of.
///
/// # Errors
/// Those of [`send_home`](super::send_home), which comes next.
pub fn strip(
    host: &Host,
    home: &mut Rtnl,
    pci: &PciAddr,
    origin: &Netdev,
    name: &IfName,
) -> Result<(), Error> {
    let Some(located) = locate(host, home, None, pci)? else {
        return Ok(());
    };
    let Some(current) = located.current() else {
        let (pci, why) = (pci.clone(), Away::Changed);
        return Err(Error::NotHome { pci, why });
    };
    if current.name == origin.name.as_str() && *name != origin.name {
        return Ok(()); // ADD didn't come that far: whatever it has is the host's
    }
    // Routes go when it goes down. Its state at home comes back later, with its name.
    let down = Change {
        up: Some(false),
        ..Change::of(current.index)
    };
    let mut requests = vec![down.request(format!("take {} down", current.name))];
    let addresses = look::addresses(home, current.index)?;
    requests.extend(addresses.into_iter().map(|found| {
        let addr = found.addr;
        let what = format!("take {addr} from {}", current.name);
        del_address(current.index, addr, what)
    }));
    for verdict in home.apply_each(&requests)? {
        match verdict {
            // It went when the device went down, or with the first address of its subnet.
            Err(error) if error.errno() == Some(Errno::EADDRNOTAVAIL) => {}
            verdict => verdict?,
        }
    }
    Ok(())
}
