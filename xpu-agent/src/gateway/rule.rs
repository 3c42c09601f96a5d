//! The `google.api.http` rules of the methods.

use axum::routing::MethodFilter;
use http::Method;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MethodDescriptor};

use super::{
    answer::Refusal,
    fields, request,
    template::{Template, TemplateError},
};

/// A method and how HTTP reaches it.
#[derive(Debug)]
pub struct Rule {
    pub(super) verb: &'static Verb,
    pub(super) template: Template,
    /// The request's field that the HTTP body is; none: there is no body.
    pub(super) body: Option<FieldDescriptor>,
    pub(super) rpc: MethodDescriptor,
}

impl Rule {
    /// The method.
    #[must_use]
    pub const fn rpc(&self) -> &MethodDescriptor {
        &self.rpc
    }

    /// The request's message, made of the parameters of the path by their names, the query, and
    /// the body. What the path says goes before what the body says of the same field.
    ///
    /// # Errors
    /// [`Refusal`] when a parameter or the body cannot be read; it names the field.
    pub fn message(
        &self,
        path: &[(String, String)],
        query: &str,
        body: &[u8],
    ) -> Result<DynamicMessage, Refusal> {
        request::message(self, path, query, body)
    }
}

/// Why a rule cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The descriptors do not define the option.
    #[error("the descriptors have no extension google.api.http")]
    NoExtension,
    /// The path template is of a form that is not served.
    #[error("{rpc}: the path {path} cannot be served")]
    Template {
        /// The method.
        rpc: String,
        /// Its path.
        path: String,
        /// Why.
        source: TemplateError,
    },
    /// A path variable or the body names no field.
    #[error("{rpc}: {field} is no field of the request that a rule can fill")]
    Field {
        /// The method.
        rpc: String,
        /// The field's path.
        field: String,
    },
    /// The method streams.
    #[error("{rpc} streams, which is not served over HTTP")]
    Streaming {
        /// The method.
        rpc: String,
    },
}

/// An HTTP method that a rule can name.
#[derive(Debug)]
pub(super) struct Verb {
    /// The field of `google.api.HttpRule` that holds its path.
    field: &'static str,
    pub(super) method: Method,
    pub(super) filter: MethodFilter,
}

impl Verb {
    const fn new(field: &'static str, method: Method, filter: MethodFilter) -> Self {
        Self {
            field,
            method,
            filter,
        }
    }
}

static VERBS: [Verb; 5] = [
    Verb::new("get", Method::GET, MethodFilter::GET),
    Verb::new("put", Method::PUT, MethodFilter::PUT),
    Verb::new("post", Method::POST, MethodFilter::POST),
    Verb::new("delete", Method::DELETE, MethodFilter::DELETE),
    Verb::new("patch", Method::PATCH, MethodFilter::PATCH),
];

/// The rules of every method that has one, in the descriptors' order.
pub(super) fn all(pool: &DescriptorPool) -> Result<Vec<Rule>, RuleError> {
    let extension = pool
        .get_extension_by_name("google.api.http")
        .ok_or(RuleError::NoExtension)?;
    let mut rules = Vec::new();
    for rpc in pool.services().flat_map(|service| {
        let methods: Vec<_> = service.methods().collect();
        methods
    }) {
        let options = rpc.options();
        let option = options.get_extension(&extension);
        let Some(option) = option.as_message() else {
            continue;
        };
        let verb = VERBS
            .iter()
            .find_map(|verb| Some((verb, text(option, verb.field)?)));
        if let Some((verb, path)) = verb {
            rules.push(rule(rpc, verb, &path, option)?);
        }
    }
    Ok(rules)
}

fn rule(
    rpc: MethodDescriptor,
    verb: &'static Verb,
    path: &str,
    option: &DynamicMessage,
) -> Result<Rule, RuleError> {
    let name = || rpc.full_name().to_owned();
    if rpc.is_client_streaming() || rpc.is_server_streaming() {
        return Err(RuleError::Streaming { rpc: name() });
    }
    let template = Template::parse(path).map_err(|source| RuleError::Template {
        rpc: name(),
        path: path.to_owned(),
        source,
    })?;
    let input = rpc.input();
    for variable in template.variables() {
        let field = fields::resolve(&input, &variable.field);
        let is_text = |fields: &Vec<FieldDescriptor>| {
            let last = fields.last();
            last.is_some_and(|field| field.kind() == Kind::String && !field.is_list())
        };
        if !field.as_ref().is_some_and(is_text) {
            return Err(RuleError::Field {
                rpc: name(),
                field: variable.field.clone(),
            });
        }
    }
    let body = match text(option, "body") {
        None => None,
        Some(field) => match input.get_field_by_name(&field) {
            Some(body) if body.kind().as_message().is_some() && !body.is_list() => Some(body),
            _ => return Err(RuleError::Field { rpc: name(), field }),
        },
    };
    Ok(Rule {
        verb,
        template,
        body,
        rpc,
    })
}

/// A text field of the option, unless it is empty.
fn text(option: &DynamicMessage, field: &str) -> Option<String> {
    let value = option.get_field_by_name(field)?;
    let text = value.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}
