//! The initramfs: busybox, the modules that the root file system needs, and the init script.
//!
//! An uncompressed `cpio` archive in "newc" format (kernel documentation,
//! `driver-api/early-userspace/buffer-format`): the guest's processor is emulated, and unpacking
//! would be its work.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DATA: u32 = 0o100_644;

/// Makes the archive out of a guest's root.
///
/// # Errors
/// Where the root lacks busybox or one of the modules.
pub fn build(root: &Path, release: &str, modules: &[&str], init: &str) -> Result<Vec<u8>> {
    let library = root.join("usr/lib/modules").join(release);
    let dependencies = read_text(&library.join("modules.dep"))?;
    let mut archive = Archive::default();
    for folder in ["bin", "modules.d"] {
        archive.add(folder, DIRECTORY, &[])?;
    }
    archive.add("init", PROGRAM, init.as_bytes())?;
    archive.add(
        "bin/busybox",
        PROGRAM,
        &read(&root.join("usr/bin/busybox"))?,
    )?;
    let mut order = String::new();
    for path in load_order(&dependencies, modules)? {
        let name = file_name(&path);
        archive.add(
            &format!("modules.d/{name}"),
            DATA,
            &read(&library.join(&path))?,
        )?;
        order.push_str(name);
        order.push('\n');
    }
    archive.add("modules", DATA, order.as_bytes())?;
    archive.finish()
}

/// The paths of the modules and of all that they depend on, dependencies first, none twice.
///
/// `modules.dep` has a line `path: dependency...` per module; a module's dependencies are listed
/// in the reverse of their load order (`modules.dep(5)`).
fn load_order(modules_dep: &str, wanted: &[&str]) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for module in wanted {
        let line = modules_dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(path, _)| file_name(path).split('.').next() == Some(module));
        let Some((path, dependencies)) = line else {
            bail!("the image's kernel has no module {module}");
        };
        for path in dependencies.split_whitespace().rev().chain([path]) {
            if seen.insert(path) {
                order.push(path.to_owned());
            }
        }
    }
    Ok(order)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).context("file too long for an initramfs")?;
        let name_size = u32::try_from(name.len() + 1)?;
        // inode, mode, uid, gid, links, mtime, size, device (4 numbers), name's size, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.add("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko
kernel/fs/jbd2/jbd2.ko:
kernel/lib/crc16.ko:
kernel/fs/overlayfs/overlay.ko: kernel/lib/crc16.ko
";

    #[test]
    fn dependencies_come_first_and_once() {
        let order = load_order(DEP, &["ext4", "overlay"]).expect("known");
        let names: Vec<_> = order.iter().map(|path| file_name(path)).collect();
        assert_eq!(names, ["crc16.ko", "jbd2.ko", "ext4.ko", "overlay.ko"]);
    }

    #[test]
    fn an_unknown_module_is_named() {
        let error = load_order(DEP, &["zfs"]).expect_err("unknown");
        assert!(error.to_string().contains("zfs"), "{error}");
    }

    #[test]
    fn the_archive_has_the_newc_layout() {
        let mut archive = Archive::default();
        archive.add("ab", DATA, b"hello").expect("fits");
        let bytes = archive.finish().expect("fits");
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[54..62], b"00000005", "size field");
        assert_eq!(&bytes[94..102], b"00000003", "name size field");
        // The header of 110 bytes and the name with its NUL are padded to 116.
        assert_eq!(&bytes[110..113], b"ab\0");
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!(&bytes[124..130], b"070701", "the trailer is aligned");
        assert_eq!(bytes.len() % 4, 0);
    }
}
