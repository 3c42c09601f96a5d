//! Undoing an attachment, from its journal: the one way back for DEL, for an ADD that
//! failed, and for what a killed process left.
//!
//! What stands in the way of the VF's next owner goes first: the VF's settings and place, its port,
//! and the claim on it. The addresses come last, unless their IPAM works on the VF in the pod. Each
//! step is safe to undo again, and to undo when it never happened. Failures don't stop the rest.

use std::time::{Duration, Instant};

use xpu_linux::sync::RtnlError;

use crate::{
    Call, Purpose, deviceinfo, drain,
    error::{Error, chain},
    ipam,
    journal::{Entry, Ipam, Journal, Step, Tombstone},
    life::is_this_boot,
    sandbox::Sandbox,
};

mod addresses;
mod port;
mod vf;

pub use addresses::release_or_forget;
pub use port::delete_port_at;

/// What came of it.
#[derive(Debug, Default)]
pub struct Undone {
    /// What couldn't be undone. The journal keeps the record then.
    pub failures: Vec<Error>,
    /// The VF will come home by itself, but hasn't yet. The journal keeps the record then, too.
    pub awaited: bool,
    /// Whether the VF is free for its next owner, whatever else is left.
    pub frees_vf: bool,
}

impl Undone {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty() && !self.awaited
    }

    /// Adds what couldn't be undone.
    pub fn fail(&mut self, part: &'static str, cause: impl Into<Error>) {
        self.failures.push(Error::NotUndone {
            part,
            owner: None,
            cause: Box::new(cause.into()),
        });
    }
}

/// How far a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Without the agent: it has just [hung](drain::hung), which has cost the call its time. The
    /// port is left for later at once.
    WithoutAgent,
    /// As far as the VF's next owner needs it. The addresses are for their own DEL, for GC and for
    /// the sweep, since an IPAM that hangs for a pod that is gone must not cost another pod its
    /// start.
    ForNextOwner,
}

/// The time that an IPAM which must be asked before the VF moves may cost the VF's next owner.
const NEXT_OWNERS_IPAM_LIMIT: Duration = Duration::from_secs(1);

/// Undoes an attachment. The caller holds its VF's lock. `pod` is its namespace,
/// where that still exists.
pub fn undo(
    call: &Call<'_>,
    journal: &Journal,
    entry: Entry,
    pod: Option<&mut Sandbox>,
    extent: Extent,
) -> Undone {
    let same_boot = match is_this_boot(call.host, &entry) {
        Ok(same_boot) => same_boot,
        Err(error) => {
            // Nobody knows whether what the record tells of is still there: all of it is kept.
            let mut undone = Undone::default();
            undone.fail("boot", error);
            return undone;
        }
    };
    let mut undoing = Undoing::new(call, journal, entry, extent, same_boot);
    undoing.mark();
    undoing.release_interface_ipam();
    undoing.bring_vf_home(pod);
    undoing.remove_device_info();
    undoing.delete_port();
    undoing.release_claim();
    undoing.release_ipam();
    undoing.forget_record();
    undoing.undone
}

/// An undo at work, in the order of [`undo`].
struct Undoing<'a> {
    call: &'a Call<'a>,
    journal: &'a Journal,
    entry: Entry,
    extent: Extent,
    deadline: Instant,
    /// Whether the record is of the running kernel.
    same_boot: bool,
    /// Whether the VF is still this attachment's. One that belongs to somebody else by now, or to
    /// an earlier boot's kernel, is not ours to touch.
    ours: bool,
    /// Whether addresses are left on purpose, for which the record is kept.
    leaves_addresses: bool,
    undone: Undone,
}

impl<'a> Undoing<'a> {
    fn new(
        call: &'a Call<'a>,
        journal: &'a Journal,
        mut entry: Entry,
        extent: Extent,
        same_boot: bool,
    ) -> Self {
        if !same_boot {
            // Step lines aren't synced, so a power cut may have taken the last ones.
            entry.assume_all();
        }
        Self {
            call,
            journal,
            extent,
            deadline: call.deadline.max(Instant::now() + call.grace),
            same_boot,
            ours: journal.holds_vf(&entry),
            leaves_addresses: false,
            undone: Undone {
                frees_vf: true,
                ..Undone::default()
            },
            entry,
        }
    }

    /// Notes that the attachment is dead. If the record is kept, nothing else tells it from a living
    /// one's for as long as its pod's namespace is there: nobody would finish it, no other
    /// attachment get the VF, and its port be missed.
    ///
    /// Before anything is undone, so that it also tells of a call that is killed.
    fn mark(&mut self) {
        if self.entry.has_begun(Step::Detaching) {
            return;
        }
        self.call.host.checkpoint("undo: mark");
        if let Err(error) = self.entry.begin(Step::Detaching) {
            // On a full disk a pod must be able to end all the same.
            self.call.log.warn(chain(&error));
        }
    }

    /// Has an IPAM that works on the VF in the pod release the addresses, while the VF is there.
    fn release_interface_ipam(&mut self) {
        let ipam = self.ipam().filter(|ipam| ipam::needs_interface(&ipam.name));
        let Some(ipam) = ipam else { return };
        let now = Instant::now();
        // It may hang, and bringing the VF home needs some of the time.
        let mut until = now + self.deadline.saturating_duration_since(now) / 2;
        if self.extent == Extent::ForNextOwner {
            until = until.min(now + NEXT_OWNERS_IPAM_LIMIT);
        }
        self.ask_to_release(&ipam, until);
    }

    /// Has any other IPAM release the addresses.
    fn release_ipam(&mut self) {
        let ipam = self.ipam();
        let Some(ipam) = ipam.filter(|ipam| !ipam::needs_interface(&ipam.name)) else {
            return;
        };
        if self.extent == Extent::ForNextOwner {
            self.leaves_addresses = true;
        } else {
            self.ask_to_release(&ipam, self.deadline);
        }
    }

    fn ipam(&self) -> Option<Ipam> {
        let ipam = self.entry.record.ipam.clone();
        ipam.filter(|_| self.entry.has_begun(Step::Ipam))
    }

    fn ask_to_release(&mut self, ipam: &Ipam, deadline: Instant) {
        let Self {
            call,
            journal,
            entry,
            extent,
            ..
        } = self;
        let heeds_backoff = call.purpose == Purpose::InPassing || *extent == Extent::ForNextOwner;
        if let Err(error) = addresses::release(call, journal, entry, ipam, heeds_backoff, deadline)
        {
            self.undone.fail("IPAM", error);
        }
    }

    fn bring_vf_home(&mut self, pod: Option<&mut Sandbox>) {
        if !self.same_boot || !self.ours {
            return;
        }
        match vf::bring_home(self.call, self.journal, &self.entry, pod, self.deadline) {
            Ok(()) => return,
            Err(error) if is_awaited(&error) => {
                self.call.log.warn(chain(&error));
                self.undone.awaited = true;
            }
            Err(error) => self.undone.fail("VF", error),
        }
        self.undone.frees_vf = false;
    }

    fn remove_device_info(&mut self) {
        let record = &self.entry.record;
        // A record that is kept for its addresses is undone again and again. Meanwhile the VF's next
        // pod may have been given the path as well.
        let is_anothers = || {
            let owner = self.journal.owner(&record.vf.pci);
            owner.is_some_and(|owner| owner != record.key())
        };
        if self.entry.has_begun(Step::DeviceInfo)
            && let Some(path) = &record.device_info
            && !is_anothers()
        {
            self.call.host.checkpoint("undo: device-info");
            if let Err(error) = deviceinfo::remove(path, &record.vf.pci) {
                self.undone.fail("device info", error);
            }
        }
    }

    fn delete_port(&mut self) {
        if !self.entry.has_begun(Step::Port) {
            return;
        }
        self.call.host.checkpoint("undo: port");
        let Self { call, journal, .. } = self;
        let deleted = if self.extent == Extent::WithoutAgent {
            drain::note_hung_agent(call, journal, &self.entry.record.agent);
            journal.add_tombstone(&Tombstone::of(&self.entry.record))
        } else {
            port::delete_or_keep(call, journal, &self.entry, self.deadline)
        };
        if let Err(error) = deleted {
            self.undone.fail("port", error);
            self.undone.frees_vf = false;
        }
    }

    /// Releases the claim on the VF. A failing IPAM plugin keeps the record, but never blocks the
    /// VF.
    fn release_claim(&mut self) {
        if !self.undone.frees_vf || !self.ours {
            return;
        }
        self.call.host.checkpoint("undo: claim");
        if let Err(error) = self.journal.release(&self.entry) {
            self.undone.fail("journal", error);
            self.undone.frees_vf = false;
        }
    }

    fn forget_record(&mut self) {
        if self.leaves_addresses || !self.undone.is_clean() {
            return;
        }
        self.call.host.checkpoint("undo: forget");
        if let Err(error) = self.journal.forget(&self.entry) {
            self.undone.fail("journal", error);
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
