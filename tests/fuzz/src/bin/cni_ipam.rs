//! What IPAM plugins answer to ADD: our own answer made of it, in every version, must read back
//! in CHECK as the same addresses and routes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xpu_cni::{
    check::prev_result::PrevResult,
    ipam::Lease,
    result::{self, Interface},
    version::Version,
};
use xpu_fuzz::told;
use xpu_linux::sync::address::Route;

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
        let back = PrevResult::read(Some(&document), &interface.name).unwrap();
        let given: Vec<_> = lease.ips.iter().map(|(address, _)| *address).collect();
        assert_eq!(back.addresses, given);
        assert_eq!(back.mac, Some(interface.mac));
        let ways = |routes: &[Route]| routes.iter().map(|it| (it.to, it.via)).collect::<Vec<_>>();
        assert_eq!(ways(&back.routes), ways(&lease.routes));
        assert_eq!(document["cniVersion"], version.as_str());
        let ips = document["ips"].as_array().unwrap();
        assert!(ips.iter().all(|ip| ip["interface"] == 0), "{document}");
        // What a plugin before us in a chain gave reads like what IPAM gives.
        let again = Lease::read(document.to_string().as_bytes()).unwrap();
        assert_eq!(again.ips, lease.ips);
        if let Some(dns) = lease.dns.as_ref().and_then(|dns| dns.as_object())
            && !dns.is_empty()
        {
            assert_eq!(document["dns"].as_object(), Some(dns));
        }
        if version == Version::LATEST {
            assert_eq!(back.routes, lease.routes);
            assert_eq!(again.routes, lease.routes);
        }
    }
});
