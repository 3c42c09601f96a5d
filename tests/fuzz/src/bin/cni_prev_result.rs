//! `prevResult`: of the plugin before us, which ADD passes on, and our own, which CHECK reads.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use xpu_cni::{
    check::prev_result::PrevResult,
    ipam::Lease,
    result::{self, Interface},
    version::Version,
};
use xpu_fuzz::told;

fuzz_target!(|text: &[u8]| {
    let Ok(prev) = serde_json::from_slice::<Value>(text) else {
        return;
    };
    let name = "net1".parse().unwrap();
    if let Err(error) = PrevResult::read(Some(&prev), &name) {
        told(error, &[7, 104]);
    }
    let Some(map) = prev.as_object() else { return };
    let lease = Lease {
        ips: vec![("10.1.2.3/24".parse().unwrap(), None)],
        ..Lease::default()
    };
    let interface = Interface {
        name: name.clone(),
        mac: "02:00:00:00:00:07".parse().unwrap(),
        mtu: None,
        sandbox: "/run/netns/pod".to_owned(),
        pci: "0000:af:06.0".parse().unwrap(),
    };
    for version in Version::ALL {
        let document = result::document(version, &interface, &lease, None, Some(map));
        for list in ["interfaces", "ips"] {
            let before = prev[list].as_array().map_or(&[][..], Vec::as_slice);
            let after = document[list].as_array().unwrap();
            let (kept, ours) = after.split_at(before.len());
            assert!(kept == before && ours.len() == 1, "{list}: {document}");
            if list == "ips" {
                let interfaces = document["interfaces"].as_array().unwrap();
                assert_eq!(ours[0]["interface"], interfaces.len() - 1, "{document}");
            }
        }
        assert_eq!(document["cniVersion"], version.as_str());
        let passed = |(key, value): (&String, &Value)| {
            let ours = ["cniVersion", "interfaces", "ips"].contains(&key.as_str());
            ours || document.get(key) == Some(value)
        };
        assert!(map.iter().all(passed), "{document}");
        // Whatever stands before it, our own part is the last, and found.
        match PrevResult::read(Some(&document), &name) {
            Ok(back) => {
                assert_eq!(back.mac, Some(interface.mac));
                assert!(back.addresses.contains(&lease.ips[0].0));
            }
            Err(error) => told(error, &[7]),
        }
    }
});
