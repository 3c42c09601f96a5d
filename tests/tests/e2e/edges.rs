//! Bad input at each edge: the error names what is wrong, and nothing changes.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use xpu_tests::guest::{
    operator::{self, create, refusal},
    pod::Pod,
    runtime::{Attachment, is_home},
};

use crate::Lab;

fn refused(line: &str, code: i32, parts: &[&str]) -> Result<()> {
    let (found, said) = refusal(line)?;
    ensure!(found == code, "`{line}` exits {found}, not {code}: {said}");
    for part in parts {
        ensure!(said.contains(part), "`{line}` does not say {part}: {said}");
    }
    Ok(())
}

#[test]
fn the_api_names_field_and_value() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100 --vni 10100")?;
    create("vrf vrf-blue --loopback 10.255.1.1/32")?;
    let before = lab.topology.xpu.settled("ip -j -d link")?;
    refused(
        "create lb net-two --vlan 100",
        1,
        &["vlan_id", "100", "logicalBridges/net-blue"],
    )?;
    refused(
        "create lb net-two --vlan 101 --vni 10100",
        1,
        &["vni", "10100", "net-blue"],
    )?;
    refused("create lb net-two --vlan 4095", 2, &["4095"])?;
    refused(
        "create lb net-blue --vlan 7",
        1,
        &["logicalBridges/net-blue", "another spec"],
    )?;
    refused(
        "create port port-1 --mac 02:00:00:00:00:99 --access none",
        1,
        &["logicalBridges/none"],
    )?;
    refused(
        "create port port-1 --mac 01:00:00:00:00:99 --access net-blue",
        2,
        &["01:00:00:00:00:99"],
    )?;
    refused(
        "create svi svi-1 --vrf none --lb net-blue --mac 02:00:00:00:00:01 --gateway 10.0.0.1/24",
        1,
        &["vrfs/none"],
    )?;
    refused("get vrf none", 1, &["vrfs/none"])?;
    refused("delete lb none", 1, &["logicalBridges/none"])?;
    ensure!(operator::names("lb")? == ["logicalBridges/net-blue"]);
    ensure!(operator::names("bridge-port")?.is_empty());
    let after = lab.topology.xpu.settled("ip -j -d link")?;
    ensure!(before == after, "before: {before}\nafter: {after}");
    Ok(())
}

fn fails(attachment: &Attachment, code: u64, parts: &[&str]) -> Result<()> {
    let answer = attachment.run("ADD")?;
    ensure!(!answer.ok, "ADD succeeded: {}", answer.json);
    ensure!(
        answer.json["code"] == code,
        "not code {code}: {}",
        answer.json
    );
    let said = answer.json.to_string();
    for part in parts {
        ensure!(said.contains(part), "it does not say {part}: {said}");
    }
    Ok(())
}

#[test]
fn the_plugin_names_key_and_value_and_leaves_the_vf_alone() -> Result<()> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    let vf = lab.vfs[0].clone();
    let pod = Pod::create("edge")?;
    let with = |keys: Value| Attachment::new(&pod, &vf, keys);
    fails(&with(json!({})), 7, &["logical_bridge"])?;
    fails(
        &with(json!({ "logical_bridge": "net-blue", "trunk": "all" })),
        7,
        &["trunk"],
    )?;
    fails(
        &with(json!({ "logical_bridge": 7 })),
        7,
        &["logical_bridge"],
    )?;
    fails(
        &with(json!({ "logical_bridge": "net-blue", "cniVersion": "9.9.9" })),
        1,
        &["9.9.9"],
    )?;
    fails(
        &with(json!({ "logical_bridge": "net-blue", "deviceID": "../../etc" })),
        7,
        &["deviceID"],
    )?;
    fails(
        &with(json!({ "logical_bridge": "net-blue", "deviceID": "0000:7f:1f.7" })),
        100,
        &["0000:7f:1f.7"],
    )?;
    fails(
        &with(json!({ "logical_bridge": "net-none" })),
        101,
        &["net-none"],
    )?;
    let elsewhere = json!({ "logical_bridge": "net-blue", "agent": "unix:///run/lab/none.sock" });
    fails(&with(elsewhere), 11, &["/run/lab/none.sock"])?;
    is_home(&vf)?;
    ensure!(operator::names("bridge-port")?.is_empty(), "a port is left");

    // After all of these the same VF serves.
    let good = with(json!({ "logical_bridge": "net-blue" }));
    good.add()?;
    good.del()?;
    is_home(&vf)
}
