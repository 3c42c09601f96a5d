//! STATUS: whether an ADD could be served now, and whether pods that are attached have
//! their network. Changes nothing but what is to be deleted anyway: ports of tombstones, and a file
//! of its own making.

use crate::{
    Call, Failure,
    agent::{Agent, DOCTOR, Seen},
    config::{Common, Raw},
    drain,
    error::{Error, chain},
    ipam,
    journal::{Entry, Journal, JournalError},
    life::Life,
    port::Key,
};

/// Does STATUS.
///
/// # Errors
/// [`Error::PodsSuffer`] when a port of an attached pod is missing or not UP, and if
/// there is none such, [`Error::NotReady`] when agent, IPAM or journal don't serve.
pub fn run(call: &Call<'_>, raw: &Raw) -> Result<(), Failure> {
    let common = raw.common()?;
    let (mut suffering, mut broken) = (Vec::new(), Vec::new());
    let journal = match Journal::open(&call.host.state) {
        Ok(journal) => Some(journal),
        Err(error) => {
            broken.push(error.into());
            None
        }
    };
    if let Some(journal) = &journal {
        match ports(call, journal, &common) {
            Ok(wrong) => suffering.extend(wrong),
            Err(error) => broken.push(error),
        }
        // What can be read needn't be what an ADD could add to.
        broken.extend(journal.try_to_write().err().map(Error::from));
    }
    if let Some(name) = &common.ipam {
        let status = call.delegate(name, "STATUS", None);
        broken.extend(ipam::run_if_supported(&status).err().map(Error::from));
    }
    let broken = broken
        .iter()
        .map(|error| Error::NotReady(error.told()))
        .collect::<Vec<_>>();
    // Runtimes ask often, also on nodes where no pod comes or goes any more.
    if let Some(journal) = &journal {
        drain::in_passing(call, journal);
    }
    // 51 says all that 50 does, and more.
    Failure::first_of(suffering.into_iter().chain(broken))
}

/// What is wrong with the ports that this node's pods have at the network's agent.
fn ports(call: &Call<'_>, journal: &Journal, common: &Common) -> Result<Vec<Error>, Error> {
    let mut agent = call.connect_to(&common.agent, call.deadline)?;
    let seen = agent.list(call.deadline)?;
    let addr = common.agent.addr().to_string();
    let mut all = Vec::new();
    for key in journal.keys()? {
        let Some(entry) = living(call, journal, &key, &addr)? else {
            continue;
        };
        let id = &entry.record.port.id;
        if wrong(&entry, seen.iter().find(|port| port.id == *id)).is_some() {
            all.extend(second_look(call, journal, &entry, &mut agent)?);
        }
    }
    Ok(all)
}

/// The record of a pod that is attached and there, with a port at this agent.
fn living(
    call: &Call<'_>,
    journal: &Journal,
    key: &Key,
    agent: &str,
) -> Result<Option<Entry>, Error> {
    let entry = match call.peek(journal, key) {
        // Only the plugin that wrote it can tell whether that pod suffers.
        Err(error @ JournalError::Newer { .. }) => {
            call.log.warn(chain(&error));
            None
        }
        read => read?,
    };
    Ok(entry.filter(|entry| lives(call, journal, entry, agent)))
}

fn lives(call: &Call<'_>, journal: &Journal, entry: &Entry, agent: &str) -> bool {
    entry.record.agent == agent
        && journal.holds_vf(entry)
        // Of a boot that can't be told no pod is known to suffer.
        && matches!(call.life(entry), Ok(Life::Attached))
}

/// Looks once more, under the VF's lock: an ADD or a DEL may have run between list and record.
fn second_look(
    call: &Call<'_>,
    journal: &Journal,
    seen: &Entry,
    agent: &mut Agent,
) -> Result<Option<Error>, Error> {
    // If it can't be locked, the pod is being attached or detached.
    let Some((_vf, entry)) = call.try_lock_entry(journal, seen)? else {
        return Ok(None);
    };
    if !lives(call, journal, &entry, &seen.record.agent) {
        return Ok(None);
    }
    let seen = agent.get(&entry.record.port.id, call.deadline)?;
    Ok(wrong(&entry, seen.as_ref()))
}

fn wrong(entry: &Entry, seen: Option<&Seen>) -> Option<Error> {
    let record = &entry.record;
    let whose = format!("port {} ({})", record.port.id, record.attachment());
    match seen {
        None => Some(Error::PodsSuffer {
            what: format!("{whose} is missing at the agent"),
            next_step: "restart the pod: only an ADD makes its port",
        }),
        Some(Seen {
            down: Some(reasons),
            ..
        }) => Some(Error::PodsSuffer {
            what: format!("{reasons}; {whose} is not up"),
            next_step: DOCTOR,
        }),
        Some(_) => None,
    }
}
