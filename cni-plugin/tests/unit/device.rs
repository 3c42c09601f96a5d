//! Going home, as pure plans.

use nix::errno::Errno;
use xpu_linux::sync::{ioctl, link::SetFlags};

use super::{
    names::{FALLBACK, fallback_name},
    *,
};
use crate::device::change::by_way_of_down;

pub(super) fn origin(up: bool) -> Netdev {
    Netdev {
        name: "ens1v3".parse().unwrap(),
        mac: "02:00:00:00:00:07".parse().unwrap(),
        mtu: 1500.try_into().unwrap(),
        up,
        flags: None,
        txqlen: Some(1000),
        group: Some(0),
        alias: None,
        alt_names: None,
    }
}

fn as_it_was(origin: &Netdev) -> Current {
    Current {
        index: IfIndex::new(7).unwrap(),
        name: origin.name.as_str().to_owned(),
        mac: Some(origin.mac),
        mtu: u32::from(origin.mtu),
        up: origin.up,
        flags: SetFlags::ETHERNET,
        txqlen: Some(1000),
        group: Some(0),
        alias: None,
    }
}

#[test]
fn what_is_as_it_was_needs_nothing() {
    for up in [false, true] {
        let origin = origin(up);
        let change = plan_home(
            &as_it_was(&origin),
            None,
            &origin,
            &origin.name,
            MacBy::Message,
        );
        assert!(change.is_empty(), "{change:?}");
    }
}

#[test]
fn everything_a_pod_changed_goes_back_in_one_message() {
    let (origin, ns) = (origin(true), NetNs::current().unwrap());
    let mac = "02:00:00:00:00:66".parse().ok();
    let pod = Current {
        name: "evil".to_owned(),
        mac,
        mtu: 9000,
        up: true,
        ..as_it_was(&origin)
    };
    let change = plan_home(&pod, Some(&ns), &origin, &origin.name, MacBy::Message);
    assert!(change.netns.is_some());
    assert_eq!(change.name, Some(&origin.name));
    assert_eq!(
        (change.mac, change.mtu),
        (Some(origin.mac), Some(origin.mtu))
    );
    assert_eq!(change.up, Some(true), "a move takes the device down");
}

/// NOARP, PROMISC and ALLMULTI of `linux/if.h`, without MULTICAST.
const SPOILT: u32 = 0x80 | 0x100 | 0x200;

#[test]
fn flags_queue_and_group_are_as_they_were_or_as_an_ethernet_devices_are() {
    let was = |flags, txqlen, group| Netdev {
        flags,
        txqlen,
        group,
        ..origin(false)
    };
    let promisc = SetFlags::ETHERNET.bits() | 0x100;
    for (origin, flags, txqlen, group) in [
        (
            was(Some(promisc), Some(55), Some(5)),
            promisc,
            Some(55),
            Some(5),
        ),
        (was(None, None, None), SetFlags::ETHERNET.bits(), None, None),
        (was(Some(SPOILT), Some(77), Some(9)), SPOILT, None, None),
    ] {
        let pod = Current {
            flags: SetFlags::among(SPOILT),
            txqlen: Some(77),
            group: Some(9),
            ..as_it_was(&origin)
        };
        let change = plan_home(&pod, None, &origin, &origin.name, MacBy::Message);
        let wanted = (flags != SPOILT).then_some(SetFlags::among(flags));
        assert_eq!(change.flags, wanted);
        assert_eq!((change.txqlen, change.group), (txqlen, group));
        // Where a look doesn't tell, nothing is known to differ.
        let unseen = Current {
            txqlen: None,
            group: None,
            ..pod
        };
        let change = plan_home(&unseen, None, &origin, &origin.name, MacBy::Message);
        assert_eq!((change.txqlen, change.group), (None, None));
    }
}

#[test]
fn an_alias_of_the_pods_gives_way_to_what_was() {
    let named = |alias: Option<&str>| Netdev {
        alias: alias.map(str::to_owned),
        ..origin(false)
    };
    for (was, is, sent) in [
        (None, None, None),
        (None, Some("xpu:node"), Some("")),
        (Some("rack 7"), Some("xpu:node"), Some("rack 7")),
        (Some("rack 7"), None, Some("rack 7")),
        (Some("rack 7"), Some("rack 7"), None),
    ] {
        let origin = named(was);
        let current = Current {
            alias: is.map(str::to_owned),
            ..as_it_was(&origin)
        };
        let change = plan_home(&current, None, &origin, &origin.name, MacBy::Message);
        assert_eq!(change.alias, sent, "{was:?} {is:?}");
    }
}

#[test]
fn a_device_that_was_down_is_not_touched_after_the_move() {
    let (origin, ns) = (origin(false), NetNs::current().unwrap());
    let pod = Current {
        up: true,
        ..as_it_was(&origin)
    };
    assert_eq!(
        plan_home(&pod, Some(&ns), &origin, &origin.name, MacBy::Message).up,
        None
    );
}

#[test]
fn a_refused_mac_costs_one_reset_and_then_the_admin_state_returns() {
    let origin = origin(false);
    let wrong = Current {
        mac: "02:00:00:00:00:66".parse().ok(),
        ..as_it_was(&origin)
    };
    let reset = plan_home(&wrong, None, &origin, &origin.name, MacBy::Reset);
    assert_eq!((reset.mac, reset.up), (None, Some(true)));
    let taken = Current {
        up: true,
        ..as_it_was(&origin)
    };
    let settled = plan_home(&taken, None, &origin, &origin.name, MacBy::Nobody);
    assert_eq!((settled.mac, settled.up), (None, Some(false)));
    // Also where the driver never took the address: it must not stay up for that.
    let kept = Current { up: true, ..wrong };
    let settled = plan_home(&kept, None, &origin, &origin.name, MacBy::Nobody);
    assert_eq!((settled.mac, settled.up), (None, Some(false)));
}

/// As kernels before 6.2 have it.
#[test]
fn a_device_that_may_not_be_renamed_while_it_is_up_goes_down_for_it() {
    for up in [false, true] {
        let origin = origin(up);
        let home = Current {
            name: "net1".to_owned(),
            up: true,
            ..as_it_was(&origin)
        };
        let change = plan_home(&home, None, &origin, &origin.name, MacBy::Message);
        let [down, again] = by_way_of_down(&change);
        assert_eq!((down.name, down.up), (None, Some(false)));
        assert_eq!((again.name, again.up), (Some(&origin.name), Some(up)));

        // How many requests are sent at a time to a kernel that refuses the first with `errno`.
        let sent = |errno: Errno, is_up: bool| {
            let mut sent = Vec::new();
            let told = change_in_place(
                &change,
                "rename".to_owned(),
                || is_up,
                |requests| {
                    sent.push(requests.len());
                    match sent.len() {
                        1 => Err(RtnlError::Refused {
                            what: requests[0].what.clone(),
                            errno,
                            reason: None,
                        }),
                        _ => Ok(()),
                    }
                },
            );
            (told.map_err(|error| error.errno()), sent)
        };
        assert_eq!(sent(Errno::EBUSY, true), (Ok(()), vec![1, 2]));
        // What else is busy is no matter of the state.
        let busy = (Err(Some(Errno::EBUSY)), vec![1]);
        assert_eq!(sent(Errno::EBUSY, false), busy);
        let taken = (Err(Some(Errno::EEXIST)), vec![1]);
        assert_eq!(sent(Errno::EEXIST, true), taken);
    }
}

/// Its first free one, and the one that the VF has already.
#[test]
fn a_fallback_name_is_a_free_one_and_stays() {
    let home = Rtnl::open().unwrap();
    let first = fallback_name(&home, None).unwrap();
    assert!(first.as_str().starts_with(FALLBACK), "{first}");
    assert!(ioctl::index(&home, &first).is_err());
    let has = |name: &str| fallback_name(&home, Some(name)).unwrap();
    assert_eq!(has("xvf77").as_str(), "xvf77");
    assert_eq!(has("net1"), first);
}

/// A change of `mac_by` that was sent to a VF at home.
fn sent(mac_by: MacBy) -> Sent {
    Sent {
        in_pod: false,
        had_mac: false,
        tells_mac: mac_by == MacBy::Message,
        mac_by,
    }
}

#[test]
fn what_was_accepted_in_the_pod_is_looked_at_again_at_home() {
    for mac_by in [MacBy::Message, MacBy::Reset, MacBy::Nobody] {
        let in_pod = Sent {
            in_pod: true,
            ..sent(mac_by)
        };
        assert_eq!(next(in_pod, Ok(())), Next::Again(mac_by));
    }
    assert_eq!(next(sent(MacBy::Message), Ok(())), Next::Done);
}

#[test]
fn a_mac_is_told_then_brought_by_a_reset_then_left() {
    let no = |errno| Err(Some(errno));
    for errno in [Errno::EADDRNOTAVAIL, Errno::EPERM, Errno::EBUSY] {
        let by_reset = match errno {
            Errno::EADDRNOTAVAIL => Next::Again(MacBy::Reset),
            _ => Next::LookForMac,
        };
        assert_eq!(next(sent(MacBy::Message), no(errno)), by_reset);
        let by_nobody = Next::Again(MacBy::Nobody);
        assert_eq!(next(sent(MacBy::Reset), no(errno)), by_nobody);
        assert_eq!(next(sent(MacBy::Nobody), no(errno)), Next::Fail);
    }
    assert_eq!(next(sent(MacBy::Reset), Ok(())), Next::Again(MacBy::Nobody));
    assert_eq!(next(sent(MacBy::Nobody), Ok(())), Next::KeepsMac);
    let had_mac = Sent {
        had_mac: true,
        ..sent(MacBy::Nobody)
    };
    assert_eq!(next(had_mac, Ok(())), Next::Done);
    let untold = Sent {
        tells_mac: false,
        ..sent(MacBy::Message)
    };
    assert_eq!(next(untold, no(Errno::EPERM)), Next::Fail);
    // The socket failed: no errno.
    assert_eq!(next(untold, Err(None)), Next::Fail);
}

#[test]
fn a_name_that_is_taken_is_given_up_whatever_else_is_tried() {
    for mac_by in [MacBy::Message, MacBy::Reset, MacBy::Nobody] {
        let taken = Err(Some(Errno::EEXIST));
        assert_eq!(next(sent(mac_by), taken), Next::Rename);
    }
}
