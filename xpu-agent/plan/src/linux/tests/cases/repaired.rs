//! Which actions put right what somebody else has changed.

use std::collections::BTreeSet;

use pretty_assertions::assert_eq;
use xpu_model::{
    ObjectKey, Spec,
    status::{Component, PassReport, State},
};

use super::*;
use crate::{
    linux::{Action, Outcome, Step, repaired},
    ownership::Mark,
};

fn svi(name: &str) -> ObjectKey {
    SviSpec::key(&id(name))
}

fn set_up(owners: &[Mark], result: Result<(), String>) -> Outcome {
    let device = "svi-10".parse().unwrap();
    Outcome {
        step: Step {
            action: Action::SetUp { device },
            owners: owners.iter().cloned().collect::<BTreeSet<_>>(),
        },
        result,
    }
}

#[test]
fn what_was_well_is_repaired_and_what_was_awaited_is_not() {
    let states = [
        (svi("well"), State::Success),
        (svi("waits"), State::Pending("not yet".to_owned())),
        (svi("fails"), State::Error("busy".to_owned())),
    ];
    let mut before = PassReport {
        objects: states
            .map(|(key, state)| (key, Component::new(state)))
            .into(),
        ..PassReport::default()
    };
    let of = |name: &str| Mark::Object(svi(name));
    let one = |before: &PassReport, owners: &[Mark]| repaired(&[set_up(owners, Ok(()))], before);
    assert_eq!(one(&before, &[of("well")]), 1);
    assert_eq!(one(&before, &[of("waits")]), 0);
    assert_eq!(one(&before, &[of("fails")]), 0);
    assert_eq!(
        one(&before, &[of("waits"), of("well")]),
        1,
        "a range of both"
    );
    assert_eq!(
        one(&before, &[of("unheard-of")]),
        1,
        "made by somebody else"
    );
    assert_eq!(one(&before, &[Mark::Node]), 1);
    let refused = set_up(&[of("well")], Err("busy".to_owned()));
    assert_eq!(repaired(&[refused], &before), 0);
    before.node.push("a device is missing".to_owned());
    assert_eq!(one(&before, &[Mark::Node]), 0);
    before.refusals = std::mem::take(&mut before.node);
    assert_eq!(one(&before, &[Mark::Node]), 0, "somebody else's, gone now");
}
