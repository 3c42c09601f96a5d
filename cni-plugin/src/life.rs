//! Whether an attachment is alive, for all that ask. What has ended may be finished by anybody.

use std::{io::ErrorKind, path::Path};

use xpu_linux::netns::NetNs;

use crate::{
    Call,
    error::Error,
    host::Host,
    journal::{Entry, NetNsRef, Step},
};

/// How far an attachment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Its ADD is at work, or was killed while its pod is still there.
    Attaching,
    /// Its ADD has ended well, and its pod is there.
    Attached,
    /// It is dead, so that its VF may have another owner. A runtime may not send its DEL again.
    Ended(Ended),
}

/// By what an attachment is dead. The first of these counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The kernel was booted since: its devices and namespaces are gone with the last one.
    EarlierBoot,
    /// Its undo has begun.
    Detaching,
    /// Its pod's namespace is gone, or another one by now.
    PodGone,
}

impl Call<'_> {
    /// Whether an attachment is alive.
    ///
    /// # Errors
    /// [`Error::BootId`].
    pub fn life(&self, entry: &Entry) -> Result<Life, Error> {
        self.life_where(entry, pod_lives)
    }

    /// The same where `pod_lives` tells whether the pod is there.
    ///
    /// # Errors
    /// [`Error::BootId`].
    pub fn life_where(
        &self,
        entry: &Entry,
        pod_lives: impl FnOnce(&NetNsRef) -> bool,
    ) -> Result<Life, Error> {
        // The pod last: only that costs a system call for each record.
        let ended = if !is_this_boot(self.host, entry)? {
            Ended::EarlierBoot
        } else if entry.has_begun(Step::Detaching) {
            Ended::Detaching
        } else if !pod_lives(&entry.record.netns) {
            Ended::PodGone
        } else if entry.has_begun(Step::Attached) {
            return Ok(Life::Attached);
        } else {
            return Ok(Life::Attaching);
        };
        Ok(Life::Ended(ended))
    }
}

/// Whether a record is of the running kernel.
///
/// # Errors
/// [`Error::BootId`]: a boot that can't be told is not another one, which would condemn every record.
pub fn is_this_boot(host: &Host, entry: &Entry) -> Result<bool, Error> {
    let boot_id = host.boot_id().map_err(Error::BootId)?;
    Ok(boot_id == entry.record.boot_id)
}

/// Whether a pod's namespace is still where it was; also if that can't be found out.
fn pod_lives(kept: &NetNsRef) -> bool {
    match NetNs::id_at(Path::new(&kept.path)) {
        Ok(found) => kept.is(found),
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        call::tests::bare,
        env::Vars,
        journal::{Journal, Record},
    };

    fn at(path: &str, ino: u64) -> NetNsRef {
        NetNsRef {
            path: path.to_owned(),
            dev: NetNs::current().unwrap().id().dev,
            ino,
        }
    }

    #[test]
    fn a_pod_lives_where_and_as_it_was() {
        let own = NetNs::current().unwrap().id();
        assert!(pod_lives(&at("/proc/self/ns/net", own.ino)));
        assert!(!pod_lives(&at("/proc/self/ns/net", own.ino + 1)));
        assert!(!pod_lives(&at("/run/netns/none-such", own.ino)));
        assert!(!pod_lives(&at("/etc/passwd/none", own.ino)));
        assert!(!pod_lives(&at("/etc/passwd", own.ino)));
    }

    #[test]
    fn what_an_attachment_died_of_first_counts() {
        use Step::{Attached, Detaching, Port};
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        let (host, vars) = (Host::real(), Vars::default());
        let call = bare(&host, &vars, Instant::now());
        let this_boot = host.boot_id().unwrap();
        let here = at("/proc/self/ns/net", NetNs::current().unwrap().id().ino);
        let gone = at("/run/netns/none-such", 1);
        let golden = include_str!("../tests/golden/record-v1.jsonl");
        let (golden, _) = Record::parse(golden).unwrap();
        for (boot, steps, pod, life) in [
            (this_boot, &[][..], &here, Life::Attaching),
            (this_boot, &[Port], &here, Life::Attaching),
            (this_boot, &[Port, Attached], &here, Life::Attached),
            (this_boot, &[Port], &gone, Life::Ended(Ended::PodGone)),
            (this_boot, &[Attached], &gone, Life::Ended(Ended::PodGone)),
            (
                this_boot,
                &[Port, Detaching],
                &here,
                Life::Ended(Ended::Detaching),
            ),
            (
                this_boot,
                &[Attached, Detaching],
                &gone,
                Life::Ended(Ended::Detaching),
            ),
            (
                "earlier",
                &[Attached],
                &here,
                Life::Ended(Ended::EarlierBoot),
            ),
            (
                "earlier",
                &[Attached, Detaching],
                &gone,
                Life::Ended(Ended::EarlierBoot),
            ),
        ] {
            let mut entry = journal
                .create(Record {
                    boot_id: boot.to_owned(),
                    netns: pod.clone(),
                    ..golden.clone()
                })
                .unwrap();
            for step in steps {
                entry.begin(*step).unwrap();
            }
            assert_eq!(call.life(&entry).unwrap(), life, "{boot} {steps:?} {pod:?}");
        }
    }
}
