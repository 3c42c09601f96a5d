//! Holds our descriptors against those that the OPI project's Python client ships:
//! fact by fact, both ways. `public_descriptors.py` wrote the fixture.
#![expect(clippy::expect_used, reason = "a test's helpers fail by panicking too")]

use std::collections::BTreeSet;

use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, MethodDescriptor, Value,
};

const PUBLIC: &str = include_str!("fixtures/public_api.txt");

#[test]
fn descriptors_state_the_public_facts_and_no_others() {
    let ours: BTreeSet<String> = Facts::of(xpu_proto::FILE_DESCRIPTOR_SET).collect();
    let public: BTreeSet<String> = PUBLIC.lines().map(str::to_owned).collect();

    let missing: Vec<_> = public.difference(&ours).collect();
    let invented: Vec<_> = ours.difference(&public).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "public, not ours: {missing:#?}\nours, not public: {invented:#?}"
    );
    assert!(
        public.len() > 150,
        "the fixture is cut short: {} facts",
        public.len()
    );
}

#[test]
fn files_are_named_as_the_public_ones() {
    let pool = DescriptorPool::decode(xpu_proto::FILE_DESCRIPTOR_SET).expect("descriptors decode");
    for name in [
        "network/evpn-gw/component.proto",
        "network/evpn-gw/l2_xpu_infra_mgr.proto",
        "network/evpn-gw/l3_xpu_infra_mgr.proto",
        "network/opinetcommon/networktypes.proto",
    ] {
        assert!(
            pool.get_file_by_name(name).is_some(),
            "{name} is not among the descriptors"
        );
    }
}

/// Renders descriptors in the fixture's line format.
struct Facts {
    pool: DescriptorPool,
}

impl Facts {
    fn of(encoded: &[u8]) -> impl Iterator<Item = String> {
        let pool = DescriptorPool::decode(encoded).expect("descriptors decode");
        let facts = Self { pool };
        let mut lines = Vec::new();
        for message in facts
            .pool
            .all_messages()
            .filter(|m| is_api(m.package_name()))
        {
            lines.push(facts.message(&message));
            lines.extend(message.fields().map(|field| facts.field(&field)));
        }
        for r#enum in facts.pool.all_enums().filter(|e| is_api(e.package_name())) {
            lines.extend(r#enum.values().map(|value| {
                format!(
                    "enum {} {} {}",
                    r#enum.full_name(),
                    value.number(),
                    value.name()
                )
            }));
        }
        for service in facts.pool.services() {
            lines.extend(service.methods().map(|method| facts.method(&method)));
        }
        lines.into_iter()
    }

    fn message(&self, message: &MessageDescriptor) -> String {
        let options = message.options();
        let resource = self.option(&options, "google.api.resource");
        let resource = resource.as_message().expect("a resource is a message");
        let patterns = texts(&get(resource, "pattern"));
        line(
            format!("message {}", message.full_name()),
            [
                ("resource", text(&get(resource, "type"))),
                ("pattern", patterns.join(",")),
                ("plural", text(&get(resource, "plural"))),
                ("singular", text(&get(resource, "singular"))),
            ],
        )
    }

    fn field(&self, field: &FieldDescriptor) -> String {
        let raw = field.field_descriptor_proto();
        let options = field.options();
        let reference = self.option(&options, "google.api.resource_reference");
        let reference = reference.as_message().expect("a reference is a message");
        let presence = if raw.proto3_optional() {
            "explicit"
        } else {
            ""
        };
        line(
            format!(
                "field {} {} {} {} {}",
                field.parent_message().full_name(),
                field.number(),
                field.name(),
                Label::as_str_name(&raw.label()),
                Type::as_str_name(&raw.r#type()),
            ),
            [
                ("type", raw.type_name().to_owned()),
                ("json", field.json_name().to_owned()),
                (
                    "oneof",
                    field
                        .containing_oneof()
                        .map_or(String::new(), |o| o.name().to_owned()),
                ),
                ("presence", presence.to_owned()),
                ("behavior", self.behavior(&options)),
                ("reference", text(&get(reference, "type"))),
            ],
        )
    }

    fn behavior(&self, options: &DynamicMessage) -> String {
        let names = self
            .pool
            .get_enum_by_name("google.api.FieldBehavior")
            .expect("is imported");
        let set = self.option(options, "google.api.field_behavior");
        let set = set.as_list().expect("behaviours are a list").iter();
        let name = |number: &Value| {
            let number = number.as_enum_number().expect("a behaviour is an enum");
            names
                .get_value(number)
                .expect("is declared")
                .name()
                .to_owned()
        };
        set.map(name).collect::<Vec<_>>().join(",")
    }

    fn method(&self, method: &MethodDescriptor) -> String {
        assert!(!method.is_client_streaming() && !method.is_server_streaming());
        let options = method.options();
        let rule = self.option(&options, "google.api.http");
        let rule = rule.as_message().expect("an HTTP rule is a message");
        let (verb, path) = ["get", "put", "post", "delete", "patch"]
            .into_iter()
            .find_map(|verb| {
                Some((verb, text(&get(rule, verb)))).filter(|(_, path)| !path.is_empty())
            })
            .expect("a rule has a path");
        let signature = texts(&self.option(&options, "google.api.method_signature"));
        line(
            format!(
                "method {} .{} .{} {verb} {path}",
                method.full_name(),
                method.input().full_name(),
                method.output().full_name(),
            ),
            [
                ("body", text(&get(rule, "body"))),
                ("signature", signature.join(";")),
            ],
        )
    }

    fn option(&self, options: &DynamicMessage, name: &str) -> Value {
        let extension = self.pool.get_extension_by_name(name).expect("is imported");
        options.get_extension(&extension).into_owned()
    }
}

fn is_api(package: &str) -> bool {
    package.starts_with("opi_api.")
}

fn get(message: &DynamicMessage, field: &str) -> Value {
    message
        .get_field_by_name(field)
        .expect("is declared")
        .into_owned()
}

fn text(value: &Value) -> String {
    value.as_str().expect("is a string").to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_list()
        .expect("is a list")
        .iter()
        .map(text)
        .collect()
}

fn line<const N: usize>(mut words: String, named: [(&str, String); N]) -> String {
    for (key, value) in named.into_iter().filter(|(_, value)| !value.is_empty()) {
        words.push_str(&format!(" {key}={value}"));
    }
    words
}
