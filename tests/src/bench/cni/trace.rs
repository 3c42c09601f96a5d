//! What a program did, as `strace` saw it: system calls, programs started, netlink messages.

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
    netlink::{Message, messages},
    strace::{Line, Log, Syscall},
};

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
        let log = Log::new(log);
        let mut netlink = BTreeSet::new();
        let mut unix = BTreeSet::new();
        // Whether dumped bytes belong to a netlink send.
        let mut sending = false;
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for line in log.lines() {
            let call = match line {
                Line::Bytes(bytes) => {
                    if sending && let Some(datagram) = sent.last_mut() {
                        datagram.extend(bytes);
                    }
                    continue;
                }
                Line::Resumed { .. } => continue,
                Line::Call(call) => call,
            };
            sending = false;
            if call.process != log.program {
                continue;
            }
            trace.calls.push(call.name.to_owned());
            let first = call.first();
            match call.name {
                "socket" if first == "AF_NETLINK" => netlink.extend(call.result()),
                "socket" if first == "AF_UNIX" => unix.extend(call.result()),
                "close" => {
                    netlink.remove(first);
                    unix.remove(first);
                }
                "epoll_wait" => trace.listens += 1,
                "recvfrom" if unix.contains(first) => trace.listens += 1,
                "sendto" | "sendmsg" | "write" | "writev" if netlink.contains(first) => {
                    sending = true;
                    sent.push(Vec::new());
                }
                "openat" if writes_setting(&call) => {
                    trace.settings.extend(call.text(0).map(str::to_owned));
                }
                _ => {}
            }
        }
        trace.sends = sent.iter().map(|datagram| messages(datagram)).collect();
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

/// Whether a file of the kernel's settings is opened for writing.
fn writes_setting(call: &Syscall<'_>) -> bool {
    call.arguments.contains("O_WRONLY") && call.arguments.contains("/proc/sys/")
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
}
