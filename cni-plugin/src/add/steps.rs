//! What an ADD does, in the order in which it does it. Nothing in it is undone here, only begun.

use std::time::Instant;

use serde_json::Value;
use xpu_model::{IfIndex, Mac};

use super::AddRun;
use crate::{
    agent::AgentError,
    device::{self, Arrived, AtHome, Found, MacBy, Wanted},
    deviceinfo, drain,
    error::{Error, chain},
    ipam::{self, Lease},
    journal::{JournalError, Learned, Record, Step},
    lock::{Lock, LockError, lock},
    pf,
    result::{self, Interface},
    sandbox::Sandbox,
    sweep::finish_dead,
};

impl AddRun<'_> {
    /// All steps, in their order. Gives the answer to ADD.
    ///
    /// # Errors
    /// The first error; what has begun is in the journal.
    pub(super) fn run(&mut self, pod: &mut Sandbox) -> Result<Value, Error> {
        self.call.host.checkpoint("claim");
        self.journal.claim(&self.config.device, self.entry.key())?;
        self.create_port()?;
        let late = self.config.common.asks_ipam_late();
        let mut lease = if late {
            Lease::default()
        } else {
            self.allocate_addresses()?
        };
        let mac_by = self.apply_pf_settings()?;
        // The node's turn at RTNL: the move and, right after it, addresses and routes.
        let mut turn = self.wait_for_rtnl_turn()?;
        let arrived = self.move_into_pod(pod, mac_by)?;
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
            self.config.version,
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
        let (own, mac) = (self.entry.key(), record.port.mac);
        let agent = &self.config.common.agent;
        let delete = || -> Result<bool, Error> {
            let finished = finish_dead(call, journal, own, |other| other.port.mac == mac)?;
            let cleared = drain::clear(call, journal, agent, own, |tombstone| {
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

    /// Has the PF set what it is asked for. Gives how the VF comes to its MAC.
    fn apply_pf_settings(&mut self) -> Result<MacBy, Error> {
        let vf = &self.found.vf;
        let has = vf.netdev.as_ref().map(|netdev| netdev.mac);
        let by_settings = match vf.pf.clone() {
            Some(side) => {
                self.begin(Step::Pf)?;
                pf::apply(&mut self.home, &side, has.is_some())?
            }
            None => MacBy::Message,
        };
        let Found { mac, pf_mac, .. } = self.found;
        Ok(match has {
            None => MacBy::Nobody,
            Some(has) if has == mac => MacBy::Nobody,
            // It takes what its PF gives when it resets, and may be told nothing else.
            Some(_) if pf_mac == Some(mac) => MacBy::Reset,
            Some(_) => by_settings,
        })
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
        mac_by: MacBy,
    ) -> Result<Option<Arrived>, Error> {
        let (Some(index), Some(netdev)) = (self.found.index, self.found.vf.netdev.clone()) else {
            return Ok(None);
        };
        self.begin(Step::Move)?;
        let name = self.entry.record.ifname.clone();
        let wanted = Wanted {
            name: &name,
            mac: self.entry.record.port.mac,
            is_mac_asked: self.config.asked.mac.is_some(),
            mac_by,
            mtu: self.config.mtu,
        };
        let keep = |names| {
            let learned = Learned {
                alt_names: Some(names),
                mac: None,
            };
            self.entry.begin_with(Step::Move, learned)
        };
        let vf = AtHome {
            pci: &self.config.device,
            netdev: &netdev,
            index,
        };
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
