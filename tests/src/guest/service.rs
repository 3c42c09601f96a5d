//! The agent as its systemd unit runs it. The guest's init is not systemd, so what the unit says is
//! done here: its directories, its capabilities, what it sees of the file system (`sandbox.sh`).
//! What systemd does by seccomp is not: system calls and address families.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::agent::{Agent, USUAL_CONFIG};
use super::command;
use super::netns::Netns;

/// The unit's file.
pub const UNIT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../netconf-examples/systemd/xpu-agent.service"
);

const SANDBOX: &str = include_str!("sandbox.sh");

/// Where the script is put for a start.
const SCRIPT: &str = "/run/lab/sandbox.sh";

/// What the script does whatever the unit says, so the unit has to say it.
const ALWAYS: [(&str, &str); 9] = [
    ("User", "root"),
    ("UMask", "0077"),
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("ProtectProc", "invisible"),
    ("ProtectKernelModules", "yes"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
];

/// The unit's settings.
#[derive(Debug)]
pub struct Unit {
    text: String,
}

impl Unit {
    /// Reads it.
    ///
    /// # Errors
    /// Where it is not there, or lacks what the sandbox here has.
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(UNIT).context(UNIT)?;
        let unit = Self { text };
        for (key, value) in ALWAYS {
            let said = unit.last(key)?;
            ensure!(said == value, "{key} is {said}, and {value} is emulated");
        }
        Ok(unit)
    }

    /// The values of all lines with this key, in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.text.lines();
        lines.filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// The one that counts of a key with one value.
    fn last<'a>(&'a self, key: &'a str) -> Result<&'a str> {
        let last = self.all(key).last();
        last.with_context(|| format!("the unit has no {key}"))
    }

    /// Makes a directory that the unit has systemd make.
    fn make(&self, parent: &str, key: &str) -> Result<String> {
        let path = Path::new(parent).join(self.last(key)?);
        let mode = u32::from_str_radix(self.last(&format!("{key}Mode"))?, 8)?;
        let mut builder = DirBuilder::new();
        let built = builder.recursive(true).mode(mode).create(&path);
        built.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// What stays writable: what the unit says, as far as it is there, and the directories.
    fn writable(&self) -> Result<String> {
        let mut folders = vec![
            self.make("/var/lib", "StateDirectory")?,
            self.make("/run", "RuntimeDirectory")?,
        ];
        for path in self.all("ReadWritePaths").flat_map(str::split_whitespace) {
            match path.strip_prefix('-') {
                Some(path) if !Path::new(path).exists() => {}
                Some(path) => folders.push(path.to_owned()),
                None => folders.push(path.to_owned()),
            }
        }
        Ok(folders.join(" "))
    }

    /// `+net_admin,+chown`.
    fn capabilities(&self) -> Result<String> {
        let names = self.last("CapabilityBoundingSet")?.split_whitespace();
        let names: Result<Vec<_>> = names
            .map(|name| {
                let name = name.strip_prefix("CAP_").context("not a list of names")?;
                Ok(format!("+{}", name.to_ascii_lowercase()))
            })
            .collect();
        Ok(names?.join(","))
    }

    /// The command line of its start, with the program where the lab has it.
    fn command(&self) -> Result<Vec<String>> {
        let line = self.last("ExecStart")?;
        let words = line.strip_prefix("/usr/local/bin/xpu-agent");
        let words = words.with_context(|| format!("the unit runs {line}"))?;
        let program = command::run("which xpu-agent")?;
        let mut command = vec![program.trim().to_owned()];
        command.extend(words.split_whitespace().map(str::to_owned));
        Ok(command)
    }
}

/// Writes the agent's configuration where the unit has it, and starts the unit's command in the
/// unit's sandbox. `NOTIFY_SOCKET` is for the caller to give.
///
/// # Errors
/// Where a step fails; the message has the end of the agent's log.
pub fn start(xpu: &Netns, config: &str, env: &[(&str, &str)]) -> Result<Agent> {
    configure(config)?;
    start_configured(xpu, env)
}

/// Writes the configuration where the agent looks for it.
///
/// # Errors
/// Where it can't be written.
pub fn configure(config: &str) -> Result<()> {
    let folder = Path::new(USUAL_CONFIG).parent().context("a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(USUAL_CONFIG, config)?;
    fs::set_permissions(USUAL_CONFIG, Permissions::from_mode(0o600))?;
    Ok(())
}

/// [`start`] with the configuration that is there.
///
/// # Errors
/// As of [`start`].
pub fn start_configured(xpu: &Netns, env: &[(&str, &str)]) -> Result<Agent> {
    let unit = Unit::read()?;
    fs::create_dir_all("/run/lab")?;
    fs::write(SCRIPT, SANDBOX)?;
    let (writable, capabilities) = (unit.writable()?, unit.capabilities()?);
    let command = unit.command()?;
    let mut words = vec!["unshare", "--mount", "--", "bash", SCRIPT];
    words.extend([writable.as_str(), capabilities.as_str()]);
    words.extend(command.iter().map(String::as_str));
    Agent::start_by(xpu, &words, env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_read() {
        let unit = Unit::read().expect("the unit");
        let capabilities = unit.capabilities().expect("a list");
        assert_eq!(capabilities, "+net_admin,+dac_override,+chown,+fowner");
        assert!(unit.all("SystemCallFilter").count() > 2);
        assert!(unit.last("NoSuchKey").is_err());
    }

    /// Needs root, as the lab has it.
    #[test]
    fn the_sandbox_leaves_what_it_is_told_and_no_more() {
        let folder = tempfile::tempdir_in("/run").expect("temporary folder");
        let script = folder.path().join("sandbox.sh");
        fs::write(&script, SANDBOX).expect("a file");
        let (open, closed) = (folder.path().join("open"), folder.path().join("closed"));
        for path in [&open, &closed] {
            fs::create_dir(path).expect("a folder");
        }
        let tried = format!(
            "touch {open}/file && chown 990 {open}/file\n\
             for path in {closed} /etc /root /usr/lib/modules /var/lib; do\n\
             ! touch $path/file || echo wrote $path\n\
             done\n\
             ! mount -t tmpfs none /mnt || echo mounted\n\
             ls /dev\n\
             grep -E '^(CapEff|NoNewPrivs|Umask)' /proc/self/status",
            open = open.display(),
            closed = closed.display(),
        );
        let script = script.display().to_string();
        let writable = open.display().to_string();
        let capabilities = "+net_admin,+dac_override,+chown,+fowner";
        let words = ["unshare", "--mount", "--", "bash", &script, &writable];
        let inner = [capabilities, "bash", "-ec", &tried];
        let printed = command::run_words(&[&words[..], &inner].concat()).expect("runs");
        for line in [
            "CapEff:\t000000000000100b",
            "NoNewPrivs:\t1",
            "Umask:\t0077",
        ] {
            assert!(printed.contains(line), "{printed}");
        }
        for word in ["wrote", "mounted", "kmsg"] {
            assert!(!printed.contains(word), "{word}: {printed}");
        }
        assert!(open.join("file").exists());
    }
}
