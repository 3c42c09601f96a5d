//! The pod's devices that stand on its VF. They would go on hearing and sending on its wire for as
//! long as their namespace lives, whoever has the VF by then: VLANs and macvlans stay where they are
//! when their lower device moves.

use xpu_linux::{
    sync::{
        LinkFacts, Request, RtnlError,
        link::{self, Change},
        peers,
    },
    vf::Uppers,
};

use super::{Away, is_gone};
use crate::error::chain;

/// How many devices in further namespaces are deleted by one call of the plugin. Each costs a wait
/// under the node's one RTNL.
const MOST: usize = 64;

/// What deletes them.
pub fn delete(uppers: &Uppers) -> Vec<Request> {
    let group = Some(uppers.free_group);
    let gather = uppers.devices.iter().map(|index| {
        let change = Change {
            group,
            ..Change::of(*index)
        };
        change.request(format!("put link {index} of the pod into a group"))
    });
    // As many as a pod likes, which would have to be waited for one by one.
    let delete = (!uppers.devices.is_empty()).then(|| link::delete_group(uppers.free_group));
    // A device of another namespace can't be put into a group from here.
    let nested = uppers.nested.devices.iter().take(MOST);
    let nested = nested.map(|(netns, index)| peers::delete(*netns, *index));
    gather.chain(delete).chain(nested).collect()
}

/// Checks that [`delete`] deletes all that there are.
///
/// # Errors
/// Where there are more, or there was no time to look for them. The VF waits for that, but not its
/// pod, with whose end they go at the latest.
pub fn check_all(uppers: &Uppers) -> Result<(), Away> {
    let count = uppers.nested.devices.len();
    if count > MOST {
        return Err(Away::Crowded { count, most: MOST });
    }
    if uppers.nested.is_late {
        return Err(Away::Unsearched);
    }
    Ok(())
}

/// What of them is left, by the kernel's verdicts on each deletion, as remarks. One more try would
/// end no better, so the VF is not withheld for it.
pub fn remarks(uppers: &Uppers, verdicts: Vec<Result<(), RtnlError>>) -> Vec<String> {
    let left = verdicts.into_iter().filter_map(Result::err);
    let left = left.filter(|error| !is_gone(error));
    let left = left.map(|error| chain(&error));
    let unseen = uppers
        .nested
        .is_partial
        .then(|| "network namespaces inside the pod's can't be looked into from there".to_owned());
    left.chain(unseen)
        .map(|what| format!("{what}: the pod may hear the VF's frames until its namespaces end"))
        .collect()
}

/// What a VF at home tells of a device that stands on it in a namespace that nobody here knows, as a
/// remark. Sockets lose the VF at a move, so it is such a device that still has it hear all frames,
/// as a macvlan of mode `passthru` does; others leave no trace.
pub fn unseen(vf: &LinkFacts) -> Option<String> {
    let by_flag = u32::from(vf.flags.promiscuous());
    (vf.promiscuity > by_flag).then(|| {
        format!(
            "{} is kept promiscuous, as by a device in a network namespace that the pod's doesn't \
             know: whoever has that may hear the VF's frames until it ends",
            vf.name
        )
    })
}
