//! What a PF is told, as pure plans.

use super::*;

fn mac() -> Mac {
    "02:00:00:00:00:07".parse().unwrap()
}

#[test]
fn only_what_differs_is_a_change_and_each_knows_its_way_back() {
    let has = VfSide {
        mac: Some(mac()),
        max_tx_rate: 100,
        spoofchk: true,
        ..VfSide::default()
    };
    let asked = VfSettings {
        mac: Some(mac()),
        max_tx_rate: Some(200),
        spoofchk: Some(false),
        trust: Some(false),
        ..VfSettings::default()
    };
    let found = changes(&asked, &has);
    let keys: Vec<_> = found.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["max_tx_rate", "spoofchk"]);
    assert_eq!(found[0].set, Setting::Rates { min: 0, max: 200 });
    assert_eq!(found[0].back, Setting::Rates { min: 0, max: 100 });
    assert_eq!(found[1].back, Setting::Spoofchk(true));
}

#[test]
fn every_setting_knows_what_it_was() {
    let has = VfSide {
        mac: None,
        vlan: 12,
        qos: 1,
        min_tx_rate: 20,
        max_tx_rate: 100,
        spoofchk: true,
        trust: true,
        link_state: Carrier::Enable,
    };
    let asked = VfSettings {
        mac: Some(mac()),
        min_tx_rate: Some(50),
        max_tx_rate: Some(0),
        spoofchk: Some(false),
        trust: Some(false),
        link_state: Some(Carrier::Disable),
        vlan_qos: Some(0),
    };
    let found = changes(&asked, &has);
    let keys: Vec<_> = found.iter().map(|change| change.key.as_str()).collect();
    let all = [
        "trust",
        "mac",
        "vlan_qos",
        "min_tx_rate",
        "spoofchk",
        "link_state",
    ];
    assert_eq!(keys, all);
    let back: Vec<_> = found.iter().map(|change| change.back).collect();
    let was = [
        Setting::Trust(true),
        Setting::Mac(None),
        Setting::Vlan { vlan: 12, qos: 1 },
        Setting::Rates { min: 20, max: 100 },
        Setting::Spoofchk(true),
        Setting::LinkState(Carrier::Enable),
    ];
    assert_eq!(back, was);
    // What reads back as it was set needs no change any more.
    let set = VfSide {
        mac: Some(mac()),
        vlan: 12,
        qos: 0,
        min_tx_rate: 50,
        max_tx_rate: 0,
        spoofchk: false,
        trust: false,
        link_state: Carrier::Disable,
    };
    assert_eq!(changes(&asked, &set), []);
}

#[test]
fn a_priority_keeps_the_port_vlan() {
    let has = VfSide {
        vlan: 12,
        ..VfSide::default()
    };
    let asked = VfSettings {
        vlan_qos: Some(5),
        ..VfSettings::default()
    };
    let found = changes(&asked, &has);
    assert_eq!(found[0].set, Setting::Vlan { vlan: 12, qos: 5 });
    assert_eq!(found[0].back, Setting::Vlan { vlan: 12, qos: 0 });
}

#[test]
fn a_change_that_a_driver_did_not_make_is_found_by_what_its_pf_shows() {
    let asked = VfSettings {
        mac: Some(mac()),
        min_tx_rate: Some(50),
        max_tx_rate: Some(200),
        spoofchk: Some(true),
        ..VfSettings::default()
    };
    let changes = changes(&asked, &VfSide::default());
    let made = VfSide {
        mac: Some(mac()),
        min_tx_rate: 50,
        max_tx_rate: 200,
        spoofchk: true,
        ..VfSide::default()
    };
    assert_eq!(first_not_made(&changes, true, &made), None);
    assert_eq!(first_not_made(&changes, false, &made), None);
    // A driver that rounds, and one that knows no guarantee and drops it.
    for (min, max) in [(50, 199), (0, 200)] {
        let rounded = VfSide {
            min_tx_rate: min,
            max_tx_rate: max,
            ..made
        };
        let (change, has) = first_not_made(&changes, true, &rounded).unwrap();
        assert_eq!(change.key, SettingKey::MinTxRate);
        assert_eq!(has, Setting::Rates { min, max });
    }
    // An address shows in the VF's netdev; where it has none, in its PF alone.
    let other = VfSide { mac: None, ..made };
    assert_eq!(first_not_made(&changes, true, &other), None);
    let (change, has) = first_not_made(&changes, false, &other).unwrap();
    assert_eq!((change.key, has), (SettingKey::Mac, Setting::Mac(None)));
}

#[test]
fn a_guarantee_is_named_where_one_is_asked_for() {
    let asked = |min_tx_rate, max_tx_rate| VfSettings {
        min_tx_rate,
        max_tx_rate,
        ..VfSettings::default()
    };
    let key = |asked: &VfSettings| changes(asked, &VfSide::default())[0].key.as_str();
    assert_eq!(key(&asked(Some(5), Some(10))), "min_tx_rate");
    assert_eq!(key(&asked(Some(0), Some(10))), "max_tx_rate");
    assert_eq!(key(&asked(None, Some(10))), "max_tx_rate");
}

#[test]
fn an_address_alone_needs_no_pf() {
    let mut asked = VfSettings {
        mac: Some(mac()),
        ..VfSettings::default()
    };
    assert_eq!(asked.needs_pf(true), None);
    // A program's VF has nobody else who could be told.
    assert_eq!(
        asked.needs_pf(false),
        Some((SettingKey::Mac, Setting::Mac(Some(mac()))))
    );
    asked.trust = Some(false);
    assert_eq!(
        asked.needs_pf(true),
        Some((SettingKey::Trust, Setting::Trust(false)))
    );
}

#[test]
fn the_address_of_a_trusted_vf_is_kept_for_later() {
    let netdev = || "ens1".parse().unwrap();
    let had = "02:00:00:00:00:01".parse().unwrap();
    let has = |trust| VfSide {
        mac: Some(had),
        trust,
        ..VfSide::default()
    };
    let asks = |trust, mac| VfSettings {
        trust,
        mac,
        ..VfSettings::default()
    };
    let kept = |asked: VfSettings, has: VfSide| {
        PfSide::new(netdev(), 3, &asked, &has).map(|side| (side.changes.len(), side.mac))
    };
    assert_eq!(kept(asks(None, None), has(false)), None, "nothing to do");
    assert_eq!(
        kept(asks(Some(true), None), has(false)),
        Some((1, Some(had)))
    );
    // Trusted by the host, whoever's pod it is in.
    assert_eq!(kept(asks(None, None), has(true)), Some((0, Some(had))));
    assert_eq!(kept(asks(Some(false), None), has(true)), Some((1, None)));
    // Another one that was asked for has its own way back.
    assert_eq!(
        kept(asks(Some(true), Some(mac())), has(false)),
        Some((2, None))
    );
}
