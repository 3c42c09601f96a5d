//! Finishing what others left: attachments of an earlier boot, whose pod is gone, or whose DEL
//! couldn't end.
//!
//! Multus sends no GC, and a DEL that never came never comes. So each ADD, DEL and GC,
//! once its own work is done, looks at a few more records. Which ones is a cursor's
//! matter, so that all have their turn and the cost doesn't grow with their number.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use xpu_linux::{sync::Rtnl, sysfs::SysfsError, vf};

use crate::{
    Call,
    budget::{IPAM_LEAST, SWEEP_BEGINS, SWEEP_FIRST, SWEEP_MOST},
    device,
    env::Attachment,
    error::{Error, chain},
    host::Host,
    journal::{Backoff, Entry, Journal, Listing, Record, Step, Subject},
    life::{Ended, Life},
    lock::lock,
    port::Key,
    undo::{Held, Left, Why, undo_left},
};

/// How many records one call looks at: each costs four system calls, and an ADD makes few.
const LOOKS: usize = 3;

/// Looks at a few records other than `own` and finishes those that nobody else will.
/// Whatever comes of it is for the log alone: the call has succeeded.
pub fn sweep(call: &Call<'_>, own: Option<&Attachment>) {
    if let Err(error) = look(call, own.map(Key::of).as_ref()) {
        call.log.warn(format_args!("sweep: {}", chain(&error)));
    }
}

/// Until when records are begun by a call that must have answered at `answer_by`. None is begun that
/// has no time for an IPAM plugin.
fn begin_until(now: Instant, answer_by: Instant) -> Instant {
    let last = answer_by.checked_sub(IPAM_LEAST).unwrap_or(now);
    last.min(now + SWEEP_BEGINS)
}

fn look(call: &Call<'_>, own: Option<&Key>) -> Result<(), Error> {
    let begin_until = begin_until(Instant::now(), call.deadline);
    let journal = Journal::open(&call.host.state)?;
    let Listing { keys, unwritten } = journal.listing()?;
    for key in unwritten {
        // A writer that still lives holds this lock.
        if let Ok(_own) = lock(&journal.attachment_lock(&key), Instant::now()) {
            journal.forget_unwritten(&key)?;
        }
    }
    let others = keys.into_iter().filter(|key| Some(key) != own);
    let mut last = None;
    for key in next(others, journal.cursor().as_ref()) {
        if Instant::now() >= begin_until {
            break;
        }
        if let Err(error) = finish_if_dead(call, &journal, &key) {
            call.log
                .warn(format_args!("sweep of {}: {}", key.as_str(), chain(&error)));
        }
        last = Some(key);
    }
    last.map_or(Ok(()), |key| Ok(journal.set_cursor(&key)?))
}

/// The first few keys after the cursor, in their order, round and round.
fn next(keys: impl Iterator<Item = Key>, cursor: Option<&Key>) -> impl Iterator<Item = Key> {
    // `false` is before `true`: what comes after the cursor, then what comes from the
    // start. Only as many as are wanted are ever kept.
    let mut nearest = BTreeSet::new();
    for key in keys {
        nearest.insert((cursor.is_some_and(|cursor| key <= *cursor), key));
        if nearest.len() > LOOKS {
            nearest.pop_last();
        }
    }
    nearest.into_iter().map(|(_, key)| key)
}

/// Finishes a record that nobody else will.
fn finish_if_dead(call: &Call<'_>, journal: &Journal, key: &Key) -> Result<(), Error> {
    let Some(entry) = call.record(journal, key)? else {
        return Ok(());
    };
    // A boot that can't be told condemns nothing.
    let Life::Ended(_) = call.life(&entry)? else {
        return Ok(());
    };
    let Some(Due { failures, ipam }) = due(journal, key, &entry) else {
        return Ok(());
    };
    let now = Instant::now();
    let time = call.deadline.saturating_duration_since(now);
    let until = now + patience(failures, time);
    // Before the work: a record at which every call is killed must not keep the others from their
    // turn.
    journal.set_cursor(key)?;
    let Some((_own, held)) = call.try_lock_attachment(journal, &entry)? else {
        return Ok(());
    };
    let Life::Ended(ended) = call.life(held.entry())? else {
        return Ok(());
    };
    let mut left = Left::of(held);
    let in_reach = match ended {
        // The devices of an earlier boot's kernel are gone with it.
        Ended::EarlierBoot => Ok(true),
        Ended::Detaching | Ended::PodGone => is_in_reach(call.host, journal, &mut left),
    };
    if !matches!(in_reach, Ok(true)) {
        // A look into a pod that lives goes through all links that it has made, which must not cost
        // every call of the others.
        if left.pod.is_some() {
            journal.note_failure(Subject::Attachment(key))?;
        }
        return in_reach.map(drop);
    }
    call.log.info(format_args!(
        "finishing what is left of {}",
        left.held.entry().record.attachment()
    ));
    let why = Why::Sweep { until };
    let undone = undo_left(call, journal, left, why);
    undone.warn(call);
    // If only an IPAM was left alone, that is no failure of this attachment.
    if why.is_enough(&undone) || (undone.frees_vf && ipam == Backoff::LeaveAlone) {
        Ok(())
    } else {
        Ok(journal.note_failure(Subject::Attachment(key))?)
    }
}

/// A dead attachment that may be tried to finish.
struct Due {
    /// How often in a row it, or its IPAM plugin, has failed.
    failures: u32,
    /// Whether its IPAM plugin may be asked.
    ipam: Backoff,
}

/// Whether a dead attachment may be tried to finish; `None`: it is left alone for a while.
fn due(journal: &Journal, key: &Key, entry: &Entry) -> Option<Due> {
    let Backoff::Due { failures } = journal.backoff(Subject::Attachment(key)) else {
        return None;
    };
    let ipam = entry.record.ipam.as_ref();
    let ipam = ipam.map_or(Backoff::Due { failures: 0 }, |ipam| {
        journal.backoff(Subject::Ipam(&ipam.name))
    });
    let failures = match ipam {
        Backoff::LeaveAlone if !journal.holds_vf(entry) => return None,
        Backoff::LeaveAlone => failures,
        Backoff::Due { failures: ipams } => failures.max(ipams),
    };
    Some(Due { failures, ipam })
}

/// What an attachment that is begun in time may take. An IPAM plugin that hangs uses it up and is
/// left alone for a while; one that is only slow has twice that the next time, and so on, until it
/// gets through; never more than is `left` of the call's time.
fn patience(failures: u32, left: Duration) -> Duration {
    let patience = SWEEP_FIRST.saturating_mul(1 << failures.min(8));
    let patience = patience.min(SWEEP_MOST);
    patience.min(left)
}

/// Finishes, as far as another pod needs it, the attachments that nobody else will and that are
/// `wanted`, but for `own`. Gives whether there were any. What others are at is left to them.
///
/// # Errors
/// What kept the records from being listed.
pub fn finish_dead(
    call: &Call<'_>,
    journal: &Journal,
    own: &Key,
    wanted: impl Fn(&Record) -> bool,
) -> Result<bool, Error> {
    let is_it = |entry: &Entry| {
        wanted(&entry.record)
            && journal.holds_vf(entry)
            // A boot that can't be told condemns nothing.
            && matches!(call.life(entry), Ok(Life::Ended(_)))
    };
    let mut any = false;
    for key in journal.keys()?.iter().filter(|key| *key != own) {
        let Some(entry) = call.record(journal, key).ok().flatten().filter(is_it) else {
            continue;
        };
        let locked = call.try_lock_entry(journal, &entry).ok().flatten();
        let Some((_vf, entry)) = locked.filter(|(_, entry)| is_it(entry)) else {
            continue;
        };
        let left = Left::of(Held::throughout(entry));
        undo_left(call, journal, left, Why::NextOwner).warn(call);
        any = true;
    }
    Ok(any)
}

/// Whether an undo needn't wait for the VF: the kernel brings it home a while after its
/// namespace is gone, be it the pod's or one of the pod's own making, and the next look is soon
/// enough.
fn is_in_reach(host: &Host, journal: &Journal, left: &mut Left) -> Result<bool, Error> {
    let Left { held, pod } = left;
    let entry = held.entry();
    let pci = &entry.record.vf.pci;
    if !journal.holds_vf(entry) || !entry.has_begun(Step::Move) {
        return Ok(true);
    }
    let mut home = Rtnl::open()?;
    match vf::at_home(&host.sysfs, &home, pci) {
        Ok(Some(_)) | Err(SysfsError::NoDevice(_)) => return Ok(true),
        Ok(None) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(pod) = pod
        && vf::find(&host.sysfs, &mut pod.rtnl, pci, host.proof)?.is_some()
    {
        return Ok(true);
    }
    // A VF that has no netdev any more needn't be waited for.
    Ok(vf::find(&host.sysfs, &mut home, pci, host.proof)?.is_some()
        || device::has_no_netdev(host, pci))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: impl IntoIterator<Item = usize>) -> Vec<Key> {
        let key = |number| Key::from_file_name(&format!("{number:040x}")).unwrap();
        numbers.into_iter().map(key).collect()
    }

    fn after(all: &[Key], cursor: Option<&Key>) -> Vec<Key> {
        next(all.iter().cloned(), cursor).collect()
    }

    #[test]
    fn all_have_their_turn_and_no_look_is_longer_than_another() {
        let all = keys([5, 2, 9, 0, 7, 1, 8, 3, 6, 4, 10, 11]);
        assert_eq!(after(&all, None), keys(0..3));
        assert_eq!(after(&all, Some(&keys([9])[0])), keys([10, 11, 0]));
        // The record under the cursor is gone meanwhile.
        assert_eq!(
            after(&keys([1, 3, 5]), Some(&keys([4])[0])),
            keys([5, 1, 3])
        );
        assert_eq!(after(&[], Some(&keys([4])[0])), []);
    }

    #[test]
    fn no_record_is_begun_that_has_no_time_and_none_takes_more_than_is_left() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        for (left, begin) in [(0, 0), (200, 0), (300, 50), (350, 100), (9000, 100)] {
            let until = begin_until(now, now + ms(left));
            assert_eq!(until.saturating_duration_since(now), ms(begin), "{left}");
        }
        let waits = |left| [0, 1, 2, 3, 99].map(|failures| patience(failures, ms(left)));
        assert_eq!(waits(60_000), [2, 4, 8, 10, 10].map(Duration::from_secs));
        assert_eq!(waits(3000), [2, 3, 3, 3, 3].map(Duration::from_secs));
        assert_eq!(waits(0), [Duration::ZERO; 5]);
    }
}
