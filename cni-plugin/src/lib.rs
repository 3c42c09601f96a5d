//! The CNI plugin for SR-IOV VFs on an xPU EVPN gateway.
//!
//! **Does:** gives a pod a VF whose frames reach the logical bridges that the network
//! names, takes it back, and tells whether it is as it was: every command of CNI 1.1.0.
//! Keeps on disk what it must undo.
//!
//! **Never:** decides about bridges, VLANs or routes of the node (the agent does), runs
//! a shell, logs to stdout, or touches a VF but its own attachment's and those of attachments that
//! have ended, or that GC's runtime knows no more: ADD, GC and the sweep bring such ones home.
//!
//! **Start reading at** [`request`], then [`add`], then [`undo`], which needs nothing but the
//! journal.

pub mod add;
pub mod agent;
pub mod budget;
pub mod call;
pub mod check;
pub mod config;
pub mod del;
pub mod device;
pub mod deviceinfo;
pub mod drain;
pub mod env;
pub mod error;
pub mod gc;
pub mod host;
pub mod install;
pub mod ipam;
pub mod journal;
pub mod life;
pub mod lock;
pub mod log;
pub mod pf;
pub mod port;
mod privileges;
pub mod request;
pub mod result;
pub mod sandbox;
pub mod settings;
pub mod status;
pub mod sweep;
pub mod undo;
pub mod version;

use std::{
    io::{Read, Write},
    process::ExitCode,
};

pub use call::{Call, Failure};
pub use request::answer;

use crate::{env::Vars, error::Error, host::Host, version::Version};

/// What C's `main` does in the plugin's programs, which go without Rust's own.
///
/// What the standard library sets up before a Rust `main`, above all a stack for the handler of
/// stack overflows, for which it reads `/proc/self/maps`, is a fifth of what `VERSION` takes. A
/// runtime starts this program for every pod interface, and under a processor quota.
pub fn start(run: impl FnOnce() -> ExitCode) -> libc::c_int {
    // SAFETY: ignoring a signal installs no handler. A reader of stdout that has gone is then an
    // error of `write`, as Rust programs have it.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    libc::c_int::from(run() != ExitCode::SUCCESS)
}

/// Reads the call from environment and stdin, does it, and writes one JSON document
/// to stdout. The exit code is 1 after an error.
#[must_use]
pub fn main(host: &Host) -> ExitCode {
    let vars = Vars::from_process();
    // Room for any usual configuration, so that one system call reads it.
    let mut stdin = Vec::with_capacity(4 * 1024);
    let read = std::io::stdin().lock().read_to_end(&mut stdin);
    let (answer, code) = match read {
        Ok(_) => answer(host, &vars, &stdin),
        Err(source) => {
            let error = Error::Io {
                what: "read the configuration from stdin".to_owned(),
                source,
            };
            (
                Some(error.document(Version::LATEST, &[])),
                ExitCode::FAILURE,
            )
        }
    };
    let Some(answer) = answer else { return code };
    // A runtime that has closed its end no longer wants the answer.
    let _unheard = writeln!(std::io::stdout().lock(), "{answer}");
    code
}
