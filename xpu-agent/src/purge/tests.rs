//! The purge against an FRR that says yes and keeps what it has, over its vty protocol.

use std::path::Path;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};
use xpu_model::{Id, VrfSpec, alloc::AllocationRules};

use super::*;

/// What each daemon answers; to all else an empty yes.
fn answer(command: &str) -> (&'static str, u8) {
    match command {
        "show version" => ("FRRouting 9.1 (xpu) on Linux(6.12).\n", 0),
        "show running-config" => ("vrf vrf-blue\n vni 5001\nexit-vrf\n", 0),
        _ => ("", 0),
    }
}

async fn daemon(listener: UnixListener, answer: fn(&str) -> (&'static str, u8)) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, answer));
    }
}

async fn serve(mut stream: UnixStream, answer: fn(&str) -> (&'static str, u8)) {
    let mut command = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        if byte != 0 {
            command.push(byte);
            continue;
        }
        let (text, status) = answer(std::str::from_utf8(&command).unwrap());
        command.clear();
        let end = [text.as_bytes(), &[0, 0, 0, status]].concat();
        if stream.write_all(&end).await.is_err() {
            return;
        }
    }
}

/// What a purge of one Vrf with an L3VNI comes to, and what it tells.
async fn purged(zebra: fn(&str) -> (&'static str, u8)) -> (String, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let listen = |name: &str| UnixListener::bind(directory.path().join(name)).unwrap();
    tokio::spawn(daemon(listen("zebra.vty"), zebra));
    tokio::spawn(daemon(listen("bgpd.vty"), |_| ("", 0)));
    let mut told = Vec::new();
    let result = purge_of(directory.path(), &mut |text| told.push(text.to_owned())).await;
    (format!("{:#}", result.unwrap_err()), told)
}

async fn purge_of(directory: &Path, tell: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let mut intent = Intent::default();
    let rules = AllocationRules {
        tables: 1001..=1003,
        node_seed: [7; 16],
        foreign_devices: BTreeSet::new(),
    };
    let spec = VrfSpec {
        vni: Some(5001.try_into().unwrap()),
        loopback: "10.0.0.1/32".parse().unwrap(),
        vtep: None,
    };
    let id = Id::user("vrf-blue").unwrap();
    intent.create(id, spec, &rules).unwrap();
    let mut purge = Purge {
        intent: intent.all_deleted(),
        node: Config::default().node().unwrap(),
        foreign: BTreeSet::new(),
        ledger: Ledger::open(directory).unwrap(),
        tell,
    };
    purge.frr(&mut Frr::new(directory.to_owned())).await
}

#[tokio::test(start_paused = true)]
async fn what_frr_keeps_for_ever_ends_the_purge_by_name() {
    let begun = Instant::now();
    let (error, told) = purged(answer).await;
    assert_eq!(
        error,
        "FRR has not let go within 60 s, see its log: zebra: vrf vrf-blue / vni 5001: \
         taken, but nothing came of it"
    );
    assert_eq!(told, ["FRR: no vni 5001"], "once");
    let took = begun.elapsed();
    assert!(took >= LIMIT && took < LIMIT + 2 * AGAIN, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_frr_refuses_is_told_with_its_words() {
    let refuses = |command: &str| match command {
        "no vni 5001" => ("% VNI 5001 is in use\n", 13),
        other => answer(other),
    };
    let (error, told) = purged(refuses).await;
    assert_eq!(
        error,
        "FRR has not let go within 60 s, see its log: zebra: vrf vrf-blue / vni 5001: % VNI 5001 is in use"
    );
    assert_eq!(told, Vec::<String>::new());
}
