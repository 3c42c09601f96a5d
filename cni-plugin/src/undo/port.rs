//! Undoing a port.

use std::time::Instant;

use super::Undoing;
use crate::{
    Call,
    agent::{AgentError, Peer},
    budget::{DELETE_PORTS_LIMIT, OTHER_AGENT_LIMIT},
    drain,
    error::chain,
    journal::{JournalError, Record, Step, Subject, Tombstone},
};

impl Undoing<'_> {
    /// Has the port deleted, or kept for later.
    pub(super) fn delete_port(&mut self) {
        if !self.entry.has_begun(Step::Port) {
            return;
        }
        self.call.host.checkpoint("undo: port");
        match self.delete_port_or_keep() {
            Ok(gone) => self.leaves_port = !gone,
            Err(error) => {
                self.undone.fail("port", error);
                self.undone.frees_vf = false;
            }
        }
    }

    /// Deletes the record's port; where its agent can't be asked, a tombstone keeps it for later.
    /// Answers whether the port is known to be gone.
    ///
    /// # Errors
    /// [`JournalError::File`] when that can't be written: the record must stay.
    fn delete_port_or_keep(&self) -> Result<bool, JournalError> {
        let Self { call, journal, .. } = self;
        let record = &self.entry.record;
        if !self.why.asks_agent() {
            drain::note_hung_agent(call, journal, &record.agent);
            journal.add_tombstone(&Tombstone::of(record))?;
            return Ok(false);
        }
        let subject = Subject::Agent(&record.agent);
        if self.why.heeds_backoff_of_agent() && journal.is_left_alone(subject) {
            journal.add_tombstone(&Tombstone::of(record))?;
            return Ok(false);
        }
        let start = Instant::now();
        let until = self.deadline.min(start + DELETE_PORTS_LIMIT);
        let deleted = call
            .connect(&record.agent, record.peer(), until)
            .and_then(|mut agent| agent.delete(&record.port.id, until));
        if let Err(error) = deleted {
            // The agent will be back; this attachment won't. Whatever it said, the port is
            // not known to be gone, so it isn't forgotten.
            call.log.warn(format_args!(
                "port {} is left for later: {}",
                record.port.id,
                chain(&error)
            ));
            journal.add_tombstone(&Tombstone::of(record))?;
            if drain::hung(&error, start) {
                drain::note_hung_agent(call, journal, &record.agent);
            }
            delete_port_elsewhere(call, record, self.deadline);
            return Ok(false);
        }
        Ok(true)
    }
}

/// Deletes a port at this call's agent, which may be the record's at another address. The record's
/// own is asked all the same, later.
fn delete_port_elsewhere(call: &Call<'_>, record: &Record, deadline: Instant) {
    let other = |peer: &&Peer| peer.addr().to_string() != record.agent;
    let Some(peer) = call.peer.as_ref().filter(other) else {
        return;
    };
    let deadline = deadline.min(Instant::now() + OTHER_AGENT_LIMIT);
    match delete_port_at(call, peer, &record.port.id, deadline) {
        Ok(()) => {}
        Err(error) => call.log.info(chain(&error)),
    }
}

/// Deletes a port by its id.
///
/// # Errors
/// [`AgentError`] when the agent didn't say that the port is gone; it may be there or not.
pub fn delete_port_at(
    call: &Call<'_>,
    agent: &Peer,
    id: &str,
    deadline: Instant,
) -> Result<(), AgentError> {
    call.connect_to(agent, deadline)?.delete(id, deadline)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, time::Duration};

    use super::*;
    use crate::{call::tests::bare, env::Vars, host::Host};

    /// A call answers in its time, whoever hangs.
    #[test]
    fn another_agent_that_hangs_takes_no_more_time_than_the_undo_has() {
        let golden = include_str!("../../tests/golden/record-v1.jsonl");
        let (record, _) = Record::parse(golden).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let _hangs = UnixListener::bind(&socket).unwrap();
        let addr = format!("unix://{}", socket.display()).parse().unwrap();
        let start = Instant::now();
        let (host, vars) = (Host::real(), Vars::default());
        let call = Call {
            peer: Some(Peer::new(addr, None).unwrap()),
            ..bare(&host, &vars, start)
        };
        delete_port_elsewhere(&call, &record, start + Duration::from_millis(50));
        let elapsed = start.elapsed();
        assert!(elapsed < OTHER_AGENT_LIMIT, "{elapsed:?}");
    }
}
