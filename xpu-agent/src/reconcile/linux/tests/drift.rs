//! How soon the loop puts right what somebody changes.

use std::sync::Mutex;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use xpu_plan::linux::{Action, Link, NewLink};

use super::*;
use crate::{
    reconcile,
    telemetry::{PassTelemetry, metrics::Metrics, trace::Causes},
};

/// A kernel that does what the node's own devices ask of it.
struct ObedientKernel {
    observed: Arc<Mutex<Observed>>,
    events: watch::Receiver<()>,
    /// When each plan was applied, and what was made by it.
    applied: mpsc::UnboundedSender<(Instant, Vec<IfName>)>,
}

impl Machine for ObedientKernel {
    async fn observe(&mut self, _: &Inputs<'_>) -> Result<Observed, ObserveError> {
        self.events.mark_unchanged();
        Ok(self.observed.lock().unwrap().clone())
    }

    async fn apply(&mut self, plan: LinuxPlan) -> Vec<Outcome> {
        let mut observed = self.observed.lock().unwrap();
        let mut made = Vec::new();
        for step in &plan.steps {
            made.extend(take(&mut observed, &step.action));
        }
        self.applied.send((Instant::now(), made)).unwrap();
        let done = |step| Outcome {
            step,
            result: Ok(()),
        };
        plan.steps.into_iter().map(done).collect()
    }

    async fn changed(&mut self) -> Result<(), FollowError> {
        if self.events.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// Takes an action; answers with the device that it makes.
fn take(observed: &mut Observed, action: &Action) -> Option<IfName> {
    let links = &mut observed.links;
    match action {
        Action::Forward(family) => drop(observed.forwarding.insert(*family)),
        Action::PutVrfFirst(family) => drop(observed.vrf_first.insert(*family)),
        Action::SetUp { device } => links.get_mut(device).unwrap().up = true,
        Action::SetAddrGenNone { device } => links.get_mut(device).unwrap().addr_gen_none = true,
        Action::Tune {
            device,
            setting,
            value,
        } => drop(
            links
                .get_mut(device)
                .unwrap()
                .settings
                .insert(*setting, *value),
        ),
        Action::CreateLink(new) => {
            let NewLink {
                name,
                mark,
                kind,
                mtu,
                mac,
                master,
            } = new.clone();
            let made = Link {
                kind,
                mark: Some(mark),
                mac,
                mtu: mtu.map_or(1500, |mtu| mtu.get().into()),
                up: false,
                carrier: true,
                master,
                port: None,
                addr_gen_none: true,
                settings: Default::default(),
                addresses: BTreeSet::new(),
            };
            links.insert(name.clone(), made);
            observed.vlans.insert(name.clone(), Default::default());
            return Some(name);
        }
        other => panic!("not among what the node's own devices need: {other}"),
    }
    None
}

/// The audit is a minute away and no back-off runs: it is the event that does it, at that instant.
#[tokio::test(start_paused = true)]
async fn a_deleted_device_is_made_anew_at_once() {
    let observed: Arc<Mutex<Observed>> = Arc::default();
    let (events, told) = watch::channel(());
    let (applied, mut plans) = mpsc::unbounded_channel();
    let kernel = ObedientKernel {
        observed: observed.clone(),
        events: told,
        applied,
    };
    let node = Config::default().node().unwrap();
    let backend = LinuxBackend::over(
        kernel,
        Arc::new(node),
        watch::channel(FrrFacts::Unmanaged).1,
        watch::channel(BTreeSet::new()).0,
    );
    let (_intent, intent) = watch::channel(Arc::new(Intent::default()));
    let (reports, mut seen) = watch::channel(Arc::new(reconcile::no_report_yet()));
    let stop = CancellationToken::new();
    let name = status::Backend::Linux;
    let telemetry = PassTelemetry::new(name, &Metrics::default(), Causes::default());
    let running = tokio::spawn(reconcile::run(
        backend,
        intent,
        reports,
        telemetry,
        stop.clone(),
    ));

    let tenant = xpu_plan::ownership::tenant_bridge();
    let (_, made) = plans.recv().await.unwrap();
    assert!(made.contains(&tenant), "{made:?}");
    let first = seen.wait_for(|report| report.unobserved.is_none()).await;
    let first = first.unwrap().clone();
    assert!(first.node.is_empty() && !first.wants_retry(), "{first:?}");
    tokio::time::sleep_until(Instant::now() + Duration::from_secs(10)).await;
    assert!(plans.try_recv().is_err(), "nothing is left to do");

    let deleted = Instant::now();
    observed.lock().unwrap().links.remove(&tenant).unwrap();
    events.send_replace(());
    let (repaired, made) = plans.recv().await.unwrap();
    assert_eq!(made, [tenant]);
    assert_eq!(repaired, deleted, "it waited for something else");
    stop.cancel();
    running.await.unwrap();
}
