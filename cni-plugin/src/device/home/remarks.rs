//! What is told in the log of a VF that is home, but not all that it was. Each remark names the VF and
//! says what mends it.

use xpu_linux::sysfs::PciAddr;
use xpu_model::IfName;

use crate::{
    device::netdev::Current,
    error::{Error, chain},
    journal::Netdev,
};

/// That a VF has another MAC than it had.
pub fn keeps_mac(pci: &PciAddr, name: &IfName, current: &Current, origin: &Netdev) -> String {
    let has = match current.mac {
        Some(mac) => mac.to_string(),
        None => "none".to_owned(),
    };
    let had = origin.mac;
    format!(
        "VF {pci}: {name} is home, but keeps the MAC {has} instead of {had}; what gave it that one, or \
         its PF, must give it back: `ip link set {name} address {had}`"
    )
}

/// What it means that a VF has another name at home than it had, if so.
pub fn has_fallback(pci: &PciAddr, name: &IfName, origin: &Netdev) -> Option<String> {
    let had = &origin.name;
    (name != had).then(|| {
        format!(
            "VF {pci}: {name} is home by that name, since another device has its own, {had}; once \
             {had} is free: `ip link set {name} name {had}`"
        )
    })
}

/// That a VF's alternative names are not what they were.
pub fn other_names(pci: &PciAddr, origin: &Netdev, error: &Error) -> String {
    let had = origin.alt_names.as_deref().unwrap_or_default();
    let had = Vec::from_iter(had.iter().map(|name| name.display().to_string()));
    let had = if had.is_empty() {
        "it had none".to_owned()
    } else {
        format!("it had {}", had.join(", "))
    };
    format!(
        "VF {pci}: it is home, but not all of its alternative names are as before ({had}): {}; mend \
         them by `ip link property add dev … altname …`",
        chain(error)
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::device::home::tests;

    fn origin() -> Netdev {
        Netdev {
            alt_names: Some(vec!["uplink".into(), "enp1s0v3".into()]),
            ..tests::origin(false)
        }
    }

    fn pci() -> PciAddr {
        "0000:af:06.0".parse().unwrap()
    }

    #[test]
    fn another_name_is_told_with_the_vf_and_the_way_back() {
        let pci = pci();
        let own = origin().name;
        assert_eq!(has_fallback(&pci, &own, &origin()), None);
        let other = "xvf0".parse().unwrap();
        let told = has_fallback(&pci, &other, &origin()).unwrap();
        assert!(told.starts_with("VF 0000:af:06.0: xvf0 is home"), "{told}");
        assert!(told.ends_with("`ip link set xvf0 name ens1v3`"), "{told}");
    }

    #[test]
    fn alternative_names_that_are_not_put_back_are_told_with_the_vf() {
        let error = Error::Io {
            what: "add it".to_owned(),
            source: io::Error::other("no memory"),
        };
        let told = other_names(&pci(), &origin(), &error);
        for part in [
            "0000:af:06.0",
            "uplink, enp1s0v3",
            "no memory",
            "`ip link property",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
