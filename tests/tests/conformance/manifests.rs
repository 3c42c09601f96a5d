//! The manifests of `netconf-examples/`, read strictly by Kubernetes' own types.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use xpu_tests::guest::command;

/// For a manifest that is wrong.
const FOLDER: &str = "/run/lab/manifests";

fn manifests() -> Result<Vec<String>> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../netconf-examples");
    let mut found = Vec::new();
    for folder in [examples.clone(), examples.join("deploy")] {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "yaml") {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}

#[test]
fn every_manifest_is_what_kubernetes_reads() -> Result<()> {
    let manifests = manifests()?;
    let mut words = vec!["manifest"];
    words.extend(manifests.iter().map(String::as_str));
    let printed = command::run_words(&words)?;
    ensure!(printed.lines().count() == manifests.len(), "{printed}");
    ensure!(printed.contains("DaemonSet xpu-cni\n"), "{printed}");

    // That it is strict.
    let set = manifests.iter().find(|it| it.ends_with("daemonset.yaml"));
    let text = fs::read_to_string(set.context("no daemonset.yaml")?)?;
    fs::create_dir_all(FOLDER)?;
    let wrong = format!("{FOLDER}/wrong.yaml");
    fs::write(&wrong, text.replace("nodeSelector:", "nodeSelectors:"))?;
    let output = command::outcome(&["manifest", &wrong])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && said.contains("nodeSelectors"),
        "{said}"
    );
    Ok(())
}
