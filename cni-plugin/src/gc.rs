//! GC: every attachment of the network that the runtime doesn't list is undone, then
//! IPAM does the same for its addresses.
//!
//! A network is its name *and* its agent, its IPAM plugin and where its ports go: two NADs in two
//! Kubernetes namespaces may have the same name, and neither's GC may take the other's pods down. If
//! they are the same in all of these, which one an attachment is of can't be told: a runtime that
//! sends GC has to list the attachments of both. None is taken for another's where they differ in
//! what a network may change while it has pods, as VF settings, or IPAM's own keys. Its agent's
//! address is none of that: once that changes, GC leaves the attachments of before alone, and they
//! are undone by their DEL or when their pods' namespaces are gone.

use std::{collections::HashSet, time::Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Call, Failure,
    budget::GC_PATIENCE,
    config::{Common, ConfigError, Raw},
    drain,
    env::Attachment,
    error::{Error, chain},
    ipam::{self, Delegate},
    journal::{Backoff, Entry, Journal, Subject},
    port::{Key, PortMode},
    undo::{Left, Why, undo_left},
};

/// Where the list is (CNI specification, section 2, "GC"), and where runtimes that took
/// the specification's first wording have it.
const LISTS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// Does GC.
///
/// # Errors
/// The first thing that couldn't be removed; the rest has been, and the notes say what
/// else is left. Without a list, or with one that can't be read, nothing is removed.
pub fn run(call: &Call<'_>, raw: &Raw) -> Result<(), Failure> {
    let common = raw.common()?;
    let attach = raw.attach()?;
    let mut config = raw.document();
    let (listed, list) = listed(&config)?;
    let journal = Journal::open(&call.host.state)?;
    let network = Network {
        call,
        journal: &journal,
        common: &common,
        attach: &attach,
    };
    let (mut failures, mut unread) = (Vec::new(), false);
    let mut keys = journal.keys()?;
    // One at which an IPAM plugin hangs uses up the time that is left. It comes last the next time,
    // or the others would never have their turn.
    keys.sort_by_cached_key(|key| {
        journal.backoff(Subject::Attachment(key)) != Backoff::Due { failures: 0 }
    });
    for key in keys {
        if listed.contains(&key) {
            continue;
        }
        match call.record(&journal, &key) {
            Ok(entry) => {
                let entry = entry.filter(|entry| network.has(entry));
                failures.extend(entry.and_then(|entry| network.remove(&key, &entry).err()));
            }
            Err(error) => {
                failures.push(error.into());
                unread = true;
            }
        }
    }
    // The addresses of what can't be read may be in use, which is told already.
    if let Some(name) = common.ipam.as_ref().filter(|_| !unread) {
        // The IPAM plugin may know only one of the keys.
        let collected = network.list_for_ipam(&listed, list).and_then(|list| {
            for key in LISTS {
                config[key] = list.clone().into();
            }
            let config = config.to_string();
            let gc = Delegate {
                config: config.as_bytes(),
                ..call.delegate(name, "GC", None)
            };
            Ok(ipam::run_if_supported(&gc)?)
        });
        failures.extend(collected.err());
    }
    drain::in_passing(call, &journal);
    Failure::first_of(failures)
}

/// The attachments that the runtime still knows, and the list of them as it came.
fn listed(config: &Value) -> Result<(HashSet<Key>, Vec<Value>), ConfigError> {
    #[derive(Deserialize)]
    struct Listed {
        #[serde(rename = "containerID")]
        container_id: String,
        ifname: String,
    }
    let given = LISTS.map(|key| config.get(key).map(|list| (key, list)));
    let mut given = given.into_iter().flatten();
    let first = given.next();
    let is_list = |(_, list): &(_, &Value)| !list.is_null();
    // Null is a list too: runtimes in Go have that where the network has no pod.
    let Some((key, list)) = first.filter(is_list).or(given.find(is_list)).or(first) else {
        return Err(ConfigError::Invalid {
            key: LISTS[0].to_owned(),
            reason: "is required for GC: without it every attachment would go".to_owned(),
        });
    };
    let invalid = |error: serde_json::Error| ConfigError::Invalid {
        key: key.to_owned(),
        reason: error.to_string(),
    };
    let keys = Option::<Vec<Listed>>::deserialize(list).map_err(invalid)?;
    // No attachment of ours has a name that no interface can have.
    let keys = keys.into_iter().flatten().filter_map(
        |Listed {
             container_id,
             ifname,
         }| key_of(container_id, &ifname),
    );
    let list = Option::<Vec<Value>>::deserialize(list).map_err(invalid)?;
    Ok((keys.collect(), list.unwrap_or_default()))
}

fn key_of(container_id: String, ifname: &str) -> Option<Key> {
    Some(Key::of(&Attachment {
        container_id,
        ifname: ifname.parse().ok()?,
        netns: None,
    }))
}

/// The network that is cleaned.
struct Network<'a> {
    call: &'a Call<'a>,
    journal: &'a Journal,
    common: &'a Common,
    attach: &'a PortMode,
}

impl Network<'_> {
    /// The list for IPAM, which keeps its addresses by the network's name alone: those of
    /// other networks of that name are in use. What is `listed` is in it already, so IPAM frees
    /// nothing of it, whether its record can be read or not.
    fn list_for_ipam(
        &self,
        listed: &HashSet<Key>,
        mut list: Vec<Value>,
    ) -> Result<Vec<Value>, Error> {
        let keys = self.journal.keys()?;
        for key in keys.into_iter().filter(|key| !listed.contains(key)) {
            let entry = self.call.record(self.journal, &key)?;
            if let Some(Entry { record, .. }) = entry.filter(|entry| !self.has(entry))
                && record.network == self.common.network
            {
                list.push(json!({"containerID": record.container_id, "ifname": record.ifname}));
            }
        }
        // One that can't be read is set aside by now.
        self.journal.all_readable_but(listed)?;
        Ok(list)
    }

    fn has(&self, entry: &Entry) -> bool {
        let record = &entry.record;
        let ipam = record.ipam.as_ref().map(|ipam| &ipam.name);
        record.network == self.common.network
            && record.agent == self.common.agent.addr().to_string()
            && ipam == self.common.ipam.as_ref()
            && record.port.attach.is_as(self.attach)
    }

    fn remove(&self, key: &Key, entry: &Entry) -> Result<(), Error> {
        let Self { call, journal, .. } = self;
        let name = entry.record.attachment().to_string();
        if Instant::now() >= call.deadline {
            let message = format!("no time was left for {name}; GC again");
            return Err(Error::Busy(message));
        }
        let until = call.deadline.min(Instant::now() + GC_PATIENCE);
        let locked = call.lock_attachment(journal, entry, until)?;
        let Some((_own, held)) = locked.filter(|(_, held)| self.has(held.entry())) else {
            return Ok(());
        };
        call.log.info(format_args!("removing {name}"));
        let undone = undo_left(call, journal, Left::of(held), Why::Gc);
        // A VF that is still on its way home is the sweep's.
        let mut failures = undone.failures.into_iter();
        let Some(first) = failures.next() else {
            return Ok(());
        };
        // GC's answer has one of each attachment.
        for further in failures {
            call.log.warn(chain(&further));
        }
        if let Err(error) = journal.note_failure(Subject::Attachment(key)) {
            call.log.warn(chain(&error));
        }
        Err(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &Value) -> Result<Vec<Key>, ConfigError> {
        Ok(listed(config)?.0.into_iter().collect())
    }

    #[test]
    fn either_key_gives_the_list_and_the_newer_one_counts() {
        let one = json!([{"containerID": "c1", "ifname": "net1"}]);
        let two = json!([{"containerID": "c2", "ifname": "net1"}]);
        let [new, old] = LISTS;
        let first = read(&json!({new: one, old: two})).unwrap();
        assert_eq!(first, [key_of("c1".to_owned(), "net1").unwrap()]);
        assert_eq!(read(&json!({old: one})).unwrap(), first);
        assert_eq!(read(&json!({new: null, old: one})).unwrap(), first);
        assert_eq!(read(&json!({new: one, old: null})).unwrap(), first);
        assert_eq!(read(&json!({new: []})).unwrap(), []);
    }

    #[test]
    fn a_list_that_is_null_has_no_attachment_in_it() {
        let [new, old] = LISTS;
        for config in [
            json!({new: null, old: null}),
            json!({ new: null }),
            json!({ old: null }),
        ] {
            assert_eq!(read(&config).unwrap(), [], "{config}");
        }
    }

    #[test]
    fn a_list_that_is_missing_or_broken_is_told_by_its_key() {
        let [new, old] = LISTS;
        for (config, key) in [
            (json!({}), new),
            (json!({new: {}, old: null}), new),
            (json!({new: {}}), new),
            (json!({old: "c1"}), old),
            (json!({new: [{"containerID": "c1"}], old: []}), new),
        ] {
            let told = read(&config).unwrap_err();
            assert!(
                matches!(&told, ConfigError::Invalid { key: told, .. } if told == key),
                "{told}"
            );
        }
    }
}
