//! A neighbour on the wire at a loopback address, which route_localnet lets in.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd,
    process::Command,
    time::Duration,
};

use nix::sched::{CloneFlags, setns, unshare};
use tonic::Code;
use xpu_agent::access::limits::Reason;

use crate::{
    log::Log,
    rig::{Rig, Target, call, eventually, is, path},
};

/// Two network namespaces with a wire between them; the neighbour's route to 127.0.0.1 leads over
/// it. They go with the thread and these files.
struct Wire {
    agent: File,
    neighbour: File,
}

impl Wire {
    fn new() -> Self {
        let fresh = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let (agent, neighbour) = (fresh(), fresh());
        let agent_fd = format!("/proc/{}/fd/{}", std::process::id(), agent.as_raw_fd());
        ip(&format!(
            "link add to-agent type veth peer name to-peer netns {agent_fd}"
        ));
        let wire = Self { agent, neighbour };
        set_up("to-agent", "192.0.2.2/24");
        ip("route add 127.0.0.1/32 via 192.0.2.1 dev to-agent src 192.0.2.2");
        enter(&wire.agent);
        set_up("to-peer", "192.0.2.1/24");
        ip("link set lo up");
        wire
    }
}

fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
}

fn set_up(device: &str, address: &str) {
    ip(&format!("address add {address} dev {device}"));
    ip(&format!("link set {device} up"));
    let switch = format!("/proc/sys/net/ipv4/conf/{device}/route_localnet");
    std::fs::write(switch, "1").unwrap();
}

fn ip(arguments: &str) {
    let ran = Command::new("ip").args(arguments.split(' ')).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "ip {arguments}: {ran:?}");
}

/// What a neighbour hears who begins as an HTTP/2 client does.
fn heard(namespace: &File, address: SocketAddr) -> usize {
    enter(namespace);
    let mut stream = TcpStream::connect(address).unwrap();
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).unwrap();
    // It may be closed by now.
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    match stream.read(&mut [0; 64]) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_neighbour_is_not_taken_for_a_process_of_this_machine() {
    let wire = Wire::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let log = Log::follow();
        let rig = Rig::new("[access]\nloopback = \"admin\"").await;
        let limits = rig.gate.limits().clone();
        for (done, address) in [rig.tcp, rig.http].into_iter().enumerate() {
            let namespace = wire.neighbour.try_clone().unwrap();
            // A thread that ends with its namespace, which one of the runtime's would not.
            let neighbour = std::thread::spawn(move || heard(&namespace, address));
            let heard = tokio::task::spawn_blocking(|| neighbour.join().unwrap());
            assert_eq!(heard.await.unwrap(), 0, "it was answered");
            assert_eq!(limits.refused(Reason::NotLoopback), done as u64 + 1);
        }
        let lines = log.lines(&["192.0.2.2", "route_localnet"]);
        assert!(!lines.is_empty(), "{lines:?}");
        let list = path("Vrf", "ListVrfs");
        is(
            &call(&Target::Clear(rig.tcp), &list, None).await,
            Code::Ok,
            "",
        );
        assert_eq!(limits.refused(Reason::NotLoopback), 2);
        eventually("nobody", || limits.connections() == 0).await;
        rig.stop().await;
    });
}
