//! Builds the guest image: a Debian tree, made into an ext4 file, beside kernel and initramfs.
//!
//! A build happens in a folder of its own, which gets its final name when everything is in it:
//! an image that exists is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::initramfs;
use super::paths::Paths;
use super::preflight::{ensure_packages, ensure_space, find_tool};
use super::progress::{Progress, silent};
use super::recipe;

/// The tree, its packed copy, and the packages on the way, at their most.
const SPACE: u64 = 3 << 30;

/// What QEMU boots.
#[derive(Debug, Clone)]
pub struct Image {
    /// The recipe's hash, which is the folder's name.
    pub name: String,
    /// The kernel, as ELF file.
    pub kernel: PathBuf,
    /// What the kernel starts first.
    pub initramfs: PathBuf,
    /// The root file system, which nothing ever writes to.
    pub rootfs: PathBuf,
}

impl Image {
    fn in_folder(name: String, folder: &Path) -> Self {
        Self {
            name,
            kernel: folder.join("vmlinux"),
            initramfs: folder.join("initramfs"),
            rootfs: folder.join("rootfs.img"),
        }
    }
}

/// Whether the recipe's image is there already.
pub fn cached(paths: &Paths) -> Option<Image> {
    let name = recipe::hash();
    let folder = paths.cache.join(&name);
    folder.is_dir().then(|| Image::in_folder(name, &folder))
}

/// The recipe's image, built where it isn't cached.
///
/// # Errors
/// Where packages or space are missing, or a step fails; the message names the build's log.
pub fn ensure(paths: &Paths, progress: Progress) -> Result<Image> {
    if let Some(image) = cached(paths) {
        return Ok(image);
    }
    // One build at a time; who waited finds the image made.
    let lock = File::create(paths.cache.join("build.lock"))?;
    if lock.try_lock().is_err() {
        progress.say("waiting for another build of an image");
        lock.lock()?;
    }
    if let Some(image) = cached(paths) {
        return Ok(image);
    }
    let log = paths.cache.join("build.log");
    build(paths, progress, &log).with_context(|| {
        format!(
            "cannot build the guest image (all output: {})",
            log.display()
        )
    })?;
    cached(paths).context("the image vanished after its build")
}

fn build(paths: &Paths, progress: Progress, log: &Path) -> Result<()> {
    let mut log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    ensure_packages(progress, &mut log)?;
    ensure_space(&paths.cache, SPACE, "building a guest image")?;
    let name = recipe::hash();
    progress.say(format_args!(
        "building guest image {name}: about two minutes"
    ));

    let work = paths.cache.join("building");
    if work.exists() {
        fs::remove_dir_all(&work).context("cannot remove what a failed build left")?;
    }
    let (recipe_files, root) = (work.join("recipe"), work.join("root"));
    let result = work.join("result");
    recipe::write_files(&recipe_files)?;
    fs::create_dir_all(&result)?;

    progress.run(mmdebstrap(&root, &recipe_files)?, &mut log, step)?;
    let image = Image::in_folder(name.clone(), &result);
    fs::rename(root.join("boot/vmlinux"), &image.kernel).context("the recipe left no kernel")?;
    progress.say("packing the initramfs");
    let modules = recipe::EARLY_MODULES;
    let archive = initramfs::build(
        &root,
        &kernel_release(&root)?,
        &modules,
        recipe::INITRAMFS_INIT,
    )?;
    fs::write(&image.initramfs, archive)?;
    progress.say("packing the root file system");
    progress.run(mke2fs(&root, &image.rootfs)?, &mut log, silent)?;

    fs::rename(&result, paths.cache.join(name))?;
    fs::remove_dir_all(&work)?;
    progress.say("the guest image is ready");
    Ok(())
}

/// The part of an `I: ` line of mmdebstrap that is worth a line of ours.
fn step(line: &str) -> Option<&str> {
    line.strip_prefix("I: ")
        .filter(|what| what.ends_with("..."))
}

fn mmdebstrap(root: &Path, recipe_files: &Path) -> Result<Command> {
    let hook = recipe_files.join("customize.sh");
    let packages: Vec<_> = recipe::packages().collect();
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--variant=minbase", "--mode=root", "--format=directory"])
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--aptopt=Acquire::Retries \"3\"")
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        // The tree is thrown away when it is packed: no write needs to be durable.
        .arg("--dpkgopt=force-unsafe-io")
        .args(
            ["man", "doc", "locale"]
                .map(|what| format!("--dpkgopt=path-exclude=/usr/share/{what}/*")),
        )
        .arg(format!("--include={}", packages.join(",")))
        .arg(format!("--customize-hook='{}' \"$1\"", path_text(&hook)?))
        .arg(recipe::SUITE)
        .arg(root)
        .args(recipe::SOURCES);
    Ok(command)
}

fn mke2fs(root: &Path, image: &Path) -> Result<Command> {
    let tool = find_tool("mke2fs").context("mke2fs is not there")?;
    let mut command = Command::new(tool);
    // Never written to: no journal, no reserve, no spare inodes.
    command
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"])
        .args([root, image])
        .arg(format!("{}M", (tree_bytes(root)? >> 20) * 5 / 4 + 64));
    Ok(command)
}

/// Bytes that the files of a tree take, in whole blocks.
fn tree_bytes(folder: &Path) -> Result<u64> {
    const BLOCK: u64 = 4096;
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += metadata.len().next_multiple_of(BLOCK);
        if metadata.is_dir() {
            sum += tree_bytes(&entry.path())?;
        }
    }
    Ok(sum)
}

fn kernel_release(root: &Path) -> Result<String> {
    let mut releases = fs::read_dir(root.join("usr/lib/modules"))?;
    match (releases.next(), releases.next()) {
        (Some(release), None) => Ok(release?.file_name().to_string_lossy().into_owned()),
        _ => bail!("the image must have the modules of exactly one kernel"),
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .filter(|text| !text.contains('\''))
        .with_context(|| format!("the path {} can't be quoted for a shell", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_of_mmdebstrap_are_shown() {
        assert_eq!(
            step("I: extracting archives..."),
            Some("extracting archives...")
        );
        assert_eq!(step("I: success in 54 seconds"), None);
        assert_eq!(step("Setting up frr"), None);
    }

    #[test]
    fn a_tree_is_measured_in_blocks() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::create_dir(folder.path().join("sub")).expect("made");
        fs::write(folder.path().join("sub/one"), [0; 5000]).expect("written");
        let directory = fs::metadata(folder.path().join("sub"))
            .expect("there")
            .len();
        let expected = directory.next_multiple_of(4096) + 8192;
        assert_eq!(tree_bytes(folder.path()).expect("measured"), expected);
    }
}
