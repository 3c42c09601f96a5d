//! Whether a new intent asks anything of a backend.

use std::sync::Arc;

use xpu_model::{
    BridgePortSpec, Intent, Kind, LogicalBridgeSpec, Spec, SviSpec, VrfSpec, status::PassReport,
};

/// Whether anything of these kinds differs between the intent that a report is of and the one
/// after it. A tombstone that is forgotten, and that the report has no trace of, does not count.
pub(super) fn concerns(
    kinds: &[Kind],
    before: &Intent,
    after: &Intent,
    report: &PassReport,
) -> bool {
    kinds.iter().any(|kind| match kind {
        Kind::Vrf => differs::<VrfSpec>(before, after, report),
        Kind::LogicalBridge => differs::<LogicalBridgeSpec>(before, after, report),
        Kind::BridgePort => differs::<BridgePortSpec>(before, after, report),
        Kind::Svi => differs::<SviSpec>(before, after, report),
    })
}

fn differs<S: Spec>(before: &Intent, after: &Intent, report: &PassReport) -> bool {
    let (before, after) = (S::objects(before), S::objects(after));
    // What nobody wrote is shared.
    if std::ptr::eq(before, after) {
        return false;
    }
    let is_new = after.iter().any(|(id, object)| {
        let was = before.get(id);
        !was.is_some_and(|was| Arc::ptr_eq(was, object))
    });
    let mut left = before.iter().filter(|(id, _)| !after.contains_key(*id));
    is_new
        || left.any(|(_, object)| {
            let is_gone = object.deleting
                && report.generation >= object.generation
                && !report.objects.contains_key(&object.key());
            !is_gone
        })
}
