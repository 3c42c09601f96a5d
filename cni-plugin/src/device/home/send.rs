//! Sending a VF what brings it home: to where it is, and from the pod only together with what frees it
//! of that.

use xpu_linux::sync::{
    Request, RtnlError,
    link::{self, Change, drop_alt_name},
};
use xpu_model::IfName;

use super::{
    WasInPod, WayHome, change_in_place,
    locate::{InPod, Located},
    names, uppers,
};
use crate::error::Error;

/// The kernel's answer to a change.
type Answer = Result<(), RtnlError>;

impl WayHome<'_> {
    /// Sends a change to where the VF is. Gives the kernel's answer to it.
    ///
    /// # Errors
    /// What kept the change from being sent.
    pub(super) fn send(
        &mut self,
        located: &Located,
        change: &Change<'_>,
        name: &IfName,
    ) -> Result<Answer, Error> {
        if change.is_empty() {
            return Ok(Ok(()));
        }
        let what = |from: &str| format!("bring {from} home as {name}");
        // More than one message, where the driver takes its address at a reset only.
        self.host.checkpoint("undo: move");
        match located {
            Located::Pod(seen) => self.send_from_pod(seen, change.request(what(&seen.link.name))),
            Located::Home(current) => {
                let home = &mut *self.home;
                let what = what(&current.name);
                let send = |all: &[Request]| home.apply(all);
                Ok(change_in_place(change, what, || current.up, send))
            }
        }
    }

    /// Frees the VF in the pod of all that would follow it or stay on its wire, and moves it.
    fn send_from_pod(&mut self, seen: &InPod, moves: Request) -> Result<Answer, Error> {
        let Some(pod) = &mut self.pod else {
            return Ok(Ok(()));
        };
        let InPod { link, uppers } = seen;
        let deletes = uppers::delete(uppers);
        if let Err(why) = uppers::check_all(uppers) {
            // Some of them go, so each call comes further.
            pod.rtnl.apply_each(&deletes)?;
            return Err(self.away(why));
        }
        let takes = link::without_xdp(link);
        // A name that the pod gave it would stand in the way of its next owner.
        let foreign = names::foreign_names(link, self.origin);
        let drops = foreign.map(|name| drop_alt_name(link.index, name));
        let requests = deletes.into_iter().chain(takes).chain(drops);
        let requests = Vec::from_iter(requests.chain([moves]));
        let mut verdicts = pod.rtnl.apply_each(&requests)?;
        self.was_in_pod = WasInPod::Yes;
        self.looks_inside = false;
        // All that it was to be freed of is looked at again at home.
        Ok(verdicts.pop().unwrap_or(Ok(())))
    }
}
