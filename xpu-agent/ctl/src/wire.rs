//! Between the domain's values and the API's messages. Out: always well-formed. In: for
//! showing only, so whatever the agent sent gets some readable form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xpu_model::{IfAddr, Mac};
use xpu_proto::opinetcommon::v1alpha1::ip_address::V4OrV6;
use xpu_proto::opinetcommon::v1alpha1::{IpAddress, IpAf, IpPrefix};

/// The API's form of an address with a length.
pub fn prefix(addr: IfAddr) -> IpPrefix {
    let (af, v4_or_v6) = match addr.addr() {
        IpAddr::V4(v4) => (IpAf::Inet, V4OrV6::V4Addr(v4.to_bits())),
        IpAddr::V6(v6) => (IpAf::Inet6, V4OrV6::V6Addr(v6.octets().to_vec())),
    };
    IpPrefix {
        addr: Some(IpAddress {
            af: af.into(),
            v4_or_v6: Some(v4_or_v6),
        }),
        len: addr.len().into(),
    }
}

/// The address in the API's form.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read_prefix(prefix: &IpPrefix) -> Result<IfAddr, String> {
    let addr = prefix.addr.as_ref().and_then(|addr| addr.v4_or_v6.as_ref());
    let addr = match addr {
        Some(V4OrV6::V4Addr(bits)) => IpAddr::V4(Ipv4Addr::from_bits(*bits)),
        Some(V4OrV6::V6Addr(bytes)) => {
            let octets = <[u8; 16]>::try_from(bytes.as_slice());
            let octets = octets.map_err(|_| format!("v6Addr has {} bytes, not 16", bytes.len()))?;
            IpAddr::V6(octets.into())
        }
        None => return Err("addr has neither v4Addr nor v6Addr".to_owned()),
    };
    IfAddr::new(addr, prefix.len.into()).map_err(|error| error.to_string())
}

/// `10.0.0.1/24`; `?` stands for an address that is none.
pub fn show_prefix(prefix: &IpPrefix) -> String {
    let addr = prefix.addr.as_ref().and_then(|addr| addr.v4_or_v6.as_ref());
    let text = match addr {
        Some(V4OrV6::V4Addr(bits)) => Ipv4Addr::from_bits(*bits).to_string(),
        Some(V4OrV6::V6Addr(bytes)) => <[u8; 16]>::try_from(bytes.as_slice()).map_or_else(
            |_| "?".to_owned(),
            |octets| Ipv6Addr::from(octets).to_string(),
        ),
        None => "?".to_owned(),
    };
    format!("{text}/{}", prefix.len)
}

/// `02:00:00:00:00:01`; bytes that are no interface's address are shown in hexadecimal.
pub fn show_mac(bytes: &[u8]) -> String {
    Mac::from_wire(bytes).map_or_else(
        |_| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<Vec<_>>()
                .join(" ")
        },
        |mac| mac.to_string(),
    )
}

/// The id in a resource name: what stands behind the last `/`.
pub fn id_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_back_as_they_went() {
        for text in [
            "10.1.0.1/24",
            "255.255.255.254/32",
            "fd00::1/64",
            "2001:db8::/0",
        ] {
            let addr: IfAddr = text.parse().expect("is an address");
            assert_eq!(show_prefix(&prefix(addr)), text);
        }
    }

    #[test]
    fn ipv4_is_a_big_endian_number() {
        let sent = prefix("10.0.0.2/32".parse().expect("is an address"));
        let addr = sent.addr.expect("is set").v4_or_v6;
        assert_eq!(addr, Some(V4OrV6::V4Addr(167_772_162)));
    }

    #[test]
    fn nonsense_is_shown_not_hidden() {
        let short = IpAddress {
            af: 2,
            v4_or_v6: Some(V4OrV6::V6Addr(vec![1, 2])),
        };
        assert_eq!(
            show_prefix(&IpPrefix {
                addr: Some(short),
                len: -3
            }),
            "?/-3"
        );
        assert_eq!(show_prefix(&IpPrefix::default()), "?/0");
        assert_eq!(show_mac(&[1, 2, 0xff]), "01 02 ff");
        assert_eq!(show_mac(&[2, 0, 0, 0, 0, 1]), "02:00:00:00:00:01");
    }
}
