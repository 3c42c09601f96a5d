//! Where on this machine the plugin looks and writes.
//!
//! The installed binary has these as constants; no configuration and no environment
//! reaches them, so a pod's author can't aim the plugin at other state. The tests'
//! own binary builds another [`Host`].

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use xpu_linux::{sysfs::Sysfs, vf};

/// The host-wide configuration files, of which the first that exists counts: ours, and those of the
/// public plugin.
pub(crate) const CONFIG_FILES: [&str; 3] = [
    "/etc/cni/net.d/xpu-cni.d/xpu-cni.conf",
    "/etc/kubernetes/cni/net.d/evpn-gw.d/evpn-gw.conf",
    "/etc/cni/net.d/evpn-gw.d/evpn-gw.conf",
];

/// The machine as the plugin sees it.
#[derive(Debug, Clone)]
pub struct Host {
    /// sysfs.
    pub sysfs: Sysfs,
    /// The journal's folder.
    pub state: PathBuf,
    /// Host-wide configuration files; the first that exists counts.
    pub config_files: Vec<PathBuf>,
    /// The folder of device-info files.
    pub device_info: PathBuf,
    /// How a link proves to be a VF.
    pub proof: vf::Proof,
    /// The file that names this boot of the kernel.
    pub boot: PathBuf,
    /// Called between any two side effects, with the name of the one to come. A test
    /// kills the process here.
    pub checkpoint: fn(&'static str),
}

impl Host {
    /// The real one.
    #[must_use]
    pub fn real() -> Self {
        Self {
            sysfs: Sysfs::at("/sys"),
            state: "/var/lib/cni/xpu-cni".into(),
            config_files: CONFIG_FILES.map(PathBuf::from).to_vec(),
            device_info: "/run/k8s.cni.cncf.io/devinfo/cni".into(),
            proof: vf::by_parent,
            boot: "/proc/sys/kernel/random/boot_id".into(),
            checkpoint: |_| {},
        }
    }

    /// Between two side effects: `name` is the one to come.
    pub(crate) fn checkpoint(&self, name: &'static str) {
        (self.checkpoint)(name);
    }

    /// What names this boot of the kernel; devices and settings end with it.
    ///
    /// # Errors
    /// When procfs isn't mounted.
    pub fn boot_id(&self) -> io::Result<&'static str> {
        // Every record that is looked at needs it.
        static KNOWN: OnceLock<String> = OnceLock::new();
        if let Some(known) = KNOWN.get() {
            return Ok(known);
        }
        let text = read_small(&self.boot)?;
        Ok(KNOWN.get_or_init(|| text.trim_end().to_owned()))
    }
}

/// Reads a file of a few lines in as few system calls as there can be: no question for its size,
/// and a read that leaves room has reached its end.
///
/// # Errors
/// The kernel's, and `InvalidData` where it isn't UTF-8.
pub fn read_small(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if length < bytes.len() {
            bytes.truncate(length);
            return String::from_utf8(bytes)
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error));
        }
        bytes.resize(2 * length, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_read_whole_and_so_is_a_large_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for length in [0, 1, 4095, 4096, 4097, 50_000] {
            let text = "x".repeat(length);
            std::fs::write(&path, &text).unwrap();
            assert_eq!(read_small(&path).unwrap(), text);
        }
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(
            read_small(&path).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        let none = read_small(&dir.path().join("none")).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }
}
