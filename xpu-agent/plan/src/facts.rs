//! What one backend has to know of another before it may act.

use std::collections::BTreeMap;

use xpu_model::{Id, Vni};

/// What FRR has been told and still works with, as the Linux planner needs it.
///
/// FRR must know `vrf X / vni N` before the L3VNI's devices appear, and must have let go of it
/// before they go (FRR#17342, #19756), so the Linux planner holds those devices back until it
/// does, and keeps them until it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FrrFacts {
    /// No FRR is configured by this agent: nothing waits for it.
    Unmanaged,
    /// FRR was not looked at yet. Nothing new is made on its account, nothing is torn down.
    #[default]
    Unknown,
    /// FRR was read back.
    Known {
        /// What FRR has of each Vrf, deleted ones included, by its id. None: nothing.
        vrfs: BTreeMap<Id, VrfInFrr>,
    },
}

/// What FRR has of one Vrf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VrfInFrr {
    /// The L3VNI that it was told, and that zebra has heard of.
    pub told: Option<Vni>,
    /// The L3VNI that it works with: the one it was told, or one that it was told to give up and
    /// has not let go of.
    pub holds: Option<Vni>,
    /// The VRF's BGP instance, as the agent made it.
    pub instance: bool,
}

impl FrrFacts {
    /// Whether the devices of `vni` in `vrf` may be made.
    #[must_use]
    pub fn is_ready(&self, vrf: &Id, vni: Vni) -> bool {
        match self {
            Self::Unmanaged => true,
            Self::Unknown => false,
            Self::Known { vrfs } => vrfs.get(vrf).is_some_and(|it| it.told == Some(vni)),
        }
    }

    /// Whether FRR may work with `vni` in `vrf`, so that its devices have to stay.
    #[must_use]
    pub fn may_hold(&self, vrf: &Id, vni: Vni) -> bool {
        match self {
            Self::Unmanaged => false,
            Self::Unknown => true,
            Self::Known { vrfs } => vrfs.get(vrf).is_some_and(|it| it.holds == Some(vni)),
        }
    }

    /// Whether FRR may have something of ours that stands on the device of `vrf`.
    #[must_use]
    pub fn may_use(&self, vrf: &Id) -> bool {
        match self {
            Self::Unmanaged => false,
            Self::Unknown => true,
            Self::Known { vrfs } => vrfs
                .get(vrf)
                .is_some_and(|it| it.holds.is_some() || it.instance),
        }
    }

    /// The facts once FRR has stopped: what it was told it is told again when it starts, and it
    /// works with nothing.
    #[must_use]
    pub fn stopped(self) -> Self {
        let vrfs = match self {
            Self::Unmanaged => return Self::Unmanaged,
            Self::Unknown => BTreeMap::new(),
            Self::Known { vrfs } => vrfs,
        };
        let left = vrfs.into_iter().filter_map(|(id, vrf)| {
            let stopped = VrfInFrr {
                told: Some(vrf.told?),
                ..VrfInFrr::default()
            };
            Some((id, stopped))
        });
        Self::Known {
            vrfs: left.collect(),
        }
    }
}
