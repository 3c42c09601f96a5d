//! `export`: the agent's objects as manifests that `apply` takes back.
//!
//! No agent accepts an id that an agent made (a UUID) for a new object. So a manifest with such an
//! id can change the object that has it, and not create it anew. `--rename` writes other ids.

use std::collections::BTreeSet;

use xpu_model::shown::listed;
use xpu_model::{Kind, ObjectKey};

use crate::cli::Output;
use crate::commands::Session;
use crate::failure::Failure;
use crate::live::{self, Objects};
use crate::manifest;
use crate::rename;
use crate::screen::{emit, say};

/// The flags of `export` beside the kinds.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Which {
    /// With the ports that xpu-cni made for pods
    #[arg(long)]
    with_pods: bool,
    /// Write ids like lb-7 in place of those that the agent made, for another agent
    #[arg(long)]
    rename: bool,
}

impl Session {
    /// Prints manifests of all objects of some kinds, as YAML, or as JSON if asked for. The
    /// order is that of dependency.
    pub async fn export(&self, kinds: &[Kind], which: Which) -> Result<(), Failure> {
        let objects = match which.rename {
            true => self.renamed(kinds, which.with_pods).await?,
            false => {
                let objects = chosen(self.objects(kinds).await?, kinds, which.with_pods);
                let agents: Vec<_> = mentioned(&objects)
                    .into_iter()
                    .filter(live::has_agents_id)
                    .collect();
                if !agents.is_empty() {
                    say(&format!(
                        "warning: the agent made these ids, so these manifests can change what \
                         has them, and not make it anew: {}; `xpuctl export --rename` writes \
                         others",
                        listed(&agents)
                    ));
                }
                objects
            }
        };
        if objects.is_empty() {
            say("there is nothing to export");
        }
        let manifests = live::manifests(&objects);
        emit(&match self.output {
            Output::Json => manifest::json(&manifests).map_err(Failure::Json)?,
            Output::Name => manifests.iter().map(|it| format!("{}\n", it.key)).collect(),
            Output::Table | Output::Wide | Output::Yaml => {
                manifest::yaml(&manifests).map_err(Failure::Yaml)?
            }
        })
    }

    /// All kinds are read, whichever are wanted: a new id differs from all there are, and is the
    /// same in every export.
    async fn renamed(&self, kinds: &[Kind], with_pods: bool) -> Result<Objects, Failure> {
        let all = self.objects(&Kind::ALL).await?;
        let names = rename::names(&all);
        let objects = chosen(rename::renamed(all, &names), kinds, with_pods);
        let mentioned = mentioned(&objects);
        for (old, new) in names.iter().filter(|(_, new)| mentioned.contains(new)) {
            say(&format!("{old} is written as {}", new.id));
        }
        Ok(objects)
    }
}

fn chosen(mut objects: Objects, kinds: &[Kind], with_pods: bool) -> Objects {
    objects.retain(|key, live| {
        kinds.contains(&key.kind) && (with_pods || !live::is_pods(key)) && !live.is_going()
    });
    objects
}

/// The objects, and those that they refer to.
fn mentioned(objects: &Objects) -> BTreeSet<ObjectKey> {
    let references = objects.values().flat_map(|live| live.spec.references());
    references.chain(objects.keys().cloned()).collect()
}
