//! `cnitool` with a network list in a file, as people try a plugin by hand.

use anyhow::{Result, ensure};
use serde_json::json;
use xpu_tests::guest::{command, pod::Pod, runtime::INTERFACE};

use crate::{CNI_PATH, FILES, Node, addresses, interface, nothing_left, plugin, write};

const ADDRESS: &str = "10.100.0.63/24";

#[test]
fn a_list_in_a_file_is_added_and_deleted() -> Result<()> {
    let node = Node::start()?;
    let vf = node.vf()?;
    let mut first = plugin(vf);
    first["ipam"] = json!({ "type": "static", "addresses": [{ "address": ADDRESS }] });
    // A plugin after ours reads our result as its `prevResult`.
    let second = json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } });
    write(
        "net.d/10-lab.conflist",
        &json!({ "cniVersion": "1.0.0", "name": "lab", "plugins": [first, second] }),
    )?;
    let pod = Pod::create("cnitool")?;
    let (folder, ifname) = (
        format!("NETCONFPATH={FILES}/net.d"),
        format!("CNI_IFNAME={INTERFACE}"),
    );
    let netns = pod.path();
    let tool = |verb| {
        let words = [
            "env", CNI_PATH, &folder, &ifname, "cnitool", verb, "lab", &netns,
        ];
        command::run_words(&words)
    };

    let result = command::parse_json("cnitool add", &tool("add")?)?;
    ensure!(
        result["cniVersion"] == "1.0.0"
            && result["interfaces"][0]["mac"] == vf.mac.as_str()
            && result["ips"][0]["address"] == ADDRESS,
        "{result}"
    );
    let found = interface(pod.netns(), INTERFACE)?;
    ensure!(addresses(&found) == [ADDRESS], "{found}");
    let path = format!("net.ipv4.conf.{INTERFACE}.arp_filter");
    let tuned = pod.run(&format!("sysctl -n {path}"))?;
    ensure!(tuned.trim() == "1", "the chain's next plugin set {tuned:?}");

    tool("del")?;
    nothing_left(vf)?;
    tool("del")?;
    nothing_left(vf)
}
