//! What an ADD finds in its way, and finishes: an earlier attempt of the same attachment, an owner
//! of the VF that is dead, ports that the agent couldn't delete.

use crate::{
    Call,
    agent::Peer,
    config::AddConfig,
    device::Found,
    drain::{self, Cleared},
    error::Error,
    journal::{Journal, Record},
    life::Life,
    port::Key,
    sandbox::Sandbox,
    undo::{Held, Left, Why, undo_left},
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
    // In this ADD's pod, by whatever path that has the namespace now.
    let life = call.life_where(&entry, |kept| kept.is(pod.id()))?;
    if life == Life::Attached && journal.holds_vf(&entry) {
        return Err(Error::Busy(format!(
            "{} is attached already; DEL comes before another ADD",
            entry.record.attachment()
        )));
    }
    // It may have been for another VF, whose lock is then needed as well. `None`: whoever held that
    // has finished it.
    let locked = if entry.record.vf.pci == config.device {
        Some(Held::throughout(entry))
    } else {
        let locked = call.lock_entry(journal, &entry, call.deadline)?;
        locked.map(|(other, entry)| Held::until_free(entry, other))
    };
    if let Some(held) = locked {
        finish(call, journal, held, Why::EarlierAttempt)?;
    }
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
    let Life::Ended(_) = call.life(&entry)? else {
        let Record {
            container_id,
            ifname,
            ..
        } = &entry.record;
        return Err(Error::Busy(format!(
            "the VF {} is attached to container {container_id} as {ifname}; end that one, or give \
             another VF",
            config.device
        )));
    };
    finish(call, journal, Held::throughout(entry), Why::NextOwner)
}

/// Undoes what is left of an attachment.
///
/// # Errors
/// [`Error::Busy`] when that is not [enough](Why::is_enough).
fn finish(call: &Call<'_>, journal: &Journal, held: Held, why: Why) -> Result<(), Error> {
    let name = held.entry().record.attachment();
    call.log
        .info(format_args!("finishing what is left of {name}"));
    let undone = undo_left(call, journal, Left::of(held), why);
    if why.is_enough(&undone) {
        undone.warn(call);
        return Ok(());
    }
    let told = undone.failures.first().map(Error::told);
    Err(Error::Busy(told.unwrap_or_else(|| {
        format!("its VF has not come home yet (left of {name}); try again")
    })))
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
