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
    journal::{Journal, Tombstone},
    lock::{LockError, lock},
};

/// The time that other attachments' ports may cost a call.
const COURTESY: Duration = Duration::from_secs(1);

/// Deletes what can be deleted. A tombstone that is in this call's `way` must go.
///
/// # Errors
/// What kept a tombstone in the way from being drained.
pub fn drain(
    call: &Call<'_>,
    journal: &Journal,
    way: impl Fn(&Tombstone) -> bool,
) -> Result<(), Error> {
    let buried = journal.tombstones()?;
    if buried.is_empty() {
        return Ok(());
    }
    let must = buried.iter().any(&way);
    let courtesy = call.deadline.min(Instant::now() + COURTESY);
    let _alone = match lock(
        &journal.drain_lock(),
        if must { call.deadline } else { courtesy },
    ) {
        // Somebody else is at it.
        Err(LockError::Held { .. }) if !must => return Ok(()),
        held => held?,
    };
    let mut buried = journal.tombstones()?;
    // Those in the way first, then agent by agent, one connection each.
    buried.sort_by_cached_key(|tombstone| (!way(tombstone), tombstone.agent.clone()));
    let mut agent: Option<(String, Result<Agent, String>)> = None;
    for tombstone in buried {
        let in_way = way(&tombstone);
        // Those in the way come first; the others have had their time.
        if !in_way && Instant::now() >= courtesy {
            break;
        }
        let deadline = if in_way { call.deadline } else { courtesy };
        if agent
            .as_ref()
            .is_none_or(|(addr, _)| *addr != tombstone.agent)
        {
            let connected = connect(call, &tombstone, deadline);
            if in_way && let Err(error) = connected {
                return Err(error.into());
            }
            agent = Some((
                tombstone.agent.clone(),
                connected.map_err(|error| chain(&error)),
            ));
        }
        let Some((_, Ok(agent))) = &mut agent else {
            continue;
        };
        match agent.delete(&tombstone.port_id(), deadline) {
            Ok(()) => {
                call.log.info(format_args!(
                    "drained the tombstone of port {}",
                    tombstone.port_id()
                ));
                journal.exhume(&tombstone)?;
            }
            Err(error) if in_way => return Err(error.into()),
            Err(error) => call.log.warn(format_args!(
                "port {}: {}",
                tombstone.port_id(),
                chain(&error)
            )),
        }
    }
    Ok(())
}

fn connect(call: &Call<'_>, tombstone: &Tombstone, deadline: Instant) -> Result<Agent, AgentError> {
    Agent::connect(
        &tombstone.peer()?,
        call.vars.traceparent.as_deref(),
        deadline,
    )
}
