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
    journal::{Journal, JournalError, Subject, Tombstone},
    lock::{LockError, lock},
};

/// The time that other attachments' ports may cost a call.
const COURTESY: Duration = Duration::from_millis(500);

/// From when on a failure has cost a call something.
const SLOW: Duration = Duration::from_millis(250);

/// Deletes the ports that are in this call's `way`. Gives whether there are others.
///
/// # Errors
/// What kept one in the way from being deleted.
pub fn clear(
    call: &Call<'_>,
    journal: &Journal,
    way: impl Fn(&Tombstone) -> bool,
) -> Result<bool, Error> {
    let buried = journal.tombstones()?;
    if !buried.iter().any(&way) {
        return Ok(!buried.is_empty());
    }
    let _alone = lock(&journal.drain_lock(), call.deadline)?;
    let (mut in_way, others): (Vec<_>, Vec<_>) = journal.tombstones()?.into_iter().partition(way);
    in_way.sort_by(|a, b| a.agent.cmp(&b.agent));
    for of_one in in_way.chunk_by(|a, b| a.agent == b.agent) {
        delete(call, journal, of_one, call.deadline)?;
    }
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
        let Some(first) = of_one.first() else {
            continue;
        };
        let agent = Subject::Agent(&first.agent);
        if Instant::now() >= deadline {
            break;
        }
        if journal.failures(agent).is_none() {
            continue;
        }
        let start = Instant::now();
        match delete(call, journal, of_one, deadline) {
            Ok(()) => journal.succeeded(agent)?,
            Err(Error::Agent(error)) => {
                note(journal, &first.agent, &error, start)?;
                call.log.warn(format_args!("tombstones: {}", chain(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Notes of an agent that it was waited for in vain. One that refuses, be it the connection, costs
/// no time.
///
/// # Errors
/// [`JournalError::File`].
pub fn note(
    journal: &Journal,
    agent: &str,
    error: &AgentError,
    start: Instant,
) -> Result<(), JournalError> {
    match error {
        AgentError::Unreachable { .. } | AgentError::Deadline { .. } if start.elapsed() >= SLOW => {
            journal.failed(Subject::Agent(agent))
        }
        _ => Ok(()),
    }
}

/// Deletes ports of one agent. One that is refused keeps no other.
fn delete(
    call: &Call<'_>,
    journal: &Journal,
    of_one: &[Tombstone],
    deadline: Instant,
) -> Result<(), Error> {
    let Some(first) = of_one.first() else {
        return Ok(());
    };
    let trace = call.vars.traceparent.as_deref();
    let mut agent = Agent::connect(&first.peer()?, trace, deadline)?;
    let mut refused = Ok(());
    for tombstone in of_one {
        let id = tombstone.port_id();
        match agent.delete(&id, deadline) {
            Ok(()) => {
                call.log
                    .info(format_args!("drained the tombstone of port {id}"));
                journal.exhume(tombstone)?;
            }
            Err(error @ AgentError::Refused { .. }) => refused = Err(error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(refused?)
}
