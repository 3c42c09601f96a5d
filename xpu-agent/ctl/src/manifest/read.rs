//! From files, directories and standard input to manifests.
//!
//! A text is YAML of one or many documents, or JSON: one object, an array, or several one
//! after the other. Beside manifests it may hold what `xpuctl -o json` prints: an object of
//! the API, whose full name tells its kind, or a List answer.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use xpu_model::{Kind, ObjectKey};

use super::Manifest;
use super::spec::Spec;

/// Where manifests are read from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Standard input, written as `-`.
    Stdin,
    /// A file, or a directory whose `.yaml`, `.yml` and `.json` files are read, those in
    /// directories below too.
    Path(PathBuf),
}

impl From<&std::ffi::OsStr> for Source {
    fn from(text: &std::ffi::OsStr) -> Self {
        match text.to_str() {
            Some("-") => Self::Stdin,
            _ => Self::Path(text.into()),
        }
    }
}

/// Why the manifests can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file or directory can't be read.
    #[error("can't read {path}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The directory has no manifest: most likely it is the wrong one.
    #[error("{path} has no .yaml, .yml or .json file")]
    Empty {
        /// Which.
        path: String,
    },
    /// The text is neither YAML nor JSON.
    #[error("{origin} is no {format}: {why}")]
    Syntax {
        /// The file.
        origin: String,
        /// What it was read as.
        format: &'static str,
        /// The parser's word, with line and column.
        why: String,
    },
    /// A document is no manifest.
    #[error("{origin}: {why}")]
    Manifest {
        /// File and document.
        origin: String,
        /// Field, value, and what is accepted.
        why: String,
    },
    /// One object is there twice.
    #[error("{key} is in {first} and in {second}; leave one out")]
    Twice {
        /// Which object.
        key: ObjectKey,
        /// Where it was first seen.
        first: String,
        /// Where again.
        second: String,
    },
}

/// Manifests are configuration, not data: more than this is a mistake.
const LARGEST: u64 = 64 << 20;

/// Reads all sources, in order of the objects' names.
///
/// # Errors
/// The first thing that is wrong; nothing is read in part.
pub fn read(sources: &[Source]) -> Result<BTreeMap<ObjectKey, Manifest>, SourceError> {
    let mut found: BTreeMap<ObjectKey, (Manifest, String)> = BTreeMap::new();
    for (origin, text) in texts(sources)? {
        for (place, value) in documents(&origin, &text)? {
            let manifest = manifest(value).map_err(|why| SourceError::Manifest {
                origin: place.clone(),
                why,
            })?;
            let key = manifest.key.clone();
            if let Some((_, first)) = found.get(&key) {
                return Err(SourceError::Twice {
                    key,
                    first: first.clone(),
                    second: place,
                });
            }
            found.insert(key, (manifest, place));
        }
    }
    let bare = found
        .into_iter()
        .map(|(key, (manifest, _))| (key, manifest));
    Ok(bare.collect())
}

fn texts(sources: &[Source]) -> Result<Vec<(String, String)>, SourceError> {
    let mut texts = Vec::new();
    for source in sources {
        match source {
            Source::Stdin => texts.push(("stdin".to_owned(), limited("stdin", io::stdin())?)),
            Source::Path(path) if path.is_dir() => {
                let mut files = Vec::new();
                collect(path, &mut files)?;
                if files.is_empty() {
                    return Err(SourceError::Empty { path: shown(path) });
                }
                files.sort_unstable();
                for file in files {
                    texts.push((shown(&file), open(&file)?));
                }
            }
            Source::Path(path) => texts.push((shown(path), open(path)?)),
        }
    }
    Ok(texts)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), SourceError> {
    let unreadable = |source| SourceError::Unreadable {
        path: shown(directory),
        source,
    };
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let known = path
            .extension()
            .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        // Links to directories are not followed: they could go round.
        if entry.file_type().map_err(unreadable)?.is_dir() {
            collect(&path, files)?;
        } else if known {
            files.push(path);
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<String, SourceError> {
    let origin = shown(path);
    let file = fs::File::open(path).map_err(|source| SourceError::Unreadable {
        path: origin.clone(),
        source,
    })?;
    limited(&origin, file)
}

fn limited(origin: &str, reader: impl io::Read) -> Result<String, SourceError> {
    let mut text = String::new();
    let unreadable = |source| SourceError::Unreadable {
        path: origin.to_owned(),
        source,
    };
    let mut reader = reader.take(LARGEST + 1);
    reader.read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST {
        let why = format!("more than {} MiB are no manifest", LARGEST >> 20);
        return Err(unreadable(io::Error::other(why)));
    }
    Ok(text)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The values that may be manifests, each with where it stands. Lists are taken apart.
fn documents(origin: &str, text: &str) -> Result<Vec<(String, Value)>, SourceError> {
    let syntax = |format, why| SourceError::Syntax {
        origin: origin.to_owned(),
        format,
        why,
    };
    // A document that begins like this may be YAML in flow style, too.
    let is_json = text.trim_start().starts_with(['{', '[']);
    let json = is_json.then(|| -> Result<Vec<Value>, _> {
        serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect()
    });
    let values: Vec<Value> = match json {
        Some(Ok(values)) => values,
        json => serde_saphyr::from_multiple(text).map_err(|yaml| match json {
            Some(Err(json)) => syntax("JSON", format!("{json}; nor YAML: {yaml}")),
            _ => syntax("YAML", yaml.to_string()),
        })?,
    };
    let mut documents = Vec::new();
    let many = values.len() > 1;
    for (number, value) in (1..).zip(values) {
        let place = match many {
            true => format!("{origin}, document {number}"),
            false => origin.to_owned(),
        };
        unfold(place, value, &mut documents);
    }
    Ok(documents)
}

fn unfold(place: String, value: Value, documents: &mut Vec<(String, Value)>) {
    let numbered = |items: Vec<Value>, documents: &mut Vec<_>| {
        for (number, item) in (1..).zip(items) {
            unfold(format!("{place}, item {number}"), item, documents);
        }
    };
    match value {
        // An empty YAML document: a file of comments only.
        Value::Null => {}
        Value::Array(items) => numbered(items, documents),
        Value::Object(mut fields) => match list_field(&fields).and_then(|it| fields.remove(it)) {
            Some(Value::Array(items)) => numbered(items, documents),
            _ => documents.push((place, Value::Object(fields))),
        },
        other => documents.push((place, other)),
    }
}

/// The name of the objects in a List answer of the API.
fn list_field(fields: &Map<String, Value>) -> Option<&'static str> {
    let named = Kind::ALL.map(Kind::collection);
    let field = named.into_iter().find(|name| fields.contains_key(*name))?;
    let known = |name: &String| name == field || name == "nextPageToken";
    (fields.keys().all(known) && fields[field].is_array()).then_some(field)
}

fn manifest(value: Value) -> Result<Manifest, String> {
    let Value::Object(mut fields) = value else {
        return Err("a manifest is an object with kind, name and spec".to_owned());
    };
    let name = match fields.remove("name") {
        Some(Value::String(name)) => name,
        Some(other) => return Err(format!("name: {other} is no text")),
        None => return Err("name: it is missing".to_owned()),
    };
    let kind = kind(fields.remove("kind"), &name)?;
    let key = ObjectKey::parse(kind, &name).map_err(|error| format!("name: {error}"))?;
    // It is what the agent said at some time, not what is asked for.
    fields.remove("status");
    let spec = fields
        .remove("spec")
        .ok_or_else(|| format!("{key}: spec: it is missing"))?;
    if let Some((unknown, _)) = fields.iter().next() {
        let unknown = unknown.escape_debug();
        return Err(format!(
            "{key}: {unknown}: there is no such field; a manifest has kind, name and spec"
        ));
    }
    let spec = Spec::read(kind, spec).map_err(|error| format!("{key}: {error}"))?;
    Ok(Manifest { key, spec })
}

fn kind(given: Option<Value>, name: &str) -> Result<Kind, String> {
    let words = Kind::ALL.map(Kind::as_str).join(", ");
    match given {
        Some(Value::String(word)) => Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| format!("kind: {:?} is none of {words}", word)),
        Some(other) => Err(format!("kind: {other} is none of {words}")),
        // An object of the API says its kind by its name.
        None => Kind::ALL
            .into_iter()
            .find(|kind| {
                name.split_once('/')
                    .is_some_and(|(collection, _)| collection == kind.collection())
            })
            .ok_or_else(|| format!("kind: it is missing; write one of {words}")),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
