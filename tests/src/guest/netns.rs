//! Network namespaces, by name, as `ip netns` keeps them.

use anyhow::Result;
use serde_json::Value;

use super::command;

/// A named network namespace, or the one that the guest booted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns {
    name: Option<String>,
}

impl Netns {
    /// The namespace that the guest booted with: the container host.
    pub fn initial() -> Self {
        Self { name: None }
    }

    /// A namespace of this name, whether it exists or not.
    pub fn named(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
        }
    }

    /// Makes a new namespace with its loopback up.
    ///
    /// # Errors
    /// Where there is one of this name.
    pub fn create(name: &str) -> Result<Self> {
        command::run(&format!("ip netns add {name}"))?;
        let netns = Self::named(name);
        netns.run("ip link set lo up")?;
        Ok(netns)
    }

    /// Removes the namespace where it exists. The kernel takes it apart some time later.
    ///
    /// # Errors
    /// Where `ip netns` fails.
    pub fn delete(&self) -> Result<()> {
        match &self.name {
            Some(name) if self.exists() => command::run(&format!("ip netns del {name}")).map(drop),
            _ => Ok(()),
        }
    }

    /// Whether there is such a namespace.
    pub fn exists(&self) -> bool {
        self.name
            .as_ref()
            .is_none_or(|name| std::path::Path::new(&path_of(name)).exists())
    }

    /// The name; `host` for the initial namespace.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("host")
    }

    /// The file that stands for the namespace, as CNI's `CNI_NETNS` takes it.
    pub fn path(&self) -> String {
        self.name
            .as_deref()
            .map_or_else(|| "/proc/1/ns/net".to_owned(), path_of)
    }

    /// The words that run a command in this namespace.
    pub fn words<'a>(&'a self, command: &[&'a str]) -> Vec<&'a str> {
        let mut words = match &self.name {
            Some(name) => vec!["ip", "netns", "exec", name],
            None => Vec::new(),
        };
        words.extend(command);
        words
    }

    /// Runs `work` on a thread in the namespace; what it opens there stays there.
    ///
    /// # Errors
    /// Where the namespace can't be entered, and those of `work`.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = std::fs::File::open(self.path())?;
        let entered = || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?;
            work()
        };
        std::thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs a line of words in the namespace, as [`command::run`] does.
    ///
    /// # Errors
    /// As of [`command::run`].
    pub fn run(&self, line: &str) -> Result<String> {
        let words: Vec<_> = line.split_whitespace().collect();
        command::run_words(&self.words(&words))
    }

    /// Runs a line of words in the namespace and reads its output as JSON.
    ///
    /// # Errors
    /// As of [`command::json`].
    pub fn json(&self, line: &str) -> Result<Value> {
        command::parse_json(line, &self.run(line)?)
    }

    /// The same without what moves by itself: timers, and DAD that comes to its end.
    ///
    /// # Errors
    /// As of [`Self::json`].
    pub fn settled(&self, line: &str) -> Result<Value> {
        fn settle(value: &mut Value) {
            match value {
                Value::Object(map) => {
                    map.retain(|key, _| !key.ends_with("_timer") && key != "tentative");
                    map.values_mut().for_each(settle);
                }
                Value::Array(items) => items.iter_mut().for_each(settle),
                _ => {}
            }
        }
        let mut value = self.json(line)?;
        settle(&mut value);
        Ok(value)
    }

    /// Runs many `ip` commands, one a line without the word `ip`, in one process. Stops at the
    /// first that fails.
    ///
    /// # Errors
    /// Where one fails.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        command::run_with_input(&self.words(&["ip", "-batch", "-"]), lines).map(drop)
    }

    /// Runs many `bridge` commands, one a line without the word `bridge`, in one process.
    ///
    /// # Errors
    /// Where one fails.
    pub fn bridge_batch(&self, lines: &str) -> Result<()> {
        command::run_with_input(&self.words(&["bridge", "-batch", "-"]), lines).map(drop)
    }

    /// Sets kernel variables, one `name=value` a word.
    ///
    /// # Errors
    /// Where the kernel refuses one.
    pub fn sysctl(&self, settings: &str) -> Result<()> {
        self.run(&format!("sysctl -q -w {settings}")).map(drop)
    }

    /// The names of the interfaces in the namespace, without `lo`.
    ///
    /// # Errors
    /// Where `ip` fails.
    pub fn links(&self) -> Result<Vec<String>> {
        let links = self.json("ip -j link show")?;
        let names = links
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|l| l["ifname"].as_str());
        Ok(names
            .filter(|name| *name != "lo")
            .map(str::to_owned)
            .collect())
    }
}

fn path_of(name: &str) -> String {
    format!("/run/netns/{name}")
}
