//! Undoing what an IPAM plugin gave.

use std::time::Instant;

use crate::{
    Call, Purpose,
    error::{Error, chain},
    ipam::{self, Delegate, IpamError},
    journal::{Entry, Ipam, Journal, Subject},
};

/// Has a record's IPAM plugin release its addresses. With `heeds_backoff` one that hung not long
/// ago is left alone.
///
/// # Errors
/// [`Error::Busy`] for one that is left alone; [`Error::Ipam`] with what the plugin answered.
pub fn release(
    call: &Call<'_>,
    journal: &Journal,
    entry: &Entry,
    ipam: &Ipam,
    heeds_backoff: bool,
    deadline: Instant,
) -> Result<(), Error> {
    call.host.checkpoint("undo: ipam");
    let subject = Subject::Ipam(&ipam.name);
    if heeds_backoff && journal.is_left_alone(subject) {
        return Err(Error::Busy(format!(
            "{} hung not long ago and is left alone for a while",
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
        Ok(()) if call.purpose == Purpose::InPassing => journal.clear_failures(subject),
        Err(Error::Ipam(IpamError::Deadline { .. })) => journal.note_failure(subject),
        _ => Ok(()),
    };
    if let Err(error) = noted {
        call.log.warn(chain(&error));
    }
    released
}

/// Releases addresses. At a pod's end, a plugin that isn't installed any more has none to give back.
///
/// # Errors
/// [`Error::Ipam`] with what the plugin answered; the addresses may be held still.
pub fn release_or_forget(call: &Call<'_>, release: &Delegate<'_>) -> Result<(), Error> {
    match ipam::release(release) {
        Err(error @ IpamError::NotFound { .. }) if call.purpose == Purpose::PodsEnd => {
            call.log.warn(chain(&error));
            Ok(())
        }
        released => Ok(released?),
    }
}
