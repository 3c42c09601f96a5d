//! `[underlay]` and `[vrf]`

use std::{net::IpAddr, num::NonZeroU16};

use serde::{Deserialize, Serialize};
use xpu_model::node::VXLAN_PORT;

use super::error::{ConfigError, value};

/// Routing tables that are the kernel's: default, main and local (`rtnetlink.h`, `rt_class_t`).
const KERNEL_TABLES: std::ops::RangeInclusive<u32> = 253..=255;

/// `[underlay]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnderlayConfig {
    /// The default local VTEP's address.
    pub vtep: Option<IpAddr>,
    /// The underlay's MTU in bytes; tenants get 50 (IPv4 VTEP) or 70 (IPv6) less.
    pub mtu: u32,
    /// The UDP port of VXLAN, the same on all nodes of the fabric.
    pub vxlan_port: NonZeroU16,
}

/// `[vrf]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VrfConfig {
    /// First routing table for Vrfs.
    pub table_first: u32,
    /// Last routing table for Vrfs.
    pub table_last: u32,
}

impl Default for UnderlayConfig {
    fn default() -> Self {
        Self {
            vtep: None,
            mtu: 1_500,
            vxlan_port: VXLAN_PORT,
        }
    }
}

impl Default for VrfConfig {
    fn default() -> Self {
        Self {
            table_first: 1_001,
            table_last: 65_000,
        }
    }
}

impl UnderlayConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(vtep) = self.vtep
            && (vtep.is_unspecified() || vtep.is_multicast() || vtep.is_loopback())
        {
            return Err(value(
                "underlay.vtep",
                format!("{vtep} is no address of a node that others can reach"),
            ));
        }
        Ok(())
    }
}

impl VrfConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let (first, last) = (self.table_first, self.table_last);
        if first == 0 || first > last {
            return Err(value("vrf.table_first", "must be from 1 to vrf.table_last"));
        }
        if first <= *KERNEL_TABLES.end() && last >= *KERNEL_TABLES.start() {
            let problem = format!(
                "{first} to {last} holds tables of the kernel's own, which are {} to {}; start \
                 above them",
                KERNEL_TABLES.start(),
                KERNEL_TABLES.end()
            );
            return Err(value("vrf.table_first", problem));
        }
        Ok(())
    }
}
