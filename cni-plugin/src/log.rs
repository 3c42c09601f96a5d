//! The plugin's log: lines on stderr or in a file, never on stdout, which belongs to
//! the answer.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    time::{SystemTime, UNIX_EPOCH},
};

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// What an operator must see.
    Error,
    /// What may become an error.
    Warn,
    /// What a call did, what it did for others, and how long it took.
    #[default]
    Info,
}

impl Level {
    /// Reads `logLevel`; what isn't known is the default, which is also the most there is, since a
    /// log must not be what keeps a pod from starting.
    #[must_use]
    pub fn from_config(text: Option<&str>) -> Self {
        match text.map(str::to_ascii_lowercase).as_deref() {
            Some("error" | "panic") => Self::Error,
            Some("warn" | "warning") => Self::Warn,
            _ => Self::Info,
        }
    }
}

/// Opens a log file. Neither a link nor a pipe nor a device: they could lead elsewhere, or wait.
fn open(path: &str) -> Option<File> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

/// Where the lines of one call go.
#[derive(Debug)]
pub struct Log {
    level: Level,
    file: Option<File>,
    prefix: String,
}

impl Log {
    /// A log at `level`, into `file` if one is given and can be opened, else to stderr.
    /// Each line carries `prefix`.
    #[must_use]
    pub fn new(level: Level, file: Option<&str>, prefix: String) -> Self {
        Self {
            level,
            file: file.and_then(open),
            prefix,
        }
    }

    /// Writes a line. That it can't be written is nobody's error.
    pub fn write(&self, level: Level, text: impl fmt::Display) {
        if level > self.level {
            return;
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // What agents and IPAM plugins say is not ours: it can't begin a line of its own.
        let text = text.to_string();
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        // One write, so that lines of parallel calls don't mix.
        let line = format!(
            "{}.{:03} {level:?} {} {text}\n",
            now.as_secs(),
            now.subsec_millis(),
            self.prefix
        );
        let _unwritable = match self.file.as_ref() {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    /// A line at [`Level::Warn`].
    pub fn warn(&self, text: impl fmt::Display) {
        self.write(Level::Warn, text);
    }

    /// A line at [`Level::Info`].
    pub fn info(&self, text: impl fmt::Display) {
        self.write(Level::Info, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_stays_on_its_line_and_in_a_plain_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::new(Level::Info, path.to_str(), "ADD c1 net1".to_owned());
        log.info("refused\nssh-rsa AAAA\x1b[2J");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text:?}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for other in ["/dev/stdout", "/dev/null", link.to_str().unwrap()] {
            assert!(open(other).is_none(), "{other}");
        }
    }
}
