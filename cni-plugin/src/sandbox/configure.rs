//! The pod's addresses and routes, set in one batch once the VF has arrived.

use std::{fs, net::IpAddr, path::Path};

use xpu_linux::sync::{
    Request, RtnlError,
    address::{Dad, Route, add_address, add_route},
};
use xpu_model::{IfAddr, IfIndex, IfName, Prefix};

use super::{Sandbox, is_taken};
use crate::{error::Error, ipam::Lease};

impl Sandbox {
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
