//! How large a packet to an address may be, by the kernel's own choice of a route. No packet is
//! sent for that.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    num::NonZeroU16,
};

use rustix::net::sockopt::{ip_mtu, ipv6_mtu};

/// The MTU of the way from the local VTEP to an address, in bytes: that of the device, or less
/// where the route says so, or a router on the way has said so. A rule may send what comes from the
/// VTEP another way than the rest, or what goes to VXLAN's UDP port; without a VTEP of that family
/// any source will do. None where no route leads there, or the VTEP is no address of this machine.
pub fn mtu_to(address: IpAddr, port: NonZeroU16, vtep: Option<IpAddr>) -> Option<u32> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = vtep.filter(|vtep| vtep.is_ipv4() == address.is_ipv4());
    let socket = UdpSocket::bind((source.unwrap_or(any), 0)).ok()?;
    // A datagram socket is connected by choosing a route.
    socket.connect((address, port.get())).ok()?;
    let mtu = match address {
        IpAddr::V4(_) => ip_mtu(&socket),
        IpAddr::V6(_) => ipv6_mtu(&socket),
    };
    mtu.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mtu_to(address: IpAddr, vtep: Option<IpAddr>) -> Option<u32> {
        super::mtu_to(address, xpu_model::node::VXLAN_PORT, vtep)
    }

    #[test]
    fn the_kernel_knows_the_way() {
        let lo = std::fs::read_to_string("/sys/class/net/lo/mtu").expect("there is a loopback");
        let lo: u32 = lo.trim().parse().expect("a number");
        // An IPv4 packet's length is a number of 16 bits.
        let largest = lo.min(u32::from(u16::MAX));
        assert_eq!(mtu_to(Ipv4Addr::LOCALHOST.into(), None), Some(largest));
        // A socket that may not broadcast has no way there.
        assert_eq!(mtu_to(Ipv4Addr::BROADCAST.into(), None), None);
        let here = Some(Ipv4Addr::LOCALHOST.into());
        assert_eq!(mtu_to(Ipv4Addr::LOCALHOST.into(), here), Some(largest));
        let elsewhere = Some(Ipv4Addr::new(192, 0, 2, 1).into());
        assert_eq!(mtu_to(Ipv4Addr::LOCALHOST.into(), elsewhere), None);
        let other_family = Some(Ipv6Addr::LOCALHOST.into());
        assert_eq!(
            mtu_to(Ipv4Addr::LOCALHOST.into(), other_family),
            Some(largest)
        );
    }
}
