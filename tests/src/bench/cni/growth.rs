//! What ADD and DEL cost with more and more on the node.

use anyhow::Result;

use super::{
    floor::Namespace,
    native::Node,
    site::{Site, call},
};
use crate::{
    bench::{
        row::Row,
        stats::{growth, median},
    },
    guest::pod::Pod,
};

/// Pods that are there already.
const PODS: [usize; 3] = [0, 100, 1000];
/// Links of the host.
const LINKS: [usize; 3] = [10, 1000, 4000];
/// The slope of log(time) over log(size) may be this.
const LIMIT: f64 = 0.15;

/// Measures both kinds of growth.
///
/// # Errors
/// Where a call fails.
pub fn run(samples: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut points = Vec::new();
    alone(|| {
        let mut node = Node::new(1, 0)?;
        node.enter()?;
        let mut pods = Vec::new();
        for count in PODS {
            eprintln!("native: {count} pods");
            let from = node.vfs().len();
            node.add_vfs(count + 1 - from)?;
            for (number, vf) in node.vfs().iter().enumerate().skip(from) {
                let pod = Pod::create(&format!("there{number}"))?;
                let add = call("ADD", &pod, &node.config(vf));
                node.plugin().run(&add)?.success("ADD")?;
                pods.push(pod);
            }
            points.push((count, measure(&node, samples)?));
        }
        Ok(())
    })?;
    report("pods", samples, &points, &mut rows);
    let mut points = Vec::new();
    for count in LINKS {
        eprintln!("native: {count} links");
        alone(|| {
            let node = Node::new(1, 0)?;
            node.enter()?;
            node.fill_links(count)?;
            points.push((count, measure(&node, samples)?));
            Ok(())
        })?;
    }
    report("links", samples, &points, &mut rows);
    Ok(rows)
}

/// Does something on a thread of its own, so that this one stays in its namespace.
fn alone(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// ADD and DEL of the node's first VF, medians in milliseconds.
fn measure(node: &Node, samples: usize) -> Result<(f64, f64)> {
    let mut host = Namespace::own()?;
    let pod = Pod::create("measured")?;
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for vf in node.vfs().first().iter().cycle().take(samples) {
        let config = node.config(vf);
        host.settle()?;
        let add = node.plugin().run(&call("ADD", &pod, &config))?;
        adds.push(add.success("ADD")?.ms());
        host.settle()?;
        let del = node.plugin().run(&call("DEL", &pod, &config))?;
        dels.push(del.success("DEL")?.ms());
    }
    Ok((median(&adds), median(&dels)))
}

fn report(what: &str, n: usize, points: &[(usize, (f64, f64))], rows: &mut Vec<Row>) {
    for (count, (add, _)) in points {
        rows.push(Row::new(
            format!("native: ADD p50, {count} {what} on the node"),
            n,
            *add,
            "ms",
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let slope = |of: fn(&(f64, f64)) -> f64| {
        let points = points
            .iter()
            .map(|(count, costs)| (*count as f64, of(costs)));
        growth(&points.collect::<Vec<_>>())
    };
    for (verb, slope) in [
        ("ADD", slope(|costs| costs.0)),
        ("DEL", slope(|costs| costs.1)),
    ] {
        let metric = format!("native: growth of {verb} with {what}");
        let row = Row::new(metric, n * points.len(), slope, "");
        rows.push(row.note("log-log slope").at_most(LIMIT));
    }
}
