//! Messages to domain values and back, one file per kind.
//!
//! Reading collects every violation with its field's path; printing cannot fail, and reading
//! what was printed gives the same value (a fuzz target holds that).

mod bridge_port;
mod logical_bridge;
mod prefix;
mod status;
mod svi;
mod vrf;

use std::fmt::Display;

use xpu_model::{FieldViolation, Id, Kind, Mac, ObjectKey, Vni};

/// Collects violations while a spec is read.
#[derive(Default)]
struct Violations(Vec<FieldViolation>);

impl Violations {
    fn add(&mut self, field: &str, problem: impl Display) {
        let (field, description) = (field.to_owned(), problem.to_string());
        self.0.push(FieldViolation { field, description });
    }

    /// The value, or its error noted.
    fn take<T, E: Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }

    /// Whether a list has at most so many entries. Reading and keeping each costs something, and a
    /// message has place for hundreds of thousands.
    fn at_most(&mut self, field: &str, most: usize, has: usize) -> bool {
        if has > most {
            self.add(field, format!("has {has} entries; give at most {most}"));
        }
        has <= most
    }

    /// The value if nothing was noted and it is whole.
    fn finish<T>(self, value: Option<T>) -> Result<T, Vec<FieldViolation>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }

    fn vni(&mut self, vni: Option<u32>) -> Option<Vni> {
        vni.and_then(|vni| self.take("spec.vni", Vni::try_from(vni)))
    }

    fn mac(&mut self, bytes: &[u8]) -> Option<Mac> {
        if bytes.is_empty() {
            self.add("spec.mac_address", "is required: 6 bytes, unicast");
            return None;
        }
        self.take("spec.mac_address", Mac::from_wire(bytes))
    }

    fn reference(&mut self, field: &str, kind: Kind, name: &str) -> Option<Id> {
        if name.is_empty() {
            self.add(field, format!("is required: the name of a {kind}"));
            return None;
        }
        self.take(field, ObjectKey::parse(kind, name))
            .map(|key| key.id)
    }
}

fn name(kind: Kind, id: &Id) -> String {
    ObjectKey::new(kind, id.clone()).to_string()
}
