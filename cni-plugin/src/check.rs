//! CHECK: what ADD answered, compared with what the kernel, the journal, the agent and
//! IPAM have now. Changes nothing.

mod kernel;
pub mod prev_result;

use crate::{
    Call, Failure,
    agent::{AgentError, Seen},
    config::Raw,
    env::Attachment,
    error::Error,
    ipam,
    journal::{Entry, Journal, Record, Step},
    life::is_this_boot,
    port::Key,
    sandbox::Sandbox,
};
use prev_result::PrevResult;

/// Does CHECK.
///
/// # Errors
/// The first difference as [`Error::Mismatch`], the others as notes; or what kept one of
/// the four from being asked.
pub fn run(call: &Call<'_>, attachment: &Attachment, raw: &Raw) -> Result<(), Failure> {
    let common = raw.common()?;
    let netns = attachment.netns()?;
    let result = PrevResult::read(raw.prev_result(), &attachment.ifname)?;
    let mut pod = call.sandbox(netns)?;
    let journal = Journal::open(&call.host.state)?;
    let mut wrong = Vec::new();
    match call.peek(&journal, &Key::of(attachment))? {
        None => wrong.push(mismatch(
            format!("journal of {attachment}"),
            "a record",
            "none",
        )),
        Some(entry) => {
            wrong.extend(journal_differs(call, &entry, &pod));
            // Of a VF of a userspace driver the kernel shows nothing.
            if entry.record.vf.netdev.is_some() {
                match kernel::differs(call.host, &mut pod, &result, &entry.record) {
                    Ok(differences) => wrong.extend(differences),
                    Err(error) => wrong.push(error),
                }
            }
            match agent_differs(call, &entry.record) {
                Ok(differences) => wrong.extend(differences),
                Err(error) => wrong.push(error.into()),
            }
        }
    }
    if let Some(name) = &common.ipam {
        let check = call.delegate(name, "CHECK", Some(attachment));
        wrong.extend(ipam::check(&check).err().map(Error::from));
    }
    Failure::first_of(wrong)
}

fn mismatch(what: impl ToString, expected: impl ToString, found: impl ToString) -> Error {
    Error::Mismatch {
        what: what.to_string(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// Not by the attachment's [`Life`](crate::life::Life), which is one answer: whoever asks is told all
/// that differs.
fn journal_differs(call: &Call<'_>, entry: &Entry, pod: &Sandbox) -> Vec<Error> {
    let kept = &entry.record.netns;
    let mut wrong = Vec::new();
    let unfinished = if entry.has_begun(Step::Detaching) {
        Some("a DEL that never ended")
    } else if entry.has_begun(Step::Attached) {
        None
    } else {
        Some("an ADD that never ended")
    };
    if let Some(found) = unfinished {
        let what = "state of the attachment in the journal";
        wrong.push(mismatch(what, "attached", found));
    }
    match is_this_boot(call.host, entry) {
        Ok(true) => {}
        Ok(false) => wrong.push(mismatch(
            "boot of the attachment in the journal",
            "the running one",
            "an earlier one",
        )),
        Err(error) => wrong.push(error),
    }
    if !kept.is(pod.id()) {
        let namespace = |path: &str, ino: u64| format!("{path} (inode {ino})");
        wrong.push(mismatch(
            "network namespace of the attachment in the journal",
            namespace(pod.path(), pod.id().ino),
            namespace(&kept.path, kept.ino),
        ));
    }
    wrong
}

fn agent_differs(call: &Call<'_>, record: &Record) -> Result<Vec<Error>, AgentError> {
    let mut agent = call.connect(&record.agent, record.peer(), call.deadline)?;
    let id = &record.port.id;
    let wanted = Seen::wanted(&record.port);
    let Some(seen) = agent.get(id, call.deadline)? else {
        let what = format!("port {id} at the agent");
        return Ok(vec![mismatch(what, wanted.attach, "none")]);
    };
    let mut wrong = Vec::new();
    if seen.mac != wanted.mac {
        wrong.push(mismatch(format!("MAC of port {id}"), wanted.mac, seen.mac));
    }
    if seen.attach != wanted.attach {
        let what = format!("attachment of port {id}");
        wrong.push(mismatch(what, wanted.attach, seen.attach));
    }
    if let Some(reasons) = seen.down {
        let what = format!("state of port {id}");
        wrong.push(mismatch(what, "UP", format!("not UP ({reasons})")));
    }
    Ok(wrong)
}
