//! What a socket tells of a device without taking RTNL (`netdevice(7)`, `socket(7)`): a move of
//! another device holds that lock for 16 ms, and these answers don't wait for it.
//!
//! For a name that no device has, the kernel lets each `ioctl` of root's load a module: it runs
//! `modprobe`, twice, which takes longer than all else of a small program (`dev_load()`,
//! net/core/dev_ioctl.c). So [`index`] finds out otherwise whether there is such a device.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::OsStringExt,
    },
};

use nix::sys::socket::{setsockopt, sockopt};
use xpu_model::{IfIndex, IfName, Mac};

use super::link::SetFlags;

/// A request of `linux/sockios.h`.
type Code = libc::Ioctl;

/// What can be asked about the devices of the namespace that `fd`, any socket, was
/// opened in.
fn ask(
    fd: &impl AsFd,
    code: Code,
    name: Option<&IfName>,
    index: libc::c_int,
) -> io::Result<libc::ifreq> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_ifindex: index,
        },
    };
    if let Some(name) = name {
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
    }
    // SAFETY: every code used here reads and writes one `ifreq`, which is live and
    // writable for the whole call; the name ends in NUL since IfName is shorter.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), code, &raw mut request) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(request)
    }
}

/// The index of `name`. Binds the socket to that device, of which a netlink socket takes no notice;
/// whoever has no `CAP_NET_RAW` can do so once.
///
/// # Errors
/// `ENODEV` when there is no such device here; `EPERM` without that capability.
pub fn index(fd: &impl AsFd, name: &IfName) -> io::Result<IfIndex> {
    setsockopt(&fd.as_fd(), sockopt::BindToDevice, &name.as_str().into())?;
    index_of_known(fd, name)
}

/// The index of `name`, which a device was just seen to have.
///
/// # Errors
/// `ENODEV` when there is no such device here any more.
pub fn index_of_known(fd: &impl AsFd, name: &IfName) -> io::Result<IfIndex> {
    let answer = ask(fd, libc::SIOCGIFINDEX, Some(name), 0)?;
    // SAFETY: SIOCGIFINDEX fills `ifru_ifindex`.
    let number = unsafe { answer.ifr_ifru.ifru_ifindex };
    let index = u32::try_from(number).ok().and_then(IfIndex::new);
    index.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// The name of the device that has this index; none: there is no such device here.
///
/// # Errors
/// What else the kernel says.
pub fn name(fd: &impl AsFd, index: IfIndex) -> io::Result<Option<OsString>> {
    let number = libc::c_int::try_from(index.get()).map_err(io::Error::other)?;
    match ask(fd, libc::SIOCGIFNAME, None, number) {
        Ok(answer) => {
            let name = answer.ifr_name.iter().map(|byte| byte.cast_unsigned());
            let name = name.take_while(|byte| *byte != 0).collect();
            Ok(Some(OsString::from_vec(name)))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The Ethernet address of `name`; `None` when it has none, or a zero one.
///
/// # Errors
/// `ENODEV` when there is no such device here.
pub fn mac(fd: &impl AsFd, name: &IfName) -> io::Result<Option<Mac>> {
    let answer = ask(fd, libc::SIOCGIFHWADDR, Some(name), 0)?;
    // SAFETY: SIOCGIFHWADDR fills `ifru_hwaddr`.
    let address = unsafe { answer.ifr_ifru.ifru_hwaddr };
    if address.sa_family != libc::ARPHRD_ETHER {
        return Ok(None);
    }
    let mut octets = [0; 6];
    for (to, from) in octets.iter_mut().zip(address.sa_data) {
        [*to] = from.to_ne_bytes();
    }
    Ok(Mac::try_from(octets).ok())
}

/// The MTU of `name`, in bytes.
///
/// # Errors
/// `ENODEV` when there is no such device here.
pub fn mtu(fd: &impl AsFd, name: &IfName) -> io::Result<u32> {
    let answer = ask(fd, libc::SIOCGIFMTU, Some(name), 0)?;
    // SAFETY: SIOCGIFMTU fills `ifru_mtu`.
    let mtu = unsafe { answer.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).map_err(|_| io::Error::from_raw_os_error(libc::ERANGE))
}

/// Whether `name` is administratively up, and whether it is running (has carrier).
///
/// # Errors
/// `ENODEV` when there is no such device here.
pub fn up_and_running(fd: &impl AsFd, name: &IfName) -> io::Result<(bool, bool)> {
    let flags = flags(fd, name)?;
    let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
    Ok((has(libc::IFF_UP), has(libc::IFF_RUNNING)))
}

/// Whether `name` is administratively up, and its other flags that can be set.
///
/// # Errors
/// `ENODEV` when there is no such device here.
pub fn up_and_flags(fd: &impl AsFd, name: &IfName) -> io::Result<(bool, SetFlags)> {
    let flags = flags(fd, name)?;
    let up = flags & libc::IFF_UP.cast_unsigned() != 0;
    Ok((up, SetFlags::among(flags)))
}

/// The lower half of the flags, all that there were when this call was made.
fn flags(fd: &impl AsFd, name: &IfName) -> io::Result<u32> {
    let answer = ask(fd, libc::SIOCGIFFLAGS, Some(name), 0)?;
    // SAFETY: SIOCGIFFLAGS fills `ifru_flags`.
    let flags = unsafe { answer.ifr_ifru.ifru_flags };
    Ok(flags.cast_unsigned().into())
}

/// How many packets the queue of `name` takes.
///
/// # Errors
/// `ENODEV` when there is no such device here.
pub fn txqlen(fd: &impl AsFd, name: &IfName) -> io::Result<u32> {
    let answer = ask(fd, libc::SIOCGIFTXQLEN, Some(name), 0)?;
    // SAFETY: SIOCGIFTXQLEN fills `ifr_qlen`, the same number under another name.
    let length = unsafe { answer.ifr_ifru.ifru_mtu };
    u32::try_from(length).map_err(|_| io::Error::from_raw_os_error(libc::ERANGE))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn loopback_answers_and_a_missing_device_is_enodev() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let lo = "lo".parse().unwrap();
        assert_eq!(index(&socket, &lo).unwrap(), IfIndex::new(1).unwrap());
        let name_of = |index| name(&socket, IfIndex::new(index).unwrap()).unwrap();
        assert_eq!((name_of(1), name_of(1 << 30)), (Some("lo".into()), None));
        assert_eq!(mac(&socket, &lo).unwrap(), None);
        assert!(mtu(&socket, &lo).unwrap() >= 65_535);
        assert_eq!(up_and_running(&socket, &lo).unwrap(), (true, true));
        // Loopback is no multicast device.
        let flags = up_and_flags(&socket, &lo).unwrap();
        assert_eq!(flags, (true, SetFlags::among(0)));
        assert!(txqlen(&socket, &lo).unwrap() > 0);
        let none = "nosuchdevice".parse().unwrap();
        assert_eq!(
            index(&socket, &none).unwrap_err().raw_os_error(),
            Some(libc::ENODEV)
        );
    }
}
