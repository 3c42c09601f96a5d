//! Undoing what was done to the VF: its PF's settings and its move.

use std::time::Instant;

use xpu_linux::{netns::NetNs, sync::Rtnl, sysfs::SysfsError};

use crate::{
    Call,
    device::{self, WasInPod},
    error::{Error, chain},
    journal::{Entry, Journal, Step},
    lock::lock,
    pf,
    sandbox::Sandbox,
};

/// Puts the PF's settings back and brings the VF home, as far as either was begun.
///
/// # Errors
/// [`Error::Busy`] when the VF isn't back from a namespace that is gone; what else keeps the VF from its
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
    // A VF whose pod is the host is home already.
    let (stays, pod) = match pod {
        Some(pod) if pod.is_own() => (true, None),
        Some(pod) => (false, Some(pod)),
        // Nor does everybody open the host as a pod.
        None => {
            let own = NetNs::own_id();
            (own.is_ok_and(|own| entry.record.netns.is(own)), None)
        }
    };
    let moved = vf.netdev.as_ref().filter(|_| entry.has_begun(Step::Move));
    if moved.is_some() && pod.is_none() && !stays {
        // The kernel brings it home when it gets to it; nobody else waits for that.
        device::await_return(call.host, &mut home, &vf.pci)?;
    }
    let _turn = lock(&journal.turn_lock(), deadline)?;
    // Before the move: a VF that comes up at home takes the MAC of this moment.
    let restored = restore_pf(call, entry, &mut home);
    if let Some(netdev) = moved {
        let stripped = if stays {
            call.host.checkpoint("undo: strip");
            let name = &entry.record.ifname;
            device::strip(call.host, &mut home, &vf.pci, netdev, name)
        } else {
            Ok(())
        };
        let was_in_pod = match entry.has_ended(Step::Move) {
            _ if stays => WasInPod::No,
            true => WasInPod::Yes,
            // A pod that is gone doesn't tell that it had it, either.
            false => WasInPod::Maybe,
        };
        let sent = stripped.and_then(|()| {
            device::send_home(call.host, &mut home, pod, &vf.pci, netdev, was_in_pod)
        });
        match sent {
            Ok(remarks) => {
                for remark in remarks {
                    call.log.warn(remark);
                }
            }
            Err(error) => {
                // Both are kept for the next call; one is told.
                if let Err(setting) = restored {
                    call.log.warn(chain(&setting));
                }
                return Err(error);
            }
        }
    }
    restored
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
