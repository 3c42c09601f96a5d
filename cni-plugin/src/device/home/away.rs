//! Why a VF isn't home: what is the pod's doing, or takes its time.

use std::fmt;

/// What keeps a VF from its home. The next call tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// It is neither in the pod nor at home.
    Elsewhere,
    /// Its pod's namespace is gone, and the kernel hasn't brought it back.
    OnItsWay,
    /// Its netdev went, or got another name, while it was looked at.
    Vanished,
    /// Others give it a name or a setting as often as they are put right.
    Changed,
    /// The pod puts devices on it as often as they are deleted.
    Laden,
    /// More devices in further namespaces stand on it than one call deletes.
    Crowded {
        /// How many there are.
        count: usize,
        /// How many a call deletes.
        most: usize,
    },
    /// There was no time to look for such devices.
    Unsearched,
}

impl fmt::Display for Away {
    /// What the VF does or has, to go on after its address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere => f.write_str(
                "has no netdev, neither in the pod nor on the host; it may be in another \
                 namespace, with whose end it comes home",
            ),
            Self::OnItsWay => f.write_str(
                "has not come back from its pod's namespace yet; the next call looks again",
            ),
            Self::Vanished => f.write_str(
                "had its netdev removed or renamed while it was looked at; the next call looks \
                 again",
            ),
            Self::Changed => f.write_str(
                "is changed by others as often as it is put right; see what else on the node \
                 configures it",
            ),
            Self::Laden => f.write_str(
                "gets devices of its pod's put on it as often as they are deleted; end the pod's \
                 processes",
            ),
            Self::Crowded { count, most } => write!(
                f,
                "has {count} of its pod's devices on it in further namespaces; {most} are deleted \
                 by each call"
            ),
            Self::Unsearched => f.write_str(
                "may have devices on it in network namespaces inside the pod's; looking for them \
                 takes too long; with the pod's end they are gone",
            ),
        }
    }
}
