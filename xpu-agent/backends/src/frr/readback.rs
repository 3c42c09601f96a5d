//! FRR's answers, read into the planner's types. Pure; FRR's JSON is lenient here, since numbers
//! have been texts and keys have come and gone between versions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use xpu_model::{IfName, Vni};
use xpu_plan::frr::observed::{BgpVni, L2Vni, L3Vni, Named, Version};

/// `show version`: `FRRouting 10.3 (host) on Linux(6.12).`
pub(super) fn version(answer: &str) -> Option<Version> {
    let rest = answer
        .lines()
        .find_map(|line| line.strip_prefix("FRRouting "))?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some(Version {
        major: numbers.next()?.ok()?,
        minor: numbers.next()?.unwrap_or(0),
    })
}

/// `show vrf`: `vrf blue id 7 table 1001` has a device, `vrf red inactive (configured)` has none.
/// The active ones first, then the others.
pub(super) fn vrfs(answer: &str) -> (BTreeSet<IfName>, BTreeSet<IfName>) {
    let vrfs = answer.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("vrf ")?.split_once(' ')?;
        let is_active = rest.starts_with("id ");
        let is_known = is_active || rest.starts_with("inactive");
        is_known.then(|| Some((name.parse::<IfName>().ok()?, is_active)))?
    });
    let (active, inactive): (Vec<_>, Vec<_>) = vrfs.partition(|(_, is_active)| *is_active);
    let names = |vrfs: Vec<(IfName, bool)>| vrfs.into_iter().map(|(name, _)| name).collect();
    (names(active), names(inactive))
}

/// `show vrf vni json`: `{"vrfs":[{"vrf":"blue","vni":5001,"vxlanIntf":"vxl3",…}]}`.
pub(super) fn l3vnis(answer: &str) -> BTreeMap<IfName, L3Vni> {
    let json = parse(answer);
    let vrfs = json
        .get("vrfs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let read = vrfs.filter_map(|vrf| {
        let named = |key: &str| {
            let text = vrf.get(key).and_then(Value::as_str)?;
            (!matches!(text, "None" | "none" | "")).then(|| text.to_owned())
        };
        let l3 = L3Vni {
            vni: vni(vrf.get("vni")?)?,
            up: named("state")? == "Up",
            vxlan: named("vxlanIntf"),
            svi: named("sviIntf"),
            router_mac: named("routerMac"),
        };
        Some((named("vrf")?.parse().ok()?, l3))
    });
    read.collect()
}

/// `show evpn vni detail json`:
/// `[{"vni":10100,"type":"L2","tenantVrf":"default","vxlanInterface":"vxlan",
/// "remoteVteps":[{"ip":"10.255.0.2",…}],…}]`;
/// before FRR 10 the VTEPs are texts below `numRemoteVteps`. The device is `vxlanIf` without
/// `detail`.
pub(super) fn l2vnis(answer: &str) -> BTreeMap<Vni, L2Vni> {
    let json = parse(answer);
    let entries = json.as_array().into_iter().flatten();
    let l2 = entries.filter(|entry| entry.get("type").and_then(Value::as_str) == Some("L2"));
    let read = l2.filter_map(|entry| {
        let lists = ["remoteVteps", "numRemoteVteps"].iter();
        let far = lists
            .filter_map(|key| entry.get(*key)?.as_array())
            .flatten();
        let addresses = far.filter_map(|vtep| vtep.get("ip").unwrap_or(vtep).as_str());
        let device = ["vxlanInterface", "vxlanIf"].iter();
        let mut device = device.filter_map(|key| entry.get(*key)?.as_str());
        let vrf = ["tenantVrf", "vrf"].iter();
        let mut vrf = vrf.filter_map(|key| entry.get(*key)?.as_str());
        let l2 = L2Vni {
            vxlan: device.next().map(ToOwned::to_owned),
            vrf: vrf.next().map(ToOwned::to_owned),
            vtep: entry.get("vtepIp").and_then(|it| it.as_str()?.parse().ok()),
            remote_vteps: addresses.filter_map(|it| it.parse().ok()).collect(),
        };
        Some((vni(entry.get("vni")?)?, l2))
    });
    read.collect()
}

/// What `show vrf vni json` and `show evpn vni detail json` name at all; none where one of them is
/// not of that form.
pub(super) fn named(l3vnis: &str, evpn: &str) -> Option<Named> {
    let read = |answer: &str| match answer.trim() {
        "" => Some(Value::Null),
        text => serde_json::from_str::<Value>(text).ok(),
    };
    let (l3vnis, evpn) = (read(l3vnis)?, read(evpn)?);
    let vrfs = match (&l3vnis, l3vnis.get("vrfs")) {
        (_, Some(Value::Array(vrfs))) => vrfs.as_slice(),
        (Value::Null, _) => &[],
        (Value::Object(nothing), None) if nothing.is_empty() => &[],
        _ => return None,
    };
    let vnis = match &evpn {
        Value::Array(vnis) => vnis.as_slice(),
        Value::Null => &[],
        Value::Object(nothing) if nothing.is_empty() => &[],
        _ => return None,
    };
    let vrf = |entry: &Value| Some(entry.get("vrf")?.as_str()?.to_owned());
    Some(Named {
        vrfs: vrfs.iter().map(vrf).collect::<Option<_>>()?,
        vnis: vnis
            .iter()
            .map(|entry| vni(entry.get("vni")?))
            .collect::<Option<_>>()?,
    })
}

/// `show bgp l2vpn evpn vni json`: an object per VNI beside some facts about the whole.
pub(super) fn bgp_vnis(answer: &str) -> BTreeMap<Vni, BgpVni> {
    let json = parse(answer);
    let entries = json.as_object().into_iter().flatten();
    let read = entries.filter_map(|(_, entry)| {
        let targets = |keys: [&str; 2]| {
            let list = keys.iter().find_map(|key| entry.get(*key));
            match list {
                Some(Value::Array(list)) => list
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
                Some(Value::String(one)) => vec![one.clone()],
                _ => Vec::new(),
            }
        };
        let bgp = BgpVni {
            is_l3: entry.get("type").and_then(Value::as_str) == Some("L3"),
            rd: entry.get("rd").and_then(Value::as_str).map(str::to_owned),
            import: targets(["importRTs", "importRts"]),
            export: targets(["exportRTs", "exportRts"]),
        };
        Some((vni(entry.get("vni")?)?, bgp))
    });
    read.collect()
}

/// A VNI as a number, or as a text.
fn vni(value: &Value) -> Option<Vni> {
    let number = match value {
        Value::Number(number) => u32::try_from(number.as_u64()?).ok()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Vni::try_from(number).ok()
}

/// FRR answers nothing at all where it has nothing to say.
fn parse(answer: &str) -> Value {
    serde_json::from_str(answer).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let read = |text: &str| version(text).map(|it| (it.major, it.minor));
        assert_eq!(
            read("FRRouting 10.3 (xpu) on Linux(6.12.117).\nCopyright"),
            Some((10, 3))
        );
        assert_eq!(read("FRRouting 8.4.4 (x)."), Some((8, 4)));
        assert_eq!(read("nothing"), None);
    }

    #[test]
    fn a_vrf_without_a_device_is_inactive() {
        let answer = "vrf blue id 7 table 1001\nvrf red inactive (configured)\n";
        let only = |name: &str| BTreeSet::from([name.parse().unwrap()]);
        assert_eq!(vrfs(answer), (only("blue"), only("red")));
    }

    #[test]
    fn l3vnis_as_numbers_and_texts() {
        let answer = r#"{"vrfs":[
            {"vrf":"blue","vni":5001,"vxlanIntf":"vxl3","sviIntf":"l3-1","state":"Up",
             "routerMac":"02:00:00:00:00:01"},
            {"vrf":"red","vni":"5002","vxlanIntf":"None","sviIntf":"None","state":"Down",
             "routerMac":"None"}]}"#;
        let read = l3vnis(answer);
        assert!(read[&"blue".parse().unwrap()].up);
        let red = &read[&"red".parse().unwrap()];
        assert_eq!((red.vni.get(), red.up, &red.vxlan), (5002, false, &None));
    }

    #[test]
    fn what_is_named_is_known_or_nothing_is() {
        let l3 = r#"{"vrfs":[{"vrf":"blue"}]}"#;
        let evpn = r#"[{"vni":10100},{"vni":50100,"type":"L3"}]"#;
        let read = named(l3, evpn).unwrap();
        assert_eq!(read.vrfs, BTreeSet::from(["blue".to_owned()]));
        assert_eq!(read.vnis.len(), 2);
        for nothing in ["", "{}"] {
            assert_eq!(named(nothing, nothing), Some(Named::default()));
        }
        let strange = ["% Unknown command", r#"{"vrfs":{}}"#, r#"{"vrfs":[{}]}"#];
        for answer in strange {
            assert_eq!(named(answer, evpn), None, "{answer}");
        }
        for answer in ["[", r#"{"10100":{"vni":10100}}"#, r#"[{"type":"L3"}]"#] {
            assert_eq!(named(l3, answer), None, "{answer}");
        }
    }

    #[test]
    fn l2vnis_with_their_remote_vteps() {
        let answer = r#"[
            {"vni":10100,"type":"L2","tenantVrf":"blue","vxlanInterface":"vxlan","vtepIp":"10.255.0.1",
             "numRemoteVteps":2,
             "remoteVteps":[{"ip":"10.255.0.2","flood":"HER"},{"ip":"fd00::2"}]},
            {"vni":10200,"type":"L2","vxlanIf":"flannel.1","numRemoteVteps":["10.255.0.3"]},
            {"vni":10300,"type":"L2","numRemoteVteps":0},
            {"vni":50100,"type":"L3"}]"#;
        let read = l2vnis(answer);
        let far = |vni: u32| {
            let l2 = &read[&Vni::try_from(vni).unwrap()];
            l2.remote_vteps
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(read.len(), 3);
        assert_eq!(far(10100), ["10.255.0.2", "fd00::2"]);
        assert_eq!(far(10200), ["10.255.0.3"]);
        assert!(far(10300).is_empty());
        let on = |vni: u32| read[&Vni::try_from(vni).unwrap()].vxlan.as_deref();
        let devices = [10100, 10200, 10300].map(on);
        let vtep = read[&Vni::try_from(10100).unwrap()].vtep;
        assert_eq!(vtep, Some("10.255.0.1".parse().unwrap()));
        assert_eq!(devices, [Some("vxlan"), Some("flannel.1"), None]);
        let vrf = |vni: u32| read[&Vni::try_from(vni).unwrap()].vrf.as_deref();
        assert_eq!([10100, 10300].map(vrf), [Some("blue"), None]);
    }

    #[test]
    fn broken_answers_read_as_nothing() {
        for answer in [
            "",
            "{",
            "[]",
            "null",
            "% Unknown command",
            r#"{"vrfs":{"x":1}}"#,
        ] {
            assert!(
                l3vnis(answer).is_empty() && l2vnis(answer).is_empty(),
                "{answer}"
            );
            assert!(bgp_vnis(answer).is_empty(), "{answer}");
        }
    }
}
