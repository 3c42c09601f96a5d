//! The OPI EVPN Gateway API as Rust types.
//!
//! Does: compiles our own `.proto` text (`api/`), wire-identical to the public API,
//! into messages, gRPC clients and servers, canonical proto3 JSON, and the
//! descriptor set that reflection serves.
//!
//! Never: validates, converts or decides anything. Domain values live in `xpu-model`;
//! the agent's API layer translates.
//!
//! Start reading at `api/network/evpn-gw/l2_xpu_infra_mgr.proto`.
//!
//! | feature | gives |
//! |---|---|
//! | `client` | `*_service_client` modules; bring `tonic/channel` |
//! | `server` | `*_service_server` modules; bring `tonic/server` |
//! | `json` | `serde::Serialize` and `Deserialize` for every message |

mod field_mask;

pub use field_mask::FieldMask;

/// Every file of the API with what it imports, as an encoded
/// `google.protobuf.FileDescriptorSet`: what gRPC reflection is served from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Package `opi_api.network.evpn_gw`.
pub mod evpn_gw {
    /// Vrf, Svi, LogicalBridge and BridgePort with their services.
    #[cfg_attr(
        any(feature = "server", feature = "json"),
        expect(clippy::allow_attributes, reason = "the generators write `allow`")
    )]
    #[cfg_attr(
        any(feature = "client", feature = "server", feature = "json"),
        expect(
            clippy::allow_attributes_without_reason,
            reason = "the generators write `allow` without a reason"
        )
    )]
    pub mod v1alpha1 {
        include!(concat!(
            env!("OUT_DIR"),
            "/opi_api.network.evpn_gw.v1alpha1.rs"
        ));
        #[cfg(feature = "json")]
        include!(concat!(
            env!("OUT_DIR"),
            "/opi_api.network.evpn_gw.v1alpha1.serde.rs"
        ));
    }
}

/// Package `opi_api.network.opinetcommon`.
pub mod opinetcommon {
    /// Addresses and prefixes.
    #[cfg_attr(
        feature = "json",
        expect(
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            reason = "the generator writes `allow`"
        )
    )]
    pub mod v1alpha1 {
        include!(concat!(
            env!("OUT_DIR"),
            "/opi_api.network.opinetcommon.v1alpha1.rs"
        ));
        #[cfg(feature = "json")]
        include!(concat!(
            env!("OUT_DIR"),
            "/opi_api.network.opinetcommon.v1alpha1.serde.rs"
        ));
    }
}
