//! Path templates (`google/api/http.proto`, "Path template syntax"): literals, and variables whose
//! pattern is made of literals and `*`. Of the syntax, `**` and `:verb` are left out, since the
//! API has neither.

/// A parsed path template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(Variable),
}

/// A variable: the request's field that it fills, and of what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Variable {
    /// The path of the field: `vrf.name`.
    pub(super) field: String,
    segments: Vec<Segment>,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// One segment of the URL, by the name of the parameter that it is to the router.
    Any(String),
}

/// Why a template is not served.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not start with `/`, or a brace stands alone.
    #[error("it must be /-separated segments and {{variables}}")]
    Malformed,
    /// Syntax that is not served.
    #[error("`{0}` is neither a literal nor a `*` in a variable")]
    Segment(String),
}

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut rest = text.strip_prefix('/').ok_or(TemplateError::Malformed)?;
        let (mut parts, mut parameters) = (Vec::new(), 0);
        loop {
            let part;
            (part, rest) = match rest.strip_prefix('{') {
                Some(inner) => {
                    let (inner, rest) = inner.split_once('}').ok_or(TemplateError::Malformed)?;
                    (variable(inner, &mut parameters)?, rest)
                }
                None => {
                    let end = rest.find('/').unwrap_or(rest.len());
                    let (text, rest) = rest.split_at(end);
                    (Part::Literal(literal(text)?), rest)
                }
            };
            parts.push(part);
            if rest.is_empty() {
                return Ok(Self(parts));
            }
            rest = rest.strip_prefix('/').ok_or(TemplateError::Malformed)?;
        }
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Variable(variable) => Some(variable),
        })
    }

    /// The path as axum and OpenAPI write it: `/v1/vrfs/{id}`.
    pub(super) fn route(&self) -> String {
        let segments = self.0.iter().map(|part| match part {
            Part::Literal(text) => text.clone(),
            Part::Variable(variable) => variable.join(|parameter| Some(format!("{{{parameter}}}"))),
        });
        segments.fold(String::new(), |path, segment| path + "/" + &segment)
    }
}

impl Variable {
    /// The value for these parameters of a request's path.
    pub(super) fn value(&self, parameters: &[(String, String)]) -> String {
        self.join(|name| {
            let mut all = parameters.iter();
            all.find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        })
    }

    /// The names of the parameters, with what each stands for.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Any(name) => Some(name.as_str()),
        })
    }

    /// The pattern as the template has it: `vrfs/*`.
    pub(super) fn pattern(&self) -> String {
        self.join(|_| Some("*".to_owned()))
    }

    fn join(&self, parameter: impl Fn(&str) -> Option<String>) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => text.clone(),
            Segment::Any(name) => parameter(name).unwrap_or_default(),
        });
        segments.collect::<Vec<_>>().join("/")
    }
}

fn variable(inner: &str, parameters: &mut usize) -> Result<Part, TemplateError> {
    let (field, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
    let segment = |text: &str| {
        if text != "*" {
            return literal(text).map(Segment::Literal);
        }
        *parameters += 1;
        Ok(Segment::Any(match *parameters {
            1 => "id".to_owned(),
            number => format!("id{number}"),
        }))
    };
    Ok(Part::Variable(Variable {
        field: field.to_owned(),
        segments: pattern.split('/').map(segment).collect::<Result<_, _>>()?,
    }))
}

fn literal(text: &str) -> Result<String, TemplateError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    if text.is_empty() || !text.chars().all(plain) {
        return Err(TemplateError::Segment(text.to_owned()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_values() {
        let template = Template::parse("/v1/{vrf.name=vrfs/*}").unwrap();
        assert_eq!(template.route(), "/v1/vrfs/{id}");
        let variable = template.variables().next().unwrap();
        assert_eq!(variable.field, "vrf.name");
        assert_eq!(variable.pattern(), "vrfs/*");
        let parameters = [("id".to_owned(), "blue".to_owned())];
        assert_eq!(variable.value(&parameters), "vrfs/blue");

        let nested = Template::parse("/v1/{name=nodes/*/vrfs/*}/x/{other}").unwrap();
        assert_eq!(nested.route(), "/v1/nodes/{id}/vrfs/{id2}/x/{id3}");
        assert_eq!(nested.variables().count(), 2);
    }

    #[rstest::rstest]
    #[case("v1/vrfs")]
    #[case("/")]
    #[case("/v1//vrfs")]
    #[case("/v1/{name")]
    #[case("/v1/{name}x")]
    #[case("/v1/{name=**}")]
    #[case("/v1/vrfs:cancel")]
    #[case("/v1/*")]
    #[case("/v1/a}b")]
    fn refused(#[case] text: &str) {
        assert!(Template::parse(text).is_err(), "{text}");
    }
}
