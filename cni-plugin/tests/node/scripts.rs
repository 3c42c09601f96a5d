//! Scripts that pass for IPAM plugins.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::harness::Node;

/// Writes a script that can be run.
pub fn write(path: &Path, lines: &str) {
    fs::write(path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

impl Node {
    /// Where the calls of this node find a plugin of that name.
    pub fn plugin(&self, name: &str) -> PathBuf {
        self.root.path().join("bin").join(name)
    }

    /// Makes a plugin of a script, in place of one that is there. A program that runs must not be
    /// written to, so that one goes first.
    pub fn make_plugin(&self, name: &str, lines: &str) {
        let path = self.plugin(name);
        let _none = fs::remove_file(&path);
        write(&path, lines);
    }

    /// Makes a plugin do what a script says before it does its own.
    pub fn precede_plugin(&self, name: &str, lines: &str) {
        let own = self.plugin(&format!("{name}-itself"));
        fs::rename(self.plugin(name), &own).unwrap();
        self.make_plugin(name, &format!("{lines}\nexec {}", own.display()));
    }

    /// An IPAM plugin named `fake-ipam`.
    pub fn make_ipam(&self) {
        fs::create_dir_all(self.root.path().join("bin")).unwrap();
        fs::create_dir_all(self.root.path().join("leases")).unwrap();
        let root = self.root.path().display();
        let script = format!(
            "cat > {root}/ipam.stdin\n\
             echo \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME\" >> {root}/ipam.log\n\
             if [ -e {root}/ipam.old ] && grep -q '\"cniVersion\":\"1.1.0\"' {root}/ipam.stdin; then\n\
             echo '{{\"code\": 1, \"msg\": \"incompatible CNI versions\"}}'; exit 1; fi\n\
             if [ -e {root}/ipam.error.$CNI_COMMAND ]; then cat {root}/ipam.error.$CNI_COMMAND; exit 1; fi\n\
             [ \"$CNI_COMMAND\" != DEL ] || rm -f {root}/leases/$CNI_CONTAINERID\n\
             [ \"$CNI_COMMAND\" = ADD ] || exit 0\n\
             if [ -e {root}/ipam.error ]; then cat {root}/ipam.error; exit 1; fi\n\
             : > {root}/leases/$CNI_CONTAINERID\n\
             cat {root}/ipam.json\n"
        );
        self.make_plugin("fake-ipam", &script);
        self.ipam_gives(&json!({
            "ips": [{"version": "4", "address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
            "routes": [{"dst": "0.0.0.0/0"}], "dns": {},
        }));
    }

    /// An IPAM plugin named `dhcp` which, as the real one, finds nothing to do and fails where the
    /// pod has no interface that is up and has carrier, be it at ADD or at DEL of what it has
    /// given.
    pub fn make_dhcp(&self) {
        let root = self.root.path().display();
        let script = format!(
            "if [ $CNI_COMMAND != DEL -o -e {root}/leases/$CNI_CONTAINERID ] &&\n\
             ! nsenter --net=$CNI_NETNS ip link show dev $CNI_IFNAME up | grep -q LOWER_UP; then\n\
             echo '{{\"code\": 100, \"msg\": \"Link not found\"}}'; exit 1; fi\n\
             exec {root}/bin/fake-ipam\n"
        );
        self.make_plugin("dhcp", &script);
    }

    /// An IPAM plugin of another name, which does what a script says before it does as `fake-ipam`.
    pub fn make_ipam_after(&self, name: &str, lines: &str) {
        let ipam = self.plugin("fake-ipam");
        self.make_plugin(name, &format!("{lines}\nexec {}", ipam.display()));
    }

    /// Sets what IPAM answers to ADD.
    pub fn ipam_gives(&self, answer: &Value) {
        fs::write(self.root.path().join("ipam.json"), answer.to_string()).unwrap();
    }

    /// What IPAM was asked, a line for each call.
    pub fn ipam_log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.path().join("ipam.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
