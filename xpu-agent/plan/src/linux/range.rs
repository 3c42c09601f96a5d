//! Runs of consecutive VLANs and VNIs. One message per run instead of one per number: that is
//! what keeps thousands of networks affordable for the kernel and for FRR.

use std::{fmt, marker::PhantomData};

use xpu_model::{VlanId, Vni};

/// An inclusive run of numbers, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range<T> {
    first: u32,
    last: u32,
    of: PhantomData<T>,
}

/// Consecutive VLANs.
pub type VlanRange = Range<VlanId>;
/// Consecutive VNIs.
pub type VniRange = Range<Vni>;

impl<T: Into<u32> + TryFrom<u32>> Range<T> {
    /// The run of one number.
    #[must_use]
    pub fn one(number: T) -> Self {
        let number = number.into();
        Self {
            first: number,
            last: number,
            of: PhantomData,
        }
    }

    /// The smallest number.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// The largest number.
    #[must_use]
    pub const fn last(&self) -> u32 {
        self.last
    }

    /// Whether it is a single number.
    #[must_use]
    pub const fn is_one(&self) -> bool {
        self.first == self.last
    }

    /// Its numbers.
    pub fn numbers(&self) -> impl Iterator<Item = T> + use<T> {
        (self.first..=self.last).filter_map(|number| T::try_from(number).ok())
    }

    /// Each of its numbers as a run.
    pub fn singles(&self) -> impl Iterator<Item = Self> + use<T> {
        self.numbers().map(Self::one)
    }

    /// Lengthens the run by `number` if that is the next one.
    fn extend(&mut self, number: u32) -> bool {
        let next = self.last.checked_add(1) == Some(number);
        if next {
            self.last = number;
        }
        next
    }
}

/// Puts ascending pairs of number and payload into runs; two neighbours are in one run while
/// `joins` allows it.
pub(super) fn runs<T, P>(
    pairs: impl IntoIterator<Item = (T, P)>,
    joins: impl Fn(&P, &P) -> bool,
) -> Vec<(Range<T>, Vec<P>)>
where
    T: Into<u32> + TryFrom<u32> + Copy,
{
    let mut runs: Vec<(Range<T>, Vec<P>)> = Vec::new();
    for (number, payload) in pairs {
        if let Some((range, payloads)) = runs.last_mut()
            && payloads.last().is_some_and(|last| joins(last, &payload))
            && range.extend(number.into())
        {
            payloads.push(payload);
            continue;
        }
        runs.push((Range::one(number), vec![payload]));
    }
    runs
}

impl fmt::Display for VlanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, "VLAN", self.first, self.last)
    }
}

impl fmt::Display for VniRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, "VNI", self.first, self.last)
    }
}

fn show(f: &mut fmt::Formatter<'_>, what: &str, first: u32, last: u32) -> fmt::Result {
    if first == last {
        write!(f, "{what} {first}")
    } else {
        write!(f, "{what}s {first} to {last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vlan(number: u32) -> VlanId {
        number.try_into().unwrap()
    }

    #[test]
    fn runs_break_at_gaps_and_where_payloads_differ() {
        let pairs = [(1, 'a'), (2, 'a'), (3, 'b'), (5, 'b'), (6, 'b')];
        let runs = runs(pairs.map(|(n, p)| (vlan(n), p)), |a, b| a == b);
        let shown: Vec<_> = runs.iter().map(|(range, _)| range.to_string()).collect();
        assert_eq!(shown, ["VLANs 1 to 2", "VLAN 3", "VLANs 5 to 6"]);
        assert_eq!(runs[2].1, ['b', 'b']);
    }

    #[test]
    fn singles_cover_the_run() {
        let whole = runs((4090..=4094).map(|n| (vlan(n), ())), |(), ()| true);
        let singles: Vec<_> = whole[0].0.singles().map(|one| one.first()).collect();
        assert_eq!(singles, [4090, 4091, 4092, 4093, 4094]);
    }
}
