//! Whether a new intent asks anything of a backend.

use xpu_model::{
    BridgePortSpec, Intent, Kind, LogicalBridgeSpec, Spec, SviSpec, VrfSpec, objects::Difference,
    status::PassReport,
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
    let mut differences = S::objects(before).differences(S::objects(after));
    differences.any(|difference| match difference {
        Difference::Written(_) => true,
        Difference::Forgotten(object) => {
            let is_gone = object.deleting
                && report.generation >= object.generation
                && !report.objects.contains_key(&object.key());
            !is_gone
        }
    })
}
