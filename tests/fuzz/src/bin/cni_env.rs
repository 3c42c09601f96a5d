//! The environment, `CNI_ARGS` in it: lines of `KEY=value`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xpu_cni::{
    env::{Attachment, Vars},
    port::Key,
};
use xpu_fuzz::told;

fuzz_target!(|text: &str| {
    let vars = read(text);
    match vars.command() {
        Ok(command) => assert_eq!(vars.command.as_deref(), Some(command.as_str())),
        Err(error) => told(error, &[4]),
    }
    match vars.mac() {
        Ok(mac) => {
            let asked = last_arg(&vars, "MAC=").filter(|text| !text.is_empty());
            let asked = asked.map(|text| text.parse().unwrap());
            assert_eq!(mac, asked);
            assert!(mac.is_none_or(|mac| mac.octets()[0] & 1 == 0), "{mac:?}");
        }
        Err(error) => told(error, &[4]),
    }
    let ips = last_arg(&vars, "IP=").filter(|ips| !ips.is_empty());
    assert_eq!(vars.ips(), ips);
    match vars.attachment() {
        Ok(attachment) => holds(attachment),
        Err(error) => told(error, &[4]),
    }
});

/// As `Vars::from_process` reads the real one: an empty variable is none.
fn read(text: &str) -> Vars {
    let get = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let value = lines.find(|(name, _)| *name == key)?.1;
        (!value.is_empty()).then(|| value.to_owned())
    };
    Vars {
        command: get("CNI_COMMAND"),
        container_id: get("CNI_CONTAINERID"),
        netns: get("CNI_NETNS"),
        ifname: get("CNI_IFNAME"),
        args: get("CNI_ARGS"),
        ..Vars::default()
    }
}

/// What the last pair of a key in `CNI_ARGS` says.
fn last_arg<'a>(vars: &'a Vars, key: &str) -> Option<&'a str> {
    let mut found = None;
    for pair in vars.args.as_deref()?.split(';') {
        if let Some(value) = pair.strip_prefix(key) {
            found = Some(value);
        }
    }
    found
}

/// Container and interface become file names, a port's id, and words of a log.
fn holds(attachment: Attachment) {
    let Attachment {
        container_id,
        ifname,
        ..
    } = &attachment;
    let hostile = |c: char| c == '/' || c.is_control() || c.is_whitespace();
    assert!(!container_id.contains(hostile), "{container_id:?}");
    assert!(!ifname.as_str().contains(hostile), "{ifname:?}");
    assert!(![".", ".."].contains(&container_id.as_str()));
    assert!(![".", ".."].contains(&ifname.as_str()));
    assert!(ifname.as_str().len() < 16, "{ifname:?}");
    // To the kernel a pattern.
    assert!(!ifname.as_str().contains('%'), "{ifname:?}");
    let key = Key::of(&attachment);
    assert_eq!(Key::from_file_name(key.as_str()), Some(key.clone()));
    assert!(xpu_model::Id::user(&key.port_id()).is_ok());
    // The namespace has no part in it: a DEL may come without.
    let without = Attachment {
        netns: None,
        ..attachment
    };
    assert_eq!(Key::of(&without), key);
}
