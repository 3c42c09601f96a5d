//! The machine as QEMU's arguments: processor, disks, wires. Pure.
//!
//! A *wire* is a QEMU hub with two network cards on it. One is the physical function of an
//! emulated Intel 82576 (`igb`), whose virtual functions the guest gives to pods; the other, a
//! virtio card, is what an xPU would show for that function: its representor. Access and tagged
//! frames pass between both unchanged.

use std::ffi::OsString;
use std::path::Path;

use super::accel::Accel;
use super::image::Image;
use super::paths::Paths;
use super::preflight::QEMU;
use crate::runner::protocol::{PORTS, port_name};

/// How many wires the machine has.
pub const WIRES: u8 = 8;

/// Memory of the guest. Above 2800 MiB the firmware places igb's VFs over 4 GiB, where QEMU 10
/// maps them wrongly.
const MEMORY_MIB: u32 = 2560;

const PROCESSORS: u32 = 2;

/// The kernel's arguments. Those of the second line are for speed: an emulated processor leaks
/// nothing that mitigations would keep, and each check costs seconds.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 loglevel=5 net.ifnames=0 \
    mitigations=off nokaslr cryptomgr.notests random.trust_cpu=on intel_iommu=on iommu=pt";

/// The MAC of a wire's physical function.
pub fn pf_mac(wire: u8) -> String {
    format!("02:00:00:00:f0:{wire:02x}")
}

/// The MAC of a wire's representor.
pub fn representor_mac(wire: u8) -> String {
    format!("02:00:00:00:e0:{wire:02x}")
}

/// The arguments with which QEMU becomes the lab's machine, in the background.
pub fn arguments(paths: &Paths, image: &Image, accel: Accel) -> Vec<OsString> {
    let mut line = Line::default();
    line.add(format_args!(
        "-name xpu-lab -nodefaults -no-user-config -display none -no-reboot"
    ));
    line.add(format_args!(
        "-machine q35 -smp {PROCESSORS} -m {MEMORY_MIB}M"
    ));
    // A VF is bound to vfio-pci only where an IOMMU is; Debian's kernel has no way around it.
    line.add(format_args!("-device intel-iommu,intremap=off"));
    accelerator(&mut line, accel);
    line.path("-kernel", "", &image.kernel);
    line.path("-initrd", "", &image.initramfs);
    line.option("-append", kernel_arguments(&paths.tree));
    line.path(
        "-drive",
        "if=none,id=root,format=raw,readonly=on,file=",
        &image.rootfs,
    );
    line.add(format_args!("-device virtio-blk-pci,drive=root"));
    let share = "local,mount_tag=share,security_model=none,multidevs=remap,path=";
    line.path("-virtfs", share, &paths.share);
    let tree = "local,mount_tag=tree,security_model=none,multidevs=remap,readonly=on,path=";
    line.path("-virtfs", tree, &paths.tree);
    job_ports(&mut line, paths);
    (0..WIRES).for_each(|wire| add_wire(&mut line, wire));
    line.path("-serial", "file:", &paths.serial_log());
    line.path(
        "-chardev",
        "socket,id=qmp,server=on,wait=off,path=",
        &paths.run.join("qmp.sock"),
    );
    line.add(format_args!("-mon chardev=qmp,mode=control"));
    line.path("-pidfile", "", &paths.pid_file());
    line.add(format_args!("-daemonize"));
    line.0
}

/// The arguments of a machine that only shows whether KVM can run our kernel.
pub fn probe_arguments(image: &Image, serial_log: &Path) -> Vec<OsString> {
    let mut line = Line::default();
    line.add(format_args!(
        "{QEMU} -nodefaults -no-user-config -display none -no-reboot"
    ));
    line.add(format_args!("-machine q35 -smp {PROCESSORS} -m 512M"));
    accelerator(&mut line, Accel::Kvm);
    line.path("-kernel", "", &image.kernel);
    line.path("-initrd", "", &image.initramfs);
    line.option("-append", format!("{KERNEL_ARGUMENTS} lab.probe"));
    line.path("-serial", "file:", serial_log);
    line.0
}

fn accelerator(line: &mut Line, accel: Accel) {
    match accel {
        Accel::Kvm => line.add(format_args!("-accel kvm -cpu host")),
        // Without what the kernel would copy and clear memory by byte for byte (TCG has no other
        // way to do it), and without a second set of translations for access to user memory.
        Accel::Tcg => line.add(format_args!(
            "-accel tcg,thread=multi,tb-size=512 -cpu max,-erms,-fsrm,-smap"
        )),
    }
}

fn kernel_arguments(tree: &Path) -> String {
    format!("{KERNEL_ARGUMENTS} lab.tree={}", tree.display())
}

fn job_ports(line: &mut Line, paths: &Paths) {
    line.add(format_args!(
        "-device virtio-serial-pci,id=serial,max_ports={}",
        PORTS + 1
    ));
    for index in 0..PORTS {
        let name = port_name(index);
        let chardev = format!("socket,id={name},server=on,wait=off,path=");
        line.path("-chardev", &chardev, &paths.job_socket(index));
        line.add(format_args!(
            "-device virtserialport,bus=serial.0,chardev={name},name={name}"
        ));
    }
}

fn add_wire(line: &mut Line, wire: u8) {
    // SR-IOV needs a PCI Express slot, which is a root port of its own.
    line.add(format_args!(
        "-device pcie-root-port,id=slot{wire},chassis={0},slot={0}",
        wire + 1
    ));
    line.add(format_args!("-netdev hubport,id=pf{wire},hubid={wire}"));
    line.add(format_args!("-netdev hubport,id=rep{wire},hubid={wire}"));
    let (pf, representor) = (pf_mac(wire), representor_mac(wire));
    line.add(format_args!(
        "-device igb,bus=slot{wire},netdev=pf{wire},mac={pf},romfile="
    ));
    line.add(format_args!(
        "-device virtio-net-pci,netdev=rep{wire},mac={representor},romfile="
    ));
}

/// A command line in the making.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    /// Adds words that have no blanks in them.
    fn add(&mut self, words: std::fmt::Arguments<'_>) {
        self.0
            .extend(words.to_string().split_whitespace().map(OsString::from));
    }

    fn option(&mut self, option: &str, value: String) {
        self.0.push(option.into());
        self.0.push(value.into());
    }

    /// Adds an option whose value ends in a path. In a list of properties a comma ends a value,
    /// and two stand for one.
    fn path(&mut self, option: &str, properties: &str, path: &Path) {
        let path = path.to_string_lossy();
        let path = if properties.contains('=') {
            path.replace(',', ",,")
        } else {
            path.into()
        };
        self.option(option, format!("{properties}{path}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn words() -> Vec<String> {
        let paths = Paths {
            tree: "/src/a,b".into(),
            run: "/tmp/run".into(),
            share: "/src/a,b/target/vm/share".into(),
            cache: "/cache".into(),
        };
        let image = Image {
            name: "0".into(),
            kernel: "/cache/vmlinux".into(),
            initramfs: "/cache/initramfs".into(),
            rootfs: "/cache/rootfs.img".into(),
        };
        let words = arguments(&paths, &image, Accel::Tcg);
        words
            .into_iter()
            .map(|word| word.into_string().expect("text"))
            .collect()
    }

    /// The value of a property like `hubid=3`.
    fn property<'a>(word: &'a str, name: &str) -> Option<&'a str> {
        word.split(',')
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    }

    #[test]
    fn each_wire_has_one_igb_and_one_representor() {
        let words = words();
        let hub_of: BTreeMap<_, _> = words
            .iter()
            .filter(|word| word.starts_with("hubport,"))
            .filter_map(|word| Some((property(word, "id")?, property(word, "hubid")?)))
            .collect();
        let mut cards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for word in &words {
            if let Some(netdev) = property(word, "netdev") {
                let model = word.split(',').next().expect("model");
                cards.entry(hub_of[netdev]).or_default().push(model);
            }
        }
        assert_eq!(cards.len(), usize::from(WIRES));
        for (hub, models) in cards {
            assert_eq!(models, ["igb", "virtio-net-pci"], "hub {hub}");
        }
    }

    #[test]
    fn macs_are_distinct_and_not_multicast() {
        let all: Vec<_> = (0..WIRES)
            .flat_map(|wire| [pf_mac(wire), representor_mac(wire)])
            .collect();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(
            all.iter().all(|mac| mac.starts_with("02:")),
            "locally administered, unicast"
        );
    }

    #[test]
    fn memory_stays_below_what_breaks_igbs_vfs() {
        const { assert!(MEMORY_MIB <= 2800) };
    }

    #[test]
    fn commas_in_paths_are_escaped_in_properties() {
        let words = words();
        assert!(
            words.iter().any(|word| word.ends_with("path=/src/a,,b")),
            "{words:?}"
        );
    }
}
