//! What a runtime asks for: read and found right, done, and answered.

use std::{process::ExitCode, time::Instant};

use serde_json::Value;

use crate::{
    add,
    budget::CALL_DEADLINE,
    call::{Call, Failure},
    check,
    config::{LogSettings, Raw},
    del,
    env::{Command, EnvError, Vars, Verb},
    error::Error,
    gc,
    host::Host,
    log::{Level, Log},
    privileges, status, sweep,
    version::{self, Version},
};

/// The document for stdout, if the command has one, and the exit code.
#[must_use]
pub fn answer(host: &Host, vars: &Vars, stdin: &[u8]) -> (Option<Value>, ExitCode) {
    let deadline = Instant::now() + CALL_DEADLINE;
    let (version, done) = match read(host, vars, stdin) {
        Ok(Asked::Versions) => (Version::LATEST, Ok(Some(version::answer(stdin)))),
        Ok(Asked::Nothing) => (Version::LATEST, Ok(None)),
        Ok(Asked::Work(request)) => {
            let call = open_call(host, vars, stdin, &request, deadline);
            let start = Instant::now();
            let done = perform(&call, &request);
            match &done {
                Ok(_) => afterwards(&call, &request.verb, start),
                Err(failure) => call.log.write(Level::Error, failure.error.told()),
            }
            (request.version, done)
        }
        Err((version, error)) => (version, Err(error.into())),
    };
    match done {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(Failure { error, notes }) => (Some(error.document(version, &notes)), ExitCode::FAILURE),
    }
}

/// What a runtime asks for.
enum Asked {
    /// Which versions there are.
    Versions,
    /// The end of an attachment that no ADD can have made.
    Nothing,
    /// Something of this node.
    Work(Request),
}

/// What is asked of this node.
struct Request {
    verb: Verb,
    raw: Raw,
    /// The version to answer in.
    version: Version,
}

/// Reads what is asked for.
///
/// # Errors
/// What is wrong with environment, stdin or the host-wide file, and the version to tell it in.
fn read(host: &Host, vars: &Vars, stdin: &[u8]) -> Result<Asked, (Version, Error)> {
    let latest = |error: Error| (Version::LATEST, error);
    let verb = match vars.verb() {
        Ok(None) => return Ok(Asked::Versions),
        Ok(Some(verb)) => verb,
        // ADD made no such interface. A pod must be able to end.
        Err(EnvError::Invalid {
            key: "CNI_IFNAME", ..
        }) if matches!(vars.command(), Ok(Command::Del)) => return Ok(Asked::Nothing),
        Err(error) => return Err(latest(error.into())),
    };
    let read = Raw::read(stdin, &host.config_files).map_err(Error::from);
    let (version, raw) = match read.and_then(|raw| Ok((raw.version()?, raw))) {
        Ok(read) => read,
        // ADD refuses such a configuration, so it made nothing by it; what it made by an earlier
        // one, the journal knows. A pod must be able to end.
        Err(_) if matches!(verb, Verb::Del(_)) => (Version::LATEST, Raw::default()),
        Err(error) => return Err(latest(error)),
    };
    let command = verb.command();
    if version < command.since() {
        return Err((version, Error::TooOld { version, command }));
    }
    Ok(Asked::Work(Request { verb, raw, version }))
}

/// Opens the log and gives up what no command needs.
fn open_call<'a>(
    host: &'a Host,
    vars: &'a Vars,
    stdin: &'a [u8],
    Request { verb, raw, .. }: &Request,
    deadline: Instant,
) -> Call<'a> {
    let command = verb.command().as_str();
    let prefix = match verb.attachment() {
        Some(about) => format!("{command} {} {}", about.container_id, about.ifname),
        None => command.to_owned(),
    };
    let LogSettings { level, file } = raw.log();
    let log = Log::new(Level::from_config(level), file, prefix);
    for remark in raw.remarks() {
        log.warn(remark);
    }
    if let Err(error) = privileges::give_up_module_loading() {
        log.warn(format_args!(
            "can't give up CAP_SYS_MODULE, with which a name that a pod chose may load a module: \
             {error}"
        ));
    }
    Call {
        host,
        vars,
        stdin,
        peer: raw.peer().ok(),
        log,
        deadline,
    }
}

/// Does what is asked for, and gives the answer, if the command has one.
fn perform(call: &Call<'_>, request: &Request) -> Result<Option<Value>, Failure> {
    let Request { verb, raw, version } = request;
    match verb {
        Verb::Add(attachment) => add::run(call, attachment, raw, *version).map(Some),
        Verb::Del(attachment) => del::run(call, attachment, raw).map(|()| None),
        Verb::Check(attachment) => check::run(call, attachment, raw).map(|()| None),
        Verb::Status => status::run(call, raw).map(|()| None),
        Verb::Gc => gc::run(call, raw).map(|()| None),
    }
}

/// What a call does that has done its work.
fn afterwards(call: &Call<'_>, verb: &Verb, start: Instant) {
    call.log
        .info(format_args!("done in {} ms", start.elapsed().as_millis()));
    if matches!(verb, Verb::Add(_) | Verb::Del(_) | Verb::Gc) {
        sweep::sweep(call, verb.attachment());
    }
}
