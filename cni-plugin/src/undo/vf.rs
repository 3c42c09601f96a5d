//! Undoing what was done to the VF: its PF's settings and its move.

use std::time::Instant;

use xpu_linux::{netns::NetNs, sync::Rtnl, sysfs::SysfsError};

use crate::{
    Call,
    device::{self, WasInPod},
    error::{Error, chain},
    journal::{Entry, Journal, Netdev, Record, Step},
    lock::lock,
    pf,
    sandbox::Sandbox,
};

/// Puts the PF's settings back and brings the VF home, as far as either was begun.
///
/// # Errors
/// [`Error::NotHome`] when the VF isn't back from a namespace that is gone; what else keeps the VF from its
/// next owner. Whatever can be done is done.
pub fn bring_home(
    call: &Call<'_>,
    journal: &Journal,
    entry: &Entry,
    pod: Option<&mut Sandbox>,
    deadline: Instant,
) -> Result<(), Error> {
    let vf = &entry.record.vf;
    if !entry.has_begun(Step::Pf) && !entry.has_begun(Step::Move) {
        return Ok(());
    }
    if matches!(
        call.host.sysfs.netdevs(&vf.pci),
        Err(SysfsError::NoDevice(_))
    ) {
        return Ok(()); // no device, no settings: nothing to bring home
    }
    let mut home = Rtnl::open()?;
    let pod = Pod::of(entry, pod);
    let moved = vf.netdev.as_ref().filter(|_| entry.has_begun(Step::Move));
    if moved.is_some() && matches!(pod, Pod::Gone) {
        // The kernel brings it home when it gets to it; nobody else waits for that.
        device::await_return(call.host, &mut home, &vf.pci)?;
    }
    let _turn = lock(&journal.turn_lock(), deadline)?;
    // Before the move: a VF that comes up at home takes the MAC of this moment.
    let restored = restore_pf(call, entry, &mut home);
    let sent = moved.map(|netdev| send_home(call, entry, &mut home, pod, netdev));
    match sent.transpose() {
        Ok(remarks) => {
            for remark in remarks.into_iter().flatten() {
                call.log.warn(remark);
            }
            restored
        }
        Err(error) => {
            // Both are kept for the next call; one is told.
            if let Err(setting) = restored {
                call.log.warn(chain(&setting));
            }
            Err(error)
        }
    }
}

/// A pod, to the undo of what was done to its VF.
enum Pod<'a> {
    /// It is the host: its VF never moved.
    Host,
    /// Its namespace is there.
    There(&'a mut Sandbox),
    /// Its namespace is gone.
    Gone,
}

impl<'a> Pod<'a> {
    fn of(entry: &Entry, opened: Option<&'a mut Sandbox>) -> Self {
        match opened {
            Some(pod) if pod.is_own() => Self::Host,
            Some(pod) => Self::There(pod),
            // Not everybody opens the host as a pod.
            None if NetNs::own_id().is_ok_and(|own| entry.record.netns.is(own)) => Self::Host,
            None => Self::Gone,
        }
    }
}

/// Brings home a VF whose move has begun. Gives remarks where something kept it from being what it
/// was.
fn send_home(
    call: &Call<'_>,
    entry: &Entry,
    home: &mut Rtnl,
    pod: Pod<'_>,
    netdev: &Netdev,
) -> Result<Vec<String>, Error> {
    let Record { vf, ifname, .. } = &entry.record;
    let was_in_pod = if entry.has_ended(Step::Move) {
        WasInPod::Yes
    } else {
        // A pod that is gone doesn't tell that it had it, either.
        WasInPod::Maybe
    };
    let (pod, was_in_pod) = match pod {
        Pod::Host => {
            call.host.checkpoint("undo: strip");
            device::strip(call.host, home, &vf.pci, netdev, ifname)?;
            (None, WasInPod::No)
        }
        Pod::There(pod) => (Some(pod), was_in_pod),
        Pod::Gone => (None, was_in_pod),
    };
    device::send_home(call.host, home, pod, &vf.pci, netdev, was_in_pod)
}

/// Puts the PF's settings back.
///
/// # Errors
/// What another try may mend. The VF's next owner must not have what this one was allowed, so it
/// waits for that. What the PF refuses now and ever is told, but in nobody's way.
fn restore_pf(call: &Call<'_>, entry: &Entry, home: &mut Rtnl) -> Result<(), Error> {
    let vf = &entry.record.vf;
    let Some(side) = vf.pf.as_ref().filter(|_| entry.has_begun(Step::Pf)) else {
        return Ok(());
    };
    call.host.checkpoint("undo: pf");
    match pf::restore(call.host, home, &vf.pci, side) {
        Err(left) if left.is_final => {
            call.log.warn(chain(&left.error));
            Ok(())
        }
        restored => restored.map_err(|left| left.error),
    }
}
