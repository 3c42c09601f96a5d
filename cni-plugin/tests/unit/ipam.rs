//! What IPAM plugins answer, and what is made of it.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::{process::refusal, *};
use crate::budget::IPAM_LEAST;

fn read(answer: Value) -> Result<Lease, IpamError> {
    Lease::read(answer.to_string().as_bytes())
}

#[test]
fn old_and_new_answers_say_the_same() {
    let old = json!({"cniVersion": "0.3.1", "dns": {},
        "ips": [{"version": "4", "address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
        "routes": [{"dst": "0.0.0.0/0"}]});
    let new = json!({"cniVersion": "1.1.0", "dns": {},
        "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}]});
    assert_eq!(read(old).unwrap(), read(new).unwrap());
}

#[test]
fn a_route_takes_the_gateway_of_its_own_family() {
    let lease = read(json!({
        "ips": [{"address": "10.1.2.3/24"}, {"address": "fd00::3/64", "gateway": "fd00::1"}],
        "routes": [{"dst": "::/0", "mtu": 1400, "priority": 7}, {"dst": "10.9.0.0/16"}],
    }))
    .unwrap();
    assert_eq!(lease.routes[0].via, Some("fd00::1".parse().unwrap()));
    assert_eq!(
        (lease.routes[0].mtu, lease.routes[0].priority),
        (Some(1400), Some(7))
    );
    assert_eq!(lease.routes[1].via, None);
}

/// As programs write a list that they never made.
#[test]
fn what_is_null_is_left_out() {
    let lease = read(json!({
        "interfaces": null, "routes": null, "dns": null,
        "ips": [{"address": "10.1.2.3/24", "gateway": null, "interface": null}],
    }));
    let plain = read(json!({"ips": [{"address": "10.1.2.3/24"}]}));
    assert_eq!(lease.unwrap(), plain.unwrap());
    let told = read(json!({"ips": null})).unwrap_err();
    assert!(told.to_string().contains("gives no address"), "{told}");
    let error = br#"{"code": 11, "msg": "full", "details": null}"#;
    let told = refusal("host-local", "exit 1", error);
    assert!(matches!(told, IpamError::Failed { code: 11, .. }), "{told}");
}

#[test]
fn answers_that_give_nothing_usable_are_refused() {
    for answer in [
        json!({}),
        json!({"ips": []}),
        json!({"ips": [{"address": "10.1.2.3"}]}),
        json!({"ips": [{"address": "10.1.2.3/24", "gateway": "gw"}]}),
        json!({"ips": [{"address": "10.1.2.3/24"}], "routes": [{"dst": "all"}]}),
    ] {
        assert!(
            matches!(read(answer.clone()), Err(IpamError::Answer { .. })),
            "{answer}"
        );
    }
}

#[test]
fn a_delegates_error_keeps_code_and_words() {
    let told = refusal(
        "host-local",
        "exit 1",
        br#"{"code": 11, "msg": "full", "details": "d"}"#,
    );
    assert!(matches!(told, IpamError::Failed { code: 11, ref msg, .. } if msg == "full"));
    assert!(matches!(
        refusal("x", "exit 1", b"boom"),
        IpamError::Answer { .. }
    ));
}

#[test]
fn a_plugin_older_than_the_command_is_told_from_one_that_fails() {
    let library = "unknown CNI_COMMAND: GC";
    assert!(is_older("GC", 4, &[library, ""]));
    assert!(is_older("GC", 4, &["no such command", "GC"]));
    assert!(is_older(
        "STATUS",
        1,
        &["config version does not allow STATUS"]
    ));
    assert!(!is_older("GC", 4, &["CNI_PATH is missing"]));
    assert!(!is_older("GC", 5, &[library]));
}

/// What was never asked has not hung: a plugin that is well is not blamed for time that others used.
#[test]
fn a_plugin_is_not_started_where_no_time_is_left() {
    let release_within = |left| {
        release(&Delegate {
            name: "true",
            command: "DEL",
            attachment: None,
            path: "/bin",
            args: None,
            config: b"{}",
            deadline: Instant::now() + left,
        })
    };
    for left in [
        Duration::ZERO,
        IPAM_LEAST.saturating_sub(Duration::from_millis(1)),
    ] {
        let told = release_within(left);
        assert!(matches!(told, Err(IpamError::NoTime { .. })), "{told:?}");
    }
    release_within(Duration::from_secs(60)).unwrap();
}

/// What a plugin answers that is this script. A shell reads one where others read a configuration.
fn answer_of(script: &str, within: Duration) -> Result<Vec<u8>, IpamError> {
    run(&Delegate {
        name: "sh",
        command: "ADD",
        attachment: None,
        path: "/bin",
        args: None,
        config: script.as_bytes(),
        deadline: Instant::now() + within,
    })
}

/// What it has started holds its stdout open; here until that isn't read any more.
#[test]
fn a_plugin_is_done_when_it_ends_whoever_has_its_stdout() {
    const WRITES: &str = "while sleep 0.05; do echo; done 2> /dev/null &";
    let within = Duration::from_secs(60);
    let start = Instant::now();
    // More than a pipe holds, so that some of it is read after the rest.
    let script = format!("{WRITES} head -c 200000 /dev/zero | tr '\\0' x; echo end");
    let answer = answer_of(&script, within).unwrap();
    let text = String::from_utf8(answer).unwrap();
    assert_eq!(text.matches('x').count(), 200_000);
    assert!(text.contains("end\n"));
    let told = answer_of(&format!("{WRITES} echo no; exit 3"), within).unwrap_err();
    assert!(matches!(told, IpamError::Answer { .. }), "{told:?}");
    assert!(start.elapsed() < within / 2, "{:?}", start.elapsed());
}

/// As a shell that has put a `tee` behind its stdout, and doesn't wait for it.
#[test]
fn what_a_plugin_leaves_to_others_to_write_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    let fifo = fifo.display();
    // The fifo's only writer is the plugin, so that its reader writes once that has ended.
    let script = format!("mkfifo {fifo}; (cat {fifo}; echo '{{}}') & exec 3> {fifo}; exit 0");
    let answer = answer_of(&script, Duration::from_secs(60)).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "{}\n");
}

proptest! {
    #[test]
    fn no_answer_panics(answer in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Lease::read(&answer);
    }
}
