//! The OpenAPI 3.1 description of what the gateway serves, made of the same rules.
//!
//! Texts come from the comments in the `.proto` files; `required` and `readOnly` from
//! `google.api.field_behavior`. A PATCH takes any part of a resource, so its body refers to a
//! variant of each schema in which nothing is required.

mod comments;
mod schema;

use prost_reflect::MethodDescriptor;
use serde_json::{Map, Value, json};

use super::{Gateway, rule::Rule};
use comments::Comments;
use schema::{Schemas, Variant};

/// What the description says of the API as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// The API's name.
    pub title: &'static str,
    /// The version of what serves it.
    pub version: &'static str,
}

/// The description as an OpenAPI document.
pub fn document(gateway: &Gateway, info: Info) -> Value {
    let comments = Comments::of(&gateway.pool);
    let mut schemas = Schemas::new(&gateway.pool, &comments);
    let mut paths = Map::new();
    let mut tags: Vec<Value> = Vec::new();
    for rule in &gateway.rules {
        let service = rule.rpc.parent_service();
        let tag = json!({
            "name": service.name(),
            "description": comments.text(&service.parent_file(), service.path()),
        });
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        let path = paths
            .entry(rule.template.route())
            .or_insert_with(|| json!({}));
        path[rule.verb.method.as_str().to_ascii_lowercase()] =
            operation(rule, &comments, &mut schemas);
    }
    let error = schemas.reference_by_name("google.rpc.Status");
    json!({
        "openapi": "3.1.0",
        "info": {"title": info.title, "version": info.version},
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "responses": {
                "Error": {
                    "description": "The call is refused; the details say which field is wrong, or why.",
                    "content": {"application/json": {"schema": error}},
                },
            },
        },
    })
}

fn operation(rule: &Rule, comments: &Comments, schemas: &mut Schemas<'_>) -> Value {
    let rpc = &rule.rpc;
    let service = rpc.parent_service();
    let mut operation = json!({
        "operationId": format!("{}_{}", service.name(), rpc.name()),
        "tags": [service.name()],
        "description": comments.text(&service.parent_file(), rpc.path()),
        "parameters": parameters(rule, schemas),
        "responses": {
            "200": {
                "description": "Done.",
                "content": {
                    "application/json": {"schema": schemas.reference(&rpc.output(), Variant::Whole)},
                },
            },
            "default": {"$ref": "#/components/responses/Error"},
        },
    });
    if let Some(field) = &rule.body {
        // A PATCH may leave all of it out: it then changes nothing, or takes away what the mask names.
        let is_patch = rule.verb.method == http::Method::PATCH;
        let variant = if is_patch {
            Variant::Partial
        } else {
            Variant::Whole
        };
        operation["requestBody"] = json!({
            "required": !is_patch,
            "content": {"application/json": {"schema": schemas.field(field, variant)}},
        });
    }
    operation
}

fn parameters(rule: &Rule, schemas: &Schemas<'_>) -> Vec<Value> {
    let mut parameters = Vec::new();
    for variable in rule.template.variables() {
        for name in variable.parameters() {
            parameters.push(json!({
                "name": name,
                "in": "path",
                "required": true,
                "description": format!("The `*` of {}.", variable.pattern()),
                "schema": {"type": "string"},
            }));
        }
    }
    for field in query_fields(&rule.rpc, rule) {
        parameters.push(json!({
            "name": field.json_name(),
            "in": "query",
            "description": schemas.description(&field),
            "schema": schemas.scalar(&field),
        }));
    }
    parameters
}

/// The fields that neither path nor body fill.
fn query_fields(
    rpc: &MethodDescriptor,
    rule: &Rule,
) -> impl Iterator<Item = prost_reflect::FieldDescriptor> {
    let bound: Vec<_> = rule
        .template
        .variables()
        .map(|variable| variable.field.clone())
        .collect();
    let body = rule.body.clone();
    let fields: Vec<_> = rpc.input().fields().collect();
    fields.into_iter().filter(move |field| {
        body.as_ref() != Some(field) && !bound.iter().any(|name| name == field.name())
    })
}
