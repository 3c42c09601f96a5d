//! The pod's interface, addresses and routes as the kernel has them.

use xpu_linux::{
    sync::{
        LinkFacts,
        address::Route,
        look::{self, Assigned, DadState, Installed},
    },
    vf,
};
use xpu_model::{IfAddr, IfIndex};

use super::{
    mismatch,
    told::{Told, list},
};
use crate::{error::Error, host::Host, journal::Record, sandbox::Sandbox};

/// `RT_TABLE_MAIN` of `linux/rtnetlink.h`.
const MAIN: u32 = 254;

/// What differs in the pod from what ADD told.
///
/// # Errors
/// The kernel's refusal to list.
pub fn differs(
    host: &Host,
    pod: &mut Sandbox,
    told: &Told,
    record: &Record,
) -> Result<Vec<Error>, Error> {
    let mut wrong = Vec::new();
    let pci = record.vf.pci();
    if let Some(other) = told.pci.as_ref().filter(|other| **other != pci.as_str()) {
        wrong.push(mismatch("`pciID` in prevResult", &pci, other));
    }
    let Some(link) = vf::find(&host.sysfs, &mut pod.rtnl, &pci, host.proof)? else {
        let what = format!("interface of the VF {pci} in the pod");
        wrong.push(mismatch(what, &told.name, "none"));
        return Ok(wrong);
    };
    wrong.extend(link_differs(&link, told, record));

    let found = look::addresses(&mut pod.rtnl, link.index)?;
    // One that is still looked at is as ADD left it, on kernels without optimistic DAD.
    let serves = |addr: &IfAddr| {
        let mut found = found.iter();
        found.any(|found| found.addr == *addr && found.dad != DadState::Failed)
    };
    let missing = told.addresses.iter().filter(|addr| !serves(addr));
    let what = format!("addresses of {}", told.name);
    wrong.extend(missing.map(|addr| mismatch(&what, addr, list(found.iter().map(address)))));

    let found = look::routes(&mut pod.rtnl)?;
    // Results of a chain have other plugins' routes, which don't say by which device they go.
    let by = told.alone.then_some(link.index);
    let missing = told.routes.iter().filter(|told| !has(&found, told, by));
    wrong.extend(missing.map(|told| {
        let similar = found.iter().filter(|found| found.route.to == told.to);
        let similar = similar.map(|found| match by {
            Some(_) if found.by != by => format!("{} by another device", text(&found.route)),
            _ => text(&found.route),
        });
        mismatch("routes of the pod", text(told), list(similar))
    }));
    Ok(wrong)
}

/// An address, and what keeps it from being used.
fn address(found: &Assigned) -> String {
    let why = match found.dad {
        DadState::Usable => "",
        DadState::Tentative => " (tentative)",
        DadState::Failed => " (a duplicate)",
    };
    format!("{}{why}", found.addr)
}

fn link_differs(link: &LinkFacts, told: &Told, record: &Record) -> Vec<Error> {
    let name = &told.name;
    let mut wrong = Vec::new();
    if link.name != name.as_str() {
        let what = format!("interface of the VF {} in the pod", record.vf.pci());
        wrong.push(mismatch(what, name, link.name.escape_debug()));
    }
    let mac = told.mac.unwrap_or(record.port.mac);
    if link.mac != Some(mac) {
        wrong.push(mismatch(format!("MAC of {name}"), mac, list(link.mac)));
    }
    if let Some(mtu) = told.mtu.filter(|mtu| *mtu != link.mtu) {
        wrong.push(mismatch(format!("MTU of {name}"), mtu, link.mtu));
    }
    if !link.up {
        wrong.push(mismatch(format!("state of {name}"), "up", "down"));
    }
    wrong
}

/// Whether the kernel has a route as told, and by this device if it must be. What ADD left to the
/// kernel may be anything.
fn has(found: &[Installed], told: &Route, by: Option<IfIndex>) -> bool {
    fn same<T: PartialEq>(told: Option<T>, found: Option<T>) -> bool {
        told.is_none() || told == found
    }
    // Neither table 0 nor IPv6's priority 0 exists: both are "as the kernel likes".
    let set = |number: Option<u32>| number.filter(|number| *number != 0);
    let table = |route: &Route| set(route.table).unwrap_or(MAIN);
    found.iter().any(|Installed { route, by: device }| {
        same(by, *device)
            && route.to == told.to
            && table(route) == table(told)
            && same(told.via, route.via)
            && same(set(told.priority), route.priority)
            && same(set(told.mtu), route.mtu)
            && same(set(told.advmss), route.advmss)
    })
}

fn text(route: &Route) -> String {
    let mut text = route.to.to_string();
    if let Some(via) = route.via {
        text.push_str(&format!(" via {via}"));
    }
    for (word, number) in [
        ("table", route.table),
        ("metric", route.priority),
        ("mtu", route.mtu),
        ("advmss", route.advmss),
    ] {
        if let Some(number) = number {
            text.push_str(&format!(" {word} {number}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str, via: Option<&str>) -> Route {
        Route {
            to: to.parse().unwrap(),
            via: via.map(|via| via.parse().unwrap()),
            priority: None,
            table: None,
            scope: None,
            mtu: None,
            advmss: None,
        }
    }

    #[test]
    fn a_route_is_there_if_all_that_was_told_of_it_is() {
        let kernel = Route {
            priority: Some(1024),
            mtu: Some(1400),
            scope: Some(0),
            ..route("::/0", Some("fd00::1"))
        };
        let by = IfIndex::new(7);
        let found = [Installed { route: kernel, by }];
        let there = |told: &Route| has(&found, told, None);
        assert!(has(&found, &route("::/0", None), by));
        assert!(!has(&found, &route("::/0", None), IfIndex::new(8)));
        let told = route("::/0", Some("fd00::1"));
        assert!(there(&told));
        assert!(there(&route("::/0", None)));
        let set = |number| Some(number);
        assert!(there(&Route {
            table: set(254),
            priority: set(0),
            ..told.clone()
        }));
        assert!(there(&Route {
            mtu: set(1400),
            ..told.clone()
        }));
        assert!(!there(&route("::/0", Some("fd00::2"))));
        assert!(!there(&route("fd00::/8", Some("fd00::1"))));
        assert!(!there(&Route {
            table: set(7),
            ..told.clone()
        }));
        assert!(!there(&Route {
            priority: set(7),
            ..told.clone()
        }));
        assert!(!there(&Route {
            mtu: set(1500),
            ..told
        }));
    }

    #[test]
    fn a_route_is_told_as_people_write_it() {
        let told = Route {
            priority: Some(7),
            mtu: Some(1400),
            ..route("0.0.0.0/0", Some("10.1.2.1"))
        };
        assert_eq!(text(&told), "0.0.0.0/0 via 10.1.2.1 metric 7 mtu 1400");
    }
}
