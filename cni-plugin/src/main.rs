//! The CNI plugin's executable, installed as `xpu-cni` and as `evpn-gw`; and its installer.

#![no_main]

use std::{env, process::ExitCode};

use xpu_cni::{
    error::chain,
    host::Host,
    install::{self, Installed},
};

#[unsafe(no_mangle)]
extern "C" fn main() -> libc::c_int {
    xpu_cni::start(run)
}

fn run() -> ExitCode {
    let mut words = env::args_os().skip(1);
    // Runtimes pass no arguments; a person who passes some is no runtime.
    if words.next().is_none_or(|word| word != "install") {
        return xpu_cni::main(&Host::real());
    }
    match install::run(words) {
        Ok(Installed { written, shadowed }) => {
            for path in written {
                eprintln!("installed {}", path.display());
            }
            if let Some((other, ours)) = shadowed {
                eprintln!(
                    "xpu-cni: warning: {} counts before {}, which is read no more; put what is \
                     wanted of that, as `pci_to_mac_path`, into the first",
                    ours.display(),
                    other.display()
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("xpu-cni: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
