//! What the generic operations need to know of a kind's messages.

use xpu_model::{FieldViolation, Object, Spec, shown::shown};
use xpu_proto::FieldMask;

use super::{error::ApiError, invalid};
use crate::reconcile::board::ObjectStatus;

/// A kind as the API shows it.
pub trait Resource: Spec {
    /// The resource's message.
    type Message: prost::Message + Clone + Send + 'static;
    /// Its spec's message.
    type SpecMessage: Clone + Default + Send + 'static;

    /// The field of Create requests with the id: `vrf_id`.
    const ID_FIELD: &'static str;
    /// The field of Create and Update requests with the resource: `vrf`.
    const MESSAGE_FIELD: &'static str;
    /// The fields of the spec, each by itself changeable.
    const FIELDS: &'static [Field<Self::SpecMessage>];

    /// The resource's name and spec as a client gave them.
    fn given(message: Self::Message) -> (String, Option<Self::SpecMessage>);

    /// Reads a spec.
    ///
    /// # Errors
    /// Every violation, not the first alone; fields are paths in the resource: `spec.vni`.
    fn parse(spec: &Self::SpecMessage) -> Result<Self, Vec<FieldViolation>>;

    /// The spec in its canonical form, which [`Self::parse`] reads as the same value. What an
    /// earlier agent stored may be one that is refused today; a change of it has to mend that.
    fn print(&self) -> Self::SpecMessage;

    /// The resource as it is answered.
    fn message(object: &Object<Self>, status: &ObjectStatus) -> Self::Message;
}

/// A field of a spec, for masks.
#[derive(Debug)]
pub struct Field<M: 'static> {
    /// Its name in the `.proto` file.
    pub(super) name: &'static str,
    /// Whether it differs from the proto default, which is all that a missing mask can tell.
    pub(super) populated: fn(&M) -> bool,
    /// Takes it over from one message into another.
    pub(super) copy: fn(&M, &mut M),
}

/// Makes a [`Field`] of a message's field.
macro_rules! field {
    ($message:ty, $name:ident) => {
        $crate::api::resource::Field {
            name: stringify!($name),
            populated: |spec: &$message| spec.$name != <$message>::default().$name,
            copy: |from: &$message, to: &mut $message| to.$name.clone_from(&from.$name),
        }
    };
}
pub(super) use field;

/// The fields an update takes over (AIP-134): those the mask names; all for `*` and `spec`; the
/// populated ones without a mask.
pub(super) fn selected<R: Resource>(
    mask: Option<FieldMask>,
    spec: &R::SpecMessage,
) -> Result<Vec<&'static Field<R::SpecMessage>>, ApiError> {
    let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
        return Ok(R::FIELDS
            .iter()
            .filter(|field| (field.populated)(spec))
            .collect());
    };
    let (mut fields, mut all) = (Vec::new(), false);
    for path in &mask.paths {
        if matches!(path.as_str(), "*" | "spec") {
            // The paths after it may be wrong all the same.
            all = true;
            continue;
        }
        let name = path.strip_prefix("spec.").unwrap_or(path);
        match R::FIELDS.iter().find(|field| field.name == name) {
            // Once each, however often it is named: copying one costs what is in it.
            Some(field) if fields.iter().any(|it: &&Field<_>| it.name == field.name) => {}
            Some(field) => fields.push(field),
            None => {
                let known: Vec<_> = R::FIELDS.iter().map(|field| field.name).collect();
                let problem = format!(
                    "`{}` is no field of the spec; there are {}",
                    shown(path),
                    known.join(", ")
                );
                return Err(invalid("update_mask", &problem));
            }
        }
    }
    Ok(if all {
        R::FIELDS.iter().collect()
    } else {
        fields
    })
}
