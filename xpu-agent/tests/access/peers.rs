//! Callers on the unix socket and over TCP in clear.

use tonic::Code;

use crate::rig::{Rig, Target, call, is, knock, path};

/// A user that no account has.
const SOMEBODY: u32 = 54_321;

#[tokio::test]
async fn the_kernel_says_who_is_on_the_unix_socket() {
    let config = format!("[api]\nunix_group = {SOMEBODY}\n[access.uids]\n{SOMEBODY} = \"viewer\"");
    let rig = Rig::new(&config).await;
    let socket = rig.unix();
    let unix = Target::Unix(&socket);
    let (list, create) = (path("Vrf", "ListVrfs"), path("Vrf", "CreateVrf"));

    is(&call(&unix, &list, Some(SOMEBODY)).await, Code::Ok, "");
    let refused = knock(&unix, &create, Some(SOMEBODY)).await;
    is(
        &refused,
        Code::PermissionDenied,
        &format!("uid {SOMEBODY} (pid "),
    );
    is(&refused, Code::PermissionDenied, "[access.uids]");
    // Root may; what it asks is nonsense.
    let root = call(&unix, &create, None).await;
    is(&root, Code::InvalidArgument, "vrf");
    rig.stop().await;
}

#[tokio::test]
async fn the_cni_role_is_about_bridge_ports() {
    let config = format!("[api]\nunix_group = {SOMEBODY}\n[access.uids]\n{SOMEBODY} = \"cni\"");
    let rig = Rig::new(&config).await;
    let socket = rig.unix();
    let unix = Target::Unix(&socket);
    let list = |kind: &str| path(kind, &format!("List{kind}s"));
    is(
        &call(&unix, &list("BridgePort"), Some(SOMEBODY)).await,
        Code::Ok,
        "",
    );
    for kind in ["Vrf", "Svi", "LogicalBridge"] {
        let refused = knock(&unix, &list(kind), Some(SOMEBODY)).await;
        is(&refused, Code::PermissionDenied, "has the role cni");
    }
    let create = path("BridgePort", "CreateBridgePort");
    let reached = call(&unix, &create, Some(SOMEBODY)).await;
    is(&reached, Code::InvalidArgument, "bridge_port");
    rig.stop().await;
}

#[tokio::test]
async fn others_do_not_get_at_the_unix_socket() {
    let rig = Rig::new(&format!("[access.uids]\n{SOMEBODY} = \"admin\"")).await;
    let socket = rig.unix();
    let list = path("Vrf", "ListVrfs");
    let refused = knock(&Target::Unix(&socket), &list, Some(SOMEBODY)).await;
    assert_eq!(refused.code, None, "{refused:?}");
    // Who gets at it has still no role without being named.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&socket, open).unwrap();
    let stranger = knock(&Target::Unix(&socket), &list, Some(SOMEBODY + 1)).await;
    is(&stranger, Code::PermissionDenied, "has no role");
    rig.stop().await;
}

#[tokio::test]
async fn loopback_sees_and_does_not_touch() {
    let rig = Rig::new("").await;
    let clear = Target::Clear(rig.tcp);
    let (list, create) = (path("Vrf", "ListVrfs"), path("Vrf", "CreateVrf"));
    is(&call(&clear, &list, None).await, Code::Ok, "");
    let refused = knock(&clear, &create, None).await;
    is(
        &refused,
        Code::PermissionDenied,
        "access.loopback = \"admin\"",
    );
    rig.stop().await;

    let rig = Rig::new("[access]\nloopback = \"admin\"").await;
    let reached = call(&Target::Clear(rig.tcp), &create, None).await;
    is(&reached, Code::InvalidArgument, "vrf");
    rig.stop().await;

    let rig = Rig::new("[access]\nloopback = \"none\"").await;
    let refused = knock(&Target::Clear(rig.tcp), &list, None).await;
    is(&refused, Code::Unauthenticated, "over loopback in clear");
    rig.stop().await;
}
