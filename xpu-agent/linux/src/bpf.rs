//! BPF programs on a device, by bpf(2): those at the tcx hooks, of which rtnetlink tells nothing,
//! and the links that hold programs. A device takes both along to another namespace.
//!
//! Numbers and layouts are those of `linux/bpf.h`. The kernel takes any `union bpf_attr` that is
//! shorter than its own as filled up with zeros. A device is one of the calling thread's namespace.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use xpu_model::IfIndex;

mod attr;

use attr::{Command, Detach, GetById, LinkDetach, LinkInfo, ObjInfo, Query};

/// `BPF_MPROG_MAX` of the kernel's `linux/bpf_mprog.h`: how many programs a hook has room for.
const MOST: usize = 64;

/// How many links of the node are looked at. Each costs three system calls, and whoever may make
/// links may make very many.
const MOST_LINKS: usize = 4096;

/// A hook of a device that programs are attached to, as a number of `enum bpf_attach_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Hook {
    TcxIngress = 46,
    TcxEgress = 47,
}

/// A program at a hook, by its id, and the link that holds it there, if one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attached {
    program: u32,
    link: Option<u32>,
}

/// Takes every program from a device's tcx hooks, whoever attached it.
///
/// # Errors
/// The kernel's first refusal; all that it allows is done.
pub fn take_tcx(device: IfIndex) -> io::Result<()> {
    let taken = [Hook::TcxIngress, Hook::TcxEgress].map(|hook| take_from(device, hook));
    taken.into_iter().collect()
}

fn take_from(device: IfIndex, hook: Hook) -> io::Result<()> {
    let found = attached(device, hook)?;
    if found.is_empty() {
        return Ok(());
    }
    let mut refused = None;
    for program in found {
        let taken = match program.link {
            Some(link) => link_of(link).and_then(|link| detach_link(&link)),
            None => detach(device, hook, program.program),
        };
        refused = refused.or(taken.err());
    }
    // Whatever was refused, as for a link that somebody has let go of: this is what counts.
    match attached(device, hook)?.len() {
        0 => Ok(()),
        left => Err(refused.unwrap_or_else(|| io::Error::other(format!("{left} are left")))),
    }
}

/// The programs at a hook; none where the kernel knows no such hook.
fn attached(device: IfIndex, hook: Hook) -> io::Result<Vec<Attached>> {
    let (mut programs, mut links) = ([0_u32; MOST], [0_u32; MOST]);
    let mut query = Query {
        target_ifindex: device.get(),
        attach_type: hook as u32,
        prog_ids: address(&mut programs),
        count: u32::try_from(MOST).map_err(io::Error::other)?,
        link_ids: address(&mut links),
        ..Query::default()
    };
    // SAFETY: both arrays are live, and have room for `count` numbers.
    if let Err(error) = unsafe { attr::call(Command::ProgQuery, &mut query) } {
        return match error.raw_os_error() {
            // Before 6.6; without BPF; the first 6.6, for a hook that never had one; gone.
            Some(libc::EINVAL | libc::ENOSYS | libc::ENOENT | libc::ENODEV) => Ok(Vec::new()),
            _ => Err(error),
        };
    }
    let count = usize::try_from(query.count).unwrap_or(MOST);
    let found = programs.into_iter().zip(links).take(count);
    let found = found.map(|(program, link)| Attached {
        program,
        link: (link != 0).then_some(link),
    });
    Ok(found.collect())
}

/// Takes a program that no link holds.
fn detach(device: IfIndex, hook: Hook, program: u32) -> io::Result<()> {
    let program = open(Command::ProgGetFdById, program)?;
    let mut attr = Detach {
        target_ifindex: device.get(),
        attach_bpf_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: hook as u32,
        attach_flags: 0,
    };
    // SAFETY: the attribute points to nothing.
    unsafe { attr::call(Command::ProgDetach, &mut attr) }.map(drop)
}

/// Takes any of these programs that a link holds on a device for XDP. Gives whether there was one.
///
/// A link tells its device's index, but not in which namespace. One of a device of that index in
/// another namespace is left alone, unless it holds one of the same programs: it can't be told from
/// the device's own then, and a program that one pod brought goes wherever it is.
///
/// Whoever holds a link can exchange its program at any time, so that it may be missed: look which
/// ones the device has, and call again with these as well.
///
/// # Errors
/// The kernel's first refusal; all that it allows is done.
pub fn take_xdp_links(device: IfIndex, programs: &BTreeSet<u32>) -> io::Result<bool> {
    let (mut any, mut refused) = (false, None);
    let mut id = 0;
    for _ in 0..MOST_LINKS {
        let Some(next) = next_link(id)? else {
            return refused.map_or(Ok(any), Err);
        };
        id = next;
        match detach_xdp_link(id, device, programs) {
            Ok(detached) => any |= detached,
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let left_out = || io::Error::other(format!("of all links only {MOST_LINKS} were looked at"));
    Err(refused.unwrap_or_else(left_out))
}

/// Parts a link from the device if it holds one of the programs there. Gives whether it did.
fn detach_xdp_link(id: u32, device: IfIndex, programs: &BTreeSet<u32>) -> io::Result<bool> {
    match link_of(id) {
        Ok(link) => part_xdp(&link, device, programs),
        Err(error) if holds_nothing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the refusal to open a link says that it has ended meanwhile, or is still being made.
fn holds_nothing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EAGAIN))
}

fn part_xdp(link: &OwnedFd, device: IfIndex, programs: &BTreeSet<u32>) -> io::Result<bool> {
    // Not each kind of link tells of itself; one of XDP always does.
    if !info(link).is_ok_and(|info| info.is_xdp(device.get(), programs)) {
        return Ok(false);
    }
    detach_link(link).map(|()| true)
}

/// The first link whose id is greater.
fn next_link(id: u32) -> io::Result<Option<u32>> {
    let mut attr = GetById {
        id,
        ..GetById::default()
    };
    // SAFETY: the attribute points to nothing.
    match unsafe { attr::call(Command::LinkGetNextId, &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn info(link: &OwnedFd) -> io::Result<LinkInfo> {
    let mut info = [LinkInfo::default()];
    let mut attr = ObjInfo {
        bpf_fd: link.as_raw_fd().cast_unsigned(),
        info_len: u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?,
        info: address(&mut info),
    };
    // SAFETY: the info is live, and of that length.
    unsafe { attr::call(Command::ObjGetInfoByFd, &mut attr) }?;
    let [info] = info;
    Ok(info)
}

fn link_of(id: u32) -> io::Result<OwnedFd> {
    open(Command::LinkGetFdById, id)
}

/// Parts a link from its device. Whoever holds it has nothing of it any more.
fn detach_link(link: &OwnedFd) -> io::Result<()> {
    let mut attr = LinkDetach {
        link_fd: link.as_raw_fd().cast_unsigned(),
    };
    // SAFETY: the attribute points to nothing.
    unsafe { attr::call(Command::LinkDetach, &mut attr) }.map(drop)
}

/// Opens a program or a link.
fn open(command: Command, id: u32) -> io::Result<OwnedFd> {
    let mut attr = GetById {
        id,
        ..GetById::default()
    };
    // SAFETY: the attribute points to nothing.
    let fd: RawFd = unsafe { attr::call(command, &mut attr) }?;
    // SAFETY: the kernel has just given this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An address as the kernel wants it, whatever the width of a pointer.
fn address<T>(values: &mut [T]) -> u64 {
    values.as_mut_ptr().expose_provenance() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_programs_has_none_to_take() {
        let lo = IfIndex::new(1).unwrap();
        take_tcx(lo).unwrap();
        assert!(!take_xdp_links(lo, &BTreeSet::from([u32::MAX])).unwrap());
    }

    /// Only what says that there is no such link (yet) is passed over.
    #[test]
    fn a_link_that_is_gone_or_being_made_holds_nothing() {
        let holds_nothing = |code| holds_nothing(&io::Error::from_raw_os_error(code));
        assert!(holds_nothing(libc::ENOENT) && holds_nothing(libc::EAGAIN));
        for code in [libc::EPERM, libc::EMFILE, libc::ENOMEM, libc::EINVAL] {
            assert!(!holds_nothing(code), "{code}");
        }
        let gone = link_of(u32::MAX).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    }

    /// The kernel tells nothing of what is no link at all, as of links of some kinds.
    #[test]
    fn a_link_that_tells_nothing_of_itself_is_left_alone() {
        let other = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(info(&other).is_err());
        let programs = BTreeSet::from([u32::MAX]);
        let lo = IfIndex::new(1).unwrap();
        assert!(!part_xdp(&other, lo, &programs).unwrap());
    }

    #[test]
    fn a_device_that_is_gone_has_no_programs() {
        take_tcx(IfIndex::new(1 << 30).unwrap()).unwrap();
    }
}
