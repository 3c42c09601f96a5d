//! The names of a VF on its way home: its own, one in its place, and the further ones.

use std::ffi::OsString;

use xpu_linux::sync::{
    LinkFacts, Rtnl, ioctl,
    link::{add_alt_name, drop_alt_name},
};
use xpu_model::{IfIndex, IfName};

use crate::{device::taken_by, error::Error, host::Host, journal::Netdev, sandbox::Sandbox};

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

/// Takes those alternative names from a link in the pod that devices at home have. Gives whether
/// there were any.
///
/// # Errors
/// The kernel's first refusal.
pub fn drop_taken(home: &Rtnl, pod: &mut Sandbox, link: &LinkFacts) -> Result<bool, Error> {
    let taken = taken_by(home, &link.alt_names);
    if taken.is_empty() {
        return Ok(false);
    }
    let drops = taken.iter().map(|name| drop_alt_name(link.index, name));
    let drops: Vec<_> = drops.collect();
    pod.rtnl.apply(&drops)?;
    Ok(true)
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
