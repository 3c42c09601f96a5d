//! The names of a VF on its way home: its own, one in its place, and the further ones.

use std::ffi::OsString;

use nix::errno::Errno;
use xpu_linux::sync::{
    LinkFacts, Rtnl, RtnlError, ioctl,
    link::{add_alt_name, drop_alt_name},
};
use xpu_model::{IfIndex, IfName};

use crate::{device::netdev::Current, error::Error, host::Host, journal::Netdev};

/// What a VF's name begins with whose own name at home was taken meanwhile.
pub const FALLBACK: &str = "xvf";

/// How many of those names there are: more than a node has VFs.
const FALLBACKS: u32 = 10_000;

/// A name for a VF whose own is taken: the fallback name that it has at home already, else the
/// first that no device there has. Somebody else may be quicker; then this is asked again.
pub fn fallback_name(home: &Rtnl, has: Option<&str>) -> Option<IfName> {
    let is_free = |name: &IfName| {
        let found = ioctl::index(home, name);
        found.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
    };
    let has = has.filter(|name| name.starts_with(FALLBACK));
    match has.and_then(|name| name.parse().ok()) {
        Some(name) => Some(name),
        None => (0..FALLBACKS)
            .filter_map(|number| format!("{FALLBACK}{number}").parse().ok())
            .find(is_free),
    }
}

/// A link's alternative names that others gave it, as far as its own are known.
pub fn foreign_names<'a>(
    link: &'a LinkFacts,
    origin: &'a Netdev,
) -> impl Iterator<Item = &'a OsString> {
    let own = origin.alt_names.as_ref();
    let names = link.alt_names.iter();
    names.filter(move |name| own.is_some_and(|own| !own.contains(name)))
}

/// Whether a name is an alternative one of a device at home.
pub fn is_further(home: &Rtnl, current: &Current, name: &IfName) -> bool {
    let has = ioctl::index(home, name);
    current.name != name.as_str() && has.is_ok_and(|index| index == current.index)
}

/// Takes alternative names from a link. One that it hasn't any more is no failure.
///
/// # Errors
/// The kernel's first refusal; all that it allows is done.
pub fn drop_all(rtnl: &mut Rtnl, index: IfIndex, names: &[OsString]) -> Result<(), RtnlError> {
    let drops = names.iter().map(|name| drop_alt_name(index, name));
    let verdicts = rtnl.apply_each(&Vec::from_iter(drops))?;
    // The link is elsewhere, nobody has the name, or another device.
    let is_gone = |error: &RtnlError| {
        let errno = error.errno();
        errno.is_some_and(|errno| matches!(errno, Errno::ENODEV | Errno::ENOENT | Errno::EINVAL))
    };
    let mut refusals = verdicts.into_iter().filter_map(Result::err);
    refusals.find(|error| !is_gone(error)).map_or(Ok(()), Err)
}

/// Makes of the alternative names that a VF `has` at home exactly those that it had.
///
/// # Errors
/// The kernel's first refusal; all that it allows is done.
pub fn restore(
    host: &Host,
    home: &mut Rtnl,
    index: IfIndex,
    has: &[OsString],
    had: &[OsString],
) -> Result<(), Error> {
    let strange = has.iter().filter(|name| !had.contains(name));
    let missing = had.iter().filter(|name| !has.contains(name));
    let drops = strange.map(|name| drop_alt_name(index, name));
    let adds = missing.map(|name| add_alt_name(index, name));
    let requests: Vec<_> = drops.chain(adds).collect();
    if requests.is_empty() {
        return Ok(());
    }
    host.checkpoint("undo: names");
    Ok(home.apply(&requests)?)
}
