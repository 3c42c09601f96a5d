//! How the agent comes and goes.
//!
//! Start: [`checks`] of what the machine has, one agent per network namespace ([`instance`]),
//! then the App, then [`readiness`], which [`http`] shows and systemd is told ([`notify`]).
//!
//! Stop: [`signals`], whose thread also holds the deadline, so that it holds when the runtime
//! does not run any more.

pub mod checks;
pub mod http;
pub mod instance;
pub mod notify;
pub mod parts;
pub mod readiness;
pub mod reload;
pub mod signals;

use std::time::Duration;

/// How long passes under way may take after a stop signal. Then they are abandoned. The calls
/// that wait for passes are answered when these end, with how far things came.
pub const PASSES: Duration = Duration::from_secs(8);

/// How long answers, and whatever else has to end, may take after that.
pub const ANSWERS: Duration = Duration::from_secs(3);

/// When the process ends after a stop signal, whatever hangs. Longer than [`PASSES`] and
/// [`ANSWERS`], shorter than `TimeoutStopSec` of the systemd unit.
pub const STOP_DEADLINE: Duration = Duration::from_secs(15);
