//! `opinetcommon.IPPrefix`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xpu_model::{IfAddr, addr::max_len};
use xpu_proto::opinetcommon::v1alpha1::{IpAddress, IpAf, IpPrefix, ip_address::V4OrV6};

use super::Violations;

impl Violations {
    /// An address with its length, from a field that must be there.
    pub(super) fn prefix(&mut self, field: &str, prefix: Option<&IpPrefix>) -> Option<IfAddr> {
        match prefix {
            Some(prefix) => self.take(field, own(prefix)),
            None => {
                self.add(field, "is required");
                None
            }
        }
    }

    /// The address of a VTEP. Its length means nothing; public clients send a subnet's.
    pub(super) fn vtep(&mut self, prefix: Option<&IpPrefix>) -> Option<IfAddr> {
        prefix.and_then(|prefix| self.take("spec.vtep_ip_prefix", read(prefix)))
    }
}

/// An address with the length of its subnet. One that is left out reads as 0: for an IPv4 address of
/// that length the kernel makes no route to its subnet, for an IPv6 one a default route.
fn own(prefix: &IpPrefix) -> Result<IfAddr, String> {
    let (ip, len) = (address(prefix)?, prefix.len);
    let max = max_len(ip);
    if len == 0 {
        return Err(format!(
            "len is 0 or missing; give the prefix length, 1 to {max}"
        ));
    }
    if !(1..=i32::from(max)).contains(&len) {
        return Err(format!("{ip}/{len}: the length must be from 1 to {max}"));
    }
    read(prefix)
}

fn read(prefix: &IpPrefix) -> Result<IfAddr, String> {
    let ip = address(prefix)?;
    IfAddr::new(ip, i64::from(prefix.len)).map_err(|error| error.to_string())
}

fn address(prefix: &IpPrefix) -> Result<IpAddr, String> {
    let address = prefix.addr.as_ref().ok_or("addr is required")?;
    Ok(match (&address.v4_or_v6, address.af()) {
        (Some(V4OrV6::V4Addr(bits)), IpAf::Inet | IpAf::Unspecified) => {
            IpAddr::V4(Ipv4Addr::from_bits(*bits))
        }
        (Some(V4OrV6::V6Addr(bytes)), IpAf::Inet6 | IpAf::Unspecified) => {
            let octets = <[u8; 16]>::try_from(bytes.as_slice())
                .map_err(|_| format!("v6_addr has {} bytes; it must have 16", bytes.len()))?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        (Some(_), _) => return Err("af and the kind of address differ".to_owned()),
        (None, _) => return Err("v4_addr or v6_addr is required".to_owned()),
    })
}

pub(super) fn print(value: IfAddr) -> IpPrefix {
    let (af, address) = match value.addr() {
        IpAddr::V4(v4) => (IpAf::Inet, V4OrV6::V4Addr(v4.to_bits())),
        IpAddr::V6(v6) => (IpAf::Inet6, V4OrV6::V6Addr(v6.octets().to_vec())),
    };
    IpPrefix {
        addr: Some(IpAddress {
            af: af.into(),
            v4_or_v6: Some(address),
        }),
        len: i32::from(value.len()),
    }
}
