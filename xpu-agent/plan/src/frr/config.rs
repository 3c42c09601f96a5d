//! FRR's running configuration as a set of lines, each with the contexts it stands in.
//!
//! FRR prints contexts by indentation (`show running-config`); the order of lines within a
//! context carries no meaning for what the agent writes, so a set compares right.

use std::{borrow::Cow, collections::BTreeSet};

use xpu_model::Asn;

use super::line::{Daemon, Instance, Line};

/// A configuration: all its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The lines.
    pub lines: BTreeSet<Line>,
}

/// Words that end a context and say nothing else.
const ENDS: [&str; 5] = ["exit", "exit-vrf", "exit-address-family", "exit-vni", "end"];

/// Whether a line of a configuration says nothing: empty, or a comment.
pub(super) fn is_remark(line: &str) -> bool {
    let text = line.trim();
    text.is_empty() || text.starts_with('!') || text.starts_with('#')
}

/// Whether a line only ends a context.
pub(super) fn is_end(line: &str) -> bool {
    ENDS.contains(&line.trim())
}

/// The header of a BGP instance in one form, however FRR shows AS numbers there: of
/// `router bgp 1.10 vrf blue as-notation dot`, `router bgp 65546 vrf blue`, which FRR takes for the
/// same. Other lines as they are.
pub(super) fn canonical(line: &str) -> Cow<'_, str> {
    let Some(instance) = line.strip_prefix("router bgp ") else {
        return line.into();
    };
    let (instance, _) = instance
        .split_once(" as-notation ")
        .unwrap_or((instance, ""));
    let (asn, of) = instance.split_at(instance.find(' ').unwrap_or(instance.len()));
    match asn
        .split_once('.')
        .map(|(high, low)| (high.parse(), low.parse()))
    {
        // RFC 5396: two bytes each.
        Some((Ok::<u16, _>(high), Ok::<u16, _>(low))) => {
            let asn = u32::from(high) << 16 | u32::from(low);
            format!("router bgp {asn}{of}").into()
        }
        _ => format!("router bgp {instance}").into(),
    }
}

impl Config {
    /// Reads a daemon's `show running-config`. Never fails: what is no line of a configuration
    /// (`Building configuration...`) ends up as one that nobody looks for.
    pub fn read(&mut self, daemon: Daemon, text: &str) {
        // The indentation of each open context, and its line.
        let mut open: Vec<(usize, String)> = Vec::new();
        for line in text.lines() {
            let content = line.trim_start();
            let indent = line.len() - content.len();
            let content = content.trim_end();
            if is_remark(content) || is_end(content) {
                continue;
            }
            while open.last().is_some_and(|(outer, _)| *outer >= indent) {
                open.pop();
            }
            let content = canonical(content);
            let path = open.iter().map(|(_, context)| context.clone()).collect();
            self.lines.insert(Line {
                daemon,
                path,
                text: content.clone().into_owned(),
            });
            open.push((indent, content.into_owned()));
        }
    }

    /// Whether a line of this text stands outside of all contexts.
    #[must_use]
    pub fn has_context(&self, daemon: Daemon, text: &str) -> bool {
        self.lines.contains(&Line::new(daemon, &[], text))
    }

    /// The lines directly in a context.
    pub fn in_context<'a>(
        &'a self,
        daemon: Daemon,
        path: &'a [&'a str],
    ) -> impl Iterator<Item = &'a str> {
        // They follow each other in the set's order: a pass asks for each Vrf's.
        self.lines
            .range(Line::new(daemon, path, "")..)
            .take_while(move |line| line.daemon == daemon && line.path == path)
            .map(|line| line.text.as_str())
    }

    /// The lines in a context, at any depth.
    pub fn within(&self, context: &Line) -> impl Iterator<Item = &Line> {
        let Line { daemon, path, text } = context;
        let path = [path.as_slice(), std::slice::from_ref(text)].concat();
        let first = Line {
            daemon: *daemon,
            path: path.clone(),
            text: String::new(),
        };
        self.lines
            .range(first..)
            .take_while(move |line| line.daemon == *daemon && line.path.starts_with(&path))
    }

    /// The AS of the base BGP instance, if there is one.
    #[must_use]
    pub fn base_asn(&self) -> Option<Asn> {
        self.outermost(Daemon::Bgpd)
            .filter_map(Instance::read)
            .find_map(|it| it.vrf.is_none().then_some(it.asn))
    }

    /// The outermost contexts and lines of a daemon.
    pub fn outermost(&self, daemon: Daemon) -> impl Iterator<Item = &str> {
        self.in_context(daemon, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BGPD: &str = "Building configuration...\n\nCurrent configuration:\n!\nfrr version 10.3\n\
        frr defaults datacenter\n!\nrouter bgp 65001\n bgp router-id 10.0.0.1\n \
        neighbor 10.1.0.0 remote-as external\n !\n address-family l2vpn evpn\n  \
        neighbor 10.1.0.0 activate\n  advertise-all-vni\n exit-address-family\nexit\n!\n\
        router bgp 65001 vrf blue\n !\n address-family ipv4 unicast\n  \
        redistribute connected\n exit-address-family\nexit\n!\nend\n";

    #[test]
    fn contexts_are_read_by_indentation() {
        let mut config = Config::default();
        config.read(Daemon::Bgpd, BGPD);
        let evpn = ["router bgp 65001", "address-family l2vpn evpn"];
        let lines: Vec<_> = config.in_context(Daemon::Bgpd, &evpn).collect();
        assert_eq!(lines, ["advertise-all-vni", "neighbor 10.1.0.0 activate"]);
        let blue = ["router bgp 65001 vrf blue", "address-family ipv4 unicast"];
        assert!(
            config
                .lines
                .contains(&Line::new(Daemon::Bgpd, &blue, "redistribute connected"))
        );
        assert!(config.has_context(Daemon::Bgpd, "frr defaults datacenter"));
        assert!(!config.has_context(Daemon::Bgpd, "bgp router-id 10.0.0.1"));
    }

    #[rstest::rstest]
    #[case("65001", "65001")]
    #[case("65001 as-notation plain", "65001")]
    #[case("1.10", "65546")]
    #[case("0.65001 as-notation dot+", "65001")]
    #[case("1.10 vrf blue as-notation dot", "65546 vrf blue")]
    #[case("1.70000", "1.70000")]
    #[case("", "")]
    fn an_instance_has_one_form_in_every_notation(#[case] shown: &str, #[case] read: &str) {
        let mut config = Config::default();
        config.read(
            Daemon::Bgpd,
            &format!("router bgp {shown}\n bgp bestpath\n"),
        );
        let instance = format!("router bgp {read}");
        let instance = instance.trim_end();
        assert!(config.has_context(Daemon::Bgpd, instance), "{config:?}");
        let mut lines = config.in_context(Daemon::Bgpd, std::slice::from_ref(&instance));
        assert_eq!(lines.next(), Some("bgp bestpath"));
        let asn = read
            .parse()
            .ok()
            .and_then(|asn: u32| Asn::try_from(asn).ok());
        assert_eq!(config.base_asn(), asn);
    }
}
