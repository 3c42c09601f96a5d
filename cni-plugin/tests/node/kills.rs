//! The process killed at any moment, many times: nothing is lost, nothing leaks.

use std::{path::PathBuf, time::Instant};

use serde_json::json;

use crate::harness::{Node, is_up, name_of};

/// Pairs of ADD and DEL, all VFs together.
const PAIRS: u64 = 1000;
const VFS: u8 = 4;

/// Which moments: a run that fails says it, and `XPU_KILL_SEED` repeats it, as far as the
/// machine's own timing goes.
fn seed() -> u64 {
    let given = std::env::var("XPU_KILL_SEED").ok();
    given.map_or_else(
        || u64::from(std::process::id()),
        |text| text.parse().unwrap(),
    )
}

/// Numbers below a bound that look random (xorshift, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One VF, its pod, and what is done to them.
struct Lane<'a> {
    node: &'a Node,
    number: u8,
    pod: PathBuf,
    config: String,
    numbers: Numbers,
    killed: u64,
}

impl Lane<'_> {
    /// A call that is killed within `span` microseconds, unless it ends before. Whether it was.
    fn cut(&mut self, command: &str, container: &str, span: u64) -> bool {
        let after = (1 + self.numbers.below(span)).to_string();
        let env = [("XPU_TESTBED_KILL_AFTER_US", after.as_str())];
        let answer = self
            .node
            .call_with(command, container, &self.pod, &self.config, &env);
        let killed = answer.code.is_none();
        self.killed += u64::from(killed);
        killed
    }

    fn whole(&self, command: &str, container: &str) {
        let answer = self
            .node
            .call_with(command, container, &self.pod, &self.config, &[]);
        answer.ok();
    }

    fn pair(&mut self, number: u64, span: u64) {
        let container = format!("c{}-{number}", self.number);
        self.cut("ADD", &container, span);
        // A runtime may try again before it gives up.
        if self.numbers.below(4) == 0 {
            self.cut("ADD", &container, span);
        }
        if self.cut("DEL", &container, span) {
            self.whole("DEL", &container);
        }
        let name = format!("vf{}", self.number);
        let vf = Node::link(&self.node.host, &name);
        let mac = format!("02:00:00:{:02x}:af:06", self.number);
        assert_eq!(vf["address"], mac.as_str(), "{container}: {vf}");
        assert_eq!(vf["mtu"], 1500, "{container}: {vf}");
        assert!(!is_up(&vf), "{container}: {vf}");
    }
}

#[test]
fn a_thousand_pairs_killed_at_random_moments_lose_and_leak_nothing() {
    let mut node = Node::new();
    let seed = seed();
    let macs = json!({"ipam": {"type": "fake-ipam"}, "mtu": 1400});
    let lanes: Vec<_> = (0..VFS)
        .map(|number| {
            let mut config = node.config(macs.clone());
            if number > 0 {
                config["deviceID"] = node.make_vf(number).into();
            }
            let info = node.root.path().join(format!("devinfo/red_vf{number}"));
            config["runtimeConfig"] = json!({ "CNIDeviceInfoFile": info });
            config["mac"] = format!("02:00:00:00:00:{number:02x}").into();
            (number, node.pod(), config.to_string())
        })
        .collect();
    let node = &node;
    let lanes = lanes.into_iter().map(|(number, pod, config)| Lane {
        node,
        number,
        pod,
        config,
        numbers: Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 | u64::from(number) << 32),
        killed: 0,
    });
    // As long as a pair takes here and now, so that every moment has its kill.
    let mut lanes: Vec<_> = lanes.collect();
    let start = Instant::now();
    lanes[0].whole("ADD", "first");
    lanes[0].whole("DEL", "first");
    let span = u64::try_from(start.elapsed().as_micros()).unwrap();

    let killed: u64 = std::thread::scope(|scope| {
        let lanes = lanes.iter_mut().map(|lane| {
            scope.spawn(move || {
                for number in 0..PAIRS / u64::from(VFS) {
                    lane.pair(number, span);
                }
                lane.killed
            })
        });
        let lanes: Vec<_> = lanes.collect();
        let ends = lanes.into_iter().map(|lane| lane.join());
        ends.map(|end| end.unwrap_or_else(|_| panic!("XPU_KILL_SEED={seed}")))
            .sum()
    });
    assert!(killed > PAIRS / 2, "{killed} kills in {PAIRS} pairs");
    node.assert_clean();
    for lane in &lanes {
        assert_eq!(Node::links(name_of(&lane.pod)), ["lo"]);
    }
}
