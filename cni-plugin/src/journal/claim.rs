//! Who owns a VF: a symbolic link from the VF to the record of its owner. Only who holds the VF's lock
//! changes it.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use xpu_linux::sysfs::PciAddr;

use super::{
    Entry, Journal, JournalError,
    files::{file_error, remove},
};
use crate::port::Key;

impl Journal {
    fn claim_path(&self, pci: &PciAddr) -> PathBuf {
        self.root.join("vf").join(pci.as_str())
    }

    /// Makes an attachment the owner of a VF, in place of whoever was. The caller
    /// holds the VF's lock and has found out that nobody living owns it.
    ///
    /// # Errors
    /// [`JournalError::File`] when the claim can't be made; then nobody owns the VF, or who did.
    pub fn claim(&self, pci: &PciAddr, key: &Key) -> Result<(), JournalError> {
        let path = self.claim_path(pci);
        let target = Path::new("../attachments").join(key.as_str());
        let claimed = match symlink(&target, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                remove(&path)?;
                symlink(&target, &path)
            }
            claimed => claimed,
        };
        claimed.map_err(|source| file_error("claim the VF by", &path, source))
    }

    /// Who owns a VF.
    #[must_use]
    pub fn owner(&self, pci: &PciAddr) -> Option<Key> {
        let target = fs::read_link(self.claim_path(pci)).ok()?;
        Key::from_file_name(target.file_name()?.to_str()?)
    }

    /// Releases an attachment's claim on its VF. The caller holds the VF's lock and knows that the
    /// claim is this attachment's.
    ///
    /// # Errors
    /// [`JournalError::File`] when the claim can't be removed; it stays.
    pub fn release(&self, entry: &Entry) -> Result<(), JournalError> {
        remove(&self.claim_path(&entry.record.vf.pci))
    }

    /// Whether an attachment holds its VF. If not, it has given it back, with all that is of it, or
    /// its ADD never came to claim it: nothing but addresses can be left.
    #[must_use]
    pub fn holds_vf(&self, entry: &Entry) -> bool {
        self.owner(&entry.record.vf.pci).as_ref() == Some(&entry.key)
    }
}
