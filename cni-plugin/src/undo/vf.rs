//! Undoing what was done to the VF: its PF's settings and its move.

use xpu_linux::{
    netns::NetNs,
    sync::{Rtnl, RtnlError},
    sysfs::SysfsError,
};

use super::Undoing;
use crate::{
    device::{self, WasInPod},
    error::{Error, chain},
    journal::{Entry, Netdev, Record, Step},
    lock::lock,
    pf,
    sandbox::Sandbox,
};

impl Undoing<'_> {
    /// Has the VF home and as it was, if it is still this attachment's.
    pub(super) fn bring_vf_home(&mut self, pod: Option<&mut Sandbox>) {
        if !self.same_boot || !self.ours {
            return;
        }
        match self.bring_home(pod) {
            Ok(()) => return,
            Err(error) if is_awaited(&error) => {
                self.call.log.warn(chain(&error));
                self.undone.awaited = true;
            }
            Err(error) => self.undone.fail("VF", error),
        }
        self.undone.frees_vf = false;
    }

    /// Puts the PF's settings back and brings the VF home, as far as either was begun.
    ///
    /// # Errors
    /// [`Error::NotHome`] when the VF isn't back from a namespace that is gone; what else keeps the
    /// VF from its next owner. Whatever can be done is done.
    fn bring_home(&self, pod: Option<&mut Sandbox>) -> Result<(), Error> {
        let Self { call, entry, .. } = self;
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
        let _turn = lock(&self.journal.turn_lock(), self.deadline)?;
        // Before the move: a VF that comes up at home takes the MAC of this moment.
        let restored = self.restore_pf(&mut home);
        let sent = moved.map(|netdev| self.send_home(&mut home, pod, netdev));
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

    /// Brings home a VF whose move has begun. Gives remarks where something kept it from being what
    /// it was.
    fn send_home(
        &self,
        home: &mut Rtnl,
        pod: Pod<'_>,
        netdev: &Netdev,
    ) -> Result<Vec<String>, Error> {
        let host = self.call.host;
        let Record { vf, ifname, .. } = &self.entry.record;
        let was_in_pod = if self.entry.has_ended(Step::Move) {
            WasInPod::Yes
        } else {
            // A pod that is gone doesn't tell that it had it, either.
            WasInPod::Maybe
        };
        let (pod, was_in_pod) = match pod {
            Pod::Host => {
                host.checkpoint("undo: strip");
                device::strip(host, home, &vf.pci, netdev, ifname)?;
                (None, WasInPod::No)
            }
            Pod::There(pod) => (Some(pod), was_in_pod),
            Pod::Gone => (None, was_in_pod),
        };
        device::send_home(host, home, pod, &vf.pci, netdev, was_in_pod)
    }

    /// Puts the PF's settings back.
    ///
    /// # Errors
    /// What another try may mend. The VF's next owner must not have what this one was allowed, so it
    /// waits for that. What the PF refuses now and ever is told, but in nobody's way.
    fn restore_pf(&self, home: &mut Rtnl) -> Result<(), Error> {
        let Self { call, entry, .. } = self;
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

/// Whether what keeps the VF is the pod's doing, or takes its time: the pod must be able to end. One
/// that makes and deletes links without end has the list of them differ at each look.
fn is_awaited(error: &Error) -> bool {
    matches!(
        error,
        Error::NotHome { .. } | Error::Rtnl(RtnlError::Unsteady { .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Away;

    #[test]
    fn a_pod_cannot_keep_itself_from_ending() {
        let what = "list the links".to_owned();
        assert!(is_awaited(&RtnlError::Unsteady { what }.into()));
        let pci = "0000:af:06.0".parse().unwrap();
        let why = Away::Elsewhere;
        assert!(is_awaited(&Error::NotHome { pci, why }));
        // Somebody else at work is no matter of the VF's return.
        assert!(!is_awaited(&Error::Busy(String::new())));
        let what = "list the links".to_owned();
        let source = std::io::Error::other("no memory");
        assert!(!is_awaited(&RtnlError::Transport { what, source }.into()));
    }
}
