//! What an ADD finds in its way, and finishes: an earlier attempt of the same attachment, an owner
//! of the VF that is dead, ports that the agent couldn't delete.

use crate::{
    Call,
    agent::Peer,
    config::AddConfig,
    device::Found,
    drain::{self, Cleared},
    error::{Error, chain},
    journal::{Entry, Journal, Step},
    lock::lock,
    port::Key,
    sandbox::Sandbox,
    sweep::is_dead,
    undo::{Extent, Undone, is_this_boot, undo},
};

/// Finishes an earlier attempt of this attachment, and an owner of the VF that is dead. The caller
/// holds the locks of the attachment and of the VF.
///
/// # Errors
/// [`Error::Busy`] when either lives, or can't be finished as far as this ADD needs it.
pub fn clear_the_way(
    call: &Call<'_>,
    journal: &Journal,
    key: &Key,
    config: &AddConfig,
    pod: &mut Sandbox,
) -> Result<(), Error> {
    finish_earlier_attempt(call, journal, key, config, pod)?;
    finish_last_owner(call, journal, key, config)
}

fn finish_earlier_attempt(
    call: &Call<'_>,
    journal: &Journal,
    key: &Key,
    config: &AddConfig,
    pod: &mut Sandbox,
) -> Result<(), Error> {
    let Some(entry) = call.record(journal, key)? else {
        return Ok(());
    };
    let record = &entry.record;
    let lives = entry.has_begun(Step::Attached)
        && !entry.has_begun(Step::Detaching)
        && record.netns.is(pod.id())
        && is_this_boot(call.host, &entry)?
        && journal.owns(&entry);
    if lives {
        return Err(Error::Busy(format!(
            "{} is attached already; DEL comes before another ADD",
            record.attachment()
        )));
    }
    // It may have been for another VF, whose lock is then needed as well.
    let _other = if record.vf.pci == config.device {
        None
    } else {
        Some(lock(&journal.vf_lock(&record.vf.pci), call.deadline)?)
    };
    // Nothing may be left: its record is about to be written over.
    finish(call, journal, entry, Extent::Whole, Undone::is_clean)?;
    // The VF may just have left this very pod: its arrival then is not the one to come.
    pod.resubscribe()
}

fn finish_last_owner(
    call: &Call<'_>,
    journal: &Journal,
    key: &Key,
    config: &AddConfig,
) -> Result<(), Error> {
    let Some(owner) = journal.owner(&config.device) else {
        return Ok(());
    };
    // Our own earlier attempt is finished by now, unless its record can't be read.
    let entry = if owner == *key {
        None
    } else {
        call.record(journal, &owner)?
    };
    // That one's record may be a later one, of another VF, whose lock this call doesn't hold.
    let entry = entry.filter(|entry| entry.record.vf.pci == config.device);
    let Some(entry) = entry else {
        return match journal.unreadable(&owner) {
            None => Ok(()),
            // Without the record we would save the last pod's settings as the VF's original ones.
            Some(record) => Err(Error::Busy(format!(
                "the record of the VF {}'s last owner can't be read, so what the VF was before is \
                 not known; see to it that it is as it should be, also at its PF, then remove {}",
                config.device,
                record.display()
            ))),
        };
    };
    let record = &entry.record;
    if !is_dead(call.host, &entry)? {
        return Err(Error::Busy(format!(
            "the VF {} is attached to container {} as {}",
            config.device, record.container_id, record.ifname
        )));
    }
    let frees_vf = |undone: &Undone| undone.frees_vf;
    finish(call, journal, entry, Extent::ForNextOwner, frees_vf)
}

/// Undoes what is left of an attachment, as far as `enough` asks.
fn finish(
    call: &Call<'_>,
    journal: &Journal,
    entry: Entry,
    extent: Extent,
    enough: impl Fn(&Undone) -> bool,
) -> Result<(), Error> {
    let name = entry.record.attachment();
    call.log
        .info(format_args!("finishing what is left of {name}"));
    let mut pod = Sandbox::open_kept(&entry.record.netns);
    let undone = undo(call, journal, entry, pod.as_mut(), extent);
    if enough(&undone) {
        for failure in undone.failures {
            call.log
                .warn(format_args!("{} (left of {name})", chain(&failure)));
        }
        return Ok(());
    }
    let why = undone.failures.first().map(|error| chain(error));
    let why = why.unwrap_or_else(|| "its VF has not come home yet".to_owned());
    Err(Error::Busy(format!("{why} (left of {name})")))
}

/// Deletes leftover ports of the agent that would collide with ours: the VF's previous owner's, one
/// under our own id, and any that holds our MAC. [`clear_the_way`] may just have left such
/// tombstones.
///
/// # Errors
/// What kept one of them from being deleted.
pub fn delete_leftover_ports(
    call: &Call<'_>,
    journal: &Journal,
    key: &Key,
    agent: &Peer,
    found: &Found,
) -> Result<Cleared, Error> {
    let pci = &found.vf.pci;
    drain::clear(call, journal, agent, key, |tombstone| {
        tombstone.pci == pci.as_str() || tombstone.key() == key || tombstone.mac == Some(found.mac)
    })
}
