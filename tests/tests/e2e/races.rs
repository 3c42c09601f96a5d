//! Calls that meet, and calls that end before they are done.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use xpu_tests::guest::{
    operator::{self, create, is_up},
    pod::Pod,
    runtime::{Attachment, is_home},
    vf::Vf,
    wait::wait_until,
};

use crate::{CONVERGENCE, Lab};

const RECORDS: &str = "/var/lib/cni/xpu-cni/attachments";
/// Functions with a wire of their own, so that each has a port.
const MANY: usize = 7;
const ROUNDS: usize = 3;
const KILLS: u32 = 24;

fn lab() -> Result<Lab> {
    let lab = Lab::start()?;
    create("logical-bridge net-blue --vlan 100")?;
    create("logical-bridge net-green --vlan 200")?;
    Ok(lab)
}

fn network(pod: &Pod, vf: &Vf, bridge: &str) -> Attachment {
    Attachment::new(pod, vf, json!({ "logical_bridge": bridge }))
}

/// Calls at the same time; their answers in order.
fn at_once<T: Send>(calls: impl IntoIterator<Item = impl FnOnce() -> T + Send>) -> Vec<T> {
    thread::scope(|scope| {
        let running: Vec<_> = calls.into_iter().map(|call| scope.spawn(call)).collect();
        let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// How long something takes.
fn timed(act: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    act().map(|()| start.elapsed())
}

fn nothing_is_left() -> Result<()> {
    let ports = operator::names("bridge-port")?;
    ensure!(ports.is_empty(), "{ports:?}");
    let records: Vec<_> = fs::read_dir(RECORDS)?.collect();
    ensure!(records.is_empty(), "{records:?}");
    Ok(())
}

#[test]
fn parallel_adds_on_distinct_vfs_all_succeed_and_go_again() -> Result<()> {
    let lab = lab()?;
    let pods = (0..MANY).map(|number| Pod::create(&format!("many{number}")));
    let pods: Vec<_> = pods.collect::<Result<_>>()?;
    let calls: Vec<_> = pods
        .iter()
        .zip(&lab.vfs)
        .map(|(pod, vf)| network(pod, vf, "net-blue").addresses(&["10.100.0.9/24"], &[]))
        .collect();
    for _round in 0..ROUNDS {
        let results = at_once(calls.iter().map(|call| || call.add()));
        for (result, vf) in results.into_iter().zip(&lab.vfs) {
            let result = result?;
            ensure!(
                result["interfaces"][0]["mac"] == vf.mac.as_str(),
                "{result}"
            );
        }
        ensure!(operator::names("bridge-port")?.len() == MANY);
        for result in at_once(calls.iter().map(|call| || call.del())) {
            result?;
        }
        lab.vfs[..MANY].iter().try_for_each(is_home)?;
        nothing_is_left()?;
    }
    Ok(())
}

#[test]
fn one_of_two_wins_a_vf_and_a_late_del_takes_nothing_from_it() -> Result<()> {
    let lab = lab()?;
    let vf = &lab.vfs[0];
    let (one, two) = (Pod::create("one")?, Pod::create("two")?);
    let calls = [network(&one, vf, "net-blue"), network(&two, vf, "net-blue")];
    let answers = at_once(calls.iter().map(|call| || call.run("ADD")));
    let answers: Vec<_> = answers.into_iter().collect::<Result<_>>()?;
    let (won, lost) = if answers[0].ok { (0, 1) } else { (1, 0) };
    ensure!(answers[won].ok, "{} {}", answers[0].json, answers[1].json);
    ensure!(answers[lost].json["code"] == 11, "{}", answers[lost].json);

    // The loser's DEL, then the winner goes and the other has its turn; then a DEL that is late.
    calls[lost].del()?;
    ensure!(operator::names("bridge-port")?.len() == 1, "the winner's");
    calls[won].del()?;
    calls[lost].add()?;
    calls[won].del()?;
    let port = operator::names("bridge-port")?;
    is_up("bridge-port", port.first().context("the port is gone")?)?;
    let pods = [&one, &two];
    let links = pods[lost].netns().links()?;
    ensure!(links == ["net1"], "{links:?}");
    calls[lost].del()?;
    is_home(vf)?;
    nothing_is_left()
}

#[test]
fn gc_of_one_network_beside_add_of_another() -> Result<()> {
    let lab = lab()?;
    let (old, new) = (Pod::create("old")?, Pod::create("new")?);
    let green = network(&new, &lab.vfs[1], "net-green");
    for _round in 0..ROUNDS {
        let blue = network(&old, &lab.vfs[0], "net-blue");
        blue.add()?;
        let gc = blue.with(json!({ "cni.dev/valid-attachments": [] }));
        let (cleaned, added) = thread::scope(|scope| {
            let cleaned = scope.spawn(|| gc.run("GC"));
            let added = green.add();
            (cleaned.join(), added)
        });
        let cleaned = cleaned.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(cleaned.ok, "{}", cleaned.json);
        added?;
        is_home(&lab.vfs[0])?;
        let ports = operator::names("bridge-port")?;
        ensure!(ports.len() == 1, "{ports:?}");
        is_up("bridge-port", &ports[0])?;
        green.del()?;
    }
    nothing_is_left()
}

/// Killed, stopped, and answering when nobody listens any more.
#[test]
fn an_agent_that_is_away_leaks_no_port_and_keeps_no_vf() -> Result<()> {
    let mut lab = lab()?;
    let vf = lab.vfs[0].clone();
    let pod = Pod::create("away")?;
    let call = network(&pod, &vf, "net-blue");

    call.add()?;
    lab.agent.take().context("no agent")?.kill()?;
    call.del()?;
    is_home(&vf)?;
    let answer = call.run("ADD")?;
    ensure!(answer.json["code"] == 11, "{}", answer.json);
    lab.start_agent()?;
    ensure!(operator::names("bridge-port")?.len() == 1, "it didn't know");
    // The same VF again: its old port holds its MAC, and goes first.
    call.add()?;
    ensure!(operator::names("bridge-port")?.len() == 1);
    call.del()?;
    nothing_is_left()?;

    // An agent that hangs takes the call in, and answers late.
    let agent = lab.agent.as_ref().context("no agent")?;
    agent.signal(Signal::SIGSTOP)?;
    let answer = call.run("ADD");
    agent.signal(Signal::SIGCONT)?;
    let answer = answer?;
    ensure!(answer.json["code"] == 11, "{}", answer.json);
    is_home(&vf)?;
    // By another's calls: this one's own DEL would delete the port by its id, on record or not.
    let other = Pod::create("other")?;
    let idle = network(&other, &lab.vfs[1], "net-green");
    wait_until("what was asked for late is gone", CONVERGENCE, || {
        idle.del()?;
        nothing_is_left()
    })
}

/// An agent that hangs keeps no pod from ending; whoever needs the VF next has its port deleted.
#[test]
fn an_agent_that_is_stopped_at_del_keeps_neither_pod_nor_vf() -> Result<()> {
    let lab = lab()?;
    let vf = &lab.vfs[0];
    let pod = Pod::create("hung")?;
    let call = network(&pod, vf, "net-blue");
    call.add()?;
    let agent = lab.agent.as_ref().context("no agent")?;
    agent.signal(Signal::SIGSTOP)?;
    let told = call.run("DEL");
    agent.signal(Signal::SIGCONT)?;
    let told = told?;
    ensure!(told.ok, "{}", told.json);
    is_home(vf)?;
    call.add()?;
    ensure!(operator::names("bridge-port")?.len() == 1);
    call.del()?;
    nothing_is_left()
}

/// Multus sends a DEL once, and not at all where the node fell over: any later call will do.
#[test]
fn what_a_killed_call_left_of_a_pod_that_is_gone_any_later_call_finishes() -> Result<()> {
    let lab = lab()?;
    let vf = &lab.vfs[0];
    let other = Pod::create("other")?;
    let idle = network(&other, &lab.vfs[1], "net-green");
    let before = vf.as_pf_has_it()?;
    let call_of = |pod: &Pod| {
        let keys = json!({ "mtu": 1400, "max_tx_rate": 100, "trust": "on" });
        network(pod, vf, "net-blue").with(keys)
    };
    let warm = Pod::create("warm")?;
    let call = call_of(&warm);
    // Once for the guest to have read what the calls need.
    call.add()?;
    call.del()?;
    let add = timed(|| call.add().map(drop))?;
    call.del()?;
    let rounds = KILLS / 4;
    let mut killed = 0;
    for number in 1..=rounds {
        let pod = Pod::create("lost")?;
        killed += u32::from(call_of(&pod).cut("ADD", add * number / rounds)?);
        drop(pod);
        wait_until("the lost pod's VF is home as it was", CONVERGENCE, || {
            idle.del()?;
            is_home(vf)?;
            let after = vf.as_pf_has_it()?;
            ensure!(before == after, "before: {before}, after: {after}");
            nothing_is_left()
        })?;
    }
    ensure!(
        killed >= rounds / 2,
        "{killed} of {rounds} calls were killed"
    );
    Ok(())
}

/// As a runtime does that is out of patience.
#[test]
fn calls_that_are_killed_leave_the_vf_to_the_next_one() -> Result<()> {
    let lab = lab()?;
    let vf = &lab.vfs[0];
    let before = vf.as_pf_has_it()?;
    let pod = Pod::create("killed")?;
    let keys = json!({ "mtu": 1400, "max_tx_rate": 100, "trust": "on" });
    let call = network(&pod, vf, "net-blue")
        .with(keys)
        .addresses(&["10.100.0.9/24"], &[]);
    // Once for the guest to have read what the calls need.
    call.add()?;
    call.del()?;
    let add = timed(|| call.add().map(drop))?;
    let del = timed(|| call.del())?;
    let mut killed = 0;
    for number in 0..KILLS {
        // Every part of a call has its turn, in both.
        let part = |whole: Duration, number: u32| whole * (1 + number % KILLS) / KILLS;
        killed += u32::from(call.cut("ADD", part(add, number))?);
        killed += u32::from(call.cut("DEL", part(del, number * 7 + 3))?);
        call.del()?;
        is_home(vf).with_context(|| format!("kill {number}"))?;
        let after: Value = vf.as_pf_has_it()?;
        ensure!(before == after, "before: {before}, after: {after}");
        nothing_is_left()?;
    }
    ensure!(killed >= 10, "{killed} of {} calls were killed", 2 * KILLS);
    Ok(())
}
