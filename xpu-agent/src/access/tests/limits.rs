use super::*;

fn limits(change: impl FnOnce(&mut LimitsConfig)) -> Arc<Limits> {
    let mut config = LimitsConfig::default();
    change(&mut config);
    Limits::new(config)
}

fn key(last: u8) -> PeerKey {
    PeerKey::V4([192, 0, 2, last].into())
}

#[tokio::test]
async fn connections_are_counted_per_listener_and_per_peer() {
    let limits = limits(|config| (config.connections, config.connections_per_peer) = (3, 2));
    let (one, other) = (Arc::default(), Arc::default());
    let connect = |listener, peer| limits.connect(listener, key(peer));
    let first = connect(&one, 1).unwrap();
    let _second = connect(&one, 1).unwrap();
    assert_eq!(connect(&one, 1).err(), Some(Reason::ConnectionsPerPeer));
    // A peer is one over all listeners.
    assert_eq!(connect(&other, 1).err(), Some(Reason::ConnectionsPerPeer));
    let _third = connect(&one, 2).unwrap();
    assert_eq!(connect(&one, 3).err(), Some(Reason::Connections));
    let _fourth = connect(&other, 3).unwrap();
    assert_eq!(limits.connections(), 4);
    drop(first);
    // What was refused holds nothing.
    let _fifth = connect(&one, 1).unwrap();
    assert_eq!(limits.connections(), 4);
}

#[tokio::test]
async fn calls_are_counted_per_peer_and_over_all() {
    let limits = limits(|config| (config.calls, config.calls_per_peer) = (3, 2));
    let (one, other) = (limits.peer(key(1)), limits.peer(key(2)));
    let first = limits.call(&one).unwrap();
    let _second = limits.call(&one).unwrap();
    let refused = limits.call(&one).err().unwrap();
    assert!(
        matches!(
            refused,
            Refusal::Limit {
                key: "limits.calls_per_peer",
                limit: 2,
                ..
            }
        ),
        "{refused}"
    );
    let _third = limits.call(&other).unwrap();
    let refused = limits.call(&other).err().unwrap();
    assert!(
        matches!(
            refused,
            Refusal::Limit {
                key: "limits.calls",
                limit: 3,
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(limits.refused(Reason::CallsPerPeer), 1);
    assert_eq!(limits.refused(Reason::Calls), 1);
    drop(first);
    assert_eq!(limits.calls(), 2);
    limits.call(&other).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_held_and_told() {
    let limits = limits(|config| (config.calls_per_second, config.calls_burst) = (10, 3));
    let peer = limits.peer(key(1));
    for _ in 0..3 {
        limits.call(&peer).unwrap();
    }
    let Err(Refusal::Limit { retry, key, .. }) = limits.call(&peer) else {
        panic!("a fourth call at once");
    };
    assert_eq!(key, "limits.calls_per_second");
    assert_eq!(retry, Some(Duration::from_millis(100)));
    tokio::time::advance(Duration::from_millis(100)).await;
    limits.call(&peer).unwrap();
    assert!(limits.call(&peer).is_err());
    // Whoever was silent gets the burst again, and no more than that.
    tokio::time::advance(Duration::from_secs(3600)).await;
    let made = (0..10).filter(|_| limits.call(&peer).is_ok()).count();
    assert_eq!(made, 3);
    assert_eq!(limits.refused(Reason::Rate), 2 + 7);
}

#[tokio::test]
async fn messages_are_bounded_one_by_one_and_together() {
    let limits = limits(|config| (config.message_bytes, config.request_bytes) = (1024, 4096));
    let (one, other) = (limits.peer(key(1)), limits.peer(key(2)));
    let call = limits.call(&one).unwrap();
    call.hold(1000).unwrap();
    call.check_message_size(1024).unwrap();
    let refused = call.check_message_size(1025).unwrap_err();
    assert!(matches!(
        refused,
        Refusal::Limit {
            key: "limits.message_bytes",
            ..
        }
    ));
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let second = limits.call(&one).unwrap();
    second.hold(1000).unwrap();
    // Half of it for one peer.
    let third = limits.call(&one).unwrap();
    let refused = third.hold(1000).unwrap_err();
    assert!(matches!(
        refused,
        Refusal::Limit {
            key: "limits.request_bytes",
            ..
        }
    ));
    let others = limits.call(&other).unwrap();
    others.hold(1000).unwrap();
    call.give_back();
    drop(second);
    third.hold(1000).unwrap();
    drop((call, third, others));
    assert_eq!(limits.request_bytes.load(Relaxed), 0);
    assert_eq!(one.request_bytes.load(Relaxed), 0);
}

#[tokio::test]
async fn an_eighth_is_kept_for_the_unix_socket() {
    let limits = limits(|config| {
        (config.calls, config.message_bytes, config.request_bytes) = (8, 1000, 8000);
    });
    let (one, other) = (limits.peer(key(1)), limits.peer(key(2)));
    let mut calls: Vec<_> = (0..7).map(|_| limits.call(&one).unwrap()).collect();
    assert!(limits.call(&other).is_err());
    let root = limits.peer(PeerKey::Uid(0));
    let last = limits.call(&root).unwrap();
    assert!(limits.call(&root).is_err());
    drop(last);

    calls.truncate(4);
    calls.extend((0..3).map(|_| limits.call(&other).unwrap()));
    let last = limits.call(&root).unwrap();
    for call in &calls {
        call.hold(1000).unwrap();
    }
    let more = calls.pop().unwrap();
    let Err(Refusal::Limit { key, limit, .. }) = more.hold(1) else {
        panic!("more than seven eighths");
    };
    assert_eq!((key, limit), ("limits.request_bytes", 7000));
    last.hold(1000).unwrap();
    assert!(last.hold(1).is_err());
}

#[tokio::test(start_paused = true)]
async fn peers_of_whom_nothing_is_known_are_forgotten() {
    let limits = limits(|_| {});
    let kept = limits.peer(PeerKey::Uid(7));
    let paced = limits.peer(PeerKey::Uid(8));
    limits.call(&paced).unwrap();
    drop(paced);
    for peer in 0..100_000_u32 {
        limits.peer(PeerKey::V4(peer.into()));
    }
    assert!(limits.peers.lock().unwrap().known.len() <= 2 * SWEEP_LEAST);
    assert!(Arc::ptr_eq(&kept, &limits.peer(PeerKey::Uid(7))));
    // Its call is still weighed: connecting anew does not reset the rate.
    assert!(limits.peer(PeerKey::Uid(8)).owes(Instant::now()));
}

#[test]
fn addresses_of_one_host_are_one_peer() {
    let key = |text: &str| PeerKey::from(text.parse::<IpAddr>().unwrap());
    assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    for loopback in ["127.0.0.2", "127.255.255.254", "::1", "::ffff:127.0.0.3"] {
        assert_eq!(key(loopback), key("127.0.0.1"), "{loopback}");
    }
    assert_ne!(key("128.0.0.1"), key("127.0.0.1"));
}
