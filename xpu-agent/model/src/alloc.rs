//! What the agent chooses for a Vrf and keeps as long as the Vrf lives: routing table, device
//! name, the VLAN of its L3VNI, its router MAC.
//!
//! Choices are deterministic functions of the intent and [`AllocationRules`], so they can be
//! tested; they are stored with the object, so they survive restarts.

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    ifname::{self, IfName},
    intent::Intent,
    mac::Mac,
    name::Id,
    number::{TableId, VlanId},
    rules::{self, RuleError},
};

/// From what the agent may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationRules {
    /// Routing tables for Vrfs.
    pub tables: RangeInclusive<u32>,
    /// Makes router MACs differ between nodes; kept in the store.
    pub node_seed: [u8; 16],
    /// Names of devices on this node that are not ours.
    pub foreign_devices: BTreeSet<IfName>,
}

/// What a Vrf needs beyond its spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrfAllocation {
    /// The Vrf's routing table.
    pub table: TableId,
    /// The name of its device, in the kernel and in FRR.
    pub device: IfName,
    /// The VLAN on the L3 bridge that stands for the L3VNI; kept even while the Vrf has none.
    pub l3_vlan: VlanId,
    /// The router MAC (RFC 9135 section 4.1): unique per node, never the anycast MAC.
    pub router_mac: Mac,
}

/// Names that mean something else in the kernel, in FRR, or to this agent.
const RESERVED: [&str; 9] = [
    "lo",
    "all",
    "default",
    "mgmt",
    "br-tenant",
    "br-l3",
    "vxlan",
    "vxl3",
    "any",
];

/// Chooses for a Vrf, keeping what `previous` has.
pub(crate) fn vrf(
    id: &Id,
    intent: &Intent,
    rules: &AllocationRules,
    previous: Option<&VrfAllocation>,
) -> Result<VrfAllocation, RuleError> {
    if let Some(previous) = previous {
        return Ok(previous.clone());
    }
    Ok(VrfAllocation {
        table: free_table(intent, rules)?,
        device: device_name(id, intent, rules)?,
        l3_vlan: free_l3_vlan(intent)?,
        router_mac: router_mac(id, intent, rules)?,
    })
}

fn free_table(intent: &Intent, rules: &AllocationRules) -> Result<TableId, RuleError> {
    let used: BTreeSet<u32> = intent
        .vrfs
        .values()
        .map(|vrf| vrf.allocation.table.get())
        .collect();
    rules
        .tables
        .clone()
        .filter(|table| !used.contains(table))
        .find_map(|table| TableId::try_from(table).ok())
        .ok_or_else(|| RuleError::Exhausted {
            what: "routing table",
            range: format!("{}..={}", rules.tables.start(), rules.tables.end()),
            mend: "widen vrf.table_first to vrf.table_last in the agent's configuration",
        })
}

fn free_l3_vlan(intent: &Intent) -> Result<VlanId, RuleError> {
    let used: BTreeSet<VlanId> = intent
        .vrfs
        .values()
        .map(|vrf| vrf.allocation.l3_vlan)
        .collect();
    (1..=4094)
        .filter_map(|vlan| VlanId::try_from(vlan).ok())
        .find(|vlan| !used.contains(vlan))
        .ok_or_else(|| RuleError::Exhausted {
            what: "L3 VLAN",
            range: "1..=4094".to_owned(),
            mend: "delete a Vrf that is not needed",
        })
}

/// Device names that the agent makes of VLAN ids; a Vrf's never starts like one.
const MADE_OF_VLANS: [&str; 2] = ["svi-", "l3-"];

/// How many hashes are tried for a name: far more than devices can have taken.
const ATTEMPTS: u32 = 1 << 16;

/// The id itself if it fits and is free, else a readable prefix and a hash: `production-a1b2c`.
fn device_name(id: &Id, intent: &Intent, rules: &AllocationRules) -> Result<IfName, RuleError> {
    let free = |name: &IfName| {
        !RESERVED.contains(&name.as_str())
            && !MADE_OF_VLANS
                .iter()
                .any(|start| name.as_str().starts_with(start))
            && !rules.foreign_devices.contains(name)
            && rules::vrf_device_is_free(name, id, intent)
    };
    let plain = id.as_str().parse::<IfName>().ok();
    let hashed = (0..ATTEMPTS).filter_map(|attempt| hashed_name(id, attempt));
    plain
        .into_iter()
        .chain(hashed)
        .find(free)
        .ok_or_else(|| RuleError::Exhausted {
            what: "device name",
            range: format!("{id}-…"),
            mend: "choose another id",
        })
}

fn hashed_name(id: &Id, attempt: u32) -> Option<IfName> {
    let digest = Sha256::digest(format!("{id}/{attempt}"));
    let hash = format!("-{:02x}{:02x}{:x}", digest[0], digest[1], digest[2] & 0xf);
    let clashes = MADE_OF_VLANS
        .iter()
        .any(|start| id.as_str().starts_with(start));
    let readable = if clashes { "vrf" } else { id.as_str() };
    let prefix: String = readable
        .chars()
        .take(ifname::MAX_LEN - hash.len())
        .collect();
    format!("{prefix}{hash}").parse().ok()
}

/// A locally administered address that differs between nodes and between Vrfs.
fn router_mac(id: &Id, intent: &Intent, rules: &AllocationRules) -> Result<Mac, RuleError> {
    let used: BTreeSet<Mac> = intent
        .vrfs
        .values()
        .map(|vrf| vrf.allocation.router_mac)
        .collect();
    let candidates = (0..ATTEMPTS).map(|attempt| {
        let digest = Sha256::new()
            .chain_update(rules.node_seed)
            .chain_update(id.as_str())
            .chain_update(attempt.to_be_bytes())
            .finalize();
        Mac::local([digest[0], digest[1], digest[2], digest[3], digest[4]])
    });
    let exhausted = || RuleError::Exhausted {
        what: "router MAC",
        range: "02:…".to_owned(),
        mend: "choose another id",
    };
    candidates
        .into_iter()
        .find(|mac| !used.contains(mac))
        .ok_or_else(exhausted)
}
