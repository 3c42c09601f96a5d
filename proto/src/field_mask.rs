//! `google.protobuf.FieldMask`: the wire message, and its canonical JSON, which is not
//! an object but one text of comma-joined lowerCamelCase paths
//! (protobuf JSON mapping, "FieldMask").

/// Paths of the fields that an update takes over, as they stand in the `.proto` file:
/// `spec.vlan_id`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct FieldMask {
    /// Dot-separated field names, snake_case.
    #[prost(string, repeated, tag = "1")]
    pub paths: Vec<String>,
}

#[cfg(feature = "json")]
mod json {
    use serde::de::{Error as _, Unexpected};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};

    use super::FieldMask;

    impl Serialize for FieldMask {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let paths: Option<Vec<String>> = self.paths.iter().map(|p| to_camel(p)).collect();
            match paths {
                Some(paths) => serializer.serialize_str(&paths.join(",")),
                None => Err(S::Error::custom(format!(
                    "field mask {:?} has a path that is no snake_case name and can't be written as JSON",
                    self.paths
                ))),
            }
        }
    }

    impl<'de> Deserialize<'de> for FieldMask {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            let paths = text.split(',').filter(|path| !path.is_empty());
            let paths = paths.map(to_snake).collect::<Option<_>>().ok_or_else(|| {
                D::Error::invalid_value(
                    Unexpected::Str(&text),
                    &"lowerCamelCase paths, comma-separated",
                )
            })?;
            Ok(Self { paths })
        }
    }

    /// `None` where the way back would not give the same path: the mapping forbids those.
    fn to_camel(snake: &str) -> Option<String> {
        let mut camel = String::with_capacity(snake.len());
        let mut chars = snake.chars();
        while let Some(c) = chars.next() {
            match c {
                '_' => camel.push(
                    chars
                        .next()
                        .filter(char::is_ascii_lowercase)?
                        .to_ascii_uppercase(),
                ),
                c if c.is_ascii_uppercase() => return None,
                c => camel.push(c),
            }
        }
        Some(camel)
    }

    /// `None` for a name with `_`, which is none of JSON's.
    fn to_snake(camel: &str) -> Option<String> {
        let mut snake = String::with_capacity(camel.len() + 4);
        for c in camel.chars() {
            match c {
                '_' => return None,
                c if c.is_ascii_uppercase() => snake.extend(['_', c.to_ascii_lowercase()]),
                c => snake.push(c),
            }
        }
        Some(snake)
    }
}
