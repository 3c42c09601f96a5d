//! A host that says nothing for longer than a bridge remembers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use xpu_tests::guest::wait::wait_until;

use crate::{CONVERGENCE, Lab, lifecycle::blue_pod};

/// The bridge's ageing time in this test, instead of five minutes.
const AGEING: Duration = Duration::from_secs(15);
/// The pod's addresses, as type-2 routes have them.
const ADDRESSES: [&str; 2] = ["[10.100.0.11]", "[fd00:100::11]"];

#[test]
fn the_routes_of_a_silent_host_stay() -> Result<()> {
    let lab = Lab::with_blue()?;
    let xpu = &lab.topology.xpu;
    xpu.run(&format!(
        "ip link set br-tenant type bridge ageing_time {}",
        AGEING.as_secs() * 100
    ))?;
    // A neighbour is stale when it was not heard for about this time.
    for family in ["ipv4", "ipv6"] {
        xpu.sysctl(&format!(
            "net.{family}.neigh.svi-100.base_reachable_time_ms=2000"
        ))?;
    }
    let pod = blue_pod(&lab)?;
    pod.reaches("10.100.0.1")?;
    pod.reaches("fd00:100::1")?;
    let leaf2 = lab.topology.leaf2_frr();
    let stand = || -> Result<()> {
        let routes = leaf2.evpn_routes(2)?;
        for address in ADDRESSES {
            let of_pod = |route: &String| route.contains(&pod.vf.mac) && route.contains(address);
            ensure!(
                routes.iter().any(of_pod),
                "{address} has no route: {routes:?}"
            );
        }
        Ok(())
    };
    wait_until("leaf2 has the pod's routes", CONVERGENCE, stand)?;
    // Nothing is asked of the pod and it says nothing by itself, for three times the ageing.
    let silent_since = Instant::now();
    while silent_since.elapsed() < 3 * AGEING {
        stand()?;
    }
    let fdb = xpu.run("bridge fdb show br br-tenant dynamic")?;
    ensure!(
        fdb.contains(&pod.vf.mac),
        "the bridge has forgotten it: {fdb}"
    );
    // A host that is gone is not kept for ever.
    pod.pod.run("ip link set net1 down")?;
    wait_until(
        "the routes of the pod that is gone are gone",
        CONVERGENCE * 2,
        || {
            let routes = leaf2.evpn_routes(2)?;
            let of_pod = |route: &&String| route.contains(&pod.vf.mac);
            ensure!(!routes.iter().any(|route| of_pod(&route)), "{routes:?}");
            Ok(())
        },
    )
}
