//! What IPAM plugins answer to ADD: our own answer made of it, in every version, must read back
//! in CHECK as the same addresses and routes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use xpu_cni::{
    check::prev_result::PrevResult,
    ipam::Lease,
    result::{self, Interface},
    version::Version,
};
use xpu_fuzz::told;

fuzz_target!(|answer: &[u8]| {
    let lease = match Lease::read(answer) {
        Ok(lease) => lease,
        Err(error) => return told(error, &[103]),
    };
    assert!(!lease.ips.is_empty());
    let interface = Interface {
        name: "net1".parse().unwrap(),
        mac: "02:00:00:00:00:07".parse().unwrap(),
        mtu: Some(1500),
        sandbox: "/run/netns/pod".to_owned(),
        pci: "0000:af:06.0".parse().unwrap(),
    };
    for version in Version::ALL {
        let document = result::document(version, &interface, &lease, None, None);
        let config = json!({ "prevResult": document }).to_string();
        let back = PrevResult::read(config.as_bytes(), &interface.name).unwrap();
        let given: Vec<_> = lease.ips.iter().map(|(address, _)| *address).collect();
        assert_eq!(back.addresses, given);
        assert_eq!(back.mac, Some(interface.mac));
        assert_eq!(back.routes.len(), lease.routes.len());
        // What a plugin before us in a chain gave reads like what IPAM gives.
        let again = Lease::read(document.to_string().as_bytes()).unwrap();
        assert_eq!(again.ips, lease.ips);
        if version == Version::LATEST {
            assert_eq!(back.routes, lease.routes);
            assert_eq!(again.routes, lease.routes);
        }
    }
});
