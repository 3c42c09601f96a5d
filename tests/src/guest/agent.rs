//! The agent under test, as a process in the xPU's namespace.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::addresses::{SPINE_TO_XPU, UNDERLAY_MTU, XPU_ASN, XPU_VTEP};
use super::netns::Netns;
use super::vf;
use super::wait::wait_until;

/// The program, in the guest's `PATH`: `make build` puts it there.
pub const PROGRAM: &str = "xpu-agent";
/// The configuration of its last start.
pub const CONFIG: &str = "/run/lab/agent.toml";
/// Where the agent looks for its configuration unless it is told another file.
pub const USUAL_CONFIG: &str = "/etc/xpu-agent/agent.toml";
/// What the agent logged since its last start.
pub const LOG: &str = "/run/lab/agent.log";
/// The socket that `xpu-cni` and `xpuctl` use.
pub const SOCKET: &str = "/run/xpu-agent/agent.sock";
/// The folders of the agent's own.
pub const STATE: [&str; 2] = ["/var/lib/xpu-agent", "/run/xpu-agent"];
/// Another MAC that the VF of wire 0 may have, for tests that change it.
pub const OTHER_MAC: &str = "02:00:00:00:77:07";
/// The agent with that configuration.
const CONFIGURED: [&str; 3] = [PROGRAM, "--config", CONFIG];
const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// An agent that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    child: Child,
}

impl Agent {
    /// The configuration for this lab: BGP with the spine, ports by the VFs' MACs.
    ///
    /// # Errors
    /// Where the VFs are not there.
    pub fn lab_config() -> Result<String> {
        let mut map = String::new();
        map.push_str(&format!(
            "\"{OTHER_MAC}\" = \"{}\"\n",
            vf::representor_name(0)
        ));
        // Of a wire with several functions only the first can own the representor.
        for vf in vf::all()?.iter().filter(|vf| vf.number == 0) {
            map.push_str(&format!("\"{}\" = \"{}\"\n", vf.mac, vf.representor));
        }
        Ok(format!(
            "[underlay]\nvtep = \"{XPU_VTEP}\"\nmtu = {UNDERLAY_MTU}\n\n\
             [api]\ndeadline_ms = 30000\n\n\
             [frr]\nsocket_directory = \"/run/frr/xpu\"\n\n\
             [bgp]\nasn = {XPU_ASN}\nrouter_id = \"{XPU_VTEP}\"\nkeepalive = 5\nhold = 20\n\
             [[bgp.peers]]\naddress = \"{SPINE_TO_XPU}\"\n\n\
             [ports]\nresolver = \"mac-map\"\n[ports.map]\n{map}"
        ))
    }

    /// Starts the agent with a configuration and waits until its socket is bound. Its
    /// first pass may be still to come.
    ///
    /// # Errors
    /// Where it ends instead, or has no socket in time; the message has the end of its log.
    pub fn start(xpu: &Netns, config: &str) -> Result<Self> {
        Self::start_in(xpu, config, &[])
    }

    /// The same, run by a program that takes the agent's words as its last arguments.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub fn start_under(xpu: &Netns, config: &str, wrapper: &[&str]) -> Result<Self> {
        write_config(config)?;
        Self::launch(xpu, &[wrapper, &CONFIGURED].concat(), &[])
    }

    /// The same with variables in its environment.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub fn start_in(xpu: &Netns, config: &str, env: &[(&str, &str)]) -> Result<Self> {
        write_config(config)?;
        Self::launch(xpu, &CONFIGURED, env)
    }

    /// The same without a configuration file.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub fn start_bare(xpu: &Netns, env: &[(&str, &str)]) -> Result<Self> {
        Self::launch(xpu, &[PROGRAM], env)
    }

    /// The same by words that run it in some other way.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub fn start_by(xpu: &Netns, words: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        Self::launch(xpu, words, env)
    }

    fn launch(xpu: &Netns, words: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        fs::create_dir_all("/run/lab")?;
        let log = File::create(LOG)?;
        let words = xpu.words(words);
        let (program, arguments) = words.split_first().context("no words")?;
        let child = Command::new(program)
            .args(arguments)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start the agent")?;
        let mut agent = Self { child };
        wait_until("the agent's socket is bound", READY_LIMIT, || {
            if let Some(status) = agent.child.try_wait()? {
                return Ok(Err(status));
            }
            UnixStream::connect(SOCKET).with_context(|| format!("{SOCKET}; {}", log_tail()))?;
            Ok(Ok(()))
        })?
        .map_err(|status| anyhow::anyhow!("the agent ended ({status}); {}", log_tail()))?;
        Ok(agent)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the agent at once, as a crash would.
    ///
    /// # Errors
    /// Where it can't be killed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the agent to end (`SIGTERM`) and waits until it has.
    ///
    /// # Errors
    /// Where it does not in time.
    pub fn stop(self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.ended()
    }

    /// Sends the agent a signal.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        kill(pid, signal).with_context(|| format!("{signal} to the agent"))
    }

    /// Waits until the agent has ended.
    ///
    /// # Errors
    /// Where it does not in time.
    pub fn ended(mut self) -> Result<ExitStatus> {
        wait_until("the agent ends", STOP_LIMIT, || {
            match self.child.try_wait()? {
                Some(status) => Ok(status),
                None => bail!("it runs; {}", log_tail()),
            }
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // After `kill` and `stop` there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_config(config: &str) -> Result<()> {
    fs::create_dir_all("/run/lab")?;
    Ok(fs::write(CONFIG, config)?)
}

/// The end of the agent's log, for messages.
pub fn log_tail() -> String {
    let text = fs::read_to_string(LOG).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(30);
    format!("the end of its log:\n{}", lines[from..].join("\n"))
}
