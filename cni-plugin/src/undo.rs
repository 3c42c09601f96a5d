//! Undoing an attachment, from its journal: the one way back for DEL, for an ADD that
//! failed, and for what a killed process left.
//!
//! What stands in the way of the VF's next owner goes first: the VF's settings and place, its port,
//! and the claim on it. The addresses come last, unless their IPAM works on the VF in the pod; once VF
//! and port are nobody's, without the VF's lock, where that is the undo's ([`Held::until_free`]).
//! Each step is safe to undo again, and to undo when it never happened.
//! Failures don't stop the rest.

use std::time::Instant;

use crate::{
    Call, deviceinfo,
    error::{Error, chain},
    journal::{Entry, Journal, Step},
    life::is_this_boot,
    lock::Lock,
    sandbox::Sandbox,
};

mod addresses;
mod port;
mod vf;
mod why;

pub use addresses::release_or_forget;
pub use port::delete_port_at;
pub use why::Why;

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

    /// Tells in the log what couldn't be undone, where that fails nobody.
    pub fn warn(&self, call: &Call<'_>) {
        for failure in &self.failures {
            call.log.warn(chain(failure));
        }
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

/// An attachment to undo, whose VF is locked.
#[derive(Debug)]
pub struct Held {
    /// Its record.
    entry: Entry,
    /// The VF's lock, if it is for the undo to let go of.
    vf: Option<Lock>,
}

impl Held {
    /// By a caller that goes on with the VF.
    #[must_use]
    pub const fn throughout(entry: Entry) -> Self {
        Self { entry, vf: None }
    }

    /// By a caller to whom the VF is nothing once it is free. Its next owner then doesn't wait for an
    /// IPAM plugin that releases the addresses of this one.
    ///
    /// Only for who holds the attachment's lock: with neither, the record that is forgotten in the
    /// end might be that of a later attempt.
    #[must_use]
    pub const fn until_free(entry: Entry, vf: Lock) -> Self {
        Self {
            entry,
            vf: Some(vf),
        }
    }

    /// The record.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }
}

/// Undoes an attachment. `pod` is its namespace, where that still exists.
pub fn undo(
    call: &Call<'_>,
    journal: &Journal,
    held: Held,
    pod: Option<&mut Sandbox>,
    why: Why,
) -> Undone {
    let same_boot = match is_this_boot(call.host, &held.entry) {
        Ok(same_boot) => same_boot,
        Err(error) => {
            // Nobody knows whether what the record tells of is still there: all of it is kept.
            let mut undone = Undone::default();
            undone.fail("boot", error);
            return undone;
        }
    };
    let mut undoing = Undoing::new(call, journal, held, why, same_boot);
    undoing.mark();
    undoing.release_interface_ipam();
    undoing.bring_vf_home(pod);
    undoing.remove_device_info();
    undoing.delete_port();
    undoing.release_claim();
    undoing.let_vf_go();
    undoing.release_ipam();
    undoing.forget_record();
    undoing.undone
}

/// What others left of an attachment.
#[derive(Debug)]
pub struct Left {
    /// Its record, and its VF.
    pub held: Held,
    /// Its pod's namespace, where that still exists.
    pub pod: Option<Sandbox>,
}

impl Left {
    /// What a record tells of.
    #[must_use]
    pub fn of(held: Held) -> Self {
        let pod = Sandbox::open_kept(&held.entry.record.netns);
        Self { held, pod }
    }
}

/// Undoes what others left of an attachment. What couldn't be undone says whose it is.
pub fn undo_left(call: &Call<'_>, journal: &Journal, left: Left, why: Why) -> Undone {
    let Left { held, mut pod } = left;
    let name = held.entry.record.attachment().to_string();
    let mut undone = undo(call, journal, held, pod.as_mut(), why);
    let failures = undone.failures.into_iter();
    undone.failures = failures.map(|error| error.left_of(name.clone())).collect();
    undone
}

/// An undo at work, in the order of [`undo`].
struct Undoing<'a> {
    call: &'a Call<'a>,
    journal: &'a Journal,
    entry: Entry,
    /// The VF's lock, until it is let go.
    vf: Option<Lock>,
    why: Why,
    deadline: Instant,
    /// Whether the record is of the running kernel.
    same_boot: bool,
    /// Whether the VF is still this attachment's. One that belongs to somebody else by now, or to
    /// an earlier boot's kernel, is not ours to touch.
    ours: bool,
    /// Whether the port may still be there: its tombstone is in the way of the VF's next owner, who
    /// can have it deleted only with this attachment's lock.
    leaves_port: bool,
    /// Whether addresses are left on purpose, for which the record is kept.
    leaves_addresses: bool,
    undone: Undone,
}

impl<'a> Undoing<'a> {
    fn new(
        call: &'a Call<'a>,
        journal: &'a Journal,
        Held { mut entry, vf }: Held,
        why: Why,
        same_boot: bool,
    ) -> Self {
        if !same_boot {
            // Step lines aren't synced, so a power cut may have taken the last ones.
            entry.assume_all();
        }
        Self {
            call,
            journal,
            vf,
            why,
            deadline: why.deadline(call.deadline, Instant::now()),
            same_boot,
            ours: journal.holds_vf(&entry),
            leaves_port: false,
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

    fn remove_device_info(&mut self) {
        let record = &self.entry.record;
        // A record that is kept for its addresses is undone again and again. Meanwhile the VF's next
        // pod may have been given the path as well.
        let is_anothers = || {
            let owner = self.journal.owner(&record.vf.pci);
            owner.is_some_and(|owner| owner != *self.entry.key())
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

    /// Lets the VF go, unless something of this attachment's is in its next owner's way.
    fn let_vf_go(&mut self) {
        if !self.ours || (self.undone.frees_vf && !self.leaves_port) {
            self.vf = None;
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
