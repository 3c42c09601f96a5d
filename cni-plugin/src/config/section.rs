//! A section of the configuration: an object of it, that knows where it stands.
//!
//! Errors name a key by its whole path, as in `runtimeConfig.bandwidth.egressRate`. That path is made
//! here; whoever reads a key says its own name alone.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ConfigError;

/// An object of the configuration. One that isn't there is as an empty one, and so is a key whose
/// value is `null`.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    /// `None`: it isn't there.
    map: Option<&'a Map<String, Value>>,
    /// What its keys' paths begin with: nothing, or the path of its own and a dot.
    prefix: String,
}

impl<'a> Section<'a> {
    /// The whole of a configuration.
    #[must_use]
    pub fn whole(map: &'a Map<String, Value>) -> Self {
        Self {
            map: Some(map),
            prefix: String::new(),
        }
    }

    /// Where a key stands.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The refusal of a key's value.
    #[must_use]
    pub fn invalid(&self, key: &str, reason: impl ToString) -> ConfigError {
        ConfigError::invalid(&self.path(key), reason)
    }

    /// A key's value as it is.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_none_or(Map::is_empty)
    }

    /// A key's value.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where it is of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        self.value(key)
            .map(|value| T::deserialize(value).map_err(|error| self.invalid(key, error)))
            .transpose()
    }

    /// A text; an empty one counts as absent.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where it is no text.
    pub fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.get::<String>(key)?.filter(|text| !text.is_empty()))
    }

    /// A section of this one.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] where it is no object.
    pub fn section(&self, key: &str) -> Result<Self, ConfigError> {
        let map = match self.value(key) {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => return Err(self.invalid(key, format!("{other} is no JSON object"))),
        };
        Ok(Self {
            map,
            prefix: format!("{}{key}.", self.prefix),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_told_by_its_whole_path() {
        let config = json!({"args": {"cni": {"mac": 7}}, "trunk": [], "dns": null});
        let whole = Section::whole(config.as_object().unwrap());
        let cni = whole.section("args").unwrap().section("cni").unwrap();
        let told = cni.text("mac").unwrap_err().to_string();
        assert!(told.starts_with("`args.cni.mac`: "), "{told}");
        let told = whole.section("trunk").unwrap_err().to_string();
        assert_eq!(told, "`trunk`: [] is no JSON object");
        // What isn't there has no keys, but they would stand somewhere.
        for none in ["dns", "ipam"] {
            let none = whole.section(none).unwrap();
            assert!(none.is_empty() && none.value("type").is_none());
        }
        let ipam = whole.section("ipam").unwrap();
        assert_eq!(ipam.path("type"), "ipam.type");
    }
}
