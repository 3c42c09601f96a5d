//! Telling the neighbours: gratuitous ARP and unsolicited neighbour advertisements
//! for the addresses of a device that has just come up somewhere.
//!
//! Frames are built here byte by byte and sent on a packet socket: the kernel announces neither
//! an IPv4 address added to a link that is up, nor an optimistic IPv6 one, whatever is set.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use xpu_model::{IfIndex, Mac};

/// A frame: who gets it, and its bytes.
type Frame = Vec<u8>;

/// A packet socket of one namespace.
#[derive(Debug)]
pub struct Announcer {
    socket: OwnedFd,
}

impl Announcer {
    /// Opens a packet socket in the calling thread's namespace. It only sends.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn open() -> io::Result<Self> {
        // SAFETY: socket(2) takes no pointers. Protocol 0 receives nothing.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { socket })
    }

    /// Sends one announcement for `addr` out of `index`.
    ///
    /// # Errors
    /// The kernel's refusal, as `ENETDOWN` without carrier.
    pub fn announce(&self, index: IfIndex, mac: Mac, addr: IpAddr) -> io::Result<()> {
        let frame = match addr {
            IpAddr::V4(v4) => gratuitous_arp(mac, v4),
            IpAddr::V6(v6) => unsolicited_na(mac, v6),
        };
        let mut to = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
            sll_protocol: 0,
            sll_ifindex: i32::try_from(index.get()).unwrap_or_default(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        to.sll_addr[..6].copy_from_slice(&frame[..6]);
        let size = libc::socklen_t::try_from(size_of_val(&to)).unwrap_or_default();
        // SAFETY: frame and address are live for the call and their sizes are given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// An ARP announcement (RFC 5227 2.3): a request with sender and target the same.
fn gratuitous_arp(mac: Mac, addr: Ipv4Addr) -> Frame {
    let mut frame = ethernet([0xff; 6], mac, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]); // Ethernet, IPv4, 6 and 4 bytes, request
    frame.extend(mac.octets());
    frame.extend(addr.octets());
    frame.extend([0; 6]);
    frame.extend(addr.octets());
    frame
}

/// An unsolicited neighbour advertisement to all routers, with the override flag clear since the
/// address is still optimistic (RFC 9131 4.1, RFC 4429 3.3).
///
/// Not to all nodes: some NICs loop a function's own multicast back to it, and the kernel would
/// take its own advertisement for a duplicate (no nonce protects it, as RFC 7527 does probes).
fn unsolicited_na(mac: Mac, addr: Ipv6Addr) -> Frame {
    const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let mut body = vec![136, 0, 0, 0, 0, 0, 0, 0]; // type, code, checksum, no flags
    body.extend(addr.octets());
    body.extend([2, 1]); // target link-layer address, 8 bytes
    body.extend(mac.octets());
    let sum = icmp6_checksum(addr, ALL_ROUTERS, &body).to_be_bytes();
    body[2..4].copy_from_slice(&sum);

    let mut frame = ethernet([0x33, 0x33, 0, 0, 0, 2], mac, 0x86dd);
    frame.extend([0x60, 0, 0, 0, 0, 32, 58, 255]); // 32 bytes of ICMPv6, hop limit 255
    frame.extend(addr.octets());
    frame.extend(ALL_ROUTERS.octets());
    frame.extend(body);
    frame
}

fn ethernet(to: [u8; 6], from: Mac, kind: u16) -> Frame {
    let mut frame = to.to_vec();
    frame.extend(from.octets());
    frame.extend(kind.to_be_bytes());
    frame
}

/// The Internet checksum (RFC 1071) over pseudo-header and body (RFC 8200 8.1).
fn icmp6_checksum(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
            .sum()
    };
    let length = u32::try_from(body.len()).unwrap_or_default();
    let mut sum = words(&from.octets()) + words(&to.octets()) + length + 58 + words(body);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    #[test]
    fn arp_says_the_same_address_twice() {
        let frame = gratuitous_arp(Mac::try_from(MAC).unwrap(), [10, 1, 2, 3].into());
        assert_eq!(frame.len(), 42);
        assert_eq!(
            &frame[..14],
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6]
        );
        assert_eq!(&frame[28..32], [10, 1, 2, 3]);
        assert_eq!(&frame[38..42], [10, 1, 2, 3]);
    }

    #[test]
    fn an_advertisement_sums_to_zero() {
        let addr: Ipv6Addr = "fd00::7".parse().unwrap();
        let frame = unsolicited_na(Mac::try_from(MAC).unwrap(), addr);
        assert_eq!(frame.len(), 14 + 40 + 32);
        let all_routers = "ff02::2".parse().unwrap();
        // A body that carries its right checksum sums to all ones, told here as zero.
        assert_eq!(icmp6_checksum(addr, all_routers, &frame[54..]), 0);
        assert_eq!(
            frame[58] & 0x20,
            0,
            "override must be clear while optimistic"
        );
    }
}
