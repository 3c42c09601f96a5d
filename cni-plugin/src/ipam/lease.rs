//! What an IPAM plugin's ADD gives. Pure.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use xpu_linux::sync::address::Route;
use xpu_model::{IfAddr, Prefix};

use super::IpamError;

/// What IPAM gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lease {
    /// Addresses, with the gateway each came with.
    pub ips: Vec<(IfAddr, Option<IpAddr>)>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Name servers, passed through.
    pub dns: Option<Value>,
}

impl Lease {
    /// Reads an IPAM plugin's answer to ADD, of any version.
    ///
    /// # Errors
    /// [`IpamError::Answer`] when it can't be read, or has no address or a wrong one.
    pub fn read(answer: &[u8]) -> Result<Self, IpamError> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(default, deserialize_with = "nullable")]
            ips: Vec<Ip>,
            #[serde(default, deserialize_with = "nullable")]
            routes: Vec<RouteText>,
            dns: Option<Value>,
        }
        #[derive(Deserialize)]
        struct Ip {
            address: String,
            gateway: Option<String>,
        }
        let unusable = |reason: String| IpamError::Answer { reason };
        let host = |text: Option<String>| {
            let text = text.filter(|text| !text.is_empty());
            text.map(|text| {
                text.parse::<IpAddr>()
                    .map_err(|_| unusable(format!("`{text}` is no address")))
            })
            .transpose()
        };
        let document: Document =
            serde_json::from_slice(answer).map_err(|error| unusable(error.to_string()))?;
        let mut lease = Self {
            dns: document.dns,
            ..Self::default()
        };
        for ip in document.ips {
            let address = ip
                .address
                .parse::<IfAddr>()
                .map_err(|error| unusable(error.to_string()))?;
            lease.ips.push((address, host(ip.gateway)?));
        }
        for raw in document.routes {
            let to = raw
                .dst
                .parse::<Prefix>()
                .map_err(|error| unusable(error.to_string()))?;
            // A route without a gateway takes that of the first address of its family, as in the
            // reference plugins (`ipam.ConfigureIface`).
            let via = match host(raw.gw.clone())? {
                Some(via) => Some(via),
                None => lease
                    .ips
                    .iter()
                    .filter_map(|(_, gateway)| *gateway)
                    .find(|gateway| gateway.is_ipv4() == to.addr().is_ipv4()),
            };
            lease.routes.push(raw.route(to, via));
        }
        if lease.ips.is_empty() {
            return Err(unusable("it gives no address".to_owned()));
        }
        Ok(lease)
    }
}

/// A value for which `null` stands like none, as in a list that a program never made.
///
/// # Errors
/// That of the value's own type.
pub fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A route as results have it (CNI specification, section 5, "Success").
#[derive(Debug, Deserialize)]
pub struct RouteText {
    /// Where it leads.
    pub dst: String,
    /// By which gateway.
    pub gw: Option<String>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    priority: Option<u32>,
    table: Option<u32>,
    scope: Option<u8>,
}

impl RouteText {
    /// The route, its texts read.
    #[must_use]
    pub fn route(&self, to: Prefix, via: Option<IpAddr>) -> Route {
        Route {
            to,
            via,
            priority: self.priority,
            table: self.table,
            scope: self.scope,
            mtu: self.mtu,
            advmss: self.advmss,
        }
    }
}
