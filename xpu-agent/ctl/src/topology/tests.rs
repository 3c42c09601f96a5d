use serde_json::{Value, json};
use xpu_proto::evpn_gw::v1alpha1::Component;

use super::layout::{BOX_WIDTH, layout};
use super::*;

fn add(objects: &mut Objects, kind: Kind, id: &str, spec: Value, oper: Oper, details: &str) {
    let key = ObjectKey::parse(kind, id).expect("a name");
    let live = Live {
        spec: Spec::read(kind, spec).expect("a spec"),
        oper,
        components: vec![Component {
            name: "frr".into(),
            details: details.into(),
            ..Component::default()
        }],
    };
    objects.insert(key, live);
}

/// 3 Vrfs, 12 LogicalBridges, 10 Svis, 20 ports, 4 VTEPs; some down, some with long names.
pub fn example() -> Objects {
    let mut objects = Objects::new();
    let names = [
        "vrf-red",
        "vrf-green",
        "vrf-of-a-tenant-with-quite-a-long-name",
    ];
    for (number, name) in (1..).zip(names) {
        let spec =
            json!({"vni": 5000 + number, "loopbackIpPrefix": format!("10.255.{number}.1/32")});
        let details = r#"{"localAS":65001,"rd":"10.255.0.1:5001"}"#;
        add(&mut objects, Kind::Vrf, name, spec, Oper::Up, details);
    }
    for number in 1..=12 {
        let id = format!("net-{number:02}");
        let spec = match number {
            12 => json!({"vlanId": 112}),
            _ => json!({"vlanId": 100 + number, "vni": 10100 + number}),
        };
        let vteps = match number {
            1..=4 => r#"{"remoteVteps":["10.255.0.2","10.255.0.3","10.255.0.4","fd00:255::5"]}"#,
            5..=8 => r#"{"remoteVteps":["10.255.0.4"]}"#,
            _ => r#"{"reason":"no <vtep> & \"more\""}"#,
        };
        let oper = if number == 9 { Oper::Down } else { Oper::Up };
        add(&mut objects, Kind::LogicalBridge, &id, spec, oper, vteps);
        if number <= 10 {
            let spec = json!({"vrf": names[number % 3], "logicalBridge": id,
                "macAddress": "02:00:5e:00:00:01",
                "gwIpPrefix": [format!("10.1.{number}.1/24"), format!("2001:db8:1:{number}::1/64")]});
            let oper = if number == 9 { Oper::Down } else { Oper::Up };
            add(
                &mut objects,
                Kind::Svi,
                &format!("svi-{number:02}"),
                spec,
                oper,
                "",
            );
        }
    }
    for number in 1..=20 {
        let net = |step: usize| format!("net-{:02}", (number + step) % 12 + 1);
        let (ptype, bridges) = match number % 7 {
            0 => ("TRUNK", vec![]),
            3 => ("TRUNK", vec![net(0), net(1), net(2)]),
            _ => ("ACCESS", vec![net(0)]),
        };
        let spec = json!({"macAddress": format!("02:00:00:00:01:{number:02x}"),
            "ptype": ptype, "logicalBridges": bridges});
        let id = match number % 5 {
            0 => format!("cni-0f3a9bb2c81d77e4a6{number:02}"),
            _ => format!("port-{number:02}"),
        };
        let oper = match number {
            4 => Oper::Down,
            5 => Oper::ToBeDeleted,
            _ => Oper::Up,
        };
        add(&mut objects, Kind::BridgePort, &id, spec, oper, "");
    }
    objects
}

#[test]
fn no_box_overlaps_another_and_all_are_inside() {
    for objects in [example(), Objects::new()] {
        let graph = Graph::of(&objects);
        let layout = layout(&graph);
        for (number, a) in layout.places.iter().enumerate() {
            assert!(a.x + BOX_WIDTH <= layout.width && a.y + a.height <= layout.height);
            for b in &layout.places[number + 1..] {
                let apart = a.x + BOX_WIDTH < b.x
                    || b.x + BOX_WIDTH < a.x
                    || a.y + a.height < b.y
                    || b.y + b.height < a.y;
                assert!(apart, "{a:?} overlaps {b:?}");
            }
        }
    }
}

#[test]
fn every_object_and_vtep_is_in_the_picture_with_its_state() {
    let objects = example();
    let graph = Graph::of(&objects);
    assert_eq!(graph.nodes.len(), 3 + 12 + 10 + 20 + 4);
    let svg = svg::picture(&graph);
    let document = roxmltree::Document::parse(&svg).expect("is XML");
    let boxes: BTreeMap<String, &str> = document
        .descendants()
        .filter(|it| it.has_tag_name("g"))
        .map(|group| {
            let part = |tag| group.children().find(|it| it.has_tag_name(tag)).expect(tag);
            let title = part("title").text().unwrap_or_default();
            let name = title.split([':', '\n']).next().unwrap_or_default();
            (
                name.to_owned(),
                part("rect").attribute("class").expect("a class"),
            )
        })
        .collect();
    for (key, live) in &objects {
        let class = match live.oper {
            Oper::Up => "up",
            Oper::Down => "down",
            Oper::Unknown | Oper::ToBeDeleted => "other",
        };
        assert_eq!(boxes.get(key.id.as_str()), Some(&class), "{key}");
    }
    assert_eq!(boxes.get("10.255.0.4"), Some(&"vtep"));
    // Each access port has a line, each named network of a trunk, and each Svi two.
    let paths = document.descendants().filter(|it| it.has_tag_name("path"));
    let references = objects.values().flat_map(|it| it.spec.references());
    assert_eq!(paths.count(), references.count());
}

#[test]
fn only_a_list_of_addresses_names_vteps() {
    for details in [
        "",
        "[1]",
        "7",
        "null",
        r#""text""#,
        r#"{"remoteVteps":"10.0.0.1"}"#,
        r#"{"remoteVteps":[null,7,"here"]}"#,
        r#"{"remoteVteps":[]}"#,
    ] {
        let mut objects = Objects::new();
        let spec = json!({"vlanId": 1, "vni": 1});
        add(
            &mut objects,
            Kind::LogicalBridge,
            "blue",
            spec,
            Oper::Up,
            details,
        );
        assert_eq!(Graph::of(&objects).nodes.len(), 1, "{details}");
    }
}

#[test]
fn no_text_is_wider_than_its_box() {
    let svg = svg::picture(&Graph::of(&example()));
    let document = roxmltree::Document::parse(&svg).expect("is XML");
    for group in document.descendants().filter(|it| it.has_tag_name("g")) {
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        for text in group.children().filter(|it| it.has_tag_name("text")) {
            let width = text.text().unwrap_or_default().chars().count() + 1;
            *lines
                .entry(text.attribute("y").expect("a place"))
                .or_default() += width;
        }
        for width in lines.values() {
            // Monospaced characters of 12 pixels are 7.3 wide.
            assert!(
                width * 73 / 10 <= usize::try_from(BOX_WIDTH).expect("fits"),
                "{group:?}"
            );
        }
    }
}

#[test]
fn mermaid_and_dot_have_the_same_lines() {
    let graph = Graph::of(&example());
    let (mermaid, dot) = (text::mermaid(&graph), text::dot(&graph));
    for node in &graph.nodes {
        assert!(mermaid.contains(&node.name) && dot.contains(&node.name));
    }
    assert_eq!(
        mermaid.matches(" --- ").count(),
        dot.matches(" -- ").count()
    );
    assert!(mermaid.starts_with("flowchart LR\n") && dot.ends_with("}\n"));
    assert!(mermaid.contains("bridge net-09 DOWN"));
}
