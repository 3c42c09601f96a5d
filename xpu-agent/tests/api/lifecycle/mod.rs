//! What is accepted, and what it becomes, over both faces where both can say it.

mod creates;
mod deadlines;
mod names;
mod pages;
mod updates;

use serde_json::Value;

use crate::{
    calls::{Call, Kind},
    face::Face,
    rig::Rig,
    world::everything,
};

const FACES: [Face; 2] = [Face::Grpc, Face::Http];

/// A rig with one object of each kind.
async fn full() -> Rig {
    let rig = Rig::start().await;
    for call in everything() {
        Face::Grpc.call(&rig, &call).await.unwrap();
    }
    rig
}

fn update(kind: Kind, name: &str, spec: Value, mask: &str, allow_missing: bool) -> Call {
    Call::Update {
        kind,
        name: name.to_owned(),
        spec,
        mask: (!mask.is_empty()).then(|| mask.to_owned()),
        allow_missing,
    }
}
