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
    time::Instant,
};

use serde_json::Value;
use xpu_linux::{netns::NetNs, sync::Rtnl};
use xpu_model::{IfIndex, Mac};

use crate::{
    Call, Failure,
    agent::{Agent, AgentError},
    config::{AddConfig, AskedMac, ConfigError, Raw, left_out, no_ipam},
    device::{self, Arrived, Found, Wanted},
    deviceinfo, drain,
    env::{Attachment, EnvError},
    error::{Error, chain},
    ipam::{self, Lease},
    journal::{Entry, Ipam, Journal, JournalError, Learned, NetNsRef, Record, Step},
    lock::{Lock, LockError, lock},
    pf::{self, MacSetBy},
    port::{Key, Port},
    result::{self, Interface},
    sandbox::{Open, Sandbox},
    sweep::finish_dead,
    undo::{Extent, undo},
    version::Version,
};

mod obstacles;

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
    let mut config = raw.add(raw.common(version)?)?;
    for remark in &config.remarks {
        call.log.info(remark);
    }
    config.asked.mac = wanted_mac(call, &config)?;
    let device_info = device_info(call, &config)?;
    let netns = attachment
        .netns
        .as_deref()
        .ok_or(EnvError::Missing("CNI_NETNS"))?;
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
    let done = attach(call, attachment, &config, device_info, &journal, &mut pod);
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

/// ADD where the configuration is right, under the attachment's lock.
fn attach(
    call: &Call<'_>,
    attachment: &Attachment,
    config: &AddConfig,
    device_info: Option<PathBuf>,
    journal: &Journal,
    pod: &mut Sandbox,
) -> Result<Value, Failure> {
    let key = Key::of(attachment);
    let device = &config.device;
    let _vf = lock(&journal.vf_lock(device), call.deadline)?;
    clear_the_way(call, journal, &key, config, pod)?;
    if pod.index_of(&attachment.ifname).is_some() {
        let message = format!("the pod has an interface {} already", attachment.ifname);
        return Err(Error::Device(message).into());
    }
    let mut home = Rtnl::open()?;
    let found = device::inspect(call.host, &mut home, device, &config.asked, &config.macs)?;
    if found.index.is_none() {
        check_userspace_vf(call, config)?;
    }
    let peer = &config.common.agent;
    let cleared = delete_leftover_ports(call, journal, &key, peer, &found)?;
    // Before the first side effect: without an agent there is nothing to begin.
    let agent = call.connect_to(peer, call.agent_deadline())?;

    check_pod_unchanged(call, pod)?;
    let record = record(call, attachment, config, &found, pod, device_info)?;
    call.host.checkpoint("record");
    let entry = journal.create(record)?;
    let mut attach = Attach {
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
    match attach.steps(pod) {
        Ok(answer) => {
            // Leaked on purpose, as the pod's sockets are.
            std::mem::forget((attach.agent, attach.home));
            if cleared.others {
                drain::in_passing(call, journal);
            }
            Ok(answer)
        }
        Err(error) => Err(attach.fail(pod, error)),
    }
}

/// Fails if something is asked for that a VF of a userspace driver can't have. A default of the
/// host's is for the others.
fn check_userspace_vf(call: &Call<'_>, config: &AddConfig) -> Result<(), ConfigError> {
    if config.mtu.is_some() {
        let reason = "a VF of a userspace driver has no MTU that could be set here";
        let error = ConfigError::invalid("mtu", reason);
        if !config.is_mtu_default {
            return Err(error);
        }
        call.log.info(left_out(&error));
    }
    if config.common.asks_ipam_late() {
        let reason = "works on an interface, which a VF of a userspace driver has none of";
        return Err(ConfigError::invalid("ipam.type", reason));
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
fn device_info(call: &Call<'_>, config: &AddConfig) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = &config.device_info else {
        return Ok(None);
    };
    let folder = &call.host.device_info;
    match deviceinfo::accept(folder, path) {
        Some(path) => Ok(Some(path)),
        None => Err(ConfigError::invalid(
            "runtimeConfig.CNIDeviceInfoFile",
            format!("`{path}` must be a file directly in {}", folder.display()),
        )),
    }
}

fn record(
    call: &Call<'_>,
    attachment: &Attachment,
    config: &AddConfig,
    found: &Found,
    pod: &Sandbox,
    device_info: Option<PathBuf>,
) -> Result<Record, Error> {
    let boot_id = call.host.boot_id().map_err(Error::BootId)?;
    let id = pod.id();
    let ipam = config.common.ipam.clone().map(|name| Ipam {
        name,
        config: serde_json::from_slice(call.stdin).unwrap_or_default(),
        args: call.vars.args.clone(),
        path: call.vars.path.clone(),
    });
    let port = Port {
        id: Key::of(attachment).port_id(),
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
        device_info,
    })
}

/// An ADD at work: nothing in it is undone here, only begun.
struct Attach<'a> {
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

impl Attach<'_> {
    /// Undoes what has begun. Gives the error, and what couldn't be undone.
    fn fail(self, pod: &mut Sandbox, error: Error) -> Failure {
        let extent = if self.agent_hung {
            Extent::WithoutAgent
        } else {
            Extent::Whole
        };
        let undone = undo(self.call, self.journal, self.entry, Some(pod), extent);
        let notes = undone.failures.iter();
        let notes = notes.map(|error| format!("undo: {}", chain(error)));
        Failure {
            error,
            notes: notes.collect(),
        }
    }

    fn steps(&mut self, pod: &mut Sandbox) -> Result<Value, Error> {
        self.call.host.checkpoint("claim");
        self.journal
            .claim(&self.config.device, &self.entry.record.key())?;
        self.create_port()?;
        let late = self.config.common.asks_ipam_late();
        let mut lease = if late {
            Lease::default()
        } else {
            self.allocate_addresses()?
        };
        let mac_set_by = self.apply_pf_settings()?;
        // The node's turn at RTNL: the move and, right after it, addresses and routes.
        let mut turn = self.wait_for_rtnl_turn()?;
        let arrived = self.move_into_pod(pod, mac_set_by)?;
        let other_mac = arrived.as_ref().map(|arrived| arrived.mac);
        let other_mac = other_mac.filter(|mac| *mac != self.entry.record.port.mac);
        if late || other_mac.is_some() {
            // The agent, or this IPAM, which asks a server, may take too long to keep the other ADDs
            // waiting.
            drop(turn);
            if let Some(mac) = other_mac {
                self.give_port_mac(mac)?;
            }
            if late {
                lease = self.allocate_addresses_late(pod, arrived.as_ref())?;
            }
            turn = self.wait_for_rtnl_turn()?;
        }
        if let Some(Arrived { index, .. }) = arrived {
            self.configure(pod, index, &mut lease, turn)?;
        }
        let mtu = arrived.map(|arrived| arrived.mtu);
        self.write_device_info()?;
        self.begin(Step::Attached)?;

        let Record { ifname, port, .. } = &self.entry.record;
        let interface = Interface {
            name: ifname.clone(),
            mac: port.mac,
            mtu,
            sandbox: pod.path().to_owned(),
            pci: self.config.device.clone(),
        };
        let prev = self.config.prev_result.as_ref();
        Ok(result::document(
            self.config.common.version,
            &interface,
            &lease,
            self.config.dns.as_ref(),
            prev,
        ))
    }

    /// Notes a step, and with it what became known since the last one.
    fn begin(&mut self, step: Step) -> Result<(), JournalError> {
        self.begin_with(step, None)
    }

    /// Notes a step, and the MAC that the port takes with it, if another one. The checkpoints on
    /// both sides are where a test kills the process.
    fn begin_with(&mut self, step: Step, mac: Option<Mac>) -> Result<(), JournalError> {
        self.call.host.checkpoint(step.name());
        let alt_names = self.alt_names.take();
        self.entry.begin_with(step, Learned { alt_names, mac })?;
        self.call.host.checkpoint(step.name());
        Ok(())
    }

    fn create_port(&mut self) -> Result<(), Error> {
        self.begin(Step::Port)?;
        self.ask_for_port()
    }

    /// Has the port take the MAC that the VF came up with. The PF's word counts, which the agent
    /// could not be told before the move: only asking the PF, at RTNL, would have told it.
    fn give_port_mac(&mut self, mac: Mac) -> Result<(), Error> {
        self.call.log.info(format_args!(
            "its PF gives the VF the MAC {mac}, which the port takes"
        ));
        self.begin_with(Step::Port, Some(mac))?;
        self.ask_for_port()
    }

    /// Asks the agent for the port as it is in the record.
    fn ask_for_port(&mut self) -> Result<(), Error> {
        let deadline = self.call.agent_deadline();
        let start = Instant::now();
        let mut created = self.agent.create(&self.entry.record.port, deadline);
        let conflicts = created.as_ref().is_err_and(AgentError::is_conflict);
        if conflicts && self.delete_ports_with_same_mac() {
            created = self.agent.create(&self.entry.record.port, deadline);
        }
        // An agent that failed before its time was up may be back for the undo.
        let failed = created
            .as_ref()
            .err()
            .filter(|_| Instant::now() >= deadline);
        self.agent_hung = failed.is_some_and(|error| drain::hung(error, start));
        Ok(created?)
    }

    /// Has the ports deleted that ended pods left with this one's MAC, be it with other VFs. Gives
    /// whether there may have been any.
    fn delete_ports_with_same_mac(&self) -> bool {
        let Self { call, journal, .. } = self;
        let record = &self.entry.record;
        let (own, mac) = (record.key(), record.port.mac);
        let agent = &self.config.common.agent;
        let delete = || -> Result<bool, Error> {
            let finished = finish_dead(call, journal, &own, |other| other.port.mac == mac)?;
            let cleared = drain::clear(call, journal, agent, &own, |tombstone| {
                tombstone.mac.is_none_or(|held| held == mac)
            })?;
            Ok(finished || cleared.any)
        };
        // The agent's refusal is the error to tell, not this one.
        delete().unwrap_or_else(|error| {
            call.log.warn(chain(&error));
            false
        })
    }

    fn allocate_addresses(&mut self) -> Result<Lease, Error> {
        let Some(name) = &self.config.common.ipam else {
            return Ok(Lease::default());
        };
        self.begin(Step::Ipam)?;
        let attachment = self.entry.record.attachment();
        let allocate = self.call.delegate(name, "ADD", Some(&attachment));
        Ok(ipam::allocate(&allocate)?)
    }

    /// Has an IPAM that works on the interface, if there is one, give addresses.
    fn allocate_addresses_late(
        &mut self,
        pod: &mut Sandbox,
        arrived: Option<&Arrived>,
    ) -> Result<Lease, Error> {
        if let Some(Arrived { index, .. }) = arrived {
            let name = &self.entry.record.ifname;
            if let Err(error) = pod.wait_for_wire(*index, name, self.call.deadline) {
                self.call.log.warn(chain(&error));
            }
        }
        self.allocate_addresses()
    }

    /// Has the PF set what it is asked for. Gives who sets the MAC that the pod gets.
    fn apply_pf_settings(&mut self) -> Result<MacSetBy, Error> {
        let vf = &self.found.vf;
        let netdev_mac = vf.netdev.as_ref().map(|netdev| netdev.mac);
        let by_pf = match vf.pf.clone() {
            Some(side) => {
                self.begin(Step::Pf)?;
                pf::apply(&mut self.home, &side, netdev_mac.is_some())?
            }
            None => MacSetBy::VfItself,
        };
        // A VF takes what its PF gives when it resets, and may be told nothing else.
        let mac = Some(self.found.mac);
        let has_it = netdev_mac.is_none() || netdev_mac == mac || self.found.pf_mac == mac;
        Ok(if has_it { MacSetBy::Pf } else { by_pf })
    }

    /// Waits for the node's turn at RTNL; a VF without a netdev needs none.
    fn wait_for_rtnl_turn(&self) -> Result<Option<Lock>, LockError> {
        let turn = || lock(&self.journal.turn_lock(), self.call.deadline);
        self.found.index.map(|_| turn()).transpose()
    }

    /// Moves the VF into the pod. Gives what it is there. A VF without a netdev is the pod's by its
    /// device files, which are not ours to give.
    fn move_into_pod(
        &mut self,
        pod: &mut Sandbox,
        mac_set_by: MacSetBy,
    ) -> Result<Option<Arrived>, Error> {
        let (Some(index), Some(netdev)) = (self.found.index, self.found.vf.netdev.clone()) else {
            return Ok(None);
        };
        self.begin(Step::Move)?;
        let mac = self.entry.record.port.mac;
        if mac_set_by == MacSetBy::Pf && netdev.mac != mac {
            device::reset_to_pf_mac(self.call.host, &mut self.home, &netdev, mac)?;
        }
        let name = self.entry.record.ifname.clone();
        let wanted = Wanted {
            name: &name,
            mac,
            is_mac_asked: self.config.asked.mac.is_some(),
            set_mac: mac_set_by == MacSetBy::VfItself,
            mtu: self.config.mtu,
        };
        let keep = |names| {
            let learned = Learned {
                alt_names: Some(names),
                mac: None,
            };
            self.entry.begin_with(Step::Move, learned)
        };
        let vf = (&netdev, index);
        let mut arrived = device::move_in(self.call.host, &mut self.home, pod, vf, &wanted, keep)?;
        self.alt_names = arrived.alt_names.take();
        self.call.host.checkpoint("moved");
        Ok(Some(arrived))
    }

    /// Gives the pod's interface its addresses and routes, and lets go of the turn at RTNL. Routes
    /// that the pod has by another interface are not set, and are taken out of the lease.
    fn configure(
        &self,
        pod: &mut Sandbox,
        index: IfIndex,
        lease: &mut Lease,
        turn: Option<Lock>,
    ) -> Result<(), Error> {
        if lease.ips.is_empty() {
            return Ok(());
        }
        let Record { ifname, port, .. } = &self.entry.record;
        let set = pod.configure(index, ifname, lease)?;
        drop(turn);
        for route in lease.routes.iter().filter(|route| !set.contains(route)) {
            self.call.log.warn(format_args!(
                "the route to {} is not set: the pod has it by another interface",
                route.to
            ));
        }
        lease.routes = set;
        if let Err(error) = pod.announce(index, ifname, port.mac, lease) {
            self.call.log.warn(chain(&error));
        }
        Ok(())
    }

    /// Writes the device-info file, unless there is one: what the device plugin says of its device,
    /// which the runtime put there, is more than is known here (device-info-spec 1.1.0, 5.1.2).
    fn write_device_info(&mut self) -> Result<(), Error> {
        let path = self.entry.record.device_info.clone();
        let Some(path) = path.filter(|path| path.symlink_metadata().is_err()) else {
            return Ok(());
        };
        self.begin(Step::DeviceInfo)?;
        deviceinfo::write(&path, &self.config.device, &self.found.parent)
    }
}
