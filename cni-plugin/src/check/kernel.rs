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
    prev_result::{PrevResult, list},
};
use crate::{error::Error, host::Host, journal::Record, sandbox::Sandbox};

/// `RT_TABLE_MAIN` of `linux/rtnetlink.h`.
const MAIN: u32 = 254;

/// What differs in the pod from what ADD answered.
///
/// # Errors
/// The kernel's refusal to list.
pub fn differs(
    host: &Host,
    pod: &mut Sandbox,
    result: &PrevResult,
    record: &Record,
) -> Result<Vec<Error>, Error> {
    let mut wrong = Vec::new();
    let pci = &record.vf.pci;
    if let Some(other) = result.pci.as_ref().filter(|other| **other != pci.as_str()) {
        wrong.push(mismatch("`pciID` in prevResult", pci, other));
    }
    let Some(link) = vf::find(&host.sysfs, &mut pod.rtnl, pci, host.proof)? else {
        let what = format!("interface of the VF {pci} in the pod");
        wrong.push(mismatch(what, &result.name, "none"));
        return Ok(wrong);
    };
    wrong.extend(link_differs(&link, result, record));

    let found = look::addresses(&mut pod.rtnl, link.index)?;
    // An address that is still tentative is as ADD left it, on kernels without optimistic DAD.
    let serves = |addr: &IfAddr| {
        let mut found = found.iter();
        found.any(|found| found.addr == *addr && found.dad != DadState::Failed)
    };
    let missing = result.addresses.iter().filter(|addr| !serves(addr));
    let what = format!("addresses of {}", result.name);
    wrong.extend(missing.map(|addr| mismatch(&what, addr, list(found.iter().map(address)))));

    let found = look::routes(&mut pod.rtnl)?;
    // Results of a chain have other plugins' routes, which don't say by which device they go.
    let by = result.alone.then_some(link.index);
    let missing = result
        .routes
        .iter()
        .filter(|wanted| !has(&found, wanted, by));
    wrong.extend(missing.map(|wanted| {
        let similar = found.iter().filter(|found| found.route.to == wanted.to);
        let similar = similar.map(|found| match by {
            Some(_) if found.by != by => format!("{} by another device", text(&found.route)),
            _ => text(&found.route),
        });
        mismatch("routes of the pod", text(wanted), list(similar))
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

fn link_differs(link: &LinkFacts, result: &PrevResult, record: &Record) -> Vec<Error> {
    let name = &result.name;
    let mut wrong = Vec::new();
    if link.name != name.as_str() {
        let what = format!("interface of the VF {} in the pod", record.vf.pci);
        wrong.push(mismatch(what, name, link.name.escape_debug()));
    }
    let mac = result.mac.unwrap_or(record.port.mac);
    if link.mac != Some(mac) {
        wrong.push(mismatch(format!("MAC of {name}"), mac, list(link.mac)));
    }
    if let Some(mtu) = result.mtu.filter(|mtu| *mtu != link.mtu) {
        wrong.push(mismatch(format!("MTU of {name}"), mtu, link.mtu));
    }
    if !link.up {
        wrong.push(mismatch(format!("state of {name}"), "up", "down"));
    }
    wrong
}

/// Whether the kernel has a route as wanted, and by this device if it must be. What ADD left to the
/// kernel may be anything.
fn has(found: &[Installed], wanted: &Route, by: Option<IfIndex>) -> bool {
    fn same<T: PartialEq>(wanted: Option<T>, found: Option<T>) -> bool {
        wanted.is_none() || wanted == found
    }
    // Neither table 0 nor IPv6's priority 0 exists: both are "as the kernel likes".
    let set = |number: Option<u32>| number.filter(|number| *number != 0);
    let table = |route: &Route| set(route.table).unwrap_or(MAIN);
    found.iter().any(|Installed { route, by: device }| {
        same(by, *device)
            && route.to == wanted.to
            && table(route) == table(wanted)
            && same(wanted.via, route.via)
            && same(set(wanted.priority), route.priority)
            && same(set(wanted.mtu), route.mtu)
            && same(set(wanted.advmss), route.advmss)
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
        let there = |wanted: &Route| has(&found, wanted, None);
        assert!(has(&found, &route("::/0", None), by));
        assert!(!has(&found, &route("::/0", None), IfIndex::new(8)));
        let wanted = route("::/0", Some("fd00::1"));
        assert!(there(&wanted));
        assert!(there(&route("::/0", None)));
        let set = |number| Some(number);
        assert!(there(&Route {
            table: set(254),
            priority: set(0),
            ..wanted.clone()
        }));
        assert!(there(&Route {
            mtu: set(1400),
            ..wanted.clone()
        }));
        assert!(!there(&route("::/0", Some("fd00::2"))));
        assert!(!there(&route("fd00::/8", Some("fd00::1"))));
        assert!(!there(&Route {
            table: set(7),
            ..wanted.clone()
        }));
        assert!(!there(&Route {
            priority: set(7),
            ..wanted.clone()
        }));
        assert!(!there(&Route {
            mtu: set(1500),
            ..wanted
        }));
    }

    #[test]
    fn a_route_is_told_as_people_write_it() {
        let wanted = Route {
            priority: Some(7),
            mtu: Some(1400),
            ..route("0.0.0.0/0", Some("10.1.2.1"))
        };
        assert_eq!(text(&wanted), "0.0.0.0/0 via 10.1.2.1 metric 7 mtu 1400");
    }
}
