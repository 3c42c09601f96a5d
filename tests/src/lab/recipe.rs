//! What the guest image is made of, and the name that follows from it.
//!
//! An image is cached under the hash of all that decides its content, so that a changed recipe
//! builds a new one and an unchanged one never does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::paths::short_hex;

/// The code that makes an image.
const MAKERS: [&str; 3] = [
    include_str!("image.rs"),
    include_str!("initramfs.rs"),
    include_str!("recipe.rs"),
];

/// Debian's release in the guest.
pub const SUITE: &str = "trixie";

/// Where its packages come from, as lines of `sources.list`.
pub const SOURCES: [&str; 3] = [
    "deb http://deb.debian.org/debian trixie main",
    "deb http://deb.debian.org/debian trixie-updates main",
    "deb http://deb.debian.org/debian-security trixie-security main",
];

/// Loaded by the initramfs, with what they depend on, before the root file system is there.
/// `crc32c_generic` is asked for by name at run time, so that no dependency names it.
pub const EARLY_MODULES: [&str; 4] = ["crc32c_generic", "virtio_blk", "ext4", "overlay"];

/// The program that the kernel starts.
pub const INITRAMFS_INIT: &str = include_str!("../../image/initramfs-init.sh");

const PACKAGES: &str = include_str!("../../image/packages");

/// The files that `customize.sh` needs beside itself.
const FILES: [(&str, &str); 5] = [
    ("customize.sh", include_str!("../../image/customize.sh")),
    ("modules.keep", include_str!("../../image/modules.keep")),
    ("inittab", include_str!("../../image/inittab")),
    ("setup.sh", include_str!("../../image/setup.sh")),
    ("agent.sh", include_str!("../../image/agent.sh")),
];

/// The name of the image that this recipe makes.
pub fn hash() -> String {
    let inputs = [SUITE, PACKAGES, INITRAMFS_INIT]
        .into_iter()
        .chain(MAKERS)
        .chain(SOURCES)
        .chain(EARLY_MODULES)
        .chain(FILES.iter().flat_map(|(name, content)| [*name, *content]));
    hash_of(inputs)
}

fn hash_of<'a>(inputs: impl Iterator<Item = &'a str>) -> String {
    let mut digest = Sha256::new();
    for input in inputs {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        digest.update(input.len().to_le_bytes());
        digest.update(input);
    }
    short_hex(&digest.finalize())
}

/// Debian packages of the guest.
pub fn packages() -> impl Iterator<Item = &'static str> {
    PACKAGES
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Writes the files of the recipe into a folder, as `mmdebstrap` runs them from there.
///
/// # Errors
/// What the file system said.
pub fn write_files(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (name, content) in FILES {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_every_input_and_its_borders() {
        let base = hash_of(["ab", "c"].into_iter());
        for other in [["ab", "d"], ["x", "c"], ["a", "bc"], ["c", "ab"]] {
            assert_ne!(base, hash_of(other.into_iter()), "{other:?}");
        }
        assert_eq!(base, hash_of(["ab", "c"].into_iter()));
    }

    #[test]
    fn the_package_list_has_names_only() {
        let names: Vec<_> = packages().collect();
        assert!(names.contains(&"frr"), "{names:?}");
        for name in names {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            assert!(name.chars().all(plain), "{name:?}");
        }
    }
}
