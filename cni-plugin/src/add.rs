//! ADD: everything is checked, then written to the journal, then done step by step;
//! a failure undoes what has begun and tells the first error.
//!
//! The agent is asked before the VF moves. Between the moment the VF is in the pod and the moment
//! it is usable there is one netlink batch, and nothing that may have to be waited for but in two
//! cases: its PF gave the VF another MAC, which the agent is told, or an IPAM that works on the
//! interface looks for addresses.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde_json::Value;
use xpu_linux::{netns::NetNs, sync::Rtnl};
use xpu_model::Mac;

use crate::{
    Call, Failure,
    agent::Agent,
    config::{AddConfig, AskedMac, ConfigError, Raw, left_out, no_ipam},
    device::{self, Found},
    deviceinfo, drain,
    env::{Attachment, EnvError},
    error::{Error, chain},
    ipam,
    journal::{Entry, Ipam, Journal, NetNsRef, Record},
    lock::{Lock, lock},
    port::{Key, Port},
    sandbox::{Open, Sandbox},
    undo::{Held, Why, undo},
    version::Version,
};

mod obstacles;
mod steps;

use obstacles::{clear_the_way, delete_leftover_ports};

/// Does ADD and gives the result document.
///
/// # Errors
/// The first error; nothing is left of the attachment then, or the notes and the
/// journal say what.
pub fn run(
    call: &Call<'_>,
    attachment: &Attachment,
    raw: &Raw,
    version: Version,
) -> Result<Value, Failure> {
    let mut config = raw.add(raw.common()?, version)?;
    for remark in &config.remarks {
        call.log.info(remark);
    }
    config.asked.mac = wanted_mac(call, &config)?;
    let device_info = device_info(call, raw)?;
    let netns = attachment.netns()?;
    match (&config.common.ipam, call.vars.ips()) {
        (Some(name), _) => {
            ipam::find(name, call.vars.path.as_deref().unwrap_or_default())?;
        }
        (None, Some(ips)) => return Err(no_ipam("CNI_ARGS IP", ips).into()),
        (None, None) => {}
    }
    let mut pod = Sandbox::open_as(
        netns,
        Open {
            may_be_own: call.vars.netns_override,
            hears_arrivals: true,
        },
    )?;
    let journal = Journal::open(&call.host.state)?;
    let key = Key::of(attachment);

    // In this order everywhere: the attachment, then the VF.
    let held = lock(&journal.attachment_lock(&key), call.deadline)?;
    let order = Order {
        attachment,
        key,
        raw,
        config: &config,
        device_info,
    };
    let done = attach(call, &order, &journal, &mut pod);
    if done.is_ok() {
        // Leaked on purpose: the process exits now, and letting the kernel close the sockets is
        // cheaper than dropping them.
        std::mem::forget(pod);
    } else {
        drop(held);
        drain::in_passing(call, &journal);
    }
    done
}

/// What is to be made, once all that is asked for is found right.
struct Order<'a> {
    attachment: &'a Attachment,
    key: Key,
    raw: &'a Raw,
    config: &'a AddConfig,
    /// Where the device-info file goes.
    device_info: Option<PathBuf>,
}

/// ADD where the configuration is right, under the attachment's lock.
fn attach(
    call: &Call<'_>,
    order: &Order<'_>,
    journal: &Journal,
    pod: &mut Sandbox,
) -> Result<Value, Failure> {
    let Order {
        attachment,
        key,
        config,
        ..
    } = order;
    let device = &config.device;
    let vf = lock(&journal.vf_lock(device), call.deadline)?;
    clear_the_way(call, journal, key, config, pod)?;
    if pod.index_of(&attachment.ifname).is_some() {
        return Err(device::name_taken(&attachment.ifname).into());
    }
    let mut home = Rtnl::open()?;
    let found = device::inspect(call.host, &mut home, device, &config.asked, &config.macs)?;
    if found.index.is_none() {
        check_userspace_vf(call, order)?;
    }
    let peer = &config.common.agent;
    let cleared = delete_leftover_ports(call, journal, key, peer, &found)?;
    // Before the first side effect: without an agent there is nothing to begin.
    let agent = call.connect_to(peer, call.agent_deadline())?;

    check_pod_unchanged(call, pod)?;
    let record = record(call, order, &found, pod)?;
    call.host.checkpoint("record");
    let entry = journal.create(record)?;
    let mut add = AddRun {
        call,
        journal,
        config,
        found,
        entry,
        home,
        agent,
        agent_hung: false,
        alt_names: None,
    };
    match add.run(pod) {
        Ok(answer) => {
            // Leaked on purpose, as the pod's sockets are.
            std::mem::forget((add.agent, add.home));
            if cleared.others {
                drain::in_passing(call, journal);
            }
            Ok(answer)
        }
        Err(error) => Err(add.fail(pod, vf, error)),
    }
}

/// Fails if something is asked for that a VF of a userspace driver can't have. A default of the
/// host's is for the others.
fn check_userspace_vf(call: &Call<'_>, order: &Order<'_>) -> Result<(), ConfigError> {
    let Order { raw, config, .. } = order;
    let network = raw.network();
    if config.mtu.is_some() {
        let reason = "a VF of a userspace driver has no MTU that could be set here";
        let error = network.invalid("mtu", reason);
        if !config.is_mtu_default {
            return Err(error);
        }
        call.log.info(left_out(&error));
    }
    if config.common.asks_ipam_late() {
        let reason = "works on an interface, which a VF of a userspace driver has none of";
        return Err(network.section("ipam")?.invalid("type", reason));
    }
    Ok(())
}

/// Fails if the pod is gone or another one by now: locks and the agent may have taken their time.
fn check_pod_unchanged(call: &Call<'_>, pod: &Sandbox) -> Result<(), Error> {
    let netns = Path::new(pod.path());
    if NetNs::id_at(netns).ok() == Some(pod.id()) {
        return Ok(());
    }
    // If it is gone, or no namespace any more, opening it says so.
    call.sandbox(netns)?;
    Err(Error::OtherNetNs(netns.display().to_string()))
}

/// `runtimeConfig` before `CNI_ARGS` before the rest of the configuration.
fn wanted_mac(call: &Call<'_>, config: &AddConfig) -> Result<Option<Mac>, EnvError> {
    Ok(match (config.mac, call.vars.mac()?) {
        (Some(AskedMac::Runtime(mac)), _)
        | (_, Some(mac))
        | (Some(AskedMac::Network(mac)), None) => Some(mac),
        (None, None) => None,
    })
}

/// Where the device-info file goes, if the runtime wants one.
fn device_info(call: &Call<'_>, raw: &Raw) -> Result<Option<PathBuf>, ConfigError> {
    const KEY: &str = "CNIDeviceInfoFile";
    let runtime = raw.runtime()?;
    let Some(path) = runtime.text(KEY)? else {
        return Ok(None);
    };
    let folder = &call.host.device_info;
    match deviceinfo::accept(folder, &path) {
        Some(path) => Ok(Some(path)),
        None => {
            let folder = folder.display();
            let reason = format!("`{path}` must be a file directly in {folder}");
            Err(runtime.invalid(KEY, reason))
        }
    }
}

fn record(
    call: &Call<'_>,
    order: &Order<'_>,
    found: &Found,
    pod: &Sandbox,
) -> Result<Record, Error> {
    let Order {
        attachment, config, ..
    } = order;
    let boot_id = call.host.boot_id().map_err(Error::BootId)?;
    let id = pod.id();
    let ipam = config.common.ipam.clone().map(|name| Ipam {
        name,
        config: order.raw.document(),
        args: call.vars.args.clone(),
        path: call.vars.path.clone(),
    });
    let port = Port {
        id: order.key.port_id(),
        mac: found.mac,
        attach: config.attach.clone(),
    };
    Ok(Record {
        format: Record::FORMAT,
        container_id: attachment.container_id.clone(),
        ifname: attachment.ifname.clone(),
        network: config.common.network.clone(),
        netns: NetNsRef {
            path: pod.path().to_owned(),
            dev: id.dev,
            ino: id.ino,
        },
        boot_id: boot_id.to_owned(),
        vf: found.vf.clone(),
        port,
        agent: config.common.agent.addr().to_string(),
        tls: config.common.agent.tls().cloned(),
        ipam,
        device_info: order.device_info.clone(),
    })
}

/// An ADD at work.
struct AddRun<'a> {
    call: &'a Call<'a>,
    journal: &'a Journal,
    config: &'a AddConfig,
    found: Found,
    entry: Entry,
    home: Rtnl,
    agent: Agent,
    /// Whether the agent gave no answer in its time; the undo then doesn't ask it again.
    agent_hung: bool,
    /// The alternative names that the VF came into the pod with.
    alt_names: Option<Vec<OsString>>,
}

impl AddRun<'_> {
    /// Undoes what has begun. Gives the error, and what couldn't be undone.
    fn fail(self, pod: &mut Sandbox, vf: Lock, error: Error) -> Failure {
        let why = Why::AddFailed {
            agent_hung: self.agent_hung,
        };
        let held = Held::until_free(self.entry, vf);
        let undone = undo(self.call, self.journal, held, Some(pod), why);
        let notes = undone.failures.iter();
        let notes = notes.map(|error| format!("undo: {}", chain(error)));
        Failure {
            error,
            notes: notes.collect(),
        }
    }
}
