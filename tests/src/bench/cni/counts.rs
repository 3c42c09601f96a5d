//! What a call of the plugin does, counted from outside. Unlike times these are the same on every
//! machine, so CI holds them: `make gates`.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    deeds::{Deed, durable_before, lies_in},
    native::Node,
    netlink::Message,
    site::{Site, Vf, call},
    trace::Trace,
};
use crate::{
    bench::row::{Row, Target},
    guest::pod::Pod,
};

/// Pods on the node beside the one that is counted: the sweep has something to look at.
const OTHERS: usize = 20;
/// The VF that is counted: the last of its card.
const COUNTED: usize = 55;

/// Counts, in the namespaces of this thread.
///
/// # Errors
/// Where a call fails.
pub fn run(node: &Node) -> Result<Vec<Row>> {
    for (number, vf) in node.vfs().iter().take(OTHERS).enumerate() {
        let pod = Pod::create(&format!("other{number}"))?;
        let add = call("ADD", &pod, &node.config(vf));
        node.plugin().run(&add)?.success("ADD")?;
        std::mem::forget(pod); // it lives until the node does
    }
    let vf = node.vfs().get(COUNTED).context("too few VFs")?;
    let mut rows = plain(node, vf)?;
    rows.extend(everything(node, vf)?);
    rows.extend(without_netns(node, vf)?);
    rows.extend(without_carrier(node, vf)?);
    rows.extend(durable(node, vf)?);
    Ok(rows)
}

fn count(metric: &str, value: usize) -> Row {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let value = value as f64;
    Row::new(format!("counted: {metric}"), 1, value, "")
}

/// A count that must be that very number: a plugin that did nothing would stay below every limit.
fn exactly(metric: &str, value: usize, wanted: u32) -> Row {
    let limit = f64::from(wanted);
    let mut row = count(metric, value);
    #[expect(clippy::float_cmp, reason = "small whole numbers")]
    let same = row.value == limit;
    row.ok = Some(same);
    row.target = Some(Target {
        rule: format!("= {wanted}"),
        limit,
    });
    row
}

fn number(trace: &Trace, of: impl Fn(&Message) -> bool) -> usize {
    trace.messages().filter(|message| of(message)).count()
}

/// ADD and DEL without IPAM.
fn plain(node: &Node, vf: &Vf) -> Result<Vec<Row>> {
    let pod = Pod::create("counted")?;
    let config = node.config(vf);
    let add = Trace::of(node.plugin(), &call("ADD", &pod, &config))?;
    let del = Trace::of(node.plugin(), &call("DEL", &pod, &config))?;
    Ok(vec![
        // 150 in all where the answer is there once it is asked for: five calls read it then.
        count(
            "ADD, system calls beside those that read the agent's answer",
            add.calls.len() - add.listens,
        )
        .note(&format!("no IPAM; {OTHERS} other pods on the node"))
        .at_most(145.0),
        count("ADD, system calls", add.calls.len())
            .note("three more for each further piece in which the agent's answer arrives"),
        count("ADD, programs started", add.started().count()).at_most(0.0),
        exactly("DEL, namespace moves", number(&del, Message::moves), 1),
        count("DEL, netlink sends", del.sends.len()).at_most(4.0),
        count(
            "DEL, links taken down",
            number(&del, |it| it.brings() == Some(false)),
        )
        .at_most(0.0),
        count(
            "DEL, RTM_GETLINK by name",
            number(&del, Message::asks_by_name),
        )
        .at_most(0.0),
        count("DEL, system calls", del.calls.len()),
    ])
}

/// ADD with all that the message that moves can set, and with addresses.
fn everything(node: &Node, vf: &Vf) -> Result<Vec<Row>> {
    let one = json!({"ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
                     "routes": [{"dst": "0.0.0.0/0"}]});
    let two = json!({"ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"},
                             {"address": "fd00::3/64", "gateway": "fd00::1"}],
                     "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
    node.make_ipam("ipam-one", &one)?;
    node.make_ipam("ipam-two", &two)?;
    let with = |ipam: &str| {
        let mut config = node.config(vf);
        config["ipam"] = json!({ "type": ipam });
        config["mac"] = json!("02:00:00:00:00:77");
        config["mtu"] = json!(1400);
        config
    };
    let traced = |name: &str, config: &Value| -> Result<Trace> {
        let pod = Pod::create(name)?;
        let add = Trace::of(node.plugin(), &call("ADD", &pod, config))?;
        let del = call("DEL", &pod, config);
        node.plugin().run(&del)?.success("DEL")?;
        Ok(add)
    };
    let add = traced("all-one", &with("ipam-one"))?;
    let dual = traced("all-two", &with("ipam-two"))?;
    let one_message =
        |it: &Message| it.moves() && it.sets() == [true; 3] && it.brings() == Some(true);
    Ok(vec![
        exactly("ADD, namespace moves", number(&add, Message::moves), 1),
        exactly(
            "ADD, messages that move, rename, set MTU and MAC and up",
            number(&add, one_message),
            1,
        ),
        count(
            "ADD, other messages than the one that moves, renames, sets MTU and MAC and ups",
            number(&add, |it| {
                it.sets() != [false; 3] || it.brings().is_some() || it.moves()
            }) - number(&add, one_message),
        )
        .at_most(0.0),
        count("ADD, messages and settings that take RTNL", add.at_rtnl())
            .note("the move, an IPv4 address, a default route")
            .at_most(3.0),
        count(
            "ADD dual stack, messages and settings that take RTNL",
            dual.at_rtnl(),
        )
        .note("the move, of each family an address and a default route")
        .at_most(5.0),
        count("ADD dual stack, settings", dual.settings.len())
            .note("optimistic_dad and use_optimistic, which take no RTNL")
            .at_most(2.0),
        count("ADD, netlink sends", add.sends.len()).at_most(4.0),
        count("ADD dual stack, netlink sends", dual.sends.len()).at_most(4.0),
        count(
            "ADD, RTM_GETLINK by name",
            number(&add, Message::asks_by_name),
        )
        .at_most(0.0),
        count("ADD, lists of links", number(&add, Message::lists_links)).at_most(0.0),
        count(
            "ADD, links taken down",
            number(&add, |it| it.brings() == Some(false)),
        )
        .at_most(0.0),
        count(
            "ADD, programs started beside IPAM",
            add.started()
                .filter(|path| !path.ends_with("/ipam-one") && !path.ends_with("/cat"))
                .count(),
        )
        .at_most(0.0),
    ])
}

/// DEL after the namespace has gone.
fn without_netns(node: &Node, vf: &Vf) -> Result<Vec<Row>> {
    let pod = Pod::create("counted-gone")?;
    let config = node.config(vf);
    let (add, del) = (call("ADD", &pod, &config), call("DEL", &pod, &config));
    node.plugin().run(&add)?.success("ADD")?;
    node.lose(vf, pod)?;
    let del = Trace::of(node.plugin(), &del)?;
    node.found(vf)?;
    Ok(vec![
        count("DEL, namespace gone: moves", number(&del, Message::moves)).at_most(0.0),
        count(
            "DEL, namespace gone: lists of links",
            number(&del, Message::lists_links),
        )
        .at_most(0.0),
        count("DEL, namespace gone: netlink sends", del.sends.len()).at_most(4.0),
    ])
}

/// ADD with a dead wire: how long it asks the kernel to wait for carrier, whatever that takes here.
fn without_carrier(node: &Node, vf: &Vf) -> Result<Vec<Row>> {
    let pod = Pod::create("counted-dead")?;
    let config = with_ipam(node, vf)?;
    node.set_carrier(vf, false)?;
    let add = Trace::of(node.plugin(), &call("ADD", &pod, &config))?;
    node.set_carrier(vf, true)?;
    let del = call("DEL", &pod, &config);
    node.plugin().run(&del)?.success("DEL")?;
    let moves = |deed: &&Deed| deed.messages().iter().any(Message::moves);
    let after = add.deeds.iter().skip_while(|deed| !moves(deed));
    let waits = after.filter_map(|deed| match deed {
        Deed::Waited(ms) => Some(*ms),
        _ => None,
    });
    let waits: Vec<_> = waits.collect();
    let most = waits.iter().copied().max().unwrap_or_default();
    Ok(vec![
        exactly("ADD without carrier, waits for it", waits.len(), 1),
        count(
            "ADD without carrier, milliseconds that it waits for at most",
            most,
        )
        .at_most(200.0),
    ])
}

/// What a power cut leaves: no deed whose record it could take along, no port that is forgotten.
fn durable(node: &Node, vf: &Vf) -> Result<Vec<Row>> {
    const STEPS: u32 = 4;
    type Meant<'a> = &'a dyn Fn(&Deed) -> bool;

    let pod = Pod::create("counted-durable")?;
    let config = with_ipam(node, vf)?;
    let socket = node.agent_socket();
    let agent = socket.display().to_string();
    let add = Trace::of(node.plugin(), &call("ADD", &pod, &config))?;
    let deeds: [(&str, Meant<'_>); 4] = [
        (
            "claim of the VF",
            &|deed| matches!(deed, Deed::Linked(path) if lies_in("vf", path)),
        ),
        ("request for the port", &|deed| deed.tells(&agent, "cni-")),
        ("start of IPAM", &|deed| matches!(deed, Deed::Started(_))),
        ("move", &|deed| {
            deed.messages().iter().any(Message::changes_link)
        }),
    ];
    let mut rows = Vec::new();
    for (name, is_it) in deeds {
        let steps = durable_before(&add.deeds, "attachments", is_it);
        let steps = steps.with_context(|| format!("no {name} was seen in an ADD"))?;
        let metric = format!("ADD, steps that make the record durable before the {name}");
        rows.push(
            exactly(&metric, steps, STEPS).note("written aside, synced, renamed, folder synced"),
        );
    }

    let (del, away) = (call("DEL", &pod, &config), socket.with_extension("away"));
    fs::rename(socket, &away)?;
    let without = Trace::of(node.plugin(), &del);
    fs::rename(&away, socket)?;
    let forgets = |deed: &Deed| matches!(deed, Deed::Removed(path) if is_record(path));
    let steps = durable_before(&without?.deeds, "tombstones", forgets);
    let steps = steps.context("no record was seen to go in a DEL")?;
    let metric =
        "DEL without the agent, steps that make the tombstone durable before the record goes";
    rows.push(exactly(metric, steps, STEPS));
    // Its port goes.
    node.plugin().run(&del)?.success("DEL")?;
    Ok(rows)
}

fn is_record(path: &str) -> bool {
    lies_in("attachments", path) && !path.ends_with(".tmp")
}

/// The configuration for a VF, with an IPAM plugin that gives an address.
fn with_ipam(node: &Node, vf: &Vf) -> Result<Value> {
    let answer = json!({"ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
                        "routes": [{"dst": "0.0.0.0/0"}]});
    node.make_ipam("ipam-any", &answer)?;
    let mut config = node.config(vf);
    config["ipam"] = json!({"type": "ipam-any"});
    Ok(config)
}
