//! The journal's locks: what each is about.

use xpu_linux::sysfs::PciAddr;

use super::Journal;
use crate::{
    lock::{About, Place},
    port::Key,
};

impl Journal {
    /// The lock for work on a VF.
    #[must_use]
    pub fn vf_lock(&self, pci: &PciAddr) -> Place {
        self.place(About::Vf(pci.clone()))
    }

    /// The lock for work on an attachment, whether it has a record or not yet.
    #[must_use]
    pub fn attachment_lock(&self, key: &Key) -> Place {
        self.place(About::Attachment(key.clone()))
    }

    /// The lock for the node's turn at RTNL.
    #[must_use]
    pub fn turn_lock(&self) -> Place {
        self.place(About::Turn)
    }

    /// The lock for the draining of tombstones.
    #[must_use]
    pub fn drain_lock(&self) -> Place {
        self.place(About::Drain)
    }

    fn place(&self, about: About) -> Place {
        // Not `locks`: earlier versions have a folder of that name.
        let file = self.root.join("lock");
        Place { file, about }
    }
}
