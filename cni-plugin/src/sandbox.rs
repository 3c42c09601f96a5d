//! The pod's network namespace: sockets opened in it once, and what is done through
//! them after the VF has arrived.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use xpu_linux::{
    netns::{NetNs, NetNsError, NetNsId},
    sync::{
        LinkFacts, Request, Rtnl, RtnlError,
        address::{Dad, Route, add_address, add_route},
        announce::Announcer,
        event::LinkEvents,
        ioctl, link,
    },
};
use xpu_model::{IfAddr, IfIndex, IfName, Mac, Prefix};

use crate::{error::Error, ipam::Lease, journal::NetNsRef};

/// How long an announcement waits for carrier: most links have it at once, and a pod
/// with one that hasn't must start all the same.
const ANNOUNCE_WAIT: Duration = Duration::from_millis(200);
/// The same for IPAM that speaks from the interface: what it says before there is carrier is lost,
/// and a DHCP client says it again only after seconds (RFC 2131, section 4.1). A VF hears of its
/// link by a mailbox, which some drivers look into every 2 s.
const IPAM_WAIT: Duration = Duration::from_secs(3);

/// How a pod's namespace is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open {
    /// It may be our own.
    pub may_be_own: bool,
    /// The arrival of devices is heard from then on, see [`Sandbox::arrival_of`].
    pub hears_arrivals: bool,
}

/// A pod's namespace, open.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespace.
    pub ns: NetNs,
    /// A netlink socket in it.
    pub rtnl: Rtnl,
    /// Events of its links, if [`Open::hears_arrivals`]: that of an arrival tells all of a device,
    /// which otherwise takes RTNL.
    events: Option<LinkEvents>,
    path: String,
}

impl Sandbox {
    /// Opens the namespace at `path`.
    ///
    /// # Errors
    /// [`Error::NetNs`] when there is none; [`Error::HostNetNs`] when it is our own,
    /// in which an attachment makes no sense.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_as(path, Open::default())
    }

    /// Opens a namespace that the journal knows, if it is still there and the same.
    #[must_use]
    pub fn open_kept(kept: &NetNsRef) -> Option<Self> {
        let pod = Self::open(Path::new(&kept.path)).ok();
        pod.filter(|pod| kept.is(pod.id()))
    }

    /// Opens the namespace at `path` as `how` says.
    ///
    /// # Errors
    /// [`Error::NetNs`] when there is none; [`Error::HostNetNs`] when it is our own and may not be.
    pub fn open_as(path: &Path, how: Open) -> Result<Self, Error> {
        let ns = NetNs::open(path)?;
        let path = path.display().to_string();
        let (rtnl, events) = ns.run(|| {
            let events = how.hears_arrivals.then(LinkEvents::subscribe).transpose()?;
            Ok::<_, RtnlError>((Rtnl::open()?, events))
        })??;
        let sandbox = Self {
            ns,
            rtnl,
            events,
            path,
        };
        if !how.may_be_own && sandbox.is_own() {
            return Err(Error::HostNetNs(sandbox.path));
        }
        Ok(sandbox)
    }

    /// Subscribes to arrivals anew, which forgets those until now.
    ///
    /// # Errors
    /// The kernel's refusal to enter the namespace or to tell.
    pub fn resubscribe(&mut self) -> Result<(), Error> {
        if self.events.is_some() {
            self.events = Some(self.ns.run(LinkEvents::subscribe)??);
        }
        Ok(())
    }

    /// What the kernel told at the arrival of a device, by one of its names; `None` where that was
    /// not heard.
    pub fn arrival_of(&mut self, index: IfIndex, names: [&IfName; 2]) -> Option<LinkFacts> {
        let events = self.events.as_mut()?;
        let is_it = |link: &LinkFacts| {
            link.index == index && names.iter().any(|name| link.name == name.as_str())
        };
        events.find_received(is_it).ok()?
    }

    /// Whether this is our own namespace.
    #[must_use]
    pub fn is_own(&self) -> bool {
        NetNs::own_id().is_ok_and(|own| own == self.id())
    }

    /// `CNI_NETNS`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Which namespace this is.
    #[must_use]
    pub fn id(&self) -> NetNsId {
        self.ns.id()
    }

    /// The index of an interface in the pod, if it has one of that name.
    #[must_use]
    pub fn index_of(&self, name: &IfName) -> Option<IfIndex> {
        ioctl::index(&self.rtnl, name).ok()
    }

    /// Sets addresses and routes in one batch. Gives the lease's routes that were set, which leaves
    /// out those that the pod has by another interface already.
    ///
    /// # Errors
    /// The kernel's first refusal, naming the address or route.
    pub fn configure(
        &mut self,
        index: IfIndex,
        name: &IfName,
        lease: &Lease,
    ) -> Result<Vec<Route>, Error> {
        let v6 = lease.ips.iter().any(|(addr, _)| addr.addr().is_ipv6());
        let dad = if v6 {
            self.ns.run(|| prepare_ipv6(name))??
        } else {
            Dad::Plain
        };
        let add = |(addr, _): &(IfAddr, _)| {
            add_address(index, *addr, dad, format!("add {addr} to {name}"))
        };
        let mut requests: Vec<Request> = lease.ips.iter().map(add).collect();
        let add = |route: &Route| {
            let via = route.via.map(|via| format!(" via {via}"));
            let via = via.unwrap_or_default();
            let what = format!("add the route to {}{via} by {name}", route.to);
            add_route(index, route, what)
        };
        let gateways = gateways(lease);
        requests.extend(gateways.iter().chain(&lease.routes).map(add));
        let mut verdicts = self.rtnl.apply_each(&requests)?.into_iter();
        let addresses = verdicts.by_ref().take(lease.ips.len());
        addresses.collect::<Result<(), _>>()?;
        // A route that the pod has already stays: its other interface may need it.
        let is_set = |verdict: Result<(), RtnlError>| match verdict {
            Err(error) if is_taken(&error) => Ok(false),
            verdict => verdict.map(|()| true),
        };
        for verdict in verdicts.by_ref().take(gateways.len()) {
            is_set(verdict)?;
        }
        let mut set = Vec::new();
        for (route, verdict) in lease.routes.iter().zip(verdicts) {
            if is_set(verdict)? {
                set.push(route.clone());
            }
        }
        Ok(set)
    }

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
        self.wait_for_carrier(index, name, deadline.min(Instant::now() + IPAM_WAIT))?;
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

/// A route to each gateway that is in no subnet of an address (a /32 with a gateway, as some IPAM
/// plugins give), which the lease's own routes need.
fn gateways(lease: &Lease) -> Vec<Route> {
    let on_link = |gateway: &IpAddr| {
        lease
            .ips
            .iter()
            .any(|(addr, _)| contains(addr.subnet(), *gateway))
            || gateway.is_ipv6() && is_link_local(*gateway)
    };
    let mut all: Vec<Route> = Vec::new();
    for gateway in lease.routes.iter().filter_map(|route| route.via) {
        let len = if gateway.is_ipv4() { 32 } else { 128 };
        let Ok(host) = IfAddr::new(gateway, len) else {
            continue;
        };
        let to = host.subnet();
        if !on_link(&gateway) && !all.iter().any(|route| route.to == to) {
            let plain = Route {
                to,
                via: None,
                priority: None,
                table: None,
                scope: None,
                mtu: None,
                advmss: None,
            };
            all.push(plain);
        }
    }
    all
}

fn contains(prefix: Prefix, addr: IpAddr) -> bool {
    let len = if addr.is_ipv4() { 32 } else { 128 };
    IfAddr::new(addr, len).is_ok_and(|host| prefix.overlaps(host.subnet()))
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Makes the interface take IPv6 addresses and use them at once. Runs in the pod:
/// procfs shows each namespace its own settings.
fn prepare_ipv6(name: &IfName) -> Result<Dad, Error> {
    let folder = Path::new("/proc/sys/net/ipv6/conf").join(name.as_str());
    let set = |key: &str, value: &str| -> Result<(), Error> {
        let path = folder.join(key);
        let failed = |source| Error::Io {
            what: format!("set {} to {value}", path.display()),
            source,
        };
        // Writing `disable_ipv6` takes RTNL; most pods have it right already.
        if fs::read_to_string(&path).map_err(failed)?.trim_end() == value {
            Ok(())
        } else {
            fs::write(&path, value).map_err(failed)
        }
    };
    set("disable_ipv6", "0")?;
    // Without CONFIG_IPV6_OPTIMISTIC_DAD these two are missing.
    let optimistic = set("optimistic_dad", "1").and_then(|()| set("use_optimistic", "1"));
    Ok(if optimistic.is_ok() {
        Dad::Optimistic
    } else {
        Dad::Plain
    })
}

/// Whether an error says that the namespace isn't there (any more).
#[must_use]
pub fn is_gone(error: &Error) -> bool {
    matches!(
        error,
        Error::NetNs(NetNsError::Open { .. } | NetNsError::NotANetNs { .. })
    )
}

/// Whether a refusal says that the name is taken.
#[must_use]
pub fn is_taken(error: &RtnlError) -> bool {
    error.errno() == Some(Errno::EEXIST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str, via: Option<&str>) -> Route {
        let via = via.map(|via| via.parse().unwrap());
        Route {
            to: to.parse().unwrap(),
            via,
            priority: None,
            table: None,
            scope: None,
            mtu: None,
            advmss: None,
        }
    }

    fn lease(addr: &str, via: &str) -> Lease {
        let ips = vec![(addr.parse().unwrap(), None)];
        let default = if addr.contains(':') {
            "::/0"
        } else {
            "0.0.0.0/0"
        };
        Lease {
            ips,
            routes: vec![route(default, Some(via))],
            dns: None,
        }
    }

    #[test]
    fn a_gateway_outside_every_subnet_gets_a_route_first() {
        let told = gateways(&lease("10.1.2.3/32", "10.9.9.9"));
        assert_eq!(told, [route("10.9.9.9/32", None)]);
    }

    #[test]
    fn a_gateway_on_the_link_needs_none() {
        for (addr, via) in [
            ("10.1.2.3/24", "10.1.2.1"),
            ("fd00::3/128", "fe80::1"),
            ("fd00::3/64", "fd00::1"),
        ] {
            assert_eq!(gateways(&lease(addr, via)), [], "{via}");
        }
    }
}
