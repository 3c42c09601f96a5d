//! The upper devices of a pod's VF that the pod has put into further namespaces.
//!
//! A move into another namespace gives that one a number in the namespace that is left
//! (`dev_change_net_namespace()`, net/core/dev.c), so the pod's knows where to look. What it does
//! not know can't be looked into from there: a namespace that such a device was moved on to, and
//! one that it was made in at once (`ip link add … netns …`), of which no number tells. Nor does the
//! host's namespace know them, to which a VF comes home from a namespace that has ended.

use std::{collections::BTreeSet, os::fd::BorrowedFd};

use xpu_model::IfIndex;

use crate::sync::{
    Rtnl, RtnlError,
    link::Lower,
    peers::{self, NsId},
};

/// How many namespaces of a pod are looked into, each of which costs the node's one turn at RTNL a
/// moment.
const MOST: usize = 256;

/// What the namespaces that the pod's knows have of a VF's.
#[derive(Debug, Default)]
pub struct Nested {
    /// The upper devices.
    pub devices: Vec<(NsId, IfIndex)>,
    /// Whether there are namespaces that were not looked into, for whatever reason.
    pub is_partial: bool,
}

/// A pod's namespace, from which a VF and what stands on that is looked for.
#[derive(Debug)]
pub struct PodSide<'a> {
    /// A socket in it.
    pub rtnl: &'a mut Rtnl,
    /// The namespace itself.
    pub netns: BorrowedFd<'a>,
    /// The host's, which no pod can put anything into.
    pub home: BorrowedFd<'a>,
}

impl PodSide<'_> {
    /// How a device that stands on `vf`, which is in the namespace `at`, tells so from another one.
    pub(super) fn lower(&mut self, vf: IfIndex, at: BorrowedFd<'_>) -> Result<Lower, RtnlError> {
        Ok(Lower {
            index: vf,
            netns: Some(peers::number_of(self.rtnl, at)?),
        })
    }

    /// Looks for the upper devices of `vf`, a device in the namespace `at`, in those that the pod's
    /// knows.
    pub(super) fn nested(
        &mut self,
        vf: IfIndex,
        at: BorrowedFd<'_>,
        known: &[NsId],
    ) -> Result<Nested, RtnlError> {
        let mut nested = Nested::default();
        if known.is_empty() {
            return Ok(nested);
        }
        self.rtnl.strict()?;
        let lower = Some(self.lower(vf, at)?);
        let mut known = BTreeSet::from_iter(known.iter().copied());
        let own = [self.netns, self.home].map(|netns| peers::number_of(self.rtnl, netns));
        let mut seen = own.into_iter().collect::<Result<BTreeSet<_>, _>>()?;
        while let Some(peer) = known.pop_first() {
            if !seen.insert(peer) {
                continue;
            }
            if seen.len() > MOST {
                nested.is_partial = true;
                break;
            }
            let Ok(links) = peers::links_of(self.rtnl, peer) else {
                // It may be gone by now.
                nested.is_partial |= peers::peers(self.rtnl)?.contains(&peer);
                continue;
            };
            let uppers = links.iter().filter(|link| link.lower == lower);
            nested.devices.extend(uppers.map(|link| (peer, link.index)));
            // The list may have given numbers to further ones, and they may know more.
            for further in peers::peers_of(self.rtnl, peer).unwrap_or_default() {
                match further {
                    Some(further) => _ = known.insert(further),
                    None => nested.is_partial = true,
                }
            }
        }
        Ok(nested)
    }
}
