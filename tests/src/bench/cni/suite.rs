//! What is measured on a site. What is compared is done by turns, so that whatever else goes on
//! on the machine meets all alike.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::{
    calls::{Call, IFNAME, Plugin, Sample},
    floor::Namespace,
    quota::Quota,
    site::{Peer, Site, Vf, call, shipped, tool},
};
use crate::{
    bench::{
        row::Row,
        stats::{median, paired_ratio, quantile},
    },
    guest::pod::Pod,
};

/// How much longer an ADD may take with 0.1 processors than with all there are.
const UNDER_QUOTA: f64 = 1.3;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Samples of each kind.
    pub samples: usize,
    /// Bursts.
    pub bursts: usize,
    /// Pods of a burst, where there are VFs for them.
    pub burst: usize,
    /// How long the start of a static C program takes on the machine that targets in absolute
    /// times are meant for, in ms. `None`: this is that machine.
    pub reference: Option<f64>,
}

/// How many times slower than the machine that absolute targets are meant for this one is: an
/// emulated processor's milliseconds are others.
#[derive(Debug, Clone, Copy)]
struct Slowness(f64);

impl Slowness {
    fn measure(size: Size) -> Result<Self> {
        let Some(reference) = size.reference else {
            return Ok(Self(1.0));
        };
        Ok(Self((start_of_c(size.samples)? / reference).max(1.0)))
    }

    /// A limit of the reference machine, for this one.
    fn scale(self, limit: f64) -> f64 {
        limit * self.0
    }
}

/// How long the start of a static C program takes, in ms: the median of some.
///
/// # Errors
/// Where it can't be run.
pub fn start_of_c(samples: usize) -> Result<f64> {
    let (least, call) = (least_process()?, version_call());
    let start = |_| Ok(least.run(&call)?.success("static C")?.ms());
    let times = (0..samples.max(10))
        .map(start)
        .collect::<Result<Vec<_>>>()?;
    Ok(median(&times))
}

/// Times of one contender.
#[derive(Debug, Default)]
struct Times {
    add: Vec<f64>,
    del: Vec<f64>,
    cpu: Vec<f64>,
}

/// Measures everything on a site, in the namespaces of this thread.
///
/// # Errors
/// Where a call fails that must not.
pub fn run(site: &dyn Site, size: Size) -> Result<Vec<Row>> {
    let progress = |what: &str| eprintln!("{}: {what}", site.name());
    let mut rows = Vec::new();
    let slowness = Slowness::measure(size)?;
    if size.reference.is_some() {
        let row = Row::new(
            "a static C program's start, here to natively",
            1,
            slowness.0,
            "",
        );
        rows.push(row.note("limits in ms are multiplied by it"));
    }
    progress("one by one");
    one_by_one(site, size, slowness, &mut rows)?;
    progress("namespaces that are gone");
    rows.push(gone(site, size)?.at_most(slowness.scale(3.0)));
    progress("bursts");
    bursts(site, size, &mut rows)?;
    progress("under a quota");
    rows.push(under_quota(site, size)?);
    progress("VERSION, memory, size");
    rows.push(version(site, size)?);
    rows.extend(footprint(site)?);
    for row in &mut rows {
        row.metric = format!("{}: {}", site.name(), row.metric);
    }
    Ok(rows)
}

/// The first of some VFs.
fn first(vfs: &[Vf]) -> Result<&Vf> {
    vfs.first().context("no VF")
}

fn one_by_one(site: &dyn Site, size: Size, slowness: Slowness, rows: &mut Vec<Row>) -> Result<()> {
    let mut host = Namespace::own()?;
    let pod = Pod::create("one")?;
    let mut inside = Namespace::open(&pod.path())?;
    let vf = first(site.vfs())?;
    let (mut floor, mut ours, mut real) = (Times::default(), Times::default(), Times::default());
    let with_agent = site.with_real_agent(vf);
    let mut theirs: Vec<Times> = site.peers().iter().map(|_| Times::default()).collect();
    // The first round fills caches and makes folders.
    for round in 0..=size.samples {
        least(&mut host, &mut inside, vf, &mut floor)?;
        pair(&mut host, site.plugin(), &pod, &site.config(vf), &mut ours)?;
        if let Some(config) = &with_agent {
            pair(&mut host, site.plugin(), &pod, config, &mut real)?;
        }
        for (
            Peer {
                plugin,
                vfs,
                config,
            },
            times,
        ) in site.peers().iter().zip(&mut theirs)
        {
            pair(&mut host, plugin, &pod, &config(first(vfs)?), times)?;
        }
        if round == 0 {
            (floor, ours) = (Times::default(), Times::default());
            real = Times::default();
            theirs.fill_with(Times::default);
        }
    }
    let n = size.samples;
    let (in_, home) = (median(&floor.add), median(&floor.del));
    rows.push(Row::new("the move alone, p50", n, in_, "ms").note("RTM_NEWLINK: netns, name, up"));
    let mut against_floor = |what: &str, times: &Times| {
        rows.push(
            Row::new(format!("ADD p50{what}"), n, median(&times.add), "ms")
                .floor(in_, "the move alone")
                .ratio(paired_ratio(&times.add, &floor.add))
                .at_most_floor(1.15, slowness.scale(1.5)),
        );
        rows.push(
            Row::new(format!("DEL p50{what}"), n, median(&times.del), "ms")
                .floor(home, "the move home alone")
                .ratio(paired_ratio(&times.del, &floor.del))
                .at_most_floor(1.15, slowness.scale(1.0)),
        );
    };
    against_floor("", &ours);
    if with_agent.is_some() {
        against_floor(" with the real agent", &real);
    }
    rows.push(Row::new("ADD p99", n, quantile(&ours.add, 0.99), "ms"));
    let note = "the kernel's in the move";
    rows.push(
        Row::new("CPU per ADD, p50", n, median(&ours.cpu), "ms")
            .floor(median(&floor.cpu), note)
            .at_most(slowness.scale(2.5)),
    );
    for (peer, times) in site.peers().iter().zip(&theirs) {
        let label = &peer.plugin.label;
        let add = median(&times.add);
        rows.push(
            Row::new(format!("ADD p50, {label} against ours"), n, add, "ms")
                .peer(median(&ours.add), "peer: ours")
                .ratio(paired_ratio(&times.add, &ours.add))
                .ratio_at_least(2.5),
        );
        rows.push(
            Row::new("CPU per ADD", n, median(&ours.cpu), "ms")
                .peer(median(&times.cpu), label)
                .ratio(paired_ratio(&ours.cpu, &times.cpu))
                .ratio_at_most(0.2),
        );
        rows.push(Row::new(
            format!("DEL p50, {label}"),
            n,
            median(&times.del),
            "ms",
        ));
    }
    Ok(())
}

/// The least: in and home again, one message each.
fn least(host: &mut Namespace, inside: &mut Namespace, vf: &Vf, times: &mut Times) -> Result<()> {
    host.settle()?;
    let index = host.index_of(&vf.name)?;
    before_a_move()?;
    let took = host.move_link(index, inside, IFNAME, true)?;
    times.add.push(took.wall.as_secs_f64() * 1e3);
    times.cpu.push(took.cpu.as_secs_f64() * 1e3);
    host.settle()?;
    let index = inside.index_of(IFNAME)?;
    before_a_move()?;
    let took = inside.move_link(index, host, &vf.name, false)?;
    times.del.push(took.wall.as_secs_f64() * 1e3);
    Ok(())
}

/// What goes before any plugin's move: its process has started, and what it is about to do is on
/// disk. What these free has RCU begin a grace period as often as not, and the move then waits for
/// that one's end and for another. Not part of the floor's time.
fn before_a_move() -> Result<()> {
    least_process()?.run(&version_call())?;
    let mut record = tempfile::NamedTempFile::new()?;
    record.write_all(&[b'x'; 1024])?;
    record.as_file().sync_data()?;
    let folder = File::open(record.path().parent().context("no folder")?)?;
    record.close()?;
    Ok(folder.sync_all()?)
}

/// The least for many: all in, one after the other, which is as fast as the kernel's one lock lets
/// anybody be. Gives the time in ms; then all go home.
fn least_burst(host: &mut Namespace, inside: &mut [Namespace], vfs: &[&Vf]) -> Result<f64> {
    let indexes = vfs.iter().map(|vf| host.index_of(&vf.name));
    let indexes = indexes.collect::<Result<Vec<_>>>()?;
    host.settle()?;
    let start = Instant::now();
    for (index, pod) in indexes.iter().zip(&*inside) {
        host.move_link(*index, pod, IFNAME, true)?;
    }
    let took = start.elapsed().as_secs_f64() * 1e3;
    for (pod, vf) in inside.iter_mut().zip(vfs) {
        let index = pod.index_of(IFNAME)?;
        pod.move_link(index, host, &vf.name, false)?;
    }
    Ok(took)
}

/// One ADD and its DEL.
fn pair(
    host: &mut Namespace,
    plugin: &Plugin,
    pod: &Pod,
    config: &serde_json::Value,
    times: &mut Times,
) -> Result<()> {
    host.settle()?;
    let add = plugin
        .run(&call("ADD", pod, config))?
        .success(&plugin.label)?;
    host.settle()?;
    let del = plugin
        .run(&call("DEL", pod, config))?
        .success(&plugin.label)?;
    times.add.push(add.ms());
    times.cpu.push(add.cpu_ms());
    times.del.push(del.ms());
    Ok(())
}

/// DEL after the pod's namespace has gone and the kernel has taken the VF home.
fn gone(site: &dyn Site, size: Size) -> Result<Row> {
    let mut host = Namespace::own()?;
    let vf = first(site.vfs())?;
    let config = site.config(vf);
    let n = size.samples.div_ceil(4);
    let mut times = Vec::new();
    for round in 0..n {
        let pod = Pod::create(&format!("gone{round}"))?;
        let (add, del) = (call("ADD", &pod, &config), call("DEL", &pod, &config));
        site.plugin().run(&add)?.success("ADD")?;
        site.lose(vf, pod)?;
        host.settle()?;
        times.push(site.plugin().run(&del)?.success("DEL")?.ms());
        site.found(vf)?;
    }
    Ok(Row::new("DEL p50, namespace gone", n, median(&times), "ms"))
}

/// What a burst came to.
struct Burst {
    wall: f64,
    add: Vec<f64>,
    errors: usize,
}

fn burst(plugin: &Plugin, calls: &[Call]) -> Result<Burst> {
    let (samples, wall) = plugin.burst(calls)?;
    for failed in samples.iter().filter(|sample| !sample.ok) {
        eprintln!("{} failed: {}", plugin.label, failed.stdout.trim());
    }
    Ok(Burst {
        wall: wall.as_secs_f64() * 1e3,
        add: samples.iter().map(Sample::ms).collect(),
        errors: samples.iter().filter(|sample| !sample.ok).count(),
    })
}

fn bursts(site: &dyn Site, size: Size, rows: &mut Vec<Row>) -> Result<()> {
    let mut host = Namespace::own()?;
    let ours: Vec<_> = site.vfs().iter().take(size.burst).collect();
    let pods = (0..ours.len()).map(|number| Pod::create(&format!("burst{number}")));
    let pods = pods.collect::<Result<Vec<_>>>()?;
    let calls = |verb, config: &dyn Fn(&Vf) -> serde_json::Value, vfs: &[&Vf]| {
        let each = pods.iter().zip(vfs);
        let calls = each.map(|(pod, vf)| call(verb, pod, &config(vf)));
        calls.collect::<Vec<_>>()
    };
    let config = |vf: &Vf| site.config(vf);
    let inside = pods.iter().map(|pod| Namespace::open(&pod.path()));
    let mut inside = inside.collect::<Result<Vec<_>>>()?;
    let mut floor = Vec::new();
    let (mut walls, mut halves, mut homes, mut errors) = (vec![], vec![], vec![], 0);
    let mut against: Vec<Vec<f64>> = site.peers().iter().map(|_| Vec::new()).collect();
    for _ in 0..size.bursts {
        floor.push(least_burst(&mut host, &mut inside, &ours)?);
        host.settle()?;
        let add = burst(site.plugin(), &calls("ADD", &config, &ours))?;
        host.settle()?;
        let del = burst(site.plugin(), &calls("DEL", &config, &ours))?;
        walls.push(add.wall);
        halves.push(median(&add.add) / add.wall);
        homes.push(del.wall);
        errors += add.errors + del.errors;
        for (peer, walls) in site.peers().iter().zip(&mut against) {
            let vfs: Vec<_> = peer.vfs.iter().take(size.burst).collect();
            host.settle()?;
            let add = burst(&peer.plugin, &calls("ADD", &peer.config, &vfs))?;
            host.settle()?;
            let del = burst(&peer.plugin, &calls("DEL", &peer.config, &vfs))?;
            ensure!(add.errors + del.errors == 0, "{} failed", peer.plugin.label);
            walls.push(add.wall);
        }
    }
    let count = ours.len();
    let n = size.bursts;
    let wall = median(&walls);
    rows.push(
        Row::new(format!("{count} ADDs at once, wall"), n, wall, "ms")
            .floor(median(&floor), "as many moves alone")
            .ratio(paired_ratio(&walls, &floor))
            .at_most_floor(1.2, 0.0),
    );
    rows.push(
        Row::new(
            format!("{count} ADDs at once, p50 to wall"),
            n,
            median(&halves),
            "",
        )
        .at_most(0.6),
    );
    for (peer, theirs) in site.peers().iter().zip(&against) {
        rows.push(
            Row::new(format!("{count} ADDs at once, wall"), n, wall, "ms")
                .peer(median(theirs), &peer.plugin.label)
                .ratio(paired_ratio(&walls, theirs))
                .ratio_at_most(0.55),
        );
    }
    rows.push(Row::new(
        format!("{count} DELs at once, wall"),
        n,
        median(&homes),
        "ms",
    ));
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let failed = errors as f64;
    rows.push(Row::new("errors in bursts", 2 * n * count, failed, "").at_most(0.0));
    Ok(())
}

fn under_quota(site: &dyn Site, size: Size) -> Result<Row> {
    let metric = "ADD p50 with 0.1 processors";
    let Some(quota) = Quota::new(100)? else {
        let row = Row::new(metric, 0, f64::NAN, "ms");
        let row = row.note("not measured: no processor controller among this machine's cgroups");
        // Which misses the target: what nobody has seen is not good enough.
        return Ok(row.ratio_at_most(UNDER_QUOTA));
    };
    let mut host = Namespace::own()?;
    let pod = Pod::create("quota")?;
    let vf = first(site.vfs())?;
    let config = site.config(vf);
    let (add, del) = (call("ADD", &pod, &config), call("DEL", &pod, &config));
    let plugin = site.plugin();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..size.samples {
        host.settle()?;
        let sample = site.plugin().run(&add)?.success("ADD")?;
        without.push(sample.ms());
        site.plugin().run(&del)?.success("DEL")?;
        host.settle()?;
        let sample = quota.run(|| plugin.run(&add))?.success("ADD")?;
        with.push(sample.ms());
        site.plugin().run(&del)?.success("DEL")?;
    }
    Ok(Row::new(metric, size.samples, median(&with), "ms")
        .peer(median(&without), "peer: ours without a quota")
        .ratio(paired_ratio(&with, &without))
        .ratio_at_most(UNDER_QUOTA))
}

/// A static C program that returns 0.
fn least_process() -> Result<Plugin> {
    Ok(Plugin {
        label: "static C".to_owned(),
        program: tool("least")?,
        env: Vec::new(),
    })
}

fn version_call() -> Call {
    Call {
        verb: "VERSION",
        container: String::new(),
        netns: String::new(),
        stdin: r#"{"cniVersion":"1.1.0"}"#.to_owned(),
    }
}

fn version(site: &dyn Site, size: Size) -> Result<Row> {
    let (least, call) = (least_process()?, version_call());
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let n = 8 * size.samples;
    for _ in 0..n {
        floor.push(least.run(&call)?.success("static C")?.ms());
        ours.push(site.plugin().run(&call)?.success("VERSION")?.ms());
    }
    Ok(Row::new("VERSION p50", n, median(&ours), "ms")
        .floor(median(&floor), "a static C program that returns 0")
        .ratio(paired_ratio(&ours, &floor))
        .ratio_at_most(1.25))
}

fn footprint(site: &dyn Site) -> Result<[Row; 2]> {
    const MIB: f64 = 1024.0 * 1024.0;
    let pod = Pod::create("memory")?;
    let vf = first(site.vfs())?;
    let config = site.config(vf);
    let add = call("ADD", &pod, &config);
    // A process starts with the memory of the one that it is started from, so that must be small.
    let mut command = Command::new(tool("least")?);
    site.plugin().environment(&mut command, &add);
    let mut child = command
        .arg(&site.plugin().program)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(add.stdin.as_bytes())?;
    }
    let mut told = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut told)?;
    }
    ensure!(child.wait()?.success(), "ADD failed: {told}");
    site.plugin()
        .run(&call("DEL", &pod, &config))?
        .success("DEL")?;
    let told = told.lines().find_map(|line| line.strip_prefix("maxrss "));
    let kib: f64 = told.context("`least` told no memory")?.parse()?;
    let program = shipped("xpu-cni")?;
    let bytes = std::fs::metadata(&program)
        .with_context(|| format!("{}", program.display()))?
        .len();
    #[expect(clippy::cast_precision_loss, reason = "a few millions")]
    let mib = bytes as f64 / MIB;
    Ok([
        Row::new("memory of an ADD, peak", 1, kib / 1024.0, "MiB").at_most(8.0),
        Row::new("program's size", 1, mib, "MiB").at_most(6.0),
    ])
}
