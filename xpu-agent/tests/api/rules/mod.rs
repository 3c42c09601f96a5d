//! Every rule of the API, each with the exact code, fields and message, over gRPC and over HTTP.
//! No refusal changes anything. Here is how a refusal looks; the rules are in the files beside.

mod lists;
mod names;
mod networks;
mod ports_and_svis;
mod updates;

use std::sync::Arc;

use serde_json::Value;
use tonic::Code;

use crate::{
    calls::{Call, Kind},
    face::{Face, Refusal},
    rig::Rig,
    world::everything,
};

/// A refused call.
struct Case {
    call: Call,
    refusal: Refusal,
    /// Whether HTTP can say it: a path has room for canonical names alone.
    http: bool,
}

/// A field is wrong in itself: the message is made of the violations.
fn invalid(call: Call, violations: &[(&str, &str)]) -> Case {
    let lines: Vec<_> = violations
        .iter()
        .map(|(field, problem)| format!("{field}: {problem}"))
        .collect();
    let owned = |(field, problem): &(&str, &str)| ((*field).to_owned(), (*problem).to_owned());
    Case {
        call,
        refusal: Refusal {
            code: Code::InvalidArgument,
            message: lines.join("; "),
            fields: violations.iter().map(owned).collect(),
            info: None,
        },
        http: true,
    }
}

/// A rule between objects is broken.
fn broken(call: Call, code: Code, message: &str, reason: &str, facts: &[(&str, &str)]) -> Case {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let refusal = Refusal {
        code,
        message: message.to_owned(),
        fields: Vec::new(),
        info: Some((reason.to_owned(), facts.iter().map(owned).collect())),
    };
    Case {
        call,
        refusal,
        http: true,
    }
}

/// A value that another object has.
fn taken(call: Call, field: &str, value: &str, holder: &str) -> Case {
    let problem = format!("{value} is in use by {holder}");
    let message = format!("{field}: {problem}; choose another");
    let facts = [("field", field), ("value", value), ("holder", holder)];
    let mut case = broken(
        call,
        Code::FailedPrecondition,
        &message,
        "VALUE_IN_USE",
        &facts,
    );
    case.refusal.fields = vec![(field.to_owned(), problem)];
    case
}

/// A reference to nothing.
fn dangling(call: Call, field: &str, name: &str) -> Case {
    let problem = format!("{name} does not exist");
    let message = format!("{field}: {problem}; create it first");
    let facts = [("field", field), ("name", name)];
    let (code, reason) = (Code::FailedPrecondition, "REFERENCE_NOT_FOUND");
    let mut case = broken(call, code, &message, reason, &facts);
    case.refusal.fields = vec![(field.to_owned(), problem)];
    case
}

fn not_found(call: Call, name: &str) -> Case {
    let message = format!("{name} does not exist");
    broken(
        call,
        Code::NotFound,
        &message,
        "OBJECT_NOT_FOUND",
        &[("name", name)],
    )
}

fn in_use(call: Call, name: &str, referrers: &str) -> Case {
    let message = format!("{name} is in use by {referrers}; delete or change them first");
    let facts = [("name", name), ("referrers", referrers)];
    broken(
        call,
        Code::FailedPrecondition,
        &message,
        "OBJECT_IN_USE",
        &facts,
    )
}

fn update(kind: Kind, name: &str, spec: Value, mask: &str) -> Call {
    Call::Update {
        kind,
        name: name.to_owned(),
        spec,
        mask: (!mask.is_empty()).then(|| mask.to_owned()),
        allow_missing: false,
    }
}

fn get(kind: Kind, name: &str) -> Call {
    Call::Get(kind, name.to_owned())
}

fn delete(kind: Kind, name: &str) -> Call {
    Call::Delete(kind, name.to_owned(), false)
}

/// The case over gRPC alone.
fn grpc_only(case: Case) -> Case {
    Case {
        http: false,
        ..case
    }
}

async fn hold(cases: Vec<Case>) {
    hold_beside(Vec::new(), cases).await;
}

/// With more objects beside the usual ones.
async fn hold_beside(more: Vec<Call>, cases: Vec<Case>) {
    let rig = Rig::start().await;
    for call in everything().into_iter().chain(more) {
        Face::Grpc.call(&rig, &call).await.unwrap();
    }
    let before = rig.store.intent();
    for case in cases {
        let faces = [Face::Grpc, Face::Http];
        for face in faces.into_iter().take(if case.http { 2 } else { 1 }) {
            let answer = face.call(&rig, &case.call).await;
            let refusal = answer.expect_err(&format!("{face:?} took {:?}", case.call));
            assert_eq!(refusal, case.refusal, "{face:?} {:?}", case.call);
        }
    }
    assert!(Arc::ptr_eq(&before, &rig.store.intent()), "a refusal wrote");
}

const ID_RULE: &str = "use 4 to 63 of a-z, 0-9 and `-`, a letter first, no `-` last";
