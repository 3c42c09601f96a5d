//! `export`: the agent's objects as manifests that `apply` takes back.

use xpu_model::Kind;

use crate::cli::Output;
use crate::commands::Session;
use crate::failure::Failure;
use crate::live;
use crate::manifest;
use crate::screen::{emit, say};

impl Session {
    /// Prints manifests of all objects of some kinds, as YAML, or as JSON if asked for. The
    /// order is that of dependency.
    pub async fn export(&self, kinds: &[Kind], with_pods: bool) -> Result<(), Failure> {
        let mut objects = self.objects(kinds).await?;
        if !with_pods {
            objects.retain(|key, _| !live::is_pods(key));
        }
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
}
