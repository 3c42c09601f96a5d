//! The floor: the one netlink request that no plugin can do without, sent by nobody else than
//! this process.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkMessage},
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    time::{ClockId, clock_gettime},
};

/// What a request took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Until the kernel has acknowledged it.
    pub wall: Duration,
    /// Processor time of this thread, nearly all of it the kernel's.
    pub cpu: Duration,
}

/// A network namespace with a netlink socket in it.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    socket: Socket,
}

impl Namespace {
    /// Opens the namespace at a path.
    ///
    /// # Errors
    /// Where there is none.
    pub fn open(path: &str) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
        let socket = inside(&file, || Socket::new(NETLINK_ROUTE))??;
        Ok(Self { file, socket })
    }

    /// This thread's.
    ///
    /// # Errors
    /// Where procfs is not mounted.
    pub fn own() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// The index of a link in it. The socket is asked, which takes neither RTNL nor a thread: a
    /// thread's end leaves RCU callbacks, and the move that is measured next waits for those too.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn index_of(&self, name: &str) -> Result<u32> {
        // SAFETY: `ifreq` is plain numbers and characters, for which all zeros is a value.
        let mut asked: libc::ifreq = unsafe { std::mem::zeroed() };
        ensure!(name.len() < asked.ifr_name.len(), "{name} is too long");
        for (to, byte) in asked.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([byte]);
        }
        // SAFETY: SIOCGIFINDEX reads the name and writes the index of the `ifreq` it is given.
        let done = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFINDEX, &mut asked) };
        Errno::result(done).with_context(|| format!("no link {name}"))?;
        // SAFETY: the kernel has just written this member.
        let index = unsafe { asked.ifr_ifru.ifru_ifindex };
        Ok(u32::try_from(index)?)
    }

    /// Moves a link to another namespace with a new name, and up there if that is wanted: one
    /// message.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn move_link(&mut self, index: u32, to: &Self, name: &str, up: bool) -> Result<Cost> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        message.attributes = vec![
            LinkAttribute::NetNsFd(to.file.as_raw_fd()),
            LinkAttribute::IfName(name.to_owned()),
        ];
        self.ask(message)
            .with_context(|| format!("move link {index} as {name}"))
    }

    /// Waits until the kernel has taken apart what earlier runs left: namespaces die by and by,
    /// hold the lock that everybody else then waits for, and have RCU barriers of their own, which
    /// the next move's stands in line behind. Nothing tells their end; 35 ms are usual for one.
    ///
    /// When it goes on is random against the kernel's ticks: a move waits for one RCU grace period,
    /// or for two where a tick falls between what freed something and it. Begun always as long
    /// after a tick, as a sleeper wakes, a run would measure all of its calls either lucky or
    /// unlucky.
    ///
    /// # Errors
    /// Where that takes minutes.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing tells when the kernel is done with a namespace"
    )]
    pub fn settle(&mut self) -> Result<()> {
        const REST: Duration = Duration::from_millis(80);
        const QUIET: Duration = Duration::from_millis(1);
        const LIMIT: Duration = Duration::from_secs(240);
        /// Of a kernel with the lowest `CONFIG_HZ`, 100.
        const TICK: Duration = Duration::from_millis(10);
        std::thread::sleep(REST + TICK.mul_f64(fastrand::f64()));
        let start = Instant::now();
        let mut quiet = 0;
        while quiet < 3 {
            ensure!(start.elapsed() < LIMIT, "the node does not come to rest");
            let mut message = LinkMessage::default();
            message.header.index = 1; // lo, everywhere
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
            quiet = if self.ask(message)?.wall < QUIET {
                quiet + 1
            } else {
                0
            };
        }
        Ok(())
    }

    fn ask(&mut self, message: LinkMessage) -> Result<Cost> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let payload = NetlinkPayload::from(RouteNetlinkMessage::SetLink(message));
        let mut packet = NetlinkMessage::new(header, payload);
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        let (start, cpu) = (Instant::now(), thread_cpu()?);
        self.socket.send(&bytes, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        let took = Cost {
            wall: start.elapsed(),
            cpu: thread_cpu()?.saturating_sub(cpu),
        };
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io().into()),
            NetlinkPayload::Error(_) => Ok(took),
            other => anyhow::bail!("unexpected answer {other:?}"),
        }
    }
}

/// The processor time that this thread has had.
fn thread_cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Does something inside a namespace, on a thread of its own.
fn inside<T: Send>(file: &File, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            anyhow::Ok(work())
        });
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Makes this thread, and what it starts, live in the namespace at a path.
///
/// # Errors
/// Where there is none, or the kernel refuses.
pub fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(setns(&file, CloneFlags::CLONE_NEWNET)?)
}
