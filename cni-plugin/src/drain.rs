//! Ports that outlived their attachments, deleted by the next call that finds the
//! agent.
//!
//! A tombstone's port has the id that its attachment would have again, so deleting
//! late must never meet creating anew: both sides hold the drain lock, and a
//! tombstone is looked at again under it.

use std::time::{Duration, Instant};

use crate::{
    Call,
    agent::{Agent, AgentError},
    error::{Error, chain},
    journal::{Journal, Subject, Tombstone},
    lock::{LockError, lock},
};

/// How long an agent may take to delete ports. The rest of the call needs some of its time as
/// well, and a tombstone is as good.
pub const DELETE_PORTS_LIMIT: Duration = Duration::from_secs(3);

/// The time that other attachments' ports may cost a call.
const COURTESY: Duration = Duration::from_millis(500);

/// From when on a failure has cost a call something.
const SLOW: Duration = Duration::from_millis(250);

/// Deletes the ports of an agent that are in this call's `way`. Gives whether there are others.
///
/// # Errors
/// What kept one in the way from being deleted.
pub fn clear(
    call: &Call<'_>,
    journal: &Journal,
    agent: &str,
    way: impl Fn(&Tombstone) -> bool,
) -> Result<bool, Error> {
    let way = |tombstone: &Tombstone| tombstone.agent == agent && way(tombstone);
    let buried = journal.tombstones()?;
    if !buried.iter().any(&way) {
        return Ok(!buried.is_empty());
    }
    let _alone = lock(&journal.drain_lock(), call.deadline)?;
    let (in_way, others): (Vec<_>, Vec<_>) = journal.tombstones()?.into_iter().partition(way);
    // Others wait for the lock meanwhile.
    let deadline = call.deadline.min(Instant::now() + DELETE_PORTS_LIMIT);
    delete(call, journal, &in_way, deadline, &mut 0)?;
    Ok(!others.is_empty())
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
    let mut buried = journal.tombstones()?;
    buried.sort_by(|a, b| a.agent.cmp(&b.agent));
    let deadline = call.deadline.min(Instant::now() + COURTESY);
    for of_one in buried.chunk_by(|a, b| a.agent == b.agent) {
        let addr = &of_one[0].agent;
        let agent = Subject::Agent(addr);
        if Instant::now() >= deadline {
            break;
        }
        if journal.failures(agent).is_none() {
            continue;
        }
        let start = Instant::now();
        let mut deleted = 0;
        let done = delete(call, journal, of_one, deadline, &mut deleted);
        // Time may be up before the ports are: the agent works all the same.
        if deleted > 0 {
            journal.succeeded(agent)?;
        }
        match done {
            Ok(()) => {}
            Err(Error::Agent(error)) => {
                call.log.warn(format_args!("tombstones: {}", chain(&error)));
                if deleted == 0 && hung(&error, start) {
                    note(call, journal, addr);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an agent was waited for in vain. One that refuses, be it the connection, costs no time.
#[must_use]
pub fn hung(error: &AgentError, start: Instant) -> bool {
    let in_vain = matches!(
        error,
        AgentError::Unreachable { .. } | AgentError::Deadline { .. }
    );
    in_vain && start.elapsed() >= SLOW
}

/// Notes of an agent that it [hung](hung). A note that can't be written costs one try more.
pub fn note(call: &Call<'_>, journal: &Journal, agent: &str) {
    if let Err(error) = journal.failed(Subject::Agent(agent)) {
        call.log.warn(chain(&error));
    }
}

/// Deletes ports of one agent and counts them. One that is refused keeps no other.
fn delete(
    call: &Call<'_>,
    journal: &Journal,
    of_one: &[Tombstone],
    deadline: Instant,
    deleted: &mut usize,
) -> Result<(), Error> {
    let Some(mut agent) = connect(call, of_one, deadline)? else {
        return Ok(());
    };
    let mut refused = Ok(());
    for tombstone in of_one {
        let id = tombstone.port_id();
        match agent.delete(&id, deadline) {
            Ok(()) => {
                call.log
                    .info(format_args!("drained the tombstone of port {id}"));
                journal.exhume(tombstone)?;
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
