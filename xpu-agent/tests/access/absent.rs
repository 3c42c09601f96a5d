//! A listener whose address no interface has when the agent starts.

use std::{net::SocketAddr, process::Command, time::Duration};

use nix::sched::{CloneFlags, unshare};
use tokio::{
    net::TcpStream,
    time::{interval, timeout},
};
use xpu_agent::{access::Listener, config::Config, listen::Listeners};

use crate::log::Log;

const LIMIT: Duration = Duration::from_secs(20);

fn ip(arguments: &str) {
    let ran = Command::new("ip").args(arguments.split(' ')).output();
    let ran = ran.unwrap();
    assert!(ran.status.success(), "ip {arguments}: {ran:?}");
}

fn bound(listeners: &Listeners) -> Vec<SocketAddr> {
    let addresses = listeners.bound.iter().map(|it| match &it.listener {
        Listener::Tcp(socket, _) => socket.local_addr().unwrap(),
        Listener::Unix(_) => panic!("no TCP"),
    });
    addresses.collect()
}

async fn connects(address: SocketAddr) -> bool {
    let connected = timeout(LIMIT, TcpStream::connect(address)).await;
    connected.unwrap().is_ok()
}

/// The kernel takes an IPv6 address into use in a work queue, after it has answered who added it.
async fn until_connects(address: SocketAddr) {
    let mut again = interval(Duration::from_millis(5));
    while !connects(address).await {
        again.tick().await;
    }
}

#[test]
fn an_address_that_comes_later_is_listened_on_from_the_start() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip("link set lo up");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let log = Log::follow();
        let text = "[api]\nunix = \"\"\ntcp = \"192.0.2.77:0\"\n[http]\n\
                    listen = \"[2001:db8::77]:0\"\n[access]\ninsecure = true";
        let config = Config::read(text, "the test", std::iter::empty()).unwrap();
        let listeners = Listeners::bind(&config).await.unwrap();
        let addresses = bound(&listeners);
        assert_eq!(addresses.len(), 2);
        for address in &addresses {
            let parts = [
                "WARN",
                "no interface has the address yet",
                &address.ip().to_string(),
            ];
            assert_eq!(log.lines(&parts).len(), 1, "{address}");
            assert!(!connects(*address).await, "{address} is there already");
        }
        ip("address add 192.0.2.77/32 dev lo");
        ip("address add 2001:db8::77/128 dev lo nodad");
        for address in &addresses {
            timeout(LIMIT, until_connects(*address)).await.unwrap();
        }
        // One that is there is no news.
        let again = Listeners::bind(&config).await.unwrap();
        assert_eq!(bound(&again).len(), 2);
        assert_eq!(log.lines(&["no interface has the address yet"]).len(), 2);
    });
}
