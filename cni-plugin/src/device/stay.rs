//! A VF whose pod is the host: it never moves, so it doesn't lose what a move takes from a device.

use nix::errno::Errno;
use xpu_linux::{
    sync::{Rtnl, address::del_address, link::Change, look},
    sysfs::PciAddr,
};
use xpu_model::IfName;

use super::{
    Away,
    home::locate::{Look, locate},
    netdev::Current,
};
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
    let Some(current) = seen(locate(host, home, None, pci)?, pci)? else {
        return Ok(());
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

/// What a look shows of a VF that never moved; `None`: it has no netdev, and nothing to take from it.
///
/// # Errors
/// [`Error::NotHome`] when it went while it was looked at.
fn seen(look: Look, pci: &PciAddr) -> Result<Option<Current>, Error> {
    match look {
        Look::Found(located) => Ok(Some(located.current())),
        Look::NoNetdev => Ok(None),
        Look::Vanished => {
            let (pci, why) = (pci.clone(), Away::Vanished);
            Err(Error::NotHome { pci, why })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netdev_that_went_meanwhile_is_not_taken_for_one_that_others_change() {
        let pci = "0000:af:06.0".parse().unwrap();
        assert!(seen(Look::NoNetdev, &pci).unwrap().is_none());
        let told = seen(Look::Vanished, &pci).unwrap_err().to_string();
        let gone = "the VF 0000:af:06.0 had its netdev removed or renamed";
        assert!(told.starts_with(gone), "{told}");
    }
}
