//! What IPAM plugins give beyond an address and a route.

use serde_json::{Value, json};

use crate::harness::{Node, name_of, run};

/// A list as `ip -j` gives it.
fn list(netns: &str, line: &str) -> Vec<Value> {
    let words = ["-n", netns, "-j"].into_iter().chain(line.split(' '));
    serde_json::from_str(&run("ip", &Vec::from_iter(words))).unwrap()
}

/// More than a netlink socket has room for the answers to.
#[test]
fn a_thousand_routes_and_hundreds_of_addresses_are_set() {
    const ADDRESSES: usize = 300;
    const ROUTES: usize = 1000;

    let mut node = Node::new();
    let pod = node.pod();
    let config = node.config(json!({"ipam": {"type": "fake-ipam"}}));
    let ips = (0..ADDRESSES).map(|number| {
        let address = format!("10.1.{}.{}/16", 1 + number / 100, 1 + number % 100);
        json!({"address": address, "gateway": "10.1.0.1"})
    });
    let routes = (0..ROUTES).map(|number| {
        let to = format!("10.{}.{}.0/24", 2 + number / 250, number % 250);
        json!({"dst": to, "gw": "10.1.0.1"})
    });
    let answer = json!({"ips": Vec::from_iter(ips), "routes": Vec::from_iter(routes)});
    node.ipam_gives(&answer);
    let result = node.call("ADD", "c1", &pod, &config).ok();
    assert_eq!(result["routes"].as_array().unwrap().len(), ROUTES);
    let link = list(name_of(&pod), "-4 addr show dev net1").remove(0);
    assert_eq!(link["addr_info"].as_array().unwrap().len(), ADDRESSES);
    let via = list(name_of(&pod), "-4 route show via 10.1.0.1");
    assert_eq!(via.len(), ROUTES);
    node.call("DEL", "c1", &pod, &config).ok();
    node.assert_clean();
}
