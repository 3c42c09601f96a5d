//! What the agent put into FRR's base BGP instance, kept beside the store. Once the configuration
//! has dropped such a line, only this account shows that it is ours and not an operator's.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use xpu_plan::frr::{Daemon, Line};

/// The file's name in the store's directory.
const FILE: &str = "frr-lines.json";

/// Why the account cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be read or written.
    #[error("cannot keep {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what this agent writes.
    #[error("{} is damaged; without it lines of the base BGP instance stay in FRR when the \
             configuration drops them: see to them and delete the file", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The account: lines of bgpd's, each with its contexts.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
    lines: BTreeSet<Line>,
}

impl Ledger {
    /// Reads the account in the store's directory; none there is an empty one.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when the file is there and cannot be read, [`LedgerError::Damaged`] when
    /// it is not a list of lines.
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => b"[]".to_vec(),
            Err(source) => return Err(LedgerError::Io { path, source }),
        };
        let read: Vec<Vec<String>> = match serde_json::from_slice(&text) {
            Ok(read) => read,
            Err(source) => return Err(LedgerError::Damaged { path, source }),
        };
        let line = |mut words: Vec<String>| {
            let text = words.pop()?;
            Some(Line {
                daemon: Daemon::Bgpd,
                path: words,
                text,
            })
        };
        let lines = read.into_iter().filter_map(line).collect();
        Ok(Self { path, lines })
    }

    /// The lines.
    #[must_use]
    pub const fn lines(&self) -> &BTreeSet<Line> {
        &self.lines
    }

    /// Makes these the lines, on disk first.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when the file cannot be written; the account is what it was then, and the
    /// file what it was or is to be.
    pub fn set(&mut self, lines: BTreeSet<Line>) -> Result<(), LedgerError> {
        if lines == self.lines {
            return Ok(());
        }
        let words = |line: &Line| [line.path.as_slice(), std::slice::from_ref(&line.text)].concat();
        let json: Vec<Vec<String>> = lines.iter().map(words).collect();
        self.write(&json).map_err(|source| LedgerError::Io {
            path: self.path.clone(),
            source,
        })?;
        self.lines = lines;
        Ok(())
    }

    fn write(&self, json: &[Vec<String>]) -> io::Result<()> {
        let temporary = self.path.with_extension("json.new");
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        serde_json::to_writer(&mut file, json)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The name is on disk once its directory is (fsync(2)).
        self.path
            .parent()
            .map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_outlives_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(directory.path()).unwrap();
        assert!(ledger.lines().is_empty());
        let family = ["router bgp 65001", "address-family l2vpn evpn"];
        let lines = BTreeSet::from([
            Line::new(Daemon::Bgpd, &family, "advertise-all-vni"),
            Line::new(Daemon::Bgpd, &family[..1], "bgp router-id 10.0.0.1"),
        ]);
        ledger.set(lines.clone()).unwrap();
        assert_eq!(Ledger::open(directory.path()).unwrap().lines(), &lines);
        fs::write(directory.path().join(FILE), "{").unwrap();
        let message = Ledger::open(directory.path()).unwrap_err().to_string();
        assert!(message.contains("delete the file"), "{message}");
    }
}
