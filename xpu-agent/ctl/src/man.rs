//! The manual pages, made from the grammar.

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::screen::emit;

/// Prints `xpuctl(1)`, or writes a page for it and each command into a directory.
pub fn pages(directory: Option<&Path>) -> Result<(), Failure> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(Failure::Output)?;
        return emit(&String::from_utf8_lossy(&page));
    };
    clap_mangen::generate_to(Cli::command(), directory).map_err(|source| Failure::Write {
        path: directory.to_owned(),
        source,
    })
}
