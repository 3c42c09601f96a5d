//! Reads single values of the command line into the domain's types. The messages stand
//! behind clap's `invalid value 'VALUE' for '--flag <FLAG>'`, so they only say why.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tonic::transport::{Endpoint, Uri};
use xpu_model::name::NameError;
use xpu_model::{Id, Kind, ObjectKey};

/// The id of an object to be created.
pub fn new_id(text: &str) -> Result<Id, NameError> {
    Id::user(text)
}

/// A reference to a Vrf, in any accepted form of its name.
pub fn vrf(text: &str) -> Result<ObjectKey, NameError> {
    ObjectKey::parse(Kind::Vrf, text)
}

/// A reference to a LogicalBridge, in any accepted form of its name.
pub fn logical_bridge(text: &str) -> Result<ObjectKey, NameError> {
    ObjectKey::parse(Kind::LogicalBridge, text)
}

/// A reference to a BridgePort, in any accepted form of its name.
pub fn bridge_port(text: &str) -> Result<ObjectKey, NameError> {
    ObjectKey::parse(Kind::BridgePort, text)
}

/// A reference to an Svi, in any accepted form of its name.
pub fn svi(text: &str) -> Result<ObjectKey, NameError> {
    ObjectKey::parse(Kind::Svi, text)
}

/// A number in the range of `T`.
pub fn number<T>(text: &str) -> Result<T, String>
where
    T: TryFrom<u32>,
    T::Error: ToString,
{
    let number: u32 = text
        .parse()
        .map_err(|_| "not a whole number in range".to_owned())?;
    T::try_from(number).map_err(|error| error.to_string())
}

/// A length of time: `500ms`, `10s`, `2m`, or seconds without a unit. Not zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis_per_unit: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        unit => return Err(format!("unit `{unit}` is not known; write ms, s or m")),
    };
    let count: u64 = digits
        .parse()
        .map_err(|_| "write it like 500ms, 10s or 2m".to_owned())?;
    match count.checked_mul(millis_per_unit) {
        Some(millis @ 1..=MAX_TIMEOUT_MS) => Ok(Duration::from_millis(millis)),
        _ => Err("it must be from 1ms to 60m".to_owned()),
    }
}

/// Far above any use, far below what gRPC's eight digits of a timeout carry.
const MAX_TIMEOUT_MS: u64 = 60 * 60_000;

/// Where the agent listens.
#[derive(Clone, Debug)]
pub struct Address {
    /// As it was typed: tonic's form of a socket's path is no help in a message.
    pub text: String,
    /// How to get there.
    pub way: Way,
}

/// The three ways to an agent.
#[derive(Clone, Debug)]
pub enum Way {
    /// A unix socket.
    Unix(Endpoint),
    /// TCP without protection.
    Plain(Endpoint),
    /// TLS.
    Tls(Uri),
}

impl Address {
    /// Whether the agent is on this machine.
    pub fn is_local(&self) -> bool {
        let host = match &self.way {
            Way::Unix(_) => return true,
            Way::Plain(endpoint) => endpoint.uri().host(),
            Way::Tls(uri) => uri.host(),
        };
        let host = bare(host.unwrap_or_default());
        let loopback = |address: IpAddr| address.is_loopback();
        host == "localhost" || host.parse().is_ok_and(loopback)
    }
}

/// A URI's host as it is written elsewhere: an IPv6 address without its brackets.
pub fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// `unix:///path`, `http://host:port` or `https://host:port`.
pub fn address(text: &str) -> Result<Address, String> {
    const FORMS: &str = "write it like unix:///run/xpu-agent/agent.sock, http://127.0.0.1:50151 \
                         or https://xpu.example.net:50151";
    let endpoint = |text: &str| {
        let endpoint = Endpoint::from_shared(text.to_owned());
        endpoint.map_err(|error| format!("{error}; {FORMS}"))
    };
    let way = if let Some(path) = text.strip_prefix("unix://") {
        if !Path::new(path).is_absolute() {
            return Err(format!("the socket's path must be absolute; {FORMS}"));
        }
        Way::Unix(endpoint(text)?)
    } else if text.starts_with("http://") || text.starts_with("https://") {
        let uri: Uri = text.parse().map_err(|error| format!("{error}; {FORMS}"))?;
        if uri.port().is_none() {
            return Err(format!("the port is missing; {FORMS}"));
        }
        match text.starts_with("https://") {
            true => Way::Tls(uri),
            false => Way::Plain(endpoint(text)?),
        }
    } else {
        return Err(FORMS.to_owned());
    };
    Ok(Address {
        text: text.to_owned(),
        way,
    })
}

#[cfg(test)]
mod tests {
    use xpu_model::VlanId;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), duration("10"));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in [
            "",
            "0s",
            "s",
            "-1s",
            "1h",
            "1.5s",
            "61m",
            "99999999999999999999s",
            "1 s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn addresses() {
        for right in [
            "unix:///run/a.sock",
            "http://127.0.0.1:50151",
            "http://[::1]:50151",
            "https://xpu.example.net:50151",
            "https://[2001:db8::1]:50151",
        ] {
            assert!(address(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "unix://a.sock",
            "/run/a.sock",
            "http://host",
            "https://host",
            "ftp://h:1",
            "http://",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_say_their_range() {
        assert_eq!(number::<VlanId>("4094").map(u32::from), Ok(4094));
        let error = number::<VlanId>("4095").expect_err("is too large");
        assert!(error.contains("4095") && error.contains("4094"), "{error}");
        assert!(number::<VlanId>("4294967296").is_err());
        assert!(number::<VlanId>("ten").is_err());
    }
}
