//! The lab on the command line: see `lab help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    xpu_tests::lab::cli::main()
}
