//! The NetworkAttachmentDefinitions of `netconf-examples/`, as they are written there.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    operator::{self, create},
    ping,
    pod::Pod,
    runtime::{Attachment, CNI_PATH, is_home},
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab};

const GATEWAYS: [&str; 2] = ["10.1.0.1", "fd00:1::1"];

/// The `config` of each definition, by its file's name.
fn definitions() -> Result<Vec<(String, Value)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../netconf-examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let text = match path.extension() {
            Some(yaml) if yaml == "yaml" => fs::read_to_string(&path)?,
            _ => continue,
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (_, config) = text
            .split_once("config: |")
            .with_context(|| format!("{name} has no config"))?;
        let config = serde_json::from_str(config).with_context(|| format!("{name}'s config"))?;
        found.push((name.into_owned(), config));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// In the place of an IPAM plugin that needs a cluster: it reads that one's keys, and has host-local
/// give an address of their range.
const WHEREABOUTS: &str = r#"#!/bin/sh
jq -c '.ipam |= {type: "host-local", routes, ranges: [[
    {subnet: .range, rangeStart: .range_start, rangeEnd: .range_end, gateway}]]}' |
    /usr/lib/cni/host-local
"#;

/// A program where IPAM plugins are; dropping it takes it away.
struct Program(PathBuf);

impl Program {
    fn new(name: &str, text: &str) -> Result<Self> {
        let program = Self(Path::new(CNI_PATH).join(name));
        fs::write(&program.0, text)?;
        fs::set_permissions(&program.0, Permissions::from_mode(0o755))?;
        Ok(program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The guest forgets it at its end at the latest.
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn every_example_attaches_and_its_addresses_work() -> Result<()> {
    let lab = Lab::start()?;
    let _whereabouts = Program::new("whereabouts", WHEREABOUTS)?;
    create("logical-bridge net-blue --vlan 100 --vni 10100")?;
    create("logical-bridge net-green --vlan 200")?;
    create("vrf vrf-red --loopback 10.255.1.1/32 --vni 5001")?;
    create(&format!(
        "svi svi-blue --vrf vrf-red --logical-bridge net-blue --mac 02:00:5e:00:00:01 \
         --gateway {}/24 --gateway {}/64",
        GATEWAYS[0], GATEWAYS[1]
    ))?;
    let vf = &lab.vfs[0];
    let definitions = definitions()?;
    ensure!(definitions.len() >= 7, "{definitions:?}");
    for (file, config) in definitions {
        let pod = Pod::create("example")?;
        let asks_for_addresses = config.get("ipam").is_some();
        let attachment = Attachment::new(&pod, vf, json!({})).with(config);
        let result = attachment.add().with_context(|| file.clone())?;
        let addresses = result["ips"].to_string();
        let has_addresses = !result["ips"].is_null();
        ensure!(has_addresses == asks_for_addresses, "{file}: {result}");
        for gateway in GATEWAYS {
            let network = &gateway[..gateway.len() - 1];
            if addresses.contains(network) {
                wait_until(&format!("{file}: {gateway} answers"), CONVERGENCE, || {
                    ping::reaches(pod.netns(), gateway)
                })?;
            }
        }
        attachment.del().with_context(|| file.clone())?;
        is_home(vf)?;
        ensure!(
            operator::names("bridge-port")?.is_empty(),
            "{file}: a port is left"
        );
    }
    let leases = fs::read_dir("/var/lib/cni/networks")?;
    for network in leases {
        let network = network?.path();
        let left: Vec<_> = fs::read_dir(&network)?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|name| name.contains('.') || name.contains(':'))
            .filter(|name| !name.starts_with("last_reserved"))
            .collect();
        ensure!(left.is_empty(), "{} keeps {left:?}", network.display());
    }
    Ok(())
}
