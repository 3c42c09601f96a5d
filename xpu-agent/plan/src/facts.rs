//! What one backend has to know of another before it may act.

use std::collections::BTreeMap;

use xpu_model::{Id, Vni};

/// What FRR has been told, as the Linux planner needs it.
///
/// FRR must know `vrf X / vni N` before the L3VNI's devices appear (FRR#17342, #19756), so the
/// Linux planner holds those devices back until it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FrrFacts {
    /// No FRR is configured by this agent: nothing waits for it.
    Unmanaged,
    /// FRR was not looked at yet. Nothing new is made on its account, nothing is torn down.
    #[default]
    Unknown,
    /// FRR was read back.
    Known {
        /// The L3VNI that FRR has for a Vrf, by the Vrf's id.
        l3vni: BTreeMap<Id, Vni>,
    },
}

impl FrrFacts {
    /// Whether the devices of `vni` in `vrf` may be made.
    #[must_use]
    pub fn is_ready(&self, vrf: &Id, vni: Vni) -> bool {
        match self {
            Self::Unmanaged => true,
            Self::Unknown => false,
            Self::Known { l3vni } => l3vni.get(vrf) == Some(&vni),
        }
    }
}
