//! A PF is told what it had before.

use nix::errno::Errno;
use xpu_linux::{
    sync::{Rtnl, ioctl, vf_side},
    sysfs::PciAddr,
};
use xpu_model::IfIndex;

use super::{PfChange, PfSide, Setting, index, request};
use crate::{error::Error, host::Host};

/// A setting that is not as it was.
#[derive(Debug)]
pub struct NotRestored {
    /// Why.
    pub error: Error,
    /// Whether it stays so however often its PF is asked.
    pub is_final: bool,
}

/// Tells the PF what it had before: that the VF is not trusted any more, then the rest, last change
/// first. Goes on past refusals.
///
/// # Errors
/// A refusal, where the VF is not as it was nevertheless: one that another try may mend if there is
/// any, else the first.
pub fn restore(
    host: &Host,
    home: &mut Rtnl,
    pci: &PciAddr,
    side: &PfSide,
) -> Result<(), NotRestored> {
    // The PF may have another name by now, and its old one may be another device's.
    let parent = host.sysfs.parent(pci).map_err(|error| NotRestored {
        error: error.into(),
        is_final: false,
    })?;
    let netdev = parent.and_then(|parent| parent.netdev);
    let side = &PfSide {
        netdev: netdev.unwrap_or_else(|| side.netdev.clone()),
        ..side.clone()
    };
    let left = left_by_refusals(home, side).unwrap_or_else(|error| vec![error]);
    if left.is_empty() {
        return Ok(());
    }
    let state = ioctl::up_and_running(home, &side.netdev);
    let pf_runs = state.is_ok_and(|(up, running)| up && running);
    gravest(left, pf_runs).map_or(Ok(()), Err)
}

/// Tells the PF what it had before. Gives why what is not as it was is not.
fn left_by_refusals(home: &mut Rtnl, side: &PfSide) -> Result<Vec<Error>, Error> {
    let index = index(home, side)?;
    let changes = way_back(&side.changes);
    let requests = changes
        .iter()
        .map(|change| request(index, side, change.back));
    let verdicts = home.apply_each(&Vec::from_iter(requests))?;
    // Refused or not: what the VF was allowed has ended in any case.
    let mac = restore_mac(home, index, side).err();
    let mut refused = changes
        .into_iter()
        .zip(verdicts)
        .filter_map(|(change, verdict)| Some((change, verdict.err()?)))
        .peekable();
    if refused.peek().is_none() {
        return Ok(Vec::from_iter(mac));
    }
    // What a driver can't set, it had not set before either: then it is as it was. A driver that is
    // busy may not tell.
    let now = vf_side::read(home, index, side.vf)?;
    let is_back = |change: &PfChange| {
        let now = now.as_ref();
        now.is_some_and(|now| change.back.now(now) == change.back)
    };
    let left = refused
        .filter(|(change, _)| !is_back(change))
        .map(|(_, error)| Error::from(error));
    Ok(mac.into_iter().chain(left).collect())
}

/// The changes in the order in which they are taken back: what ends trust, then the others, last
/// change first. A VF that is still trusted could change its address right after it was put back,
/// and no PF's driver needs trust to set one.
fn way_back(changes: &[PfChange]) -> Vec<&PfChange> {
    let mut order = Vec::from_iter(changes.iter().rev());
    order.sort_by_key(|change| change.back != Setting::Trust(false));
    order
}

/// Gives a VF that was trusted the address back that its PF had for it: what the VF made of it is
/// what the VF would take at its next reset.
fn restore_mac(home: &mut Rtnl, index: IfIndex, side: &PfSide) -> Result<(), Error> {
    let Some(had) = side.mac else { return Ok(()) };
    let has = vf_side::read(home, index, side.vf)?;
    if has.is_none_or(|has| has.mac == Some(had)) {
        return Ok(());
    }
    let verdicts = home.apply_each(&[request(index, side, Setting::Mac(Some(had)))])?;
    Ok(verdicts.into_iter().collect::<Result<(), _>>()?)
}

/// Whether a setting stays as it is however often its PF is asked to put it back: the PF is gone,
/// or its driver doesn't do such a thing. One that is at a reset, as i40e's, says otherwise; and
/// one whose PF has no link may say that a value is invalid which is not, as igb's and ixgbe's of a
/// rate.
fn is_final(error: &Error, pf_runs: bool) -> bool {
    let errno = match error {
        Error::Rtnl(error) => error.errno(),
        Error::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
        _ => None,
    };
    match errno {
        Some(Errno::EINVAL) => pf_runs,
        Some(Errno::EOPNOTSUPP | Errno::EPERM | Errno::ENODEV) => true,
        _ => false,
    }
}

/// The first that is worth another try, else the first.
fn gravest(mut errors: Vec<Error>, pf_runs: bool) -> Option<NotRestored> {
    let at = errors.iter().position(|error| !is_final(error, pf_runs));
    let at = at.unwrap_or_default();
    let error = (at < errors.len()).then(|| errors.swap_remove(at))?;
    Some(NotRestored {
        is_final: is_final(&error, pf_runs),
        error,
    })
}

#[cfg(test)]
mod tests {
    use xpu_linux::sync::{RtnlError, vf_side::VfSide};

    use super::*;
    use crate::pf::{VfSettings, changes};

    /// A VF that is trusted for a moment longer than its address is its PF's could take another.
    #[test]
    fn trust_ends_before_the_address_is_put_back_and_returns_after_it() {
        let asked = |trust| VfSettings {
            mac: Some("02:00:00:00:00:07".parse().unwrap()),
            trust: Some(trust),
            spoofchk: Some(trust),
            ..VfSettings::default()
        };
        let has = |trust| VfSide {
            trust,
            spoofchk: trust,
            ..VfSide::default()
        };
        let back = |trust| {
            let changes = changes(&asked(trust), &has(!trust));
            Vec::from_iter(way_back(&changes).iter().map(|change| change.key.as_str()))
        };
        assert_eq!(back(true), ["trust", "spoofchk", "mac"]);
        assert_eq!(back(false), ["spoofchk", "mac", "trust"]);
    }

    /// A VF that keeps what the last pod was allowed has no next owner before that is put right.
    #[test]
    fn a_pf_that_is_busy_is_asked_again_and_one_that_cannot_is_not() {
        let refused = |errno| {
            Error::from(RtnlError::Refused {
                what: format!("{errno}"),
                errno,
                reason: None,
            })
        };
        let told_by = |errnos: &[Errno], pf_runs| {
            let told = gravest(errnos.iter().copied().map(refused).collect(), pf_runs);
            told.map(|left| (left.error.to_string(), left.is_final))
        };
        let told = |errnos: &[Errno]| told_by(errnos, true);
        assert_eq!(told(&[]), None);
        for never in [
            Errno::EOPNOTSUPP,
            Errno::EINVAL,
            Errno::EPERM,
            Errno::ENODEV,
        ] {
            assert_eq!(told(&[never]), Some((format!("{never}"), true)));
        }
        for busy in [Errno::EAGAIN, Errno::EBUSY, Errno::EIO, Errno::ETIMEDOUT] {
            assert_eq!(told(&[busy]), Some((format!("{busy}"), false)));
            let among = [Errno::EOPNOTSUPP, busy, Errno::EINVAL];
            assert_eq!(told(&among), Some((format!("{busy}"), false)));
        }
        // Without a link, drivers call a rate invalid that they had set before.
        let among = [Errno::EOPNOTSUPP, Errno::EINVAL];
        let later = Some((format!("{}", Errno::EINVAL), false));
        assert_eq!(told_by(&among, false), later);
        let never = Some((format!("{}", Errno::EOPNOTSUPP), true));
        assert_eq!(told_by(&among, true), never);
        let gone = |code| Error::Io {
            what: "find the PF ens1".to_owned(),
            source: std::io::Error::from_raw_os_error(code),
        };
        assert!(is_final(&gone(libc::ENODEV), false));
        assert!(!is_final(&gone(libc::EINTR), true));
    }
}
