//! A line of FRR's configuration, and what its words say. Who plans asks here, so that no other
//! file takes a line's text apart to learn whose it is.

use std::fmt;

use xpu_model::{Asn, IfName, Vni};

/// The daemons the agent configures, each over a vty socket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Daemon {
    /// Interfaces, VRFs and which L3VNI a VRF has.
    Zebra,
    /// BGP.
    Bgpd,
}

impl Daemon {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Zebra, Self::Bgpd];

    /// The daemon's name, which is that of its socket.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zebra => "zebra",
            Self::Bgpd => "bgpd",
        }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The address families of tenants.
pub(super) const FAMILIES: [&str; 2] =
    ["address-family ipv4 unicast", "address-family ipv6 unicast"];
/// The EVPN family.
pub(super) const EVPN: &str = "address-family l2vpn evpn";

/// Stands in every instance that the agent made, whatever FRR's profile.
pub(super) const MADE_BY_US: &str = "no bgp default ipv4-unicast";

/// A BGP instance, as the header of its context names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instance<'a> {
    /// Its AS.
    pub(super) asn: Asn,
    /// Its VRF; the base instance has none.
    pub(super) vrf: Option<&'a str>,
}

impl<'a> Instance<'a> {
    /// The base instance.
    pub(super) const fn base(asn: Asn) -> Self {
        Self { asn, vrf: None }
    }

    /// The instance of a VRF.
    pub(super) fn of(asn: Asn, device: &'a IfName) -> Self {
        Self {
            asn,
            vrf: Some(device.as_str()),
        }
    }

    /// Reads the header of an instance.
    pub(super) fn read(header: &'a str) -> Option<Self> {
        let instance = header.strip_prefix("router bgp ")?;
        let (asn, vrf) = match instance.split_once(" vrf ") {
            Some((asn, vrf)) => (asn, Some(vrf)),
            None => (instance, None),
        };
        let asn = Asn::try_from(asn.parse::<u32>().ok()?).ok()?;
        Some(Self { asn, vrf })
    }
}

impl fmt::Display for Instance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "router bgp {}", self.asn)?;
        self.vrf.map_or(Ok(()), |vrf| write!(f, " vrf {vrf}"))
    }
}

/// One line with the contexts around it, outermost first. A context is a line too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    /// Whose configuration.
    pub daemon: Daemon,
    /// `router bgp 65001 vrf blue`, `address-family l2vpn evpn`.
    pub path: Vec<String>,
    /// `advertise ipv4 unicast`.
    pub text: String,
}

impl Line {
    /// A line in these contexts.
    #[must_use]
    pub fn new(daemon: Daemon, path: &[&str], text: impl Into<String>) -> Self {
        let path = path.iter().map(|&context| context.to_owned()).collect();
        Self {
            daemon,
            path,
            text: text.into(),
        }
    }

    /// What zebra is told of a VRF's L3VNI.
    pub(super) fn l3vni(device: &IfName, vni: Vni) -> Self {
        Self::new(
            Daemon::Zebra,
            &[&format!("vrf {device}")],
            format!("vni {vni}"),
        )
    }

    /// The VRF and its L3VNI, if the line tells zebra of one.
    pub(super) fn as_l3vni(&self) -> Option<(&str, Vni)> {
        match self.path.as_slice() {
            [context] => Some((context.strip_prefix("vrf ")?, number(&self.text)?)),
            _ => None,
        }
    }

    /// The line of the context it stands in, if it does.
    pub(super) fn context(&self) -> Option<Self> {
        let (text, path) = self.path.split_last()?;
        Some(Self {
            daemon: self.daemon,
            path: path.to_vec(),
            text: text.clone(),
        })
    }

    /// The contexts around it as lines, from the inside out.
    pub(super) fn contexts(&self) -> impl Iterator<Item = Self> + use<> {
        std::iter::successors(self.context(), Self::context)
    }

    /// The outermost context: the one that the line stands in, or the line itself.
    pub(super) fn outermost(&self) -> &str {
        self.path.first().unwrap_or(&self.text)
    }

    /// The VRF that the line is about by its outermost context.
    pub(super) fn vrf(&self) -> Option<&str> {
        let outermost = self.outermost();
        match self.daemon {
            Daemon::Zebra => outermost.strip_prefix("vrf "),
            Daemon::Bgpd => Instance::read(outermost)?.vrf,
        }
    }

    /// Whether the line stands in the base BGP instance.
    pub(super) fn is_in_base(&self) -> bool {
        let instance = self.path.first().and_then(|it| Instance::read(it));
        instance.is_some_and(|it| it.vrf.is_none())
    }

    /// The L2VNI whose context in the base instance the line stands in, or is.
    pub(super) fn l2vni(&self) -> Option<Vni> {
        let context = match self.path.as_slice() {
            [_, family] if family == EVPN => &self.text,
            [_, family, context, ..] if family == EVPN => context,
            _ => return None,
        };
        number(context)
    }

    /// Whether the line is a context that has to be entered for others.
    pub(super) fn is_context(&self) -> bool {
        let text = self.text.as_str();
        let is_outermost = text.starts_with("vrf ") || text.starts_with("router bgp ");
        (self.path.is_empty() && is_outermost)
            || FAMILIES.contains(&text)
            || text == EVPN
            || (self.path.len() == 2 && self.l2vni().is_some())
    }
}

/// The number in `vni 5000`.
fn number(text: &str) -> Option<Vni> {
    let number = text.strip_prefix("vni ")?.parse::<u32>().ok()?;
    Vni::try_from(number).ok()
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.daemon)?;
        for context in &self.path {
            write!(f, "{context} / ")?;
        }
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::base("router bgp 65001", Some((65001, None)))]
    #[case::of_a_vrf("router bgp 4200000000 vrf blue", Some((4_200_000_000, Some("blue"))))]
    #[case::no_as("router bgp 0", None)]
    #[case::something_else("router ospf vrf blue", None)]
    fn the_header_of_an_instance_reads_as_it_is_written(
        #[case] header: &str,
        #[case] expected: Option<(u32, Option<&str>)>,
    ) {
        let read = Instance::read(header);
        assert_eq!(read.map(|it| (it.asn.get(), it.vrf)), expected);
        let written = read.map(|it| it.to_string());
        assert_eq!(written.as_deref(), read.map(|_| header));
    }

    #[test]
    fn a_line_knows_what_it_is_about() {
        let (blue, vni) = ("blue".parse().unwrap(), Vni::try_from(5000).unwrap());
        let of_vrf = Line::l3vni(&blue, vni);
        assert_eq!(of_vrf.to_string(), "zebra: vrf blue / vni 5000");
        assert_eq!(of_vrf.as_l3vni(), Some(("blue", vni)));
        assert_eq!((of_vrf.vrf(), of_vrf.l2vni()), (Some("blue"), None));
        let path = ["router bgp 65001", EVPN, "vni 5000"];
        let of_bridge = Line::new(Daemon::Bgpd, &path, "route-target import 65001:5000");
        assert!(of_bridge.is_in_base() && !of_bridge.is_context());
        assert_eq!((of_bridge.vrf(), of_bridge.l2vni()), (None, Some(vni)));
        let contexts: Vec<_> = of_bridge.contexts().map(|it| it.text).collect();
        assert_eq!(contexts, ["vni 5000", EVPN, "router bgp 65001"]);
        assert!(of_bridge.contexts().all(|it| it.is_context()));
    }
}
