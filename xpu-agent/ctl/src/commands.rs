//! The verbs, written once over all kinds.

use std::collections::BTreeSet;
use std::error::Error as _;

use serde::Serialize;
use tonic::{Code, Status};
use xpu_model::ObjectKey;

use crate::advice;
use crate::cli::Output;
use crate::failure::Failure;
use crate::remote::{Agent, Remote};
use crate::render;
use crate::screen::{Colour, Screen, emit, patiently, say};
use crate::update::Masked;
use crate::view::{NO_REASON, Oper, View};

/// A kind of object that can be asked for and shown.
pub trait Resource: Remote + View + Serialize {}

impl<K: Remote + View + Serialize> Resource for K {}

/// What every command needs.
pub struct Session {
    /// The connection.
    pub agent: Agent,
    /// What it connects to, for messages.
    pub endpoint: String,
    /// How answers are shown.
    pub output: Output,
    /// Whether in colours.
    pub colour: Colour,
}

/// What to do with objects that exist.
#[derive(Debug)]
pub enum Verb {
    /// Show one in a line.
    Get(ObjectKey),
    /// Show all there is to know of one.
    Describe(ObjectKey),
    /// Show all.
    List,
    /// Remove one.
    Delete {
        /// Which.
        key: ObjectKey,
        /// Whether its absence is success.
        allow_missing: bool,
    },
}

impl Session {
    /// Creates an object and shows it as it stands; warns where it isn't up yet.
    pub async fn create<K: Resource>(&self, id: String, object: K) -> Result<(), Failure> {
        let what = format!("creating a {}", K::KIND);
        let created = patiently(&what, self.call_create(id, object)).await?;
        self.show(&created)?;
        warn_unless_up(&created);
        Ok(())
    }

    /// Creates an object without showing it; warns where it isn't up yet.
    pub async fn create_quietly<K: Resource>(&self, id: String, object: K) -> Result<(), Failure> {
        warn_unless_up(&self.call_create(id, object).await?);
        Ok(())
    }

    async fn call_create<K: Resource>(&self, id: String, object: K) -> Result<K, Failure> {
        let wanted = match id.as_str() {
            "" => format!("a {}", K::KIND),
            id => format!("{}/{id}", K::KIND.collection()),
        };
        let created = K::create(&self.agent, id, object).await;
        created.map_err(|s| self.failure::<K>("create", &wanted, s))
    }

    /// Changes an object's fields and shows it as it stands.
    pub async fn update<K: Resource>(&self, change: Masked<K>) -> Result<(), Failure> {
        let Masked { key, object, mask } = change;
        let what = format!("changing {key}");
        let updated = patiently(&what, self.call_update(&key, object, mask)).await?;
        self.show(&updated)?;
        warn_unless_up(&updated);
        Ok(())
    }

    /// Changes an object's fields without showing it; warns where it isn't up yet.
    pub async fn update_quietly<K: Resource>(
        &self,
        key: &ObjectKey,
        object: K,
        mask: Vec<String>,
    ) -> Result<(), Failure> {
        warn_unless_up(&self.call_update(key, object, mask).await?);
        Ok(())
    }

    async fn call_update<K: Resource>(
        &self,
        key: &ObjectKey,
        object: K,
        mask: Vec<String>,
    ) -> Result<K, Failure> {
        let updated = K::update(&self.agent, key, object, mask).await;
        updated.map_err(|s| self.failure::<K>("update", &key.to_string(), s))
    }

    /// What there is to write on, at this moment.
    pub fn screen(&self) -> Screen {
        let screen = Screen::of_stdout(self.colour);
        match self.output {
            // As wide as it takes.
            Output::Wide => Screen {
                width: None,
                ..screen
            },
            _ => screen,
        }
    }

    /// Does what `verb` says.
    pub async fn run<K: Resource>(&self, verb: Verb) -> Result<(), Failure> {
        match verb {
            Verb::Get(key) => self.show(&self.get::<K>(&key).await?),
            Verb::Describe(key) => self.describe(&self.get::<K>(&key).await?),
            Verb::List => self.show_all(self.list::<K>().await?),
            Verb::Delete { key, allow_missing } => {
                let what = format!("deleting {key}");
                let deleted = patiently(&what, self.remove::<K>(&key, allow_missing)).await?;
                emit(&match self.output {
                    Output::Table | Output::Wide => format!("{key} {}\n", deleted.word()),
                    Output::Name => format!("{key}\n"),
                    // google.protobuf.Empty
                    Output::Json | Output::Yaml => "{}\n".to_owned(),
                })
            }
        }
    }

    /// Reads an object.
    pub async fn get<K: Resource>(&self, key: &ObjectKey) -> Result<K, Failure> {
        let got = K::get(&self.agent, key).await;
        got.map_err(|status| self.failure::<K>("get", &key.to_string(), status))
    }

    /// Follows the pages to the last.
    pub async fn list<K: Resource>(&self) -> Result<Vec<K>, Failure> {
        let collection = K::KIND.collection();
        let (mut objects, mut seen, mut token) = (Vec::new(), BTreeSet::new(), String::new());
        loop {
            let page = K::list(&self.agent, token).await;
            let (more, next) = page.map_err(|s| self.failure::<K>("list", collection, s))?;
            objects.extend(more);
            if next.is_empty() {
                return Ok(objects);
            }
            if !seen.insert(next.clone()) {
                return Err(Failure::Paging {
                    collection,
                    token: next,
                });
            }
            token = next;
        }
    }

    fn show<K: Resource>(&self, object: &K) -> Result<(), Failure> {
        let alone = std::slice::from_ref(object);
        emit(&match self.output {
            Output::Table | Output::Wide => self.table(alone),
            Output::Name => render::names(alone),
            Output::Json => render::json(object).map_err(Failure::Json)?,
            Output::Yaml => render::yaml(object).map_err(Failure::Yaml)?,
        })
    }

    fn describe<K: Resource>(&self, object: &K) -> Result<(), Failure> {
        match self.output {
            Output::Table | Output::Wide => emit(&render::description(object, self.screen())),
            Output::Name | Output::Json | Output::Yaml => self.show(object),
        }
    }

    fn show_all<K: Resource>(&self, objects: Vec<K>) -> Result<(), Failure> {
        match self.output {
            Output::Table | Output::Wide if objects.is_empty() => {
                say(&format!("there are no {}", K::KIND.collection()));
                Ok(())
            }
            Output::Table | Output::Wide => emit(&self.table(&objects)),
            Output::Name => emit(&render::names(&objects)),
            Output::Json => emit(&render::json(&K::as_list(objects)).map_err(Failure::Json)?),
            Output::Yaml => emit(&render::yaml(&K::as_list(objects)).map_err(Failure::Yaml)?),
        }
    }

    /// Objects as a table, with more columns if asked for.
    pub fn table<K: View>(&self, objects: &[K]) -> String {
        let wide = matches!(self.output, Output::Wide);
        render::table(objects, wide, self.screen())
    }

    /// What a call's failure means.
    pub fn failure<K: Resource>(&self, verb: &str, object: &str, status: Status) -> Failure {
        // Only a status that the transport made on this side has a source.
        let broken = matches!(status.code(), Code::Unavailable | Code::Unknown);
        if broken && status.source().is_some() {
            return Failure::Unreachable {
                endpoint: self.endpoint.clone(),
                source: status.into(),
            };
        }
        Failure::Refused {
            what: format!("{verb} {object}"),
            next: advice::refused(self, K::KIND, verb, &status),
            source: Box::new(status),
        }
    }
}

fn warn_unless_up<K: View>(object: &K) {
    let state = object.state();
    if state.oper != Oper::Up {
        let why = state.trouble().unwrap_or_else(|| NO_REASON.to_owned());
        let (name, oper) = (object.name(), state.oper.as_str());
        say(&format!("warning: {name} is stored and {oper}: {why}"));
    }
}
