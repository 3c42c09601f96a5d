//! Taking from a VF at home what its pod has left on it: devices that stand on it, and programs.
//!
//! Only a look once it is home finds all. As long as the VF is in the pod, a living process can put devices
//! on it, also between the messages that free and move it. And where the pod has put it into a
//! namespace of its own that ended since, it comes home by itself, with its programs, while the
//! devices on it stay.

use xpu_linux::{sync::link, vf};
use xpu_model::IfIndex;

use super::{Away, Current, WayHome, is_gone, programs, side, uppers};
use crate::error::Error;

/// How often a VF at home is freed of what stands on it in its pod. A device that is put on a macvlan
/// stands on that one's lower device, so a living process can make further ones until none is left.
const FREES: u32 = 4;

/// What of its pod's is still to be taken from a VF at home.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToFree {
    /// How often devices are still looked for; 0: none stands on it any more.
    devices: u32,
    /// Whether programs are still to be looked for.
    programs: bool,
}

impl ToFree {
    /// Nothing was looked for yet.
    pub(super) const ALL: Self = Self {
        devices: FREES,
        programs: true,
    };
}

impl WayHome<'_> {
    /// Takes from a VF that is at home what the pod has left there. Gives whether it may be another
    /// than it was by that: then it is looked for again.
    pub(super) fn free_at_home(&mut self, current: &Current) -> Result<bool, Error> {
        if !self.was_in_pod.tells(current, self.origin) {
            return Ok(false);
        }
        if self.to_free.devices > 0 && self.free_of_devices(current.index)? {
            return Ok(true);
        }
        if self.to_free.programs {
            self.free_of_programs(current.index)?;
        }
        Ok(false)
    }

    /// Frees a VF at home of what stands on it in its pod, which lives, and in the namespaces that
    /// this knows. Gives whether there was anything.
    fn free_of_devices(&mut self, index: IfIndex) -> Result<bool, Error> {
        let Some(pod) = &mut self.pod else {
            self.to_free.devices = 0;
            return Ok(false);
        };
        let uppers = vf::uppers_behind(side(pod, self.ns, true), index)?;
        let verdicts = pod.rtnl.apply_each(&uppers::delete(&uppers))?;
        uppers::check_all(&uppers).map_err(|why| self.away(why))?;
        let mut refusals = verdicts.iter().filter_map(|verdict| verdict.as_ref().err());
        let is_refused = refusals.any(|error| !is_gone(error));
        // Each look finds what the one before has left.
        self.remarks = uppers::remarks(&uppers, verdicts);
        if uppers.is_empty() {
            self.to_free.devices = 0;
            return Ok(false);
        }
        self.to_free.devices -= 1;
        if self.to_free.devices == 0 && !is_refused {
            return Err(self.away(Away::Laden));
        }
        Ok(true)
    }

    /// Takes the pod's programs from a VF at home, and looks at its alternative names. Programs may be
    /// back where they were taken from it in the pod; and some are seen at home only.
    fn free_of_programs(&mut self, index: IfIndex) -> Result<(), Error> {
        // What is read without RTNL doesn't tell of them.
        let link = match link::one(self.home, index) {
            Ok(Some(link)) => link,
            Ok(None) => return Ok(()),
            // The next look finds it where it is.
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.remarks.extend(uppers::unseen(&link));
        self.remarks.extend(programs::take(self.home, &link)?);
        self.alt_names = Some(link.alt_names);
        self.to_free.programs = false;
        Ok(())
    }
}
