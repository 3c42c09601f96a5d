//! DEL: whatever isn't there any more is success, whatever can't be undone now is kept
//! in the journal, and only what this attachment owns is touched.

use std::time::Instant;

use crate::{
    Call, Failure,
    budget::UNRECORDED_LIMIT,
    config::{Common, Raw},
    drain,
    env::Attachment,
    error::{Error, chain},
    journal::{Entry, Journal, Tombstone},
    lock::lock,
    port::Key,
    sandbox::{Sandbox, is_gone},
    undo::{Held, Undone, Why, delete_port_at, release_or_forget, undo},
};

/// Does DEL.
///
/// # Errors
/// The first thing that couldn't be undone; the rest has been, and a further DEL tries
/// again what is left.
pub fn run(call: &Call<'_>, attachment: &Attachment, raw: &Raw) -> Result<(), Failure> {
    let journal = Journal::open(&call.host.state)?;
    let key = Key::of(attachment);
    // An ADD of this attachment that still waits for something has no record yet.
    let held = lock(&journal.attachment_lock(&key), call.deadline)?;
    let done = detach(call, attachment, &key, raw, &journal);
    drop(held);
    drain::in_passing(call, &journal);
    done
}

/// DEL under the attachment's lock.
fn detach(
    call: &Call<'_>,
    attachment: &Attachment,
    key: &Key,
    raw: &Raw,
    journal: &Journal,
) -> Result<(), Failure> {
    let Some(entry) = call.record(journal, key)? else {
        journal.forget_unwritten(key)?;
        // Only here does the configuration count: the journal knows better. One that ADD refuses
        // has made nothing.
        return match raw.common() {
            Ok(common) => {
                let undone = without_record(call, attachment, &common, key, journal);
                Failure::first_of(undone.failures)
            }
            Err(error) => {
                call.log.warn(chain(&error));
                Ok(())
            }
        };
    };
    let Some((vf, entry)) = call.lock_entry(journal, &entry, call.deadline)? else {
        return Ok(());
    };
    let mut pod = open_pod(attachment, &entry)?;
    let held = Held::until_free(entry, vf);
    let undone = undo(call, journal, held, pod.as_mut(), Why::PodEnds);
    Failure::first_of(undone.failures)
}

/// The pod's namespace as the runtime names it, else as the journal does.
fn open_pod(attachment: &Attachment, entry: &Entry) -> Result<Option<Sandbox>, Error> {
    let kept = &entry.record.netns;
    let path = attachment
        .netns
        .clone()
        .unwrap_or_else(|| kept.path.clone().into());
    match Sandbox::open(&path) {
        Ok(pod) if kept.is(pod.id()) => Ok(Some(pod)),
        // Another namespace took the name: ours is gone.
        Ok(_) | Err(Error::HostNetNs(_)) => Ok(None),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An attachment whose record isn't there or can't be read: undone already, never made, or the
/// journal was lost. Port and IPAM go by their names; no VF is touched.
fn without_record(
    call: &Call<'_>,
    attachment: &Attachment,
    common: &Common,
    key: &Key,
    journal: &Journal,
) -> Undone {
    let mut undone = Undone::default();
    let deadline = call.deadline.min(Instant::now() + UNRECORDED_LIMIT);
    // Before IPAM, which may use up the call's time.
    if let Err(error) = delete_port_at(call, &common.agent, &key.port_id(), deadline) {
        call.log.info(format_args!(
            "no record, and the port can't be asked for: {}",
            chain(&error)
        ));
        // What was never attached has no port. While an agent is away, pods are tried again and
        // again, each time as another container: a tombstone for each would be no end of them.
        let was_attached = journal.unreadable(key).is_some();
        let tombstone = Tombstone::without_record(key.clone(), &common.agent);
        if was_attached && let Err(error) = journal.add_tombstone(&tombstone) {
            undone.fail("port", error);
        }
    }
    if let Some(name) = &common.ipam {
        let release = call.delegate(name, "DEL", Some(attachment));
        if let Err(error) = release_or_forget(call, Why::PodEnds, &release) {
            undone.fail("IPAM", error);
        }
    }
    undone
}
