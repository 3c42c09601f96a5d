//! What waits for the VF's carrier in the pod: the announcement of its addresses, and an IPAM plugin
//! that speaks from the interface.

use std::{fs, path::Path, time::Instant};

use xpu_linux::sync::{announce::Announcer, event::LinkEvents, ioctl, link};
use xpu_model::{IfIndex, IfName, Mac};

use super::Sandbox;
use crate::{
    budget::{ANNOUNCE_WAIT, IPAM_CARRIER_WAIT},
    error::Error,
    ipam::Lease,
};

impl Sandbox {
    /// Tells the neighbours of the new addresses, as soon as there is carrier: gratuitous ARP, and
    /// gratuitous ND to the routers (RFC 9131). A pod that is a router itself might hear its own,
    /// and take it for a duplicate of its address; it goes without.
    ///
    /// # Errors
    /// What kept the frames from being sent; the pod works without them.
    pub fn announce(
        &self,
        index: IfIndex,
        name: &IfName,
        mac: Mac,
        lease: &Lease,
    ) -> Result<(), Error> {
        let failed = |source| Error::Io {
            what: format!("announce the addresses of {name}"),
            source,
        };
        let any_v6 = lease.ips.iter().any(|(addr, _)| addr.addr().is_ipv6());
        let (announcer, mute_v6) = self
            .ns
            .run(|| (Announcer::open(), any_v6 && is_ipv6_router(name)))?;
        self.wait_for_carrier(index, name, Instant::now() + ANNOUNCE_WAIT)?;
        let announcer = announcer.map_err(failed)?;
        let addresses = lease.ips.iter().map(|(addr, _)| addr.addr());
        for addr in addresses.filter(|addr| addr.is_ipv4() || !mute_v6) {
            announcer.announce(index, mac, addr).map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until what IPAM sends from the interface is heard, but not for ever.
    ///
    /// # Errors
    /// The kernel's refusal to tell.
    pub fn wait_for_wire(
        &mut self,
        index: IfIndex,
        name: &IfName,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.wait_for_carrier(
            index,
            name,
            deadline.min(Instant::now() + IPAM_CARRIER_WAIT),
        )?;
        // The interface sends only once the kernel has taken notice of the carrier, which this
        // makes it do.
        link::one(&mut self.rtnl, index)?;
        Ok(())
    }

    fn wait_for_carrier(
        &self,
        index: IfIndex,
        name: &IfName,
        deadline: Instant,
    ) -> Result<(), Error> {
        let is_running = || {
            let flags = ioctl::up_and_running(&self.rtnl, name);
            flags
                .map(|(_, running)| running)
                .map_err(|source| Error::Io {
                    what: format!("look at {name}"),
                    source,
                })
        };
        if is_running()? {
            return Ok(());
        }
        let mut events = self.ns.run(LinkEvents::subscribe)??;
        // It may have come between the look and the subscription.
        if !is_running()? {
            events.wait(deadline, |link| link.index == index && link.lower_up)?;
        }
        Ok(())
    }
}

/// Whether an interface of the calling thread's namespace forwards IPv6, and so hears what is for
/// all routers.
fn is_ipv6_router(name: &IfName) -> bool {
    let setting = Path::new("/proc/sys/net/ipv6/conf")
        .join(name.as_str())
        .join("forwarding");
    fs::read_to_string(setting).is_ok_and(|text| text.trim_end() != "0")
}
