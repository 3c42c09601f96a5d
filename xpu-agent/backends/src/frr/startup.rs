//! FRR's startup configuration as a file: read, and replaced as a whole.

use std::{
    fs, io,
    ops::RangeInclusive,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use std::io::Write;

/// The one file for all daemons (FRR documentation, "Integrated configuration").
const FILE: &str = "frr.conf";
/// What a temporary copy is called, in the same directory so that it can be renamed.
const TEMPORARY: &str = ".frr.conf.xpu-agent";
/// Files of single daemons; with one of these and without [`FILE`], FRR reads no other.
const PER_DAEMON: [&str; 3] = ["mgmtd.conf", "zebra.conf", "bgpd.conf"];
/// Of a new file: FRR's daemons run as a user of their own, which the directory belongs to.
const MODE: u32 = 0o640;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// FRR's directory is not on this machine, or not in this container.
    #[error(
        "FRR's startup configuration can't be kept: {} isn't there; set frr.config_directory, or \
         frr.save to false",
        directory.display()
    )]
    NoDirectory {
        /// The directory.
        directory: PathBuf,
    },
    /// FRR keeps a file per daemon.
    #[error(
        "FRR's startup configuration can't be kept: {} has a file per daemon; make it one (`vtysh \
         -w` after `service integrated-vtysh-config`), or set frr.save to false",
        directory.display()
    )]
    PerDaemon {
        /// The directory.
        directory: PathBuf,
    },
    /// The file cannot be read or replaced.
    #[error(
        "FRR's startup configuration can't be kept in {}; mend that, or set frr.save to false",
        path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The startup configuration in one directory.
#[derive(Clone, Debug)]
pub struct Startup {
    directory: PathBuf,
}

impl Startup {
    /// That of the FRR which is configured in `directory`, `/etc/frr` mostly.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The text; empty where there is none yet. Bytes that are no UTF-8, in a description say, are
    /// characters of nobody's in it, and [`Self::write`] makes the same bytes of them.
    ///
    /// # Errors
    /// [`StartupError`] where FRR would not read such a file, or it can't be read.
    pub fn read(&self) -> Result<String, StartupError> {
        let path = self.directory.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = self.directory.clone();
                if !directory.is_dir() {
                    return Err(StartupError::NoDirectory { directory });
                }
                let is_there = |name: &&str| directory.join(name).exists();
                if PER_DAEMON.iter().any(is_there) {
                    return Err(StartupError::PerDaemon { directory });
                }
                Ok(String::new())
            }
            Err(source) => Err(StartupError::Io { path, source }),
        }
    }

    /// Replaces the text, in one step that a crash cannot halve. Owner and mode stay as they are.
    ///
    /// # Errors
    /// [`StartupError::Io`]; the old text is there then, or a new one that a power cut may undo.
    pub fn write(&self, text: &str) -> Result<(), StartupError> {
        let path = self.directory.join(FILE);
        let temporary = self.directory.join(TEMPORARY);
        let written = replace(&path, &temporary, text);
        written.map_err(|source| {
            // What is left of it is of no use to anybody.
            let _ = fs::remove_file(&temporary);
            StartupError::Io { path, source }
        })
    }
}

/// Stands for a byte that is no UTF-8, in Unicode's private use.
const ODD: RangeInclusive<u32> = 0x10_ff00..=0x10_ffff;

/// Every text of bytes as one of characters.
fn decode(bytes: &[u8]) -> String {
    let odd = |byte: &u8| char::from_u32(ODD.start() + u32::from(*byte));
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if ODD.contains(&u32::from(character)) {
                let mut buffer = [0; 4];
                let bytes = character.encode_utf8(&mut buffer).as_bytes();
                text.extend(bytes.iter().filter_map(odd));
            } else {
                text.push(character);
            }
        }
        text.extend(chunk.invalid().iter().filter_map(odd));
    }
    text
}

/// The way back.
fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for character in text.chars() {
        let odd = u32::from(character).checked_sub(*ODD.start());
        match odd.and_then(|odd| u8::try_from(odd).ok()) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn replace(path: &Path, temporary: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let (owner, mode) = match fs::metadata(path) {
        Ok(old) => (old.clone(), old.permissions().mode()),
        Err(_) => (fs::metadata(directory)?, MODE),
    };
    if let Err(error) = fs::remove_file(temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = fs::OpenOptions::new();
    // New, so that it is no link to somewhere else.
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(&encode(text))?;
    fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // The name is on disk once its directory is (fsync(2)).
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_frrs_and_an_old_one_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let startup = Startup::new(directory.path().to_owned());
        assert_eq!(startup.read().unwrap(), "");
        startup.write("router bgp 65001\n").unwrap();
        let path = directory.path().join(FILE);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(), MODE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        startup.write("router bgp 65002\n").unwrap();
        assert_eq!(
            (mode(), startup.read().unwrap().as_str()),
            (0o664, "router bgp 65002\n")
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn bytes_that_are_no_utf_8_stay() {
        let directory = tempfile::tempdir().unwrap();
        let startup = Startup::new(directory.path().to_owned());
        let path = directory.path().join(FILE);
        // Latin-1, an ordinary character, and one that stands for a byte.
        let bytes = b" description Z\xfcrich \xc3\xbc \xf4\x8f\xbf\xbc\xff\n";
        fs::write(&path, bytes).unwrap();
        let text = startup.read().unwrap();
        assert!(text.contains("rich ü "), "{text}");
        startup.write(&format!("router bgp 65001\n{text}")).unwrap();
        let expected = [b"router bgp 65001\n", &bytes[..]].concat();
        assert_eq!(fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn what_frr_would_not_read_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("bgpd.conf"), "").unwrap();
        let startup = Startup::new(directory.path().to_owned());
        assert!(matches!(
            startup.read(),
            Err(StartupError::PerDaemon { .. })
        ));
        let startup = Startup::new(directory.path().join("none"));
        let told = startup.read().unwrap_err().to_string();
        assert!(told.contains("set frr.config_directory"), "{told}");
    }
}
