//! What a physical function says of one of its VFs, and what it is told (`IFLA_VFINFO_LIST`,
//! `linux/if_link.h`). The way is RTNL's; the answer is the PF's driver's.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        LinkAttribute, LinkExtentMask, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState, VfInfoMac,
        VfInfoRate, VfInfoSpoofCheck, VfInfoTrust, VfInfoVlan, VfLinkState,
    },
};
use xpu_model::{IfIndex, Mac};

use super::socket::{Request, Rtnl, RtnlError};

/// A VF as its PF has it. What the driver doesn't report is as if it were unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VfSide {
    /// The address that the PF gives; `None`: the PF leaves it to the VF. Most drivers then
    /// refuse another from within.
    pub mac: Option<Mac>,
    /// The port VLAN that the PF puts on its frames; 0: none.
    pub vlan: u16,
    /// The priority (PCP) that goes with it, 0 to 7.
    pub qos: u8,
    /// Guaranteed Mbit/s; 0: none.
    pub min_tx_rate: u32,
    /// Mbit/s at most; 0: no limit.
    pub max_tx_rate: u32,
    /// Drops frames with a source address that isn't the VF's.
    pub spoofchk: bool,
    /// May change its address, go promiscuous and the like.
    pub trust: bool,
    /// Whether the VF's link follows the PF's.
    pub link_state: Carrier,
}

/// A VF's link (`IFLA_VF_LINK_STATE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carrier {
    /// Follows the PF's.
    #[default]
    Auto,
    /// Up whatever the PF's is.
    Enable,
    /// Down.
    Disable,
}

/// One thing that a PF can be told of a VF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VfSetting {
    /// The address; `None`: the VF's own choice. The VF's netdev takes it when its driver next
    /// resets, which coming up does.
    Mac(Option<Mac>),
    /// Port VLAN and priority, which the kernel sets as one.
    Vlan {
        /// The VLAN; 0: none.
        vlan: u16,
        /// Its priority.
        qos: u8,
    },
    /// Both rates, which the kernel sets as one.
    Rates {
        /// Guaranteed Mbit/s.
        min: u32,
        /// Mbit/s at most.
        max: u32,
    },
    /// See [`VfSide::spoofchk`].
    SpoofChk(bool),
    /// See [`VfSide::trust`].
    Trust(bool),
    /// See [`VfSide::link_state`].
    LinkState(Carrier),
}

/// Tells a PF something of one of its VFs.
#[must_use]
pub fn set(pf: IfIndex, vf: u32, setting: VfSetting, what: String) -> Request {
    let info = match setting {
        VfSetting::Mac(mac) => VfInfo::Mac(VfInfoMac::new(vf, &mac.map_or([0; 6], Mac::octets))),
        VfSetting::Vlan { vlan, qos } => {
            VfInfo::Vlan(VfInfoVlan::new(vf, u32::from(vlan), u32::from(qos)))
        }
        VfSetting::Rates { min, max } => VfInfo::Rate(VfInfoRate::new(vf, min, max)),
        VfSetting::SpoofChk(on) => VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, on)),
        VfSetting::Trust(on) => VfInfo::Trust(VfInfoTrust::new(vf, on)),
        VfSetting::LinkState(carrier) => {
            let state = match carrier {
                Carrier::Auto => VfLinkState::Auto,
                Carrier::Enable => VfLinkState::Enable,
                Carrier::Disable => VfLinkState::Disable,
            };
            VfInfo::LinkState(VfInfoLinkState::new(vf, state))
        }
    };
    let mut message = LinkMessage::default();
    message.header.index = pf.get();
    let list = vec![LinkVfInfo(vec![info])];
    message.attributes.push(LinkAttribute::VfInfoList(list));
    Request {
        what,
        message: RouteNetlinkMessage::NewLink(message),
        flags: 0,
    }
}

/// Asks a PF for one of its VFs. `None`: it lists no such VF; virtio and others leave VFs to
/// themselves.
///
/// # Errors
/// The kernel's refusal.
pub fn read(rtnl: &mut Rtnl, pf: IfIndex, vf: u32) -> Result<Option<VfSide>, RtnlError> {
    let mut message = LinkMessage::default();
    message.header.index = pf.get();
    let mask = vec![LinkExtentMask::Vf, LinkExtentMask::SkipStats];
    message.attributes.push(LinkAttribute::ExtMask(mask));
    let what = format!("read VF {vf} of link {pf}");
    let found = rtnl.get(&what, RouteNetlinkMessage::GetLink(message), false)?;
    let attributes = found.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(link.attributes),
        _ => None,
    });
    let lists = attributes
        .flatten()
        .filter_map(|attribute| match attribute {
            LinkAttribute::VfInfoList(list) => Some(list),
            _ => None,
        });
    let mut infos = lists.flatten().map(|LinkVfInfo(infos)| infos);
    Ok(infos
        .find(|infos| is_of(infos, vf))
        .map(|infos| side(&infos)))
}

fn is_of(infos: &[VfInfo], vf: u32) -> bool {
    // Every VF's list begins with its address.
    infos
        .iter()
        .any(|info| matches!(info, VfInfo::Mac(mac) if mac.vf_id == vf))
}

fn side(infos: &[VfInfo]) -> VfSide {
    let mut side = VfSide::default();
    for info in infos {
        match info {
            VfInfo::Mac(value) => {
                let octets = value.mac.first_chunk::<6>().copied().unwrap_or_default();
                side.mac = Mac::try_from(octets).ok();
            }
            VfInfo::Vlan(value) => {
                side.vlan = u16::try_from(value.vlan_id).unwrap_or_default();
                side.qos = u8::try_from(value.qos).unwrap_or_default();
            }
            VfInfo::Rate(value) => {
                (side.min_tx_rate, side.max_tx_rate) = (value.min_tx_rate, value.max_tx_rate);
            }
            VfInfo::SpoofCheck(value) => side.spoofchk = value.enabled,
            VfInfo::Trust(value) => side.trust = value.enabled,
            VfInfo::LinkState(value) => {
                side.link_state = match value.state {
                    VfLinkState::Enable => Carrier::Enable,
                    VfLinkState::Disable => Carrier::Disable,
                    _ => Carrier::Auto,
                };
            }
            _ => {}
        }
    }
    side
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    fn bytes(setting: VfSetting) -> Vec<u8> {
        let request = set(IfIndex::new(7).unwrap(), 3, setting, String::new());
        let RouteNetlinkMessage::NewLink(link) = request.message else {
            panic!()
        };
        let mut bytes = vec![0; link.buffer_len()];
        link.emit(&mut bytes);
        // Behind ifinfomsg, IFLA_VFINFO_LIST { IFLA_VF_INFO { … } }.
        bytes.split_off(16 + 4 + 4)
    }

    fn header(length: u16, kind: u16) -> Vec<u8> {
        [length.to_ne_bytes(), kind.to_ne_bytes()].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn settings_are_sent_as_the_kernels_structs() {
        let mac = "02:00:00:00:00:07".parse().unwrap();
        let mut address = [header(40, 1), words(&[3])].concat();
        address.extend([2, 0, 0, 0, 0, 7]);
        address.resize(40, 0);
        assert_eq!(bytes(VfSetting::Mac(Some(mac))), address);
        let vlan = VfSetting::Vlan { vlan: 10, qos: 5 };
        assert_eq!(bytes(vlan), [header(16, 2), words(&[3, 10, 5])].concat());
        let rates = VfSetting::Rates { min: 1, max: 200 };
        assert_eq!(bytes(rates), [header(16, 6), words(&[3, 1, 200])].concat());
        let spoofchk = VfSetting::SpoofChk(true);
        assert_eq!(bytes(spoofchk), [header(12, 4), words(&[3, 1])].concat());
        let trust = VfSetting::Trust(false);
        assert_eq!(bytes(trust), [header(12, 9), words(&[3, 0])].concat());
        let carrier = VfSetting::LinkState(Carrier::Disable);
        assert_eq!(bytes(carrier), [header(12, 5), words(&[3, 2])].concat());
    }

    /// The kernel lists a VF in the structs that set it. No card that can be emulated takes all.
    #[test]
    fn what_is_set_reads_back() {
        let mac = "02:00:00:00:00:07".parse().unwrap();
        let listed = |setting| {
            let request = set(IfIndex::new(7).unwrap(), 3, setting, String::new());
            let RouteNetlinkMessage::NewLink(link) = request.message else {
                panic!()
            };
            let Some(LinkAttribute::VfInfoList(mut list)) = link.attributes.into_iter().next()
            else {
                panic!()
            };
            list.remove(0).0.remove(0)
        };
        let carriers = [Carrier::Auto, Carrier::Enable, Carrier::Disable];
        for (number, link_state) in carriers.into_iter().enumerate() {
            let on = number > 0;
            let all = [
                VfSetting::Mac(on.then_some(mac)),
                VfSetting::Vlan { vlan: 10, qos: 5 },
                VfSetting::Rates { min: 20, max: 200 },
                VfSetting::SpoofChk(on),
                VfSetting::Trust(!on),
                VfSetting::LinkState(link_state),
            ];
            let expected = VfSide {
                mac: on.then_some(mac),
                vlan: 10,
                qos: 5,
                min_tx_rate: 20,
                max_tx_rate: 200,
                spoofchk: on,
                trust: !on,
                link_state,
            };
            assert_eq!(side(&all.map(listed)), expected);
        }
    }

    #[test]
    fn a_link_without_vfs_lists_none_and_a_missing_one_is_refused() {
        let mut rtnl = Rtnl::open().unwrap();
        let lo = IfIndex::new(1).unwrap();
        assert_eq!(read(&mut rtnl, lo, 0).unwrap(), None);
        let error = read(&mut rtnl, IfIndex::new(1 << 30).unwrap(), 0).unwrap_err();
        assert_eq!(error.errno(), Some(nix::errno::Errno::ENODEV), "{error}");
        // The socket goes on after a refusal.
        assert_eq!(read(&mut rtnl, lo, 0).unwrap(), None);
    }

    #[test]
    fn what_a_pf_lists_is_read() {
        let listed = [
            VfInfo::Mac(VfInfoMac::new(1, &[2, 0, 0, 0, 0, 9])),
            VfInfo::Vlan(VfInfoVlan::new(1, 100, 3)),
            VfInfo::Rate(VfInfoRate::new(1, 0, 50)),
            VfInfo::SpoofCheck(VfInfoSpoofCheck::new(1, true)),
        ];
        assert!(is_of(&listed, 1) && !is_of(&listed, 0));
        let read = side(&listed);
        assert_eq!(read.mac.unwrap().to_string(), "02:00:00:00:00:09");
        assert_eq!((read.vlan, read.qos, read.max_tx_rate), (100, 3, 50));
        assert!(read.spoofchk && !read.trust);
        assert_eq!(side(&[VfInfo::Mac(VfInfoMac::new(1, &[0; 6]))]).mac, None);
    }
}
