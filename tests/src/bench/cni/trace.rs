//! What a program did, as `strace` saw it: system calls, programs started, netlink messages.
//!
//! Messages are read from the very bytes that went into the kernel (`linux/netlink.h`,
//! `linux/rtnetlink.h`, `linux/if_link.h`): no code of the product's, and no codec that it uses,
//! has a part in this.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{
    calls::{Call, Plugin},
    deeds::{self, Deed},
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const NLM_F_DUMP: u16 = 0x300;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_NET_NS_PID: u16 = 19;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_ALT_IFNAME: u16 = 53;
const IFF_UP: u32 = 1;

/// What one run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The system calls of the program itself, by name, in their order; its children's not.
    pub calls: Vec<String>,
    /// How many of them wait for the agent's answer or read it: that depends on the pieces in which
    /// it arrives, so on which of the two programs has a processor when.
    pub listens: usize,
    /// The netlink messages that it sent, one list for each system call.
    pub sends: Vec<Vec<Message>>,
    /// The kernel settings that it wrote to.
    pub settings: Vec<String>,
    /// What it did to files, sockets and other programs.
    pub deeds: Vec<Deed>,
}

/// A netlink message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// Whether it changes a link.
    #[must_use]
    pub fn changes_link(&self) -> bool {
        matches!(self.kind, RTM_NEWLINK | RTM_SETLINK)
    }

    /// Whether it moves a link to another namespace.
    #[must_use]
    pub fn moves(&self) -> bool {
        self.changes_link() && (self.has(IFLA_NET_NS_FD) || self.has(IFLA_NET_NS_PID))
    }

    /// Whether it brings a link up (`Some(true)`) or down; `None`: neither.
    #[must_use]
    pub fn brings(&self) -> Option<bool> {
        let word = |at: usize| {
            let bytes = self.body.get(at..at + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        // struct ifinfomsg: family, padding, type, index, flags, change mask.
        let (flags, mask) = (word(8)?, word(12)?);
        (self.changes_link() && mask & IFF_UP != 0).then_some(flags & IFF_UP != 0)
    }

    /// Whether it asks for a link by a name, which takes RTNL.
    #[must_use]
    pub fn asks_by_name(&self) -> bool {
        self.kind == RTM_GETLINK
            && self.flags & NLM_F_DUMP == 0
            && (self.has(IFLA_IFNAME) || self.has(IFLA_ALT_IFNAME))
    }

    /// Whether it lists links: what that costs grows with their number.
    #[must_use]
    pub fn lists_links(&self) -> bool {
        self.kind == RTM_GETLINK && self.flags & NLM_F_DUMP != 0
    }

    /// Whether it renames, sets the MTU and the MAC, in this order.
    #[must_use]
    pub fn sets(&self) -> [bool; 3] {
        [IFLA_IFNAME, IFLA_MTU, IFLA_ADDRESS].map(|kind| self.changes_link() && self.has(kind))
    }

    fn has(&self, wanted: u16) -> bool {
        let mut rest = self.body.get(16..).unwrap_or_default();
        while let Some(&[a, b, c, d]) = rest.first_chunk() {
            if u16::from_ne_bytes([c, d]) & 0x3fff == wanted {
                return true;
            }
            let length = usize::from(u16::from_ne_bytes([a, b])).max(4);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        false
    }
}

impl Trace {
    /// Runs a call that must succeed under `strace`, in the namespaces of this thread.
    ///
    /// # Errors
    /// Where it can't be run, or the call fails.
    pub fn of(plugin: &Plugin, call: &Call) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("trace");
        let descriptors: Vec<_> = (3..64).map(|number: u32| number.to_string()).collect();
        let mut command = Command::new("strace");
        plugin.environment(&mut command, call);
        command
            .args(["-f", "-qq", "-s", "0", "-e", "signal=none"])
            .args(["-e", &format!("write={}", descriptors.join(","))])
            .arg("-o")
            .arg(&log)
            .arg(&plugin.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .context("cannot start strace; `make lab` installs it")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(call.stdin.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{} failed: {}",
            call.verb,
            String::from_utf8_lossy(&output.stdout)
        );
        Ok(Self::read(&fs::read_to_string(&log)?))
    }

    /// Reads what `strace -f -e write=…` wrote.
    #[must_use]
    pub fn read(log: &str) -> Self {
        let mut trace = Self {
            deeds: deeds::read(log),
            ..Self::default()
        };
        let program = log.split(' ').next().unwrap_or_default();
        let mut netlink = BTreeSet::new();
        let mut unix = BTreeSet::new();
        // Whether dumped bytes belong to a netlink send.
        let mut sending = false;
        let mut bytes: Vec<Vec<u8>> = Vec::new();
        for line in log.lines() {
            if let Some(dump) = line.strip_prefix(" | ") {
                if sending && let Some(datagram) = bytes.last_mut() {
                    datagram.extend(dumped(dump));
                }
                continue;
            }
            let Some((process, call)) = line.split_once(' ') else {
                continue;
            };
            let call = call.trim_start();
            let Some((name, arguments)) = call.split_once('(') else {
                continue;
            };
            if line.starts_with(" *") || call.starts_with("<...") || call.starts_with("+++") {
                continue;
            }
            sending = false;
            if process != program {
                continue;
            }
            trace.calls.push(name.to_owned());
            let first = arguments.split([',', ')']).next().unwrap_or_default();
            let result = call.rsplit_once(" = ").map(|(_, number)| number);
            match name {
                "socket" if first == "AF_NETLINK" => netlink.extend(result),
                "socket" if first == "AF_UNIX" => unix.extend(result),
                "close" => {
                    netlink.remove(first);
                    unix.remove(first);
                }
                "epoll_wait" => trace.listens += 1,
                "recvfrom" if unix.contains(first) => trace.listens += 1,
                "sendto" | "sendmsg" | "write" | "writev" if netlink.contains(first) => {
                    sending = true;
                    bytes.push(Vec::new());
                }
                "openat" if arguments.contains("O_WRONLY") && arguments.contains("/proc/sys/") => {
                    let path = arguments.split('"').nth(1);
                    trace.settings.extend(path.map(str::to_owned));
                }
                _ => {}
            }
        }
        trace.sends = bytes.iter().map(|datagram| messages(datagram)).collect();
        trace
    }

    /// The programs that it started.
    pub fn started(&self) -> impl Iterator<Item = &str> {
        self.deeds.iter().filter_map(|deed| match deed {
            Deed::Started(path) => Some(path.as_str()),
            _ => None,
        })
    }

    /// The messages and settings that take RTNL.
    #[must_use]
    pub fn at_rtnl(&self) -> usize {
        // Those of net/ipv6/addrconf.c whose handlers lock it.
        const LOCKING: [&str; 7] = [
            "addr_gen_mode",
            "disable_ipv6",
            "disable_policy",
            "forwarding",
            "ignore_routes_with_linkdown",
            "proxy_ndp",
            "stable_secret",
        ];
        let locks = |path: &&String| LOCKING.iter().any(|name| path.ends_with(name));
        self.messages().count() + self.settings.iter().filter(locks).count()
    }

    /// All messages.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.sends.iter().flatten()
    }
}

/// The bytes of a line `00000  34 00 00 00 10 00 05 00  …   4....... `.
pub(super) fn dumped(line: &str) -> impl Iterator<Item = u8> {
    const OFFSET: usize = 7;
    const COLUMNS: usize = 49;
    let columns = line.get(OFFSET..).unwrap_or_default();
    let columns = columns.get(..COLUMNS.min(columns.len()));
    let words = columns.unwrap_or_default().split_whitespace();
    words.filter_map(|word| u8::from_str_radix(word, 16).ok())
}

/// The messages of a datagram.
pub(super) fn messages(mut datagram: &[u8]) -> Vec<Message> {
    let mut found = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence number, port.
    while let Some(header) = datagram.first_chunk::<16>() {
        let [a, b, c, d, k, l, f, g, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]);
        let length = usize::try_from(length).unwrap_or(usize::MAX).max(16);
        found.push(Message {
            kind: u16::from_ne_bytes([k, l]),
            flags: u16::from_ne_bytes([f, g]),
            body: datagram.get(16..length).unwrap_or_default().to_vec(),
        });
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A move with a new name and up, in one message; an IPAM plugin in between; a write to a
    /// file that looks like a message.
    const LOG: &str = "\
7 execve(\"/bin/plugin\", [...], 0x7ffc /* 9 vars */) = 0
7 socket(AF_NETLINK, SOCK_DGRAM|SOCK_CLOEXEC, NETLINK_ROUTE) = 5
7 clone(child_stack=NULL, flags=SIGCHLD) = 8
8 execve(\"/opt/cni/bin/static\", [...], 0x7ffc /* 9 vars */ <unfinished ...>
7 socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 9
7 epoll_wait(10, [...], 1024, 8192)  = 1
7 recvfrom(9,  <unfinished ...>
8 <... execve resumed>) = 0
8 execve(\"/bin/none\", [...], 0x7ffc /* 9 vars */) = -1 ENOENT (No such file or directory)
8 execve(\"/opt/cni/bin/static\", [...], 0x7ffc /* 9 vars */) = 0
8 openat(AT_FDCWD, \"/etc/ld.so.cache\", O_RDONLY|O_CLOEXEC) = 3
7 <... recvfrom resumed>\"\", 8, 0, NULL, NULL) = 0
7 recvfrom(5, ..., 4096, 0, NULL, NULL) = 36
7 write(6, \"\"..., 4) = 4
 | 00000  20 00 00 00                                        ...              |
7 sendto(5, ..., 52, 0, NULL, 0)          = 52
 | 00000  34 00 00 00 10 00 05 00  01 00 00 00 00 00 00 00  4............... |
 | 00010  00 00 00 00 03 00 00 00  01 00 00 00 01 00 00 00  ................ |
 | 00020  08 00 1c 00 03 00 00 00  09 00 03 00 6e 65 74 31  ............net1 |
 | 00030  00 00 00 00                                       ....             |
7 openat(AT_FDCWD, \"/proc/sys/net/ipv6/conf/net1/disable_ipv6\", O_WRONLY|O_CLOEXEC) = 6
7 openat(AT_FDCWD, \"/proc/sys/net/ipv6/conf/net1/optimistic_dad\", O_WRONLY|O_CLOEXEC) = 7
7 close(5) = 0
7 sendto(5, ..., 3, 0, NULL, 0) = 3
 | 00000  10 00 00                                          ...             |
";

    #[test]
    fn calls_messages_and_programs_are_told_apart() {
        let trace = Trace::read(LOG);
        assert_eq!(trace.calls.len(), 13, "{:?}", trace.calls);
        assert_eq!(
            trace.listens, 2,
            "an answer of the kernel is none of the agent"
        );
        assert_eq!(
            trace.started().collect::<Vec<_>>(),
            ["/opt/cni/bin/static"; 2]
        );
        let folder = "/proc/sys/net/ipv6/conf/net1";
        let settings = ["disable_ipv6", "optimistic_dad"].map(|key| format!("{folder}/{key}"));
        assert_eq!(trace.settings, settings);
        assert_eq!(trace.at_rtnl(), 2);
        assert_eq!(trace.sends.len(), 1);
        let message = &trace.sends[0][0];
        assert!(message.moves() && !message.asks_by_name() && !message.lists_links());
        assert_eq!(message.brings(), Some(true));
        assert_eq!(message.sets(), [true, false, false]);
    }

    #[test]
    fn a_question_by_name_and_a_link_taken_down_are_seen() {
        let header = |kind: u16, flags: u16, length: u32| {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(flags.to_ne_bytes());
            bytes.extend([0; 8]);
            bytes
        };
        let mut asks = header(RTM_GETLINK, 5, 40);
        asks.extend([0; 16]);
        asks.extend([8, 0, 3, 0, b'v', b'f', b'0', 0]);
        let mut down = header(RTM_NEWLINK, 5, 32);
        down.extend([0; 12]);
        down.extend(IFF_UP.to_ne_bytes());
        let told = messages(&[asks, down].concat());
        assert!(told[0].asks_by_name());
        assert_eq!((told[1].brings(), told[1].moves()), (Some(false), false));
        assert_eq!(messages(&[1, 2, 3]), []);
    }
}
