//! Pods, as far as networking goes: a network namespace that lives as long as the test.

use std::{io::ErrorKind, time::Duration};

use anyhow::{Context, Result};

use super::netns::Netns;
use super::wait::wait_until;

const PREFIX: &str = "pod-";
/// For a card that has to be asked more than once.
const CARD_LIMIT: Duration = Duration::from_secs(20);

/// A pod's namespace. Dropping it removes the namespace, and with it whatever is in there; a VF
/// goes back to the host.
#[derive(Debug)]
pub struct Pod {
    netns: Netns,
}

impl Pod {
    /// Makes the namespace `pod-NAME`.
    ///
    /// # Errors
    /// Where there is one.
    pub fn create(name: &str) -> Result<Self> {
        Ok(Self {
            netns: Netns::create(&format!("{PREFIX}{name}"))?,
        })
    }

    /// Removes the pods that earlier tests left.
    ///
    /// # Errors
    /// Where `ip netns` fails.
    pub fn delete_all() -> Result<()> {
        let names = match std::fs::read_dir("/run/netns") {
            // Nobody has made a namespace since the machine started.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        for entry in names {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(PREFIX) {
                Netns::named(&name).delete()?;
            }
        }
        Ok(())
    }

    /// Makes the tagged interface `DEVICE.VLAN` over the pod's VF, with an address, up.
    ///
    /// igbvf asks its PF for the VLAN's filter over a mailbox. On an emulated processor an answer
    /// may be late; the driver then refuses every VLAN (`EINVAL`) until its next reset, which
    /// coming up is. So the VF is taken down and up between tries.
    ///
    /// # Errors
    /// Where the driver refuses again and again.
    pub fn add_tagged(&self, device: &str, vlan: u16, address: &str) -> Result<()> {
        let tagged = format!("{device}.{vlan}");
        wait_until(&format!("{tagged} can be made"), CARD_LIMIT, || {
            let line = format!("ip link add link {device} name {tagged} type vlan id {vlan}");
            let refusal = match self.run(&line) {
                Ok(_) => return Ok(()),
                Err(refusal) => refusal,
            };
            self.ip_batch(&format!("link set {device} down\nlink set {device} up\n"))?;
            Err(refusal)
        })?;
        self.ip_batch(&format!(
            "addr add {address} dev {tagged}\nlink set {tagged} up\n"
        ))
        .with_context(|| format!("{tagged} of {}", self.name()))
    }

    /// The pod's namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}

impl std::ops::Deref for Pod {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.netns
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // What can't be removed here, the next test's reset removes, or tells why not.
        let _ = self.netns.delete();
    }
}
