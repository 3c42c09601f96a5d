//! The program that the guest's init keeps running: serves every job port of the machine.

use std::io;
use std::process::ExitCode;

use xpu_tests::runner::port::Port;
use xpu_tests::runner::protocol::{PORTS, port_name};
use xpu_tests::runner::serve::serve;

fn main() -> ExitCode {
    let Err(error) = serve_all();
    // Standard error is the console, which the host keeps as the serial log. Init starts the
    // program again.
    eprintln!("lab-guest: {error}");
    ExitCode::FAILURE
}

/// Serves until the first port fails.
fn serve_all() -> io::Result<std::convert::Infallible> {
    let (failed, failure) = std::sync::mpsc::channel();
    for index in 0..PORTS {
        let name = port_name(index);
        let port = Port::open(&name)?;
        let failed = failed.clone();
        std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let Err(error) = serve(port);
                // The receiver lives as long as the process.
                let _ = failed.send(io::Error::new(error.kind(), format!("{name}: {error}")));
            })?;
    }
    let gone = || io::Error::other("every port's thread is gone");
    Err(failure.recv().unwrap_or_else(|_| gone()))
}
