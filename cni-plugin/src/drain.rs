//! Ports that outlived their attachments, deleted by the next call that finds the
//! agent.
//!
//! A tombstone's port has the id that its attachment would have again, so deleting
//! late must never meet creating anew: whoever deletes holds the drain lock, reads the
//! tombstones again under it, and holds the attachment's lock while no such one lives.

use std::time::Instant;

use crate::{
    Call,
    agent::{Agent, AgentError, Peer},
    budget::{DELETE_PORTS_LIMIT, DRAIN_COURTESY, HANG, OUT_OF_ORDER_WAIT},
    error::{Error, chain},
    journal::{Journal, Step, Subject, Tombstone},
    lock::{Lock, LockError, lock},
    port::Key,
};

/// What [`clear`] has found.
#[derive(Debug, Clone, Copy)]
pub struct Cleared {
    /// Whether anything was in the way.
    pub any: bool,
    /// Whether tombstones are left.
    pub others: bool,
}

/// Deletes the ports of `agent` that are in the `way` of this call, which is for `own`.
///
/// A tombstone names its agent by an address, and an agent may have several, one after the other:
/// what another address's tombstone tells of is deleted here as well, and the tombstone stays for
/// whoever answers there. Ids are hashes of their attachments, so no port of anybody else goes.
///
/// # Errors
/// What kept one in the way from being deleted.
pub fn clear(
    call: &Call<'_>,
    journal: &Journal,
    agent: &Peer,
    own: &Key,
    way: impl Fn(&Tombstone) -> bool,
) -> Result<Cleared, Error> {
    let tombstones = journal.tombstones()?;
    if !tombstones.iter().any(&way) {
        return Ok(Cleared {
            any: false,
            others: !tombstones.is_empty(),
        });
    }
    let _alone = lock(&journal.drain_lock(), call.deadline)?;
    let (in_way, mut others): (Vec<_>, Vec<_>) = journal.tombstones()?.into_iter().partition(way);
    let addr = agent.addr().to_string();
    let (here, elsewhere): (Vec<_>, Vec<_>) = in_way.into_iter().partition(|it| it.agent == addr);
    // Other calls wait for the drain lock meanwhile.
    let deadline = call.deadline.min(Instant::now() + DELETE_PORTS_LIMIT);
    let hold = |tombstone: &Tombstone| -> Result<_, Error> {
        // This call has its own attachment's lock, and nothing of it lives yet.
        if tombstone.key() == own {
            return Ok(Some(None));
        }
        let patience = deadline.min(Instant::now() + OUT_OF_ORDER_WAIT);
        Ok(lock_if_ended(call, journal, tombstone, patience)?.map(Some))
    };
    delete(call, journal, &here, deadline, &mut 0, hold)?;
    delete_here(call, agent, &elsewhere, deadline, hold)?;
    others.extend(elsewhere);
    Ok(Cleared {
        any: true,
        others: !others.is_empty(),
    })
}

/// Deletes at this agent what the tombstones of others tell of, each while `hold` holds it.
fn delete_here<H>(
    call: &Call<'_>,
    agent: &Peer,
    elsewhere: &[Tombstone],
    deadline: Instant,
    hold: impl Fn(&Tombstone) -> Result<Option<H>, Error>,
) -> Result<(), Error> {
    if elsewhere.is_empty() {
        return Ok(());
    }
    let mut agent = call.connect_to(agent, deadline)?;
    for tombstone in elsewhere {
        let Some(_held) = hold(tombstone)? else {
            continue;
        };
        match agent.delete(&tombstone.port_id(), deadline) {
            Ok(()) => {}
            Err(error @ AgentError::Refused { .. }) => call.log.warn(chain(&error)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Locks a tombstone's attachment; `None` where that lives again or somebody is at it until
/// `patience` ends, so that a port by its id may be a living one.
fn lock_if_ended(
    call: &Call<'_>,
    journal: &Journal,
    tombstone: &Tombstone,
    patience: Instant,
) -> Result<Option<Lock>, Error> {
    let key = tombstone.key();
    let held = match lock(&journal.attachment_lock(key), patience) {
        Err(LockError::Held { .. }) => return Ok(None),
        held => held?,
    };
    let ended = match call.peek(journal, key) {
        // Not by its `Life`: what only a boot or its pod's end has ended has its undo to come, and
        // that deletes the port. Where it has begun, the VF may not be home for as long as the pod
        // lives.
        Ok(entry) => {
            entry.is_none_or(|entry| !journal.holds_vf(&entry) || entry.has_begun(Step::Detaching))
        }
        Err(error) => {
            call.log.warn(chain(&error));
            false
        }
    };
    Ok(ended.then_some(held))
}

/// Deletes what ports of others can be deleted in passing, once this call's own work is done.
/// Whatever comes of it is for the log alone.
pub fn in_passing(call: &Call<'_>, journal: &Journal) {
    if let Err(error) = drain(call, journal) {
        call.log.warn(format_args!("tombstones: {}", chain(&error)));
    }
}

fn drain(call: &Call<'_>, journal: &Journal) -> Result<(), Error> {
    if journal.tombstones()?.is_empty() {
        return Ok(());
    }
    let _alone = match lock(&journal.drain_lock(), Instant::now()) {
        // Somebody else is at it.
        Err(LockError::Held { .. }) => return Ok(()),
        held => held?,
    };
    let mut tombstones = journal.tombstones()?;
    tombstones.sort_by(|a, b| a.agent.cmp(&b.agent));
    let deadline = call.deadline.min(Instant::now() + DRAIN_COURTESY);
    for of_one in tombstones.chunk_by(|a, b| a.agent == b.agent) {
        let addr = &of_one[0].agent;
        let agent = Subject::Agent(addr);
        if Instant::now() >= deadline {
            break;
        }
        if journal.is_left_alone(agent) {
            continue;
        }
        let start = Instant::now();
        let mut deleted = 0;
        let hold = |tombstone: &_| lock_if_ended(call, journal, tombstone, Instant::now());
        let done = delete(call, journal, of_one, deadline, &mut deleted, hold);
        // An agent that deleted some works, even if time was up before all were.
        if deleted > 0 {
            journal.clear_failures(agent)?;
        }
        match done {
            Ok(()) => {}
            Err(Error::Agent(error)) => {
                call.log.warn(format_args!("tombstones: {}", chain(&error)));
                if deleted == 0 && hung(&error, start) {
                    note_hung_agent(call, journal, addr);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an agent hung: it was waited for in vain. One that refuses, be it the connection, costs
/// no time.
#[must_use]
pub fn hung(error: &AgentError, start: Instant) -> bool {
    let in_vain = matches!(
        error,
        AgentError::Unreachable { .. } | AgentError::Deadline { .. }
    );
    in_vain && start.elapsed() >= HANG
}

/// Notes of an agent that it [`hung`]. A note that can't be written costs one try more.
pub fn note_hung_agent(call: &Call<'_>, journal: &Journal, agent: &str) {
    if let Err(error) = journal.note_failure(Subject::Agent(agent)) {
        call.log.warn(chain(&error));
    }
}

/// Deletes ports of one agent, and counts them. A port for which `hold` gives nothing is left
/// alone; one that is refused doesn't keep the others.
fn delete<H>(
    call: &Call<'_>,
    journal: &Journal,
    of_one: &[Tombstone],
    deadline: Instant,
    deleted: &mut usize,
    hold: impl Fn(&Tombstone) -> Result<Option<H>, Error>,
) -> Result<(), Error> {
    let Some(mut agent) = connect(call, of_one, deadline)? else {
        return Ok(());
    };
    let mut refused = Ok(());
    for tombstone in of_one {
        let Some(_held) = hold(tombstone)? else {
            continue;
        };
        let id = tombstone.port_id();
        match agent.delete(&id, deadline) {
            Ok(()) => {
                call.log
                    .info(format_args!("drained the tombstone of port {id}"));
                journal.remove_tombstone(tombstone)?;
                *deleted += 1;
            }
            Err(error @ AgentError::Refused { .. }) => refused = Err(error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(refused?)
}

/// Connects to the agent of all these, by the first of their certificates that can be used.
fn connect(
    call: &Call<'_>,
    of_one: &[Tombstone],
    deadline: Instant,
) -> Result<Option<Agent>, AgentError> {
    let mut unusable = Ok(None);
    for alike in of_one.chunk_by(|a, b| a.peer().ok() == b.peer().ok()) {
        match call.connect(&alike[0].agent, alike[0].peer(), deadline) {
            Err(error @ AgentError::Unusable { .. }) => unusable = Err(error),
            connected => return connected.map(Some),
        }
    }
    unusable
}
