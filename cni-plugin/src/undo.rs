//! Undoing an attachment, from its journal: the one way back for DEL, for an ADD that
//! failed, and for what a killed process left.
//!
//! What stands in the way of the VF's next owner goes first, the VF and its port, and with them
//! the claim on the VF; then the addresses, unless their IPAM works on the VF in the pod. Each
//! step is safe to undo again, and to undo when it never happened. Failures don't stop the rest.

use std::time::{Duration, Instant};

use xpu_linux::{netns::NetNs, sync::Rtnl, sysfs::SysfsError};

use crate::{
    Call,
    agent::{AgentError, Peer},
    device::{self, WasInPod},
    deviceinfo,
    drain::{self, DELETE_PORTS_LIMIT},
    error::{Error, chain},
    host::Host,
    ipam::{self, Delegate, IpamError},
    journal::{Entry, Ipam, Journal, JournalError, Record, Step, Subject, Tombstone},
    lock::lock,
    pf,
    sandbox::Sandbox,
};

/// What came of it.
#[derive(Debug, Default)]
pub struct Undone {
    /// What couldn't be undone. The journal keeps the record then.
    pub failures: Vec<Error>,
    /// The VF will come home by itself, but hasn't yet. Kept in the journal as well.
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
        self.failures.push(Error::Left {
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

/// The time that an agent may take which perhaps is the record's, at another address.
const OTHER_AGENT_LIMIT: Duration = Duration::from_secs(1);

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
            // Whether there still is what the record tells of isn't known: all of it is kept.
            let mut undone = Undone::default();
            undone.fail("boot", error);
            return undone;
        }
    };
    let mut undoing = Undoing::new(call, journal, entry, extent, same_boot);
    undoing.early_ipam();
    undoing.device(pod);
    undoing.device_info();
    undoing.port();
    undoing.claim();
    undoing.late_ipam();
    undoing.forget();
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
    /// Whether the VF is still this attachment's. One that belongs to somebody else by now, or to an
    /// earlier boot's kernel, is not ours to touch.
    ours: bool,
    /// Whether something is left on purpose.
    spares: bool,
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
            ours: journal.owns(&entry),
            spares: false,
            undone: Undone {
                frees_vf: true,
                ..Undone::default()
            },
            entry,
        }
    }

    /// Asks an IPAM that works on the VF in the pod.
    fn early_ipam(&mut self) {
        let ipam = self.ipam().filter(|ipam| ipam::needs_interface(&ipam.name));
        let Some(ipam) = ipam else { return };
        let now = Instant::now();
        // It may hang; the VF needs some of the time.
        let mut until = now + self.deadline.saturating_duration_since(now) / 2;
        if self.extent == Extent::ForNextOwner {
            until = until.min(now + NEXT_OWNERS_IPAM_LIMIT);
        }
        self.release(&ipam, until);
    }

    /// Asks any other IPAM.
    fn late_ipam(&mut self) {
        let ipam = self.ipam();
        let Some(ipam) = ipam.filter(|ipam| !ipam::needs_interface(&ipam.name)) else {
            return;
        };
        if self.extent == Extent::ForNextOwner {
            self.spares = true;
        } else {
            self.release(&ipam, self.deadline);
        }
    }

    fn ipam(&self) -> Option<Ipam> {
        let ipam = self.entry.record.ipam.clone();
        ipam.filter(|_| self.entry.has_begun(Step::Ipam))
    }

    fn release(&mut self, ipam: &Ipam, deadline: Instant) {
        let Self {
            call,
            journal,
            entry,
            extent,
            ..
        } = self;
        let heeds_backoff = call.in_passing || *extent == Extent::ForNextOwner;
        if let Err(error) = undo_ipam(call, journal, entry, ipam, heeds_backoff, deadline) {
            self.undone.fail("IPAM", error);
        }
    }

    fn device(&mut self, pod: Option<&mut Sandbox>) {
        if !self.same_boot || !self.ours {
            return;
        }
        match undo_device(self.call, self.journal, &self.entry, pod, self.deadline) {
            Ok(()) => return,
            Err(Error::Busy(why)) => {
                self.call.log.warn(why);
                self.undone.awaited = true;
            }
            Err(error) => self.undone.fail("VF", error),
        }
        self.undone.frees_vf = false;
    }

    fn device_info(&mut self) {
        if self.entry.has_begun(Step::DeviceInfo)
            && let Some(path) = &self.entry.record.device_info
        {
            (self.call.host.checkpoint)("undo: device-info");
            if let Err(error) = deviceinfo::remove(path) {
                self.undone.fail("device info", error);
            }
        }
    }

    fn port(&mut self) {
        if !self.entry.has_begun(Step::Port) {
            return;
        }
        (self.call.host.checkpoint)("undo: port");
        let Self { call, journal, .. } = self;
        let left = if self.extent == Extent::WithoutAgent {
            drain::note_hung_agent(call, journal, &self.entry.record.agent);
            journal.add_tombstone(&Tombstone::of(&self.entry.record))
        } else {
            undo_port(call, journal, &self.entry, self.deadline)
        };
        if let Err(error) = left {
            self.undone.fail("port", error);
            self.undone.frees_vf = false;
        }
    }

    /// Gives the VF free. An IPAM that fails, for hours or for ever, keeps its addresses and this
    /// record, but no VF.
    fn claim(&mut self) {
        if !self.undone.frees_vf || !self.ours {
            return;
        }
        (self.call.host.checkpoint)("undo: claim");
        if let Err(error) = self.journal.release(&self.entry) {
            self.undone.fail("journal", error);
            self.undone.frees_vf = false;
        }
    }

    fn forget(&mut self) {
        if self.spares || !self.undone.is_clean() {
            return;
        }
        (self.call.host.checkpoint)("undo: forget");
        if let Err(error) = self.journal.forget(&self.entry) {
            self.undone.fail("journal", error);
        }
    }
}

/// Whether a record is of the running kernel.
///
/// # Errors
/// [`Error::BootId`]: a boot that can't be told is not another one, which would condemn every record.
pub fn is_this_boot(host: &Host, entry: &Entry) -> Result<bool, Error> {
    let boot_id = host.boot_id().map_err(Error::BootId)?;
    Ok(boot_id == entry.record.boot_id)
}

fn undo_device(
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
        call.host.sysfs.netdevs(&vf.pci()),
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
        device::await_return(call.host, &mut home, &vf.pci())?;
    }
    let _turn = lock(&journal.admission_lock(), deadline)?;
    // Before the move: a VF that comes up at home takes the MAC of this moment.
    let restored = undo_pf(call, entry, &mut home);
    if let Some(netdev) = moved {
        let stripped = if stays {
            (call.host.checkpoint)("undo: strip");
            let name = &entry.record.ifname;
            device::strip(call.host, &mut home, &vf.pci(), netdev, name)
        } else {
            Ok(())
        };
        let was_in_pod = match &pod {
            _ if stays => WasInPod::No,
            Some(_) if !entry.has_ended(Step::Move) => WasInPod::Maybe,
            // The kernel brought it home from there.
            _ => WasInPod::Yes,
        };
        let sent = stripped.and_then(|()| {
            device::send_home(call.host, &mut home, pod, &vf.pci(), netdev, was_in_pod)
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
fn undo_pf(call: &Call<'_>, entry: &Entry, home: &mut Rtnl) -> Result<(), Error> {
    let vf = &entry.record.vf;
    let Some(side) = vf.pf.as_ref().filter(|_| entry.has_begun(Step::Pf)) else {
        return Ok(());
    };
    (call.host.checkpoint)("undo: pf");
    match pf::restore(call.host, home, &vf.pci(), side) {
        Err(left) if left.is_final => {
            call.log.warn(chain(&left.error));
            Ok(())
        }
        restored => restored.map_err(|left| left.error),
    }
}

fn undo_ipam(
    call: &Call<'_>,
    journal: &Journal,
    entry: &Entry,
    ipam: &Ipam,
    heeds_backoff: bool,
    deadline: Instant,
) -> Result<(), Error> {
    (call.host.checkpoint)("undo: ipam");
    let subject = Subject::Ipam(&ipam.name);
    if heeds_backoff && journal.is_left_alone(subject) {
        let told = format!(
            "{} hung not long ago and is left alone for a while",
            ipam.name
        );
        return Err(Error::Busy(told));
    }
    // This call's runtime may know other folders than ADD's, and the sweep is for all of them.
    let here = call.vars.path.as_deref().unwrap_or_default();
    let path = match (&ipam.path, ipam::find(&ipam.name, here)) {
        (Some(kept), Err(_)) => kept,
        _ => here,
    };
    let config = ipam.config.to_string();
    let attachment = entry.record.attachment();
    let release = Delegate {
        path,
        args: ipam.args.as_deref(),
        config: config.as_bytes(),
        deadline,
        ..call.delegate(&ipam.name, "DEL", Some(&attachment))
    };
    let released = release_or_forget(call, &release);
    let noted = match &released {
        // What works for a pod that is there may hang for one that is gone.
        Ok(()) if call.in_passing => journal.clear_failures(subject),
        Err(Error::Ipam(IpamError::Deadline { .. })) => journal.note_failure(subject),
        _ => Ok(()),
    };
    if let Err(error) = noted {
        call.log.warn(chain(&error));
    }
    released
}

/// Releases addresses. To a runtime's DEL, a plugin that isn't installed any more has none to give
/// back.
///
/// # Errors
/// [`Error::Ipam`].
pub fn release_or_forget(call: &Call<'_>, release: &Delegate<'_>) -> Result<(), Error> {
    match ipam::release(release) {
        Err(error @ IpamError::NotFound { .. }) if call.may_forget_ipam => {
            call.log.warn(chain(&error));
            Ok(())
        }
        released => Ok(released?),
    }
}

fn undo_port(
    call: &Call<'_>,
    journal: &Journal,
    entry: &Entry,
    deadline: Instant,
) -> Result<(), JournalError> {
    let record = &entry.record;
    if call.in_passing && journal.is_left_alone(Subject::Agent(&record.agent)) {
        return journal.add_tombstone(&Tombstone::of(record));
    }
    let start = Instant::now();
    let deadline = deadline.min(start + DELETE_PORTS_LIMIT);
    let deleted = call
        .connect(&record.agent, record.peer(), deadline)
        .and_then(|mut agent| agent.delete(&record.port.id, deadline));
    if let Err(error) = deleted {
        // The agent will be back; this attachment won't. Whatever it said, the port is
        // not known to be gone, so it isn't forgotten.
        call.log.warn(format_args!(
            "port {} is left for later: {}",
            record.port.id,
            chain(&error)
        ));
        journal.add_tombstone(&Tombstone::of(record))?;
        if drain::hung(&error, start) {
            drain::note_hung_agent(call, journal, &record.agent);
        }
        undo_port_elsewhere(call, record);
    }
    Ok(())
}

/// Deletes a port at this call's agent, which may be the record's at another address. The record's
/// own is asked all the same, later.
fn undo_port_elsewhere(call: &Call<'_>, record: &Record) {
    let other = |peer: &&Peer| peer.addr().to_string() != record.agent;
    let Some(peer) = call.peer.as_ref().filter(other) else {
        return;
    };
    let deadline = Instant::now() + OTHER_AGENT_LIMIT;
    match delete_port(call, peer, &record.port.id, deadline) {
        Ok(()) => {}
        Err(error) => call.log.info(chain(&error)),
    }
}

/// Deletes a port by its id.
///
/// # Errors
/// [`AgentError`].
pub fn delete_port(
    call: &Call<'_>,
    agent: &Peer,
    id: &str,
    deadline: Instant,
) -> Result<(), AgentError> {
    call.connect_to(agent, deadline)?.delete(id, deadline)
}
