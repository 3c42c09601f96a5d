//! The journal's records, as tests find and change them on disk.

use std::{fs, path::PathBuf};

use crate::harness::Node;

impl Node {
    /// The file of a record, by its name.
    pub fn record(&self, name: &str) -> PathBuf {
        self.root.path().join("state/attachments").join(name)
    }

    /// The file of the only record.
    #[track_caller]
    pub fn only_record(&self) -> PathBuf {
        let names = self.state("attachments");
        let [name] = &names[..] else {
            panic!("{names:?}")
        };
        self.record(name)
    }

    /// Makes the only record another text of what it is.
    #[track_caller]
    pub fn rewrite_record(&self, rewrite: impl FnOnce(&str) -> String) {
        let path = self.only_record();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, rewrite(&text)).unwrap();
    }
}

/// A record as an earlier boot of the kernel would have written it.
pub fn of_earlier_boot(text: &str) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    text.replace(boot.trim_end(), "an-earlier-boot")
}

/// A record as a power cut leaves it: only its first line was synced.
pub fn torn(text: &str) -> String {
    let (first, _) = text.split_once('\n').unwrap();
    format!("{first}\n")
}
