//! The device-info file (Kubernetes network plumbing group, device-info-spec 1.1.0): what the pod
//! got, for its programs, where `runtimeConfig.CNIDeviceInfoFile` says.
//!
//! The path comes with the network's configuration, whose author is not root. So only a file
//! right in the folder that the specification keeps for it is written.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use xpu_linux::sysfs::{Parent, PciAddr};

use crate::{error::Error, host::read_small};

/// `/var/run` is `/run` on every system, and Multus writes the former.
const ALIAS: &str = "/var/run";

/// The path that a configuration may name: right in `folder`, under a plain name.
#[must_use]
pub fn accept(folder: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let name = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let parent = match parent.strip_prefix(ALIAS) {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => parent.to_owned(),
    };
    let plain = !name.starts_with('.') && !name.contains(|c: char| c.is_control());
    // Compared as written: `..` and links in between have no second meaning then.
    (plain && parent.as_os_str() == folder.as_os_str()).then(|| folder.join(name))
}

/// Writes the file, whole or not at all.
///
/// # Errors
/// [`Error::Io`] when it can't be written; a temporary file may be left, which [`remove`] takes along.
pub fn write(path: &Path, pci: &PciAddr, parent: &Parent) -> Result<(), Error> {
    let device = json!({ "pci-address": pci.as_str(), "pf-pci-address": parent.pci.as_str() });
    let document = json!({ "type": "pci", "version": "1.1.0", "pci": device });
    let temporary = temporary(path);
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        file.write_all(document.to_string().as_bytes())?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| Error::Io {
        what: format!("write the device-info file {}", path.display()),
        source,
    })
}

/// Where the file is written before it has its name, which begins with no dot.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Removes the file, and what a writer that was killed left of it; that there is none is success. A
/// file about another device stays: the runtime may have given the path to another pod.
///
/// # Errors
/// [`Error::Io`] when the file can't be read, or one of both can't be removed.
pub fn remove(path: &Path, pci: &PciAddr) -> Result<(), Error> {
    let failed = |action: &str, path: &Path, source| Error::Io {
        what: format!("{action} the device-info file {}", path.display()),
        source,
    };
    match read_small(path) {
        Ok(text) if !is_about(&text, pci) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("read", path, error));
        }
        _ => {}
    }
    for path in [path, &temporary(path)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_about(text: &str, pci: &PciAddr) -> bool {
    serde_json::from_str::<Value>(text)
        .is_ok_and(|document| document["pci"]["pci-address"] == pci.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_in_the_folder_is_accepted() {
        let folder = Path::new("/run/k8s.cni.cncf.io/devinfo/cni");
        for path in [
            "/run/k8s.cni.cncf.io/devinfo/cni/ns1-red-cont1_net7",
            "/var/run/k8s.cni.cncf.io/devinfo/cni/ns1-red-cont1_net7",
        ] {
            let accepted = accept(folder, path).unwrap();
            assert_eq!(accepted, folder.join("ns1-red-cont1_net7"));
        }
        for path in [
            "",
            "x",
            "/etc/passwd",
            "/run/k8s.cni.cncf.io/devinfo/cni",
            "/run/k8s.cni.cncf.io/devinfo/cni/",
            "/run/k8s.cni.cncf.io/devinfo/cni/../../../../etc/passwd",
            "/run/k8s.cni.cncf.io/devinfo/cni/sub/x",
            "/run/k8s.cni.cncf.io/devinfo/cni/.hidden",
            "/run/k8s.cni.cncf.io/devinfo/cni/..",
        ] {
            assert_eq!(accept(folder, path), None, "{path}");
        }
    }

    #[test]
    fn what_is_written_is_by_the_specification_and_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devinfo/cni/x");
        let pci: PciAddr = "0000:af:06.0".parse().unwrap();
        let parent = Parent {
            pci: "0000:af:00.0".parse().unwrap(),
            netdev: None,
        };
        write(&path, &pci, &parent).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "type": "pci", "version": "1.1.0",
            "pci": { "pci-address": "0000:af:06.0", "pf-pci-address": "0000:af:00.0" }
        });
        assert_eq!(read, expected);
        for other in ["0000:af:06.1", "0000:af:00.0"] {
            remove(&path, &other.parse().unwrap()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(temporary(&path), "{").unwrap();
        remove(&path, &pci).unwrap();
        remove(&path, &pci).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }
}
