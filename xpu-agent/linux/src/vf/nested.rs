//! The upper devices of a pod's VF that the pod has put into further namespaces.
//!
//! A move into another namespace gives that one a number in the namespace that is left
//! (`dev_change_net_namespace()`, net/core/dev.c), so the pod's knows where to look. What it does
//! not know can't be looked into from there: a namespace that such a device was moved on to, and
//! one that it was made in at once (`ip link add … netns …`), of which no number tells. Nor does the
//! host's namespace know them, to which a VF comes home from a namespace that has ended.

use std::{
    collections::BTreeSet,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use xpu_model::IfIndex;

use crate::sync::{
    Rtnl, RtnlError,
    link::Lower,
    peers::{self, NsId},
};

/// How many namespaces of a pod are looked into, each of which costs the node's one turn at RTNL a
/// moment.
const MOST: usize = 256;

/// How long they are looked into: more than some hundred take, unless others keep RTNL busy. All of
/// the node may be waiting meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// What the namespaces that the pod's knows have of a VF's.
#[derive(Debug, Default)]
pub struct Nested {
    /// The upper devices.
    pub devices: Vec<(NsId, IfIndex)>,
    /// Whether there are namespaces that can't be looked into, for whatever reason.
    pub is_partial: bool,
    /// Whether there was no time for all of them.
    pub is_late: bool,
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
    /// Whether the namespaces that it knows are looked into.
    pub looks_inside: bool,
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
        self.nested_until(vf, at, known, Instant::now() + LOOK)
    }

    fn nested_until(
        &mut self,
        vf: IfIndex,
        at: BorrowedFd<'_>,
        known: &[NsId],
        until: Instant,
    ) -> Result<Nested, RtnlError> {
        let mut nested = Nested::default();
        if known.is_empty() || !self.looks_inside {
            return Ok(nested);
        }
        self.rtnl.strict()?;
        let lower = Some(self.lower(vf, at)?);
        let mut known = BTreeSet::from_iter(known.iter().copied());
        let own = [self.netns, self.home].map(|netns| peers::number_of(self.rtnl, netns));
        let mut seen = own.into_iter().collect::<Result<BTreeSet<_>, _>>()?;
        let mut silent = Vec::new();
        while let Some(peer) = known.pop_first() {
            if !seen.insert(peer) {
                continue;
            }
            if Instant::now() >= until {
                nested.is_late = true;
                break;
            }
            if seen.len() > MOST {
                nested.is_partial = true;
                break;
            }
            let Some(links) = told(peers::links_of(self.rtnl, peer))? else {
                silent.push(peer);
                continue;
            };
            let uppers = links.iter().filter(|link| link.lower == lower);
            nested.devices.extend(uppers.map(|link| (peer, link.index)));
            // The list may have given numbers to further ones, and they may know more.
            let Some(all) = told(peers::peers_of(self.rtnl, peer))? else {
                silent.push(peer);
                continue;
            };
            for further in all {
                match further {
                    Some(further) => _ = known.insert(further),
                    None => nested.is_partial = true,
                }
            }
        }
        nested.is_partial |= self.has_any(&silent)?;
        Ok(nested)
    }

    /// Whether any of the namespaces, which have told nothing, is still there.
    fn has_any(&mut self, silent: &[NsId]) -> Result<bool, RtnlError> {
        if silent.is_empty() {
            return Ok(false);
        }
        let all = peers::peers(self.rtnl)?;
        Ok(all.iter().any(|peer| silent.contains(peer)))
    }
}

/// What a namespace has told; `None`: nothing, as one that is gone.
///
/// # Errors
/// Where the socket failed, and where the namespace changed at each look, by which one can hide
/// something.
fn told<T>(answer: Result<T, RtnlError>) -> Result<Option<T>, RtnlError> {
    match answer {
        Ok(all) => Ok(Some(all)),
        Err(RtnlError::Refused { .. } | RtnlError::Malformed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use nix::{
        errno::Errno,
        sched::{CloneFlags, unshare},
    };
    use std::os::fd::AsFd;

    #[test]
    fn a_look_ends_in_time_and_says_so() {
        let home = NetNs::current().unwrap();
        let looked = std::thread::spawn(move || {
            let enter = || {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                NetNs::current().unwrap()
            };
            let (peer, pod) = (enter(), enter());
            let mut rtnl = Rtnl::open().unwrap();
            let known = [peers::number_of(&mut rtnl, peer.as_fd()).unwrap()];
            let mut side = PodSide {
                rtnl: &mut rtnl,
                netns: pod.as_fd(),
                home: home.as_fd(),
                looks_inside: true,
            };
            let vf = IfIndex::new(7).unwrap();
            for (time, is_late) in [(Duration::ZERO, true), (Duration::from_secs(60), false)] {
                let until = Instant::now() + time;
                let nested = side.nested_until(vf, pod.as_fd(), &known, until).unwrap();
                assert_eq!(nested.is_late, is_late, "{nested:?}");
                assert!(!nested.is_partial && nested.devices.is_empty());
            }
        });
        looked.join().unwrap();
    }

    #[test]
    fn what_would_not_stand_still_is_not_empty() {
        let what = "list a namespace's links".to_owned();
        let unsteady = told::<()>(Err(RtnlError::Unsteady { what: what.clone() }));
        assert!(
            matches!(unsteady, Err(RtnlError::Unsteady { .. })),
            "{unsteady:?}"
        );
        let gone = told::<()>(Err(RtnlError::Refused {
            what,
            errno: Errno::EINVAL,
            reason: None,
        }));
        assert!(matches!(gone, Ok(None)), "{gone:?}");
    }
}
