//! Changing a netdev where it is, whatever its driver and kernel refuse while it is up.

use nix::errno::Errno;
use xpu_linux::sync::{Request, RtnlError, link::Change};
use xpu_model::Mtu;

/// Changes a device that stays in its namespace, by `send`. Kernels before 6.2 don't rename one
/// that is up, and some drivers take no MAC then: if the answer is `EBUSY`, it goes down for the
/// change.
///
/// # Errors
/// The kernel's refusal; what stands before that in the message is changed.
pub fn change_in_place(
    change: &Change<'_>,
    what: String,
    is_up: impl FnOnce() -> bool,
    mut send: impl FnMut(&[Request]) -> Result<(), RtnlError>,
) -> Result<(), RtnlError> {
    let request = change.request(what);
    match send(std::slice::from_ref(&request)) {
        Err(error) if error.errno() == Some(Errno::EBUSY) && is_up() => {}
        sent => return sent,
    }
    let [down, again] = by_way_of_down(change);
    send(&[
        down.request(format!("take link {} down", change.index)),
        again.request(request.what),
    ])
}

/// The same change to a device that is up, in two steps.
pub fn by_way_of_down<'a>(change: &Change<'a>) -> [Change<'a>; 2] {
    let down = Change {
        up: Some(false),
        ..Change::of(change.index)
    };
    let up = change.up.or(Some(true));
    [down, Change { up, ..*change }]
}

/// Whether a refusal says that a device isn't there (any more).
pub fn is_gone(error: &RtnlError) -> bool {
    error.errno() == Some(Errno::ENODEV)
}

/// An MTU that differs by one.
pub fn other_mtu(mtu: Mtu) -> Mtu {
    let number = u32::from(mtu);
    Mtu::try_from(number - 1)
        .or_else(|_| Mtu::try_from(number + 1))
        .unwrap_or(mtu)
}
