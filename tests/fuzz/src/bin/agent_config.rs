//! The agent's configuration file, and after a NUL byte the environment, a `KEY=value` a line.

#![no_main]

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;
use xpu_agent::config::Config;

fuzz_target!(|text: &str| {
    let (file, env) = text.split_once('\0').unwrap_or((text, ""));
    let env = env.lines().filter_map(|line| line.split_once('='));
    let env = env.map(|(key, value)| (OsString::from(key), OsString::from(value)));
    let Ok(config) = Config::read(file, "the file", env) else {
        return;
    };
    // What is accepted can be used, and what --check-config prints means the same.
    assert!(config.node().is_ok() && config.tcp().is_ok() && config.http().is_ok());
    let Ok(printed) = toml::to_string(&config) else {
        panic!("{config:?} cannot be printed");
    };
    let again = Config::read(&printed, "what was printed", std::iter::empty());
    assert_eq!(again.ok(), Some(config), "{printed}");
});
