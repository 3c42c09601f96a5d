//! Running the agent: whether it is ready, what it refuses to start over, how it ends.
#![expect(clippy::unwrap_used, reason = "in threads of the test's own")]

use std::{
    fs,
    process::Output,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use xpu_tests::guest::{
    addresses::{BLUE_VLAN, BLUE_VNI},
    agent::{self, Agent},
    command,
    frr::Frr,
    http::{self, is_ready, metric, readiness},
    operator::create,
    topology::Topology,
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab, manager::Manager};

/// Kills FRR's daemons; its sockets are gone with them.
fn kill_frr(frr: &Frr) -> Result<()> {
    for pid in frr.pids() {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    }
    wait_until("FRR's daemons are gone", CONVERGENCE, || {
        let left = frr.pids();
        ensure!(left.is_empty(), "{left:?} run");
        Ok(())
    })?;
    frr.forget()
}

fn waits_for_frr(topology: &Topology) -> Result<()> {
    let (ready, answer) = readiness(&topology.xpu)?;
    let waiting = &answer["waiting"][0];
    let reason = waiting["reason"].as_str().unwrap_or_default();
    ensure!(
        !ready && waiting["for"] == "frr" && reason.contains("is FRR running?"),
        "{answer}"
    );
    Ok(())
}

#[test]
fn it_is_ready_when_frr_is_and_tells_systemd() -> Result<()> {
    let topology = Topology::clean()?;
    let frr = topology.xpu_frr();
    kill_frr(&frr)?;
    let mut manager = Manager::new()?;
    let env = [
        ("NOTIFY_SOCKET", Manager::PATH),
        ("WATCHDOG_USEC", "9000000"),
    ];
    let agent = Agent::start_in(&topology.xpu, &Agent::lab_config()?, &env)?;
    wait_until("it says that it waits for FRR", CONVERGENCE, || {
        waits_for_frr(&topology)
    })?;
    ensure!(http::get(&topology.xpu, "/healthz")? == (200, "ok\n".to_owned()));
    let status = manager.hears("STATUS=waits for frr")?;
    ensure!(status.contains("is FRR running?"), "{status}");
    // It waits as long as it takes; systemd is not to end it for that.
    manager.hears("EXTEND_TIMEOUT_USEC=9000000")?;
    ensure!(
        !manager.told().contains(&"READY=1".to_owned()),
        "{:?}",
        manager.told()
    );

    frr.start("")?;
    wait_until("it is ready", CONVERGENCE, || is_ready(&topology.xpu))?;
    manager.hears("READY=1")?;
    manager.hears("WATCHDOG=1")?;
    ensure!(metric(&topology.xpu, "xpu_agent_frr_up", &[])? == 1.0);

    kill_frr(&frr)?;
    wait_until("it says so again", CONVERGENCE, || waits_for_frr(&topology))?;
    ensure!(metric(&topology.xpu, "xpu_agent_frr_losses_total", &[])? >= 1.0);
    ensure!(metric(&topology.xpu, "xpu_agent_frr_up", &[])? == 0.0);
    frr.start("")?;
    wait_until("it is ready again", CONVERGENCE, || is_ready(&topology.xpu))?;

    let status = agent.stop()?;
    ensure!(status.success(), "{status}");
    manager.hears("STOPPING=1").map(drop)
}

/// The agent with what a second one on the same node would have of its own.
fn second(topology: &Topology, before: &[&str], arguments: &[&str]) -> Result<Output> {
    let own = [
        "env",
        "XPU_AGENT_STORE__DIRECTORY=/run/lab/second",
        "XPU_AGENT_API__UNIX=/run/lab/second.sock",
        "XPU_AGENT_API__TCP=127.0.0.1:50152",
        "XPU_AGENT_HTTP__LISTEN=127.0.0.1:8083",
        agent::PROGRAM,
        "--config",
        agent::CONFIG,
    ];
    let words = [before, &own, arguments].concat();
    command::outcome(&topology.xpu.words(&words))
}

fn refused(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    Ok(said)
}

#[test]
fn a_second_agent_in_the_namespace_is_refused() -> Result<()> {
    let mut lab = Lab::start()?;
    let said = refused(&second(&lab.topology, &[], &[])?)?;
    ensure!(
        said.contains("another xpu-agent (") && said.contains("in this network namespace"),
        "{said}"
    );
    // A crash lets go of it.
    lab.crash_agent()
}

#[test]
fn it_does_not_start_over_what_it_cannot_work_with() -> Result<()> {
    let lab = Lab::start()?;
    let topology = &lab.topology;
    let powerless = ["setpriv", "--bounding-set=-net_admin"];
    let said = refused(&second(topology, &powerless, &[])?)?;
    ensure!(
        said.contains("CAP_NET_ADMIN") && said.contains("AmbientCapabilities=CAP_NET_ADMIN"),
        "{said}"
    );
    let check = second(topology, &powerless, &["check", "--json"])?;
    ensure!(check.status.code() == Some(1), "{}", check.status);
    let checks: serde_json::Value = serde_json::from_slice(&check.stdout)?;
    ensure!(
        checks[0]["name"] == "CAP_NET_ADMIN" && checks[0]["verdict"] == "bad",
        "{checks}"
    );

    let check = second(topology, &[], &["check", "--json"])?;
    let checks: serde_json::Value = serde_json::from_slice(&check.stdout)?;
    let not_good: Vec<_> = checks
        .as_array()
        .into_iter()
        .flatten()
        .filter(|check| check["verdict"] != "good")
        .collect();
    ensure!(check.status.success() && not_good.is_empty(), "{checks}");
    // It asks the kernel by requests that must be refused: nothing was made. What the agent itself
    // makes is there by then.
    wait_until("the agent is ready", CONVERGENCE, || {
        is_ready(&topology.xpu)
    })?;
    let before = topology.xpu.links()?;
    second(topology, &[], &["check"])?;
    ensure!(topology.xpu.links()? == before);

    let said = refused(&command::outcome(&topology.xpu.words(&[
        "env",
        "XPU_AGENT_STORE__DIRECTORY=/etc/passwd/store",
        agent::PROGRAM,
        "--config",
        agent::CONFIG,
    ]))?)?;
    ensure!(
        said.contains("/etc/passwd/store cannot be written: /etc/passwd is no directory"),
        "{said}"
    );
    Ok(())
}

/// Calls that wait for the machine, made by threads.
struct Calls(Vec<std::thread::JoinHandle<(Output, Duration)>>);

impl Calls {
    fn start(number: u32) -> Self {
        let call = |n: u32| {
            std::thread::spawn(move || {
                let (vlan, vni) = ((200 + n).to_string(), (20_200 + n).to_string());
                let name = format!("load-{n}");
                let words = [
                    "xpuctl",
                    "--timeout",
                    "60s",
                    "create",
                    "logical-bridge",
                    &name,
                    "--vlan",
                    &vlan,
                    "--vni",
                    &vni,
                ];
                let begun = Instant::now();
                (command::outcome(&words).unwrap(), begun.elapsed())
            })
        };
        Self((0..number).map(call).collect())
    }

    fn answers(self) -> Vec<Output> {
        let answer = |call: std::thread::JoinHandle<(Output, Duration)>| call.join().unwrap().0;
        self.0.into_iter().map(answer).collect()
    }
}

/// FRR is there and mute: what waits for it waits long.
struct Mute(i32);

impl Mute {
    fn new(frr: &Frr) -> Result<Self> {
        let pid = frr.pid("zebra")?;
        kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // The test that made it is over; the next starts FRR anew.
        let _ = kill(Pid::from_raw(self.0), Signal::SIGCONT);
    }
}

/// Waits until so many calls are stored and wait, and a pass is held up by the mute FRR.
fn calls_wait(topology: &Topology, calls: f64, generation: f64) -> Result<()> {
    wait_until("the calls wait for FRR", CONVERGENCE, || {
        let is = |name: &str, labels: &[&str]| metric(&topology.xpu, name, labels);
        let waiting = is("xpu_agent_rpcs_in_flight", &[])?;
        let stored = is("xpu_agent_intent_generation", &[])?;
        let held_up = is("xpu_agent_reconcile_under_way", &["\"frr\""])?;
        ensure!(
            waiting >= calls && stored >= generation && held_up == 1.0,
            "{waiting} wait, generation {stored}, a pass of FRR under way: {held_up}"
        );
        Ok(())
    })
}

#[test]
fn a_stop_under_load_answers_who_waits_and_keeps_its_deadline() -> Result<()> {
    let mut lab = Lab::start()?;
    create(&format!(
        "logical-bridge net-blue --vlan {BLUE_VLAN} --vni {BLUE_VNI}"
    ))?;
    let mute = Mute::new(&lab.topology.xpu_frr())?;
    let calls = Calls::start(8);
    // net-blue is one generation, each of the eight another.
    calls_wait(&lab.topology, 8.0, 9.0)?;
    let agent = lab.agent.take().context("no agent")?;
    let asked = Instant::now();
    let status = agent.stop()?;
    let took = asked.elapsed();
    ensure!(status.success(), "{status}: {}", agent::log_tail());
    // 15 s is the agent's own deadline; the rest is for an emulated processor.
    ensure!(took < Duration::from_secs(20), "{took:?}");
    drop(mute);
    let log = fs::read_to_string(agent::LOG)?;
    ensure!(
        log.contains("are abandoned"),
        "the mute FRR was waited for: {log}"
    );
    // Each was answered with the object as it stood.
    for output in calls.answers() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            printed.contains("load-"),
            "{}: {said}{printed}",
            output.status
        );
    }
    lab.agent = Some(Agent::start(&lab.topology.xpu, &Agent::lab_config()?)?);
    for n in 0..8 {
        wait_until("what was stored is realised", CONVERGENCE, || {
            xpu_tests::guest::operator::is_up("lb", &format!("load-{n}"))
        })?;
    }
    Ok(())
}

#[test]
fn a_second_signal_ends_it_at_once() -> Result<()> {
    let mut lab = Lab::start()?;
    let _mute = Mute::new(&lab.topology.xpu_frr())?;
    let calls = Calls::start(1);
    calls_wait(&lab.topology, 1.0, 1.0)?;
    let agent = lab.agent.take().context("no agent")?;
    agent.signal(Signal::SIGTERM)?;
    wait_until("it stops", CONVERGENCE, || {
        let log = fs::read_to_string(agent::LOG)?;
        ensure!(
            log.contains("a second signal ends the agent at once"),
            "{log}"
        );
        Ok(())
    })?;
    agent.signal(Signal::SIGTERM)?;
    let status = agent.ended()?;
    ensure!(
        status.code() == Some(143),
        "{status}: {}",
        agent::log_tail()
    );
    drop(calls.answers());
    Ok(())
}

#[test]
fn the_log_filter_is_read_again_at_sighup() -> Result<()> {
    let lab = Lab::start()?;
    let agent = lab.agent.as_ref().context("no agent")?;
    let config = Agent::lab_config()?;
    let logs = |words: &str| {
        wait_until(&format!("`{words}` is logged"), CONVERGENCE, || {
            let log = fs::read_to_string(agent::LOG)?;
            ensure!(log.contains(words), "{log}");
            Ok(())
        })
    };
    fs::write(
        agent::CONFIG,
        format!("[log]\nfilter = \"info,xpu_agent=debug\"\n{config}"),
    )?;
    let before = fs::read_to_string(agent::LOG)?;
    ensure!(!before.contains("DEBUG"), "{before}");
    agent.signal(Signal::SIGHUP)?;
    logs("the configuration was read again")?;
    create(&format!("logical-bridge net-blue --vlan {BLUE_VLAN}"))?;
    logs("DEBUG")?;

    fs::write(agent::CONFIG, format!("[log]\nfilter = \"=,=\"\n{config}"))?;
    agent.signal(Signal::SIGHUP)?;
    logs("cannot be read again and stays as it was")?;
    fs::write(
        agent::CONFIG,
        config.replace("deadline_ms = 30000", "deadline_ms = 29000"),
    )?;
    agent.signal(Signal::SIGHUP)?;
    logs("systemctl restart xpu-agent")
}
