//! The host's defaults that don't go with what a network asks. A host-wide file is for all networks:
//! what one of them can't have is left out for that one, and told in the log. What a network asks
//! itself is refused instead, as what the file alone gets wrong.

use super::{ConfigError, Raw};
use crate::{pf::VfSettings, port::PortMode, settings};

impl Raw {
    /// Whether a key's value is the host's default: the network says nothing about it.
    pub(super) fn is_default(&self, key: &str) -> bool {
        self.network().value(key).is_none()
    }

    /// Takes out of the settings those defaults that don't go with the others, and gives remarks
    /// about them. `pods_own_rate`: the limit is not the host's.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where it is none of the host's defaults that is in the way.
    pub(super) fn reconcile(
        &self,
        asked: &mut VfSettings,
        attach: &PortMode,
        pods_own_rate: bool,
    ) -> Result<Vec<String>, ConfigError> {
        let mut remarks = Vec::new();
        if let Err(error) = settings::priority_fits(asked, attach) {
            if !self.is_default("vlan_qos") {
                return Err(error);
            }
            asked.vlan_qos = None;
            remarks.push(left_out(&error));
        }
        if let Err(error) = settings::consistent(asked) {
            let limit_is_default = !pods_own_rate && self.is_default("max_tx_rate");
            // Never the limit: a guarantee that a network asks for must not end it.
            if limit_is_default || !self.is_default("min_tx_rate") {
                return Err(error);
            }
            asked.min_tx_rate = None;
            remarks.push(left_out(&error));
        }
        Ok(remarks)
    }
}

/// The remark about a default that is left out.
#[must_use]
pub fn left_out(why: &ConfigError) -> String {
    format!("the host-wide default is left out: {why}")
}
