//! Applying a plan: each action becomes its messages, messages go out in batches, and each
//! action's verdict comes back as an [`Outcome`].
//!
//! Actions name devices, messages need their index. It is that of the device which the observation
//! found under the name, or the one chosen for a device that the plan makes; never asked for by
//! name, since meanwhile a foreign device may have taken it, as a name or as an alternative one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
};

use xpu_model::{IfIndex, IfName, cause::chain};
use xpu_plan::{
    linux::{Action, LinkKind, NewLink, Outcome, Step},
    ownership::{L3_BRIDGE, TENANT_BRIDGE, tenant_bridge},
};

use super::{
    Indexes,
    request::{self, Change, Message, Packet, VlanChange, VlansOf},
    rules, sysctl,
    tunnel::Verb,
};
use crate::sync::{Request, Rtnl, RtnlError, ioctl, link};

/// Messages in one send: enough to spare wake-ups, few enough for the acknowledgements to fit
/// the default receive buffer (256 of them).
const BATCH: usize = 128;

/// Where indexes for new devices begin: the kernel, which counts up from 1, comes nowhere near.
const INDEXES: Range<u32> = 1 << 24..1 << 30;

/// Applies steps that were planned over an observation which found these devices.
pub(super) fn apply(rtnl: &mut Rtnl, seen: &Indexes, steps: Vec<Step>) -> Vec<Outcome> {
    let mut applier = Applier::new(rtnl, seen.clone());
    let results = applier.run(&steps);
    let mut outcomes = Vec::with_capacity(steps.len());
    for (step, result) in steps.into_iter().zip(results) {
        match (result, step.split()) {
            // One number of the range may be at fault: each by itself, to find which.
            (Err(_), Some(singles)) => {
                let results = applier.run(&singles);
                let pairs = singles.into_iter().zip(results);
                outcomes.extend(pairs.map(|(step, result)| Outcome { step, result }));
            }
            (result, _) => outcomes.push(Outcome { step, result }),
        }
    }
    outcomes
}

struct Applier<'a> {
    rtnl: &'a mut Rtnl,
    indexes: Indexes,
    /// The index for the next new device, if that is free.
    next_index: u32,
    /// The steps of this run that make devices.
    makers: BTreeMap<usize, IfName>,
    /// The devices that could not be made.
    unmade: BTreeSet<IfName>,
    /// What waits to be sent, with the number of its step.
    queue: Vec<(usize, Request<Message>)>,
    results: Vec<Result<(), String>>,
}

impl<'a> Applier<'a> {
    fn new(rtnl: &'a mut Rtnl, indexes: Indexes) -> Self {
        Self {
            rtnl,
            indexes,
            // Another agent's devices may come from another namespace under their indexes.
            next_index: fastrand::u32(INDEXES),
            makers: BTreeMap::new(),
            unmade: BTreeSet::new(),
            queue: Vec::new(),
            results: Vec::new(),
        }
    }

    fn run(&mut self, steps: &[Step]) -> Vec<Result<(), String>> {
        self.results = vec![Ok(()); steps.len()];
        // Steps are numbered anew.
        self.makers.clear();
        for (number, step) in steps.iter().enumerate() {
            if let Err(reason) = self.step(number, &step.action) {
                self.fail(number, reason);
            }
            if self.queue.len() >= BATCH {
                self.send();
            }
        }
        self.send();
        self.query_carriers(steps);
        std::mem::take(&mut self.results)
    }

    /// Queries each port just brought up, which makes the kernel re-evaluate its carrier at once
    /// (since 6.8). Until then the bridge does not forward, and the pod's first frames are lost.
    fn query_carriers(&mut self, steps: &[Step]) {
        for step in steps.iter().filter(|step| step.is_only_for_bridge_ports()) {
            if let Action::SetUp { device } = &step.action
                && let Ok(index) = self.index(device)
            {
                // Asking is all: what the answer says, or that there is no device, the next pass
                // sees.
                drop(link::one(self.rtnl, index));
            }
        }
    }

    /// Queues or does one action. An error is the action's own; the others go on. Each action says
    /// here what becomes of it: none is done by doing nothing, but to delete what was not found.
    fn step(&mut self, number: usize, action: &Action) -> Result<(), String> {
        use netlink_packet_route::link::LinkAttribute as A;
        let packet = match action {
            Action::Forward(family) => return sysctl::forward(*family).map_err(words),
            Action::PutVrfFirst(family) => {
                let put = rules::put_vrf_first(self.rtnl, *family);
                return put.map_err(|error| reason(&error));
            }
            Action::PutLocalFirst(family) => {
                // Behind the VRFs that go.
                self.send();
                let put = rules::put_local_first(self.rtnl, *family);
                return put.map_err(|error| reason(&error));
            }
            Action::Tune {
                device,
                setting,
                value,
            } => {
                self.require_same_name(device)?;
                return sysctl::tune(device, *setting, *value).map_err(words);
            }
            Action::CreateLink(new) => return self.create(number, action, new),
            Action::RemoveLink { device } => {
                let Ok(index) = self.index(device) else {
                    return Ok(());
                };
                self.indexes.remove(device);
                request::delete(index)
            }
            Action::AddFdb(entry) => {
                request::fdb(self.index(&tenant_bridge())?, *entry, Change::Add)
            }
            Action::RemoveFdb(entry) => {
                request::fdb(self.index(&tenant_bridge())?, *entry, Change::Remove)
            }
            Action::AddRoute(route) => request::unreachable(*route, Change::Add),
            Action::RemoveRoute(route) => request::unreachable(*route, Change::Remove),
            Action::AddAddress { device, addr } => {
                request::address(self.index(device)?, *addr, Change::Add)
            }
            Action::RemoveAddress { device, addr } => {
                request::address(self.index(device)?, *addr, Change::Remove)
            }
            Action::AddTunnels {
                device,
                vlans,
                vnis,
            } => request::tunnels(self.index(device)?, *vlans, Some(*vnis)),
            Action::RemoveTunnels { device, vlans } => {
                request::tunnels(self.index(device)?, *vlans, None)
            }
            Action::AddVlans {
                device,
                vlans,
                pvid,
            } => {
                let change = match pvid {
                    true => VlanChange::AddPvid,
                    false => VlanChange::Add,
                };
                request::vlans(self.index(device)?, vlans_of(device), *vlans, change)
            }
            Action::RemoveVlans { device, vlans } => {
                let index = self.index(device)?;
                request::vlans(index, vlans_of(device), *vlans, VlanChange::Remove)
            }
            Action::AddVnis { device, vnis } => {
                request::vnis(self.index(device)?, *vnis, Verb::New)
            }
            Action::RemoveVnis { device, vnis } => {
                request::vnis(self.index(device)?, *vnis, Verb::Delete)
            }
            Action::EnslavePort { device } => {
                let bridge = self.index(&tenant_bridge())?;
                request::set(self.index(device)?, vec![A::Controller(bridge.get())])
            }
            Action::ReleasePort { device } => {
                request::set_down(self.index(device)?, vec![A::Controller(0)])
            }
            Action::SetMaster { device, master } => {
                let master = self.index(master)?;
                request::set(self.index(device)?, vec![A::Controller(master.get())])
            }
            Action::LeaveMaster { device } => {
                request::set(self.index(device)?, vec![A::Controller(0)])
            }
            Action::SetBridge { device, params } => {
                request::set_bridge(self.index(device)?, *params)
            }
            Action::SetMac { device, mac } => {
                request::set(self.index(device)?, vec![A::Address(mac.octets().to_vec())])
            }
            Action::SetMtu { device, mtu } => {
                request::set(self.index(device)?, vec![A::Mtu(u32::from(*mtu))])
            }
            Action::SetPort { device, flags } => request::set_port(self.index(device)?, *flags),
            Action::SetAddrGenNone { device } => request::addr_gen_none(self.index(device)?),
            Action::SetUp { device } => request::set_up(self.index(device)?),
        };
        self.queue(number, action, packet);
        Ok(())
    }

    fn create(&mut self, number: usize, action: &Action, new: &NewLink) -> Result<(), String> {
        let parent = match &new.kind {
            LinkKind::Vlan {
                parent: Some(parent),
                ..
            } => Some(self.index(parent)?),
            _ => None,
        };
        let master = new
            .master
            .as_ref()
            .map(|master| self.index(master))
            .transpose()?;
        let index = self.free_index()?;
        let Some(packet) = request::create(new, index, parent, master) else {
            return Err(format!("{} is of a kind the agent does not make", new.name));
        };
        self.queue(number, action, packet);
        self.queue(number, action, request::mark(new, index));
        self.queue(number, action, request::addr_gen_none(index));
        self.indexes.insert(new.name.clone(), index);
        self.makers.insert(number, new.name.clone());
        Ok(())
    }

    /// An index that no device of the namespace has.
    fn free_index(&mut self) -> Result<IfIndex, String> {
        loop {
            let index = IfIndex::new(self.next_index).ok_or("no index is left for a new device")?;
            self.next_index = self.next_index.wrapping_add(1);
            let taken = ioctl::name(self.rtnl, index).map_err(words)?;
            if taken.is_none() {
                return Ok(index);
            }
        }
    }

    /// Fails if a device has another name by now; for what goes by name.
    fn require_same_name(&mut self, device: &IfName) -> Result<(), String> {
        // It may still be in the queue.
        self.send();
        let index = self.index(device)?;
        match ioctl::name(self.rtnl, index).map_err(words)? {
            Some(name) if name == device.as_str() => Ok(()),
            Some(name) => Err(format!("{device} is called {} now", name.display())),
            None => Err(format!("{device} isn't there")),
        }
    }

    fn queue(&mut self, number: usize, action: &Action, (message, flags): Packet) {
        self.queue.push((
            number,
            Request {
                what: action.to_string(),
                message,
                flags,
            },
        ));
    }

    /// The index of a device that was observed, or that the plan makes.
    fn index(&self, device: &IfName) -> Result<IfIndex, String> {
        if self.unmade.contains(device) {
            return Err(format!("{device} could not be made"));
        }
        let index = self.indexes.get(device);
        index
            .copied()
            .ok_or_else(|| format!("{device} isn't there"))
    }

    fn send(&mut self) {
        let (numbers, requests): (Vec<usize>, Vec<_>) =
            std::mem::take(&mut self.queue).into_iter().unzip();
        match self.rtnl.apply_each(&requests) {
            Ok(verdicts) => {
                for ((number, request), verdict) in numbers.into_iter().zip(&requests).zip(verdicts)
                {
                    if let Err(error) = verdict
                        && !is_done_already(request, &error)
                    {
                        self.fail(number, reason(&error));
                    }
                }
            }
            Err(error) => {
                let reason = reason(&error);
                numbers
                    .into_iter()
                    .for_each(|number| self.fail(number, reason.clone()));
            }
        }
    }

    /// Keeps the first failure of an action.
    fn fail(&mut self, number: usize, reason: String) {
        if let Some(result @ Ok(())) = self.results.get_mut(number) {
            *result = Err(reason);
            self.unmade.extend(self.makers.remove(&number));
        }
    }
}

/// Removing what is gone is no failure: somebody, or the kernel itself, was faster. Nor is that a
/// device without IPv6 can't be kept from using it.
fn is_done_already(request: &Request<Message>, error: &RtnlError) -> bool {
    use netlink_packet_core::NetlinkSerializable as _;
    // RTM_DEL* are the numbers with remainder 1 of four (`linux/rtnetlink.h`).
    let removes = request.message.message_type() % 4 == 1;
    if let Some(errno) = error.errno()
        && request::is_without_ipv6(&request.message, errno)
    {
        return true;
    }
    removes && request::is_gone(error)
}

fn reason(error: &RtnlError) -> String {
    match error.errno() {
        Some(errno) => format!("{error}: {}", errno.desc()),
        None => chain(error),
    }
}

fn words(error: io::Error) -> String {
    error.to_string()
}

/// Whose VLANs those of a device are: a bridge's own, or a port's.
fn vlans_of(device: &IfName) -> VlansOf {
    match device.as_str() {
        TENANT_BRIDGE | L3_BRIDGE => VlansOf::BridgeItself,
        _ => VlansOf::Port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IfName {
        text.parse().unwrap_or_else(|_| unreachable!("{text}"))
    }

    /// The retry of a range is a run of its own, whose steps are other steps.
    #[test]
    fn what_could_not_be_made_is_remembered_by_name() {
        let mut rtnl = Rtnl::open().unwrap();
        let indexes = ["made", "unmade"].map(|text| (name(text), IfIndex::new(1 << 24).unwrap()));
        let mut applier = Applier::new(&mut rtnl, Indexes::from(indexes));
        applier.results = vec![Ok(()); 2];
        applier.makers = BTreeMap::from([(0, name("made")), (1, name("unmade"))]);
        applier.fail(1, "no room".to_owned());
        let found = |applier: &Applier<'_>, device| applier.index(&name(device)).map(drop);
        let unmade = Err("unmade could not be made".to_owned());
        assert_eq!(found(&applier, "made"), Ok(()));
        assert_eq!(found(&applier, "unmade"), unmade);
        applier.run(&[]);
        applier.results = vec![Ok(())];
        applier.fail(0, "one of a range".to_owned());
        assert_eq!(found(&applier, "made"), Ok(()));
        assert_eq!(found(&applier, "unmade"), unmade);
    }
}
