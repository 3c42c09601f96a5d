//! Undoing what an IPAM plugin gave.

use std::time::Instant;

use super::{Undoing, Why};
use crate::{
    Call,
    error::{Error, chain},
    ipam::{self, Delegate, IpamError},
    journal::{Ipam, Step, Subject},
};

impl Undoing<'_> {
    /// Has an IPAM that works on the VF in the pod release the addresses, while the VF is there.
    pub(super) fn release_interface_ipam(&mut self) {
        let ipam = self.ipam().filter(|ipam| ipam::needs_interface(&ipam.name));
        let Some(ipam) = ipam else { return };
        let now = Instant::now();
        let until = self.why.interface_ipam_deadline(self.deadline, now);
        self.ask_to_release(&ipam, until);
    }

    /// Has any other IPAM release the addresses.
    pub(super) fn release_ipam(&mut self) {
        let ipam = self.ipam();
        let Some(ipam) = ipam.filter(|ipam| !ipam::needs_interface(&ipam.name)) else {
            return;
        };
        if self.why.releases_addresses() {
            self.ask_to_release(&ipam, self.deadline);
        } else {
            self.leaves_addresses = true;
        }
    }

    fn ipam(&self) -> Option<Ipam> {
        let ipam = self.entry.record.ipam.clone();
        ipam.filter(|_| self.entry.has_begun(Step::Ipam))
    }

    fn ask_to_release(&mut self, ipam: &Ipam, deadline: Instant) {
        if let Err(error) = self.release(ipam, deadline) {
            self.undone.fail("IPAM", error);
        }
    }

    /// Has the record's IPAM plugin release its addresses.
    ///
    /// # Errors
    /// [`Error::Busy`] for one that is left alone; [`Error::Ipam`] with what the plugin answered.
    fn release(&self, ipam: &Ipam, deadline: Instant) -> Result<(), Error> {
        let Self { call, journal, .. } = self;
        call.host.checkpoint("undo: ipam");
        let subject = Subject::Ipam(&ipam.name);
        if self.why.heeds_backoff_of_ipam() && journal.is_left_alone(subject) {
            return Err(Error::Busy(format!(
                "the IPAM plugin {} hung not long ago and is left alone for a while; the sweep asks \
                 it again",
                ipam.name
            )));
        }
        // This call's runtime may know other folders than ADD's, and the sweep is for all of them.
        let here = call.vars.path.as_deref().unwrap_or_default();
        let path = match (&ipam.path, ipam::find(&ipam.name, here)) {
            (Some(kept), Err(_)) => kept,
            _ => here,
        };
        let config = ipam.config.to_string();
        let attachment = self.entry.record.attachment();
        // Nothing of the caller's own pod: it may be another.
        let release = Delegate {
            path,
            args: ipam.args.as_deref(),
            config: config.as_bytes(),
            deadline,
            ..call.delegate(&ipam.name, "DEL", Some(&attachment))
        };
        let released = release_or_forget(call, self.why, &release);
        let noted = match &released {
            Ok(()) if self.why.clears_backoff_of_ipam() => journal.clear_failures(subject),
            Err(Error::Ipam(IpamError::Deadline { .. })) => journal.note_failure(subject),
            _ => Ok(()),
        };
        if let Err(error) = noted {
            call.log.warn(chain(&error));
        }
        released
    }
}

/// Releases addresses. Where [that may be](Why::forgets_missing_ipam), a plugin that isn't installed
/// any more has none to give back.
///
/// # Errors
/// [`Error::Ipam`] with what the plugin answered; the addresses may be held still.
pub fn release_or_forget(call: &Call<'_>, why: Why, release: &Delegate<'_>) -> Result<(), Error> {
    match ipam::release(release) {
        Err(error @ IpamError::NotFound { .. }) if why.forgets_missing_ipam() => {
            call.log.warn(chain(&error));
            Ok(())
        }
        released => Ok(released?),
    }
}
