//! BPF programs that a VF brings home from its pod, through which the next pod's frames would go.

use nix::errno::Errno;
use xpu_linux::{
    bpf,
    sync::{LinkFacts, Rtnl, RtnlError, link},
};

use crate::error::{Error, chain};

/// What it means that one is left.
const MEANS: &str = "it stays with the VF, for its next pod too; `bpftool net` and `bpftool link` \
                     tell who holds a program";

/// Takes all XDP and tcx programs from a VF at home. Gives what could not be taken, as remarks: one
/// more try would end no better, so the VF is not withheld for it.
///
/// # Errors
/// Where the socket failed.
pub fn take(home: &mut Rtnl, link: &LinkFacts) -> Result<Vec<String>, Error> {
    let takes = Vec::from_iter(link::without_xdp(link));
    let verdicts = home.apply_each(&takes)?;
    let programs = link.xdp.each().map(|(program, _)| program);
    let left = programs.zip(verdicts).filter_map(|(program, verdict)| {
        let error = verdict.err().filter(|error| !is_gone(error))?;
        // A link lets go of its program only when it is told to itself.
        match bpf::take_xdp_link(link.index, program) {
            Ok(true) => None,
            Ok(false) => Some(chain(&error)),
            Err(source) => Some(format!("{} ({source})", chain(&error))),
        }
    });
    let mut left = Vec::from_iter(left);
    if let Err(error) = bpf::take_tcx(link.index) {
        left.push(format!("take the tcx programs from {}: {error}", link.name));
    }
    Ok(left.iter().map(|what| format!("{what}: {MEANS}")).collect())
}

fn is_gone(error: &RtnlError) -> bool {
    error.errno() == Some(Errno::ENODEV)
}
