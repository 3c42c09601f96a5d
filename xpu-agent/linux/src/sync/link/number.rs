//! The numbers of a link's message and its attributes (`linux/rtnetlink.h`, `linux/if_link.h`).

pub(super) const RTM_NEWLINK: u16 = 16;
/// Bytes of `struct ifinfomsg`, which the attributes stand behind.
pub(super) const IFINFOMSG: usize = 16;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_TXQLEN: u16 = 13;
pub(super) const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_GROUP: u16 = 27;
pub(super) const IFLA_PROMISCUITY: u16 = 30;
pub(super) const IFLA_LINK_NETNSID: u16 = 37;
pub(super) const IFLA_XDP: u16 = 43;
pub(super) const IFLA_PROP_LIST: u16 = 52;
pub(super) const IFLA_ALT_IFNAME: u16 = 53;
pub(super) const IFLA_PARENT_DEV_NAME: u16 = 56;
pub(super) const IFLA_XDP_DRV_PROG_ID: u16 = 5;
pub(super) const IFLA_XDP_SKB_PROG_ID: u16 = 6;
pub(super) const IFLA_XDP_HW_PROG_ID: u16 = 7;
pub(super) const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
pub(super) const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
pub(super) const XDP_FLAGS_HW_MODE: u32 = 1 << 3;
