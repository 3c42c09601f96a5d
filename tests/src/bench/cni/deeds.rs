//! What a program did to files, sockets and other programs, in its order, as `strace` saw it: the
//! order is what a journal promises.

use std::{collections::BTreeMap, path::Path};

use super::{
    netlink::{Message, messages},
    strace::{Line, Log},
};

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Bytes went to a file, by the name that it was opened by, or to a socket, by the address that
    /// it is connected to.
    Wrote {
        /// The file or the address; [`NETLINK`] for the kernel.
        to: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A file or a folder was made durable.
    Synced(String),
    /// A file got another name.
    Renamed {
        /// The name before.
        from: String,
        /// The name after.
        to: String,
    },
    /// A symbolic link was made.
    Linked(String),
    /// A file was removed.
    Removed(String),
    /// Another program was started, by its path.
    Started(String),
    /// It was waited for a file or a socket, for so many milliseconds at most.
    Waited(usize),
}

/// Where netlink messages go.
pub const NETLINK: &str = "netlink";

impl Deed {
    /// The netlink messages in it.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        match self {
            Self::Wrote { to, bytes } if to == NETLINK => messages(bytes),
            _ => Vec::new(),
        }
    }

    /// Whether it has these words for a socket or a file.
    #[must_use]
    pub fn tells(&self, whom: &str, words: &str) -> bool {
        let has = |bytes: &[u8]| bytes.windows(words.len()).any(|at| at == words.as_bytes());
        matches!(self, Self::Wrote { to, bytes } if to == whom && has(bytes))
    }
}

/// How far a file of a folder was made durable before the first deed that is `meant`, in steps:
/// written under another name, synced, given its name, and the folder synced. `None` where no deed
/// is meant.
pub fn durable_before(
    deeds: &[Deed],
    folder: &str,
    meant: impl Fn(&Deed) -> bool,
) -> Option<usize> {
    let before = deeds.iter().position(meant)?;
    let (mut steps, mut file) = (0, None);
    for deed in &deeds[..before] {
        let is_file = |name: &String| file == Some(name);
        match (steps, deed) {
            (0, Deed::Wrote { to, .. }) if lies_in(folder, to) => (steps, file) = (1, Some(to)),
            (1, Deed::Synced(name)) if is_file(name) => steps = 2,
            (2, Deed::Wrote { to, .. }) if is_file(to) => steps = 1,
            (2, Deed::Renamed { from, to })
                if is_file(from) && from != to && lies_in(folder, to) =>
            {
                steps = 3;
            }
            (3, Deed::Synced(name)) if Path::new(name).ends_with(folder) => steps = 4,
            _ => {}
        }
    }
    Some(steps)
}

/// Whether a path is right in a folder of that name.
#[must_use]
pub fn lies_in(folder: &str, path: &str) -> bool {
    let parent = Path::new(path).parent();
    parent.is_some_and(|parent| parent.ends_with(folder))
}

/// Reads what `strace -f -e write=…` wrote.
#[must_use]
pub fn read(log: &str) -> Vec<Deed> {
    let log = Log::new(log);
    // What each descriptor stands for.
    let mut open: BTreeMap<&str, &str> = BTreeMap::new();
    let mut deeds = Vec::new();
    // What each other process is about to start: two at work at once break each other's lines.
    let mut starting: BTreeMap<&str, &str> = BTreeMap::new();
    // Whether dumped bytes are of the last deed.
    let mut writing = false;
    for line in log.lines() {
        let call = match line {
            Line::Bytes(more) => {
                if writing && let Some(Deed::Wrote { bytes, .. }) = deeds.last_mut() {
                    bytes.extend(more);
                }
                continue;
            }
            Line::Resumed {
                process,
                name: "execve",
                rest,
            } => {
                let path = starting.remove(process);
                let path = path.filter(|_| rest.ends_with(" = 0"));
                deeds.extend(path.map(|path| Deed::Started(path.to_owned())));
                continue;
            }
            Line::Resumed { .. } => continue,
            Line::Call(call) => call,
        };
        writing = false;
        if call.failed() {
            continue;
        }
        let text = |number: usize| call.text(number).unwrap_or_default().to_owned();
        if call.process != log.program {
            match call.name {
                "execve" if call.result() == Some("0") => deeds.push(Deed::Started(text(0))),
                "execve" => starting.extend(call.text(0).map(|path| (call.process, path))),
                _ => {}
            }
            continue;
        }
        let first = call.first();
        match call.name {
            "openat" => open.extend(call.result().zip(call.text(0))),
            "socket" if first == "AF_NETLINK" => {
                open.extend(call.result().map(|it| (it, NETLINK)));
            }
            "connect" => open.extend(call.text(0).map(|path| (first, path))),
            "close" => {
                open.remove(first);
            }
            "write" | "writev" | "sendto" | "sendmsg" => {
                if let Some(to) = open.get(first) {
                    writing = true;
                    let (to, bytes) = ((*to).to_owned(), Vec::new());
                    deeds.push(Deed::Wrote { to, bytes });
                }
            }
            "fsync" | "fdatasync" => {
                deeds.extend(open.get(first).map(|it| Deed::Synced((*it).to_owned())));
            }
            "rename" | "renameat" | "renameat2" => deeds.push(Deed::Renamed {
                from: text(0),
                to: text(1),
            }),
            "symlink" | "symlinkat" => deeds.push(Deed::Linked(text(1))),
            "unlink" | "unlinkat" => deeds.push(Deed::Removed(text(0))),
            "poll" => deeds.extend(wait(call.arguments)),
            _ => {}
        }
    }
    deeds
}

/// The wait of a line `[...], 1, 200) = 0 (Timeout)`.
fn wait(arguments: &str) -> Option<Deed> {
    let (_, rest) = arguments.split_once("], ")?;
    let (_, timeout) = rest.split_once(", ")?;
    let digits = timeout.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().map(Deed::Waited)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
7 execve(\"/bin/plugin\", [...], 0x7ffc /* 9 vars */) = 0
7 socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3
7 connect(3, {sa_family=AF_UNIX, sun_path=\"/run/a.sock\"}, 14) = 0
7 openat(AT_FDCWD, \"/state/attachments/1.tmp\", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600) = 4
7 write(4, \"\"..., 2)                = 2
 | 00000  7b 7d                                             {}               |
7 fdatasync(4)                      = 0
7 rename(\"/state/attachments/1.tmp\", \"/state/attachments/1\") = 0
7 openat(AT_FDCWD, \"/state/attachments\", O_RDONLY|O_CLOEXEC) = 5
7 fsync(5)                          = 0
7 close(5)                          = 0
7 symlink(\"../attachments/1\", \"/state/vf/0\") = -1 EEXIST (File exists)
7 unlink(\"/state/vf/0\")           = 0
7 symlink(\"../attachments/1\", \"/state/vf/0\") = 0
7 writev(3, [...], 2) = 3
 * 2 bytes in buffer 0
 | 00000  63 6e                                             cn               |
 * 1 bytes in buffer 1
 | 00000  69                                                i                |
8 execve(\"/opt/cni/bin/static\", [...], 0x7ffc /* 9 vars */ <unfinished ...>
7 close(9 <unfinished ...>
8 <... execve resumed>) = 0
8 execve(\"/bin/none\", [...], 0x7ffc /* 9 vars */ <unfinished ...>
7 <... close resumed>) = 0
8 <... execve resumed>) = -1 ENOENT (No such file or directory)
8 execve(\"/bin/cat\", [...], 0x7ffc /* 9 vars */) = 0
8 unlink(\"/state/attachments/1\") = 0
7 poll([...], 1, 200)                = 0 (Timeout)
7 poll([...], 2, -1)                = 1 ([...])
";

    fn wrote(to: &str, bytes: &str) -> Deed {
        Deed::Wrote {
            to: to.to_owned(),
            bytes: bytes.as_bytes().to_vec(),
        }
    }

    #[test]
    fn deeds_are_told_by_what_they_are_done_to() {
        let deeds = read(LOG);
        let synced = |path: &str| Deed::Synced(path.to_owned());
        let expected = [
            wrote("/state/attachments/1.tmp", "{}"),
            synced("/state/attachments/1.tmp"),
            Deed::Renamed {
                from: "/state/attachments/1.tmp".to_owned(),
                to: "/state/attachments/1".to_owned(),
            },
            synced("/state/attachments"),
            Deed::Removed("/state/vf/0".to_owned()),
            Deed::Linked("/state/vf/0".to_owned()),
            wrote("/run/a.sock", "cni"),
            Deed::Started("/opt/cni/bin/static".to_owned()),
            Deed::Started("/bin/cat".to_owned()),
            Deed::Waited(200),
        ];
        assert_eq!(deeds, expected);
        assert!(deeds[6].tells("/run/a.sock", "cni"));
        assert!(!deeds[6].tells("/run/a.sock", "cnx"));
    }

    #[test]
    fn what_is_left_out_on_the_way_to_durable_is_found() {
        let is_linked = |deed: &Deed| matches!(deed, Deed::Linked(_));
        let steps = |log: &str| durable_before(&read(log), "attachments", is_linked);
        assert_eq!(steps(LOG), Some(4));
        for (left_out, reached) in [
            ("7 write(4", 0),
            ("7 fdatasync", 1),
            ("7 rename", 2),
            ("7 fsync", 3),
        ] {
            let lines = LOG.lines().filter(|line| !line.starts_with(left_out));
            let log: Vec<_> = lines.collect();
            assert_eq!(steps(&log.join("\n")), Some(reached), "{left_out}");
        }
        // Done after, it is too late; and what is never done comes after nothing.
        let early = LOG.replacen("7 fdatasync", "7 symlink(\"a\", \"b\") = 0\n7 fdatasync", 1);
        assert_eq!(steps(&early), Some(1));
        let never = LOG.replace("7 symlink", "7 mkdir");
        assert_eq!(steps(&never), None);
        let in_place = LOG.replace("1.tmp", "1");
        assert_eq!(steps(&in_place), Some(2));
        let again = LOG.replacen("7 rename", "7 write(4, \"\"..., 2) = 2\n7 rename", 1);
        assert_eq!(steps(&again), Some(1));
    }
}
