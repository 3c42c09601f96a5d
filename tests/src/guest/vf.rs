//! The virtual functions of the lab's machine and their representors.
//!
//! Wire `w` has the physical function `pfW`, its first virtual function `vfW` and, in the xPU's
//! namespace, the representor `repW`. The last wire has more functions, `vf7-1` and so on: they
//! serve life-cycle and burst tests, since an emulated igb does not carry unicast from one
//! function to another of the same card.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::command;
use super::netns::Netns;
use super::wait::wait_until;
use crate::lab::machine::{WIRES, pf_mac, representor_mac};

/// What drives the functions.
const DRIVER: &str = "igbvf";
/// Functions of the last wire's card; the others have one.
const FUNCTIONS_OF_LAST: u8 = 4;
/// The MTU of a function at home.
pub const HOME_MTU: u32 = 1500;
const CARRIER_LIMIT: Duration = Duration::from_secs(20);
const HOME_LIMIT: Duration = Duration::from_secs(20);

/// A virtual function as it is at home: in the host's namespace, unused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vf {
    /// Its wire, which is also its card.
    pub wire: u8,
    /// Its number on the card.
    pub number: u8,
    /// Its PCI address, `0000:01:10.0`.
    pub pci: String,
    /// Its interface's name.
    pub name: String,
    /// The MAC that the physical function gave it.
    pub mac: String,
    /// The interface in the xPU's namespace that its frames arrive at.
    pub representor: String,
}

impl Vf {
    /// The name of its physical function.
    pub fn pf(&self) -> String {
        pf_name(self.wire)
    }

    /// What its physical function says of it, as `ip` tells.
    ///
    /// # Errors
    /// Where `ip` fails or lists no such function.
    pub fn as_pf_has_it(&self) -> Result<Value> {
        let line = format!("ip -j -d link show {}", self.pf());
        let link = command::parse_json(&line, &command::run(&line)?)?;
        let entry = link[0]["vfinfo_list"][usize::from(self.number)].clone();
        ensure!(
            entry.is_object(),
            "{} lists no {}: {link}",
            self.pf(),
            self.pci
        );
        Ok(entry)
    }

    /// Binds it to a driver, after it is taken from the one it has; `None` leaves it without.
    ///
    /// # Errors
    /// Where a driver does not take it.
    pub fn bind(&self, driver: Option<&str>) -> Result<()> {
        bind(&device(self.wire, self.number)?, driver)
    }
}

/// The name of a wire's physical function.
pub fn pf_name(wire: u8) -> String {
    format!("pf{wire}")
}

/// The name of a wire's representor.
pub fn representor_name(wire: u8) -> String {
    format!("rep{wire}")
}

/// All functions, those with a wire of their own first.
///
/// # Errors
/// Where the machine's functions were not made yet.
pub fn all() -> Result<Vec<Vf>> {
    let mut functions = Vec::new();
    for wire in 0..WIRES {
        for number in 0..functions_of(wire) {
            functions.push(function(wire, number)?);
        }
    }
    functions.sort_by_key(|vf| (vf.number, vf.wire));
    Ok(functions)
}

/// Loads the drivers, names cards, makes the functions. Safe to repeat.
///
/// # Errors
/// Where a driver or card does not do as the lab's machine should.
pub fn create_all(xpu: &Netns) -> Result<()> {
    command::run("modprobe -a virtio_net igb igbvf")?;
    for wire in 0..WIRES {
        let pf = pf_name(wire);
        if rename_by_mac(&pf_mac(wire), &pf)? {
            // A function's driver finds its card in reset unless that is up, with a carrier.
            command::run(&format!("ip link set {pf} up"))?;
        }
        let representor = representor_name(wire);
        if rename_by_mac(&representor_mac(wire), &representor)? {
            command::run(&format!("ip link set {representor} netns {}", xpu.name()))?;
        }
    }
    // Each card waits for itself most of the time: all at once take as long as one.
    std::thread::scope(|scope| {
        let cards: Vec<_> = (0..WIRES)
            .map(|wire| scope.spawn(move || create_functions(wire)))
            .collect();
        cards.into_iter().try_for_each(|card| match card.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Waits until every function is in the host's namespace, and gives it its name, MAC and state.
///
/// # Errors
/// Where one does not come home.
pub fn bring_home() -> Result<()> {
    for wire in 0..WIRES {
        for number in 0..functions_of(wire) {
            let device = device(wire, number)?;
            let what = format!("function {number} of {} is home", pf_name(wire));
            wait_until(&what, HOME_LIMIT, || settle(&device, wire, number))?;
        }
    }
    Ok(())
}

fn functions_of(wire: u8) -> u8 {
    if wire + 1 == WIRES {
        FUNCTIONS_OF_LAST
    } else {
        1
    }
}

fn name_of(wire: u8, number: u8) -> String {
    if number == 0 {
        format!("vf{wire}")
    } else {
        format!("vf{wire}-{number}")
    }
}

fn mac_of(wire: u8, number: u8) -> String {
    format!("02:00:00:00:{wire:02x}:{number:02x}")
}

fn function(wire: u8, number: u8) -> Result<Vf> {
    let device = device(wire, number)?;
    let pci = device
        .file_name()
        .context("no PCI address")?
        .to_string_lossy()
        .into_owned();
    Ok(Vf {
        wire,
        number,
        pci,
        name: name_of(wire, number),
        mac: mac_of(wire, number),
        representor: representor_name(wire),
    })
}

fn card(wire: u8) -> PathBuf {
    Path::new("/sys/class/net")
        .join(pf_name(wire))
        .join("device")
}

/// The function's folder below `/sys/devices`, whose last part is its PCI address.
fn device(wire: u8, number: u8) -> Result<PathBuf> {
    let link = card(wire).join(format!("virtfn{number}"));
    fs::canonicalize(&link)
        .with_context(|| format!("{} is not there: Topology::ensure makes it", link.display()))
}

fn create_functions(wire: u8) -> Result<()> {
    let (pf, card) = (pf_name(wire), card(wire));
    let read = |name: &str| fs::read_to_string(card.join(name)).map(|text| text.trim().to_owned());
    let count = functions_of(wire);
    if read("sriov_numvfs")? != count.to_string() {
        wait_until(&format!("{pf} has a carrier"), CARRIER_LIMIT, || {
            let carrier = fs::read_to_string(format!("/sys/class/net/{pf}/carrier"))?;
            ensure!(carrier.trim() == "1", "it has none");
            Ok(())
        })?;
        // The MACs must stand before the driver sees the functions.
        write(&card.join("sriov_drivers_autoprobe"), "0")?;
        write(&card.join("sriov_numvfs"), &count.to_string())?;
    }
    for number in 0..count {
        let device = device(wire, number)?;
        if device.join("driver").exists() {
            continue;
        }
        let mac = mac_of(wire, number);
        command::run(&format!("ip link set {pf} vf {number} mac {mac}"))?;
        bind(&device, Some(DRIVER))?;
    }
    Ok(())
}

fn bind(device: &Path, driver: Option<&str>) -> Result<()> {
    let pci = device.file_name().context("no PCI address")?;
    let pci = pci.to_string_lossy();
    if device.join("driver").exists() {
        write(&device.join("driver/unbind"), &pci)?;
    }
    let Some(driver) = driver else { return Ok(()) };
    // Without autoprobe a driver takes only functions that name it.
    write(&device.join("driver_override"), driver)?;
    let folder = Path::new("/sys/bus/pci/drivers").join(driver);
    write(&folder.join("bind"), &pci)
}

/// Puts the function's interface back to how it was made; fails while it is elsewhere.
fn settle(device: &Path, wire: u8, number: u8) -> Result<()> {
    let driver = fs::read_link(device.join("driver")).unwrap_or_default();
    if driver.file_name().is_none_or(|name| name != DRIVER) {
        bind(device, Some(DRIVER))?;
    }
    let interfaces = device.join("net");
    let entry = fs::read_dir(&interfaces)
        .ok()
        .and_then(|mut entries| entries.next());
    let entry = entry.context("it has no interface in the host's namespace")??;
    let (name, wanted) = (
        entry.file_name().to_string_lossy().into_owned(),
        name_of(wire, number),
    );
    if name != wanted {
        command::run(&format!("ip link set {name} down name {wanted}"))?;
    }
    let mac = mac_of(wire, number);
    let read = |file: &str| fs::read_to_string(interfaces.join(&wanted).join(file));
    if read("address")?.trim() != mac || read("mtu")?.trim() != HOME_MTU.to_string() {
        // Whose MAC is its PF's to give takes another only while that trusts it.
        let at_pf = |what: &str| {
            let pf = pf_name(wire);
            command::run(&format!("ip link set {pf} vf {number} {what}"))
        };
        at_pf("trust on")?;
        command::run(&format!(
            "ip link set {wanted} down address {mac} mtu {HOME_MTU}"
        ))?;
        at_pf(&format!("mac {mac}"))?;
        at_pf("trust off")?;
    }
    if !read("ifalias")?.trim().is_empty() {
        command::run_words(&["ip", "link", "set", &wanted, "alias", ""])?;
    }
    command::run(&format!("ip link set {wanted} down nomaster"))?;
    command::run(&format!("ip addr flush dev {wanted}"))?;
    Ok(())
}

/// Names the interface with this MAC; answers whether it is in the host's namespace at all.
fn rename_by_mac(mac: &str, name: &str) -> Result<bool> {
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if address.trim() == mac {
            let old = entry.file_name().to_string_lossy().into_owned();
            if old != name {
                command::run(&format!("ip link set {old} name {name}"))?;
            }
            return Ok(true);
        }
    }
    Ok(false)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_has_a_mac_of_its_own() {
        let mut macs: Vec<_> = (0..WIRES)
            .flat_map(|wire| (0..functions_of(wire)).map(move |number| mac_of(wire, number)))
            .chain((0..WIRES).flat_map(|wire| [pf_mac(wire), representor_mac(wire)]))
            .collect();
        let count = macs.len();
        macs.sort();
        macs.dedup();
        assert_eq!(macs.len(), count);
    }
}
