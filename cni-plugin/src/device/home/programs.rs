//! BPF programs that a VF brings home from its pod, through which the next pod's frames would go.

use std::collections::BTreeSet;

use xpu_linux::{
    bpf,
    sync::{LinkFacts, Rtnl, link},
};

use super::is_gone;
use crate::error::{Error, chain};

/// What it means that one is left.
const MEANS: &str = "it stays with the VF, for its next pod too; `bpftool net` and `bpftool link` \
                     tell who holds a program";

/// How often XDP programs are looked for. Whoever holds a link can exchange its program between a
/// look at the device and one at the link, so each look adds to those that are known.
const LOOKS: usize = 16;

/// Takes all XDP and tcx programs from a VF at home. Gives what could not be taken, as remarks: one
/// more try would end no better, so the VF is not withheld for it.
///
/// # Errors
/// Where the socket failed.
pub fn take(home: &mut Rtnl, link: &LinkFacts) -> Result<Vec<String>, Error> {
    let mut left = take_xdp(home, link)?;
    if let Err(error) = bpf::take_tcx(link.index) {
        left.push(format!("take the tcx programs from {}: {error}", link.name));
    }
    Ok(left.iter().map(|what| format!("{what}: {MEANS}")).collect())
}

/// Takes the XDP programs until none is seen any more. Gives what could not be taken.
fn take_xdp(home: &mut Rtnl, first: &LinkFacts) -> Result<Vec<String>, Error> {
    if !has_xdp(first) {
        return Ok(Vec::new());
    }
    let mut seen = BTreeSet::new();
    let mut left = Vec::new();
    let mut later = None;
    for _ in 0..LOOKS {
        let link = later.as_ref().unwrap_or(first);
        left = take_seen(home, link, &mut seen)?;
        later = match link::one(home, first.index) {
            Err(error) if is_gone(&error) => None,
            link => link?,
        };
        // Whatever was refused: this is what counts.
        if !later.as_ref().is_some_and(has_xdp) {
            return Ok(Vec::new());
        }
    }
    if left.is_empty() {
        left.push(format!("an XDP program is left on {}", first.name));
    }
    Ok(left)
}

fn has_xdp(link: &LinkFacts) -> bool {
    link.xdp.each().next().is_some()
}

/// Takes the XDP programs that a look at the VF told of, and those `seen` before it.
fn take_seen(
    home: &mut Rtnl,
    link: &LinkFacts,
    seen: &mut BTreeSet<u32>,
) -> Result<Vec<String>, Error> {
    seen.extend(link.xdp.each().map(|(program, _)| program));
    let verdicts = home.apply_each(&Vec::from_iter(link::without_xdp(link)))?;
    let refused = verdicts.into_iter().filter_map(Result::err);
    let refused = Vec::from_iter(
        refused
            .filter(|error| !is_gone(error))
            .map(|error| chain(&error)),
    );
    if refused.is_empty() {
        return Ok(refused);
    }
    // A link lets go of its program only when it is told to itself.
    Ok(match bpf::take_xdp_links(link.index, seen) {
        Ok(true) => Vec::new(),
        Ok(false) => refused,
        Err(source) => Vec::from_iter(refused.iter().map(|what| format!("{what} ({source})"))),
    })
}
