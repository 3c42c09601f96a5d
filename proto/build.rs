//! Compiles `api/**/*.proto` in pure Rust (no `protoc` on any machine) into prost
//! messages, tonic clients and servers, pbjson serde and the encoded descriptor set.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

/// Paths are those that the public descriptors of the API carry.
const FILES: [&str; 4] = [
    "network/evpn-gw/component.proto",
    "network/evpn-gw/l2_xpu_infra_mgr.proto",
    "network/evpn-gw/l3_xpu_infra_mgr.proto",
    "network/opinetcommon/networktypes.proto",
];

/// Ours, because the one in `prost-types` has no canonical JSON (a comma-joined text).
const FIELD_MASK: (&str, &str) = (".google.protobuf.FieldMask", "crate::FieldMask");

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=api");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["api"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(FILES)?;
    // Not `file_descriptor_set().encode_to_vec()`: prost's structs drop extensions, which
    // are the HTTP rules and field behaviours.
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), &encoded)?;

    tonic_prost_build::configure()
        // Clients and servers take any channel or listener; the user brings the transport.
        .build_transport(false)
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .extern_path(FIELD_MASK.0, FIELD_MASK.1)
        .compile_fds(compiler.file_descriptor_set())?;

    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .extern_path(FIELD_MASK.0, FIELD_MASK.1)
        .build(&[".opi_api"])?;
    Ok(())
}
