//! In what form a body came and an answer is wanted (k8s.io/apiserver `pkg/endpoints/handlers/negotiation`). Answers are JSON or YAML: a
//! client that also takes protobuf gets JSON, as the protocol allows.

use drydock_apimachinery::Status;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

/// In what form a body came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// `application/json`, or nothing said.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// What is wanted of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// All of it.
    Object,
    /// A table as `kubectl get` prints it, in this version of `meta.k8s.io`.
    Table(&'static str),
    /// Its metadata only, in this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// What a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// How it is written.
    pub encoding: Encoding,
    /// Of what.
    pub shape: Shape,
}

impl Output {
    /// Plain JSON: for answers to requests of which nothing could be understood.
    pub const JSON: Self = Self { encoding: Encoding::Json, shape: Shape::Object };
}

/// The media types of bodies, as refusals list them.
const TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// One alternative of an `Accept` header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    weight: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = text.split(';').map(str::trim);
        let media = pieces.next().filter(|media| !media.is_empty())?;
        let mut clause = Self { media, parameters: Vec::new(), weight: 1.0 };
        for (name, value) in pieces.filter_map(|piece| piece.split_once('=')) {
            if name == "q" {
                clause.weight = value.parse().unwrap_or(1.0);
            } else {
                clause.parameters.push((name, value.trim_matches('"')));
            }
        }
        Some(clause)
    }

    fn get(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    fn encoding(&self) -> Option<Encoding> {
        match self.media {
            "*/*" | "application/*" | "application/json" => Some(Encoding::Json),
            "application/yaml" => Some(Encoding::Yaml),
            _ => None,
        }
    }

    /// What of an object it asks for; none if that can't be had.
    fn shape(&self) -> Option<Shape> {
        let wanted = self.get("as");
        if wanted.is_empty() {
            return Some(Shape::Object);
        }
        let version = match (self.get("g"), self.get("v")) {
            ("meta.k8s.io", "v1") => "v1",
            ("meta.k8s.io", "v1beta1") => "v1beta1",
            _ => return None,
        };
        match wanted {
            "Table" => Some(Shape::Table(version)),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Shape::Metadata(version)),
            _ => None,
        }
    }
}

/// The alternatives of a header, the dearest first.
fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<_> = header.split(',').take(64).filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    clauses
}

/// Several `Accept` headers count as one.
fn accept(headers: &HeaderMap) -> String {
    let texts: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    texts.join(",")
}

/// What the client takes of an object or a list.
pub fn output(headers: &HeaderMap) -> Result<Output, Status> {
    choose(headers, |_| true)
}

/// The same of what has no columns.
pub fn without_table(headers: &HeaderMap) -> Result<Output, Status> {
    choose(headers, |shape| !matches!(shape, Shape::Table(_)))
}

fn choose(headers: &HeaderMap, has: impl Fn(&Shape) -> bool) -> Result<Output, Status> {
    let header = accept(headers);
    if header.trim().is_empty() {
        return Ok(Output::JSON);
    }
    let clauses = clauses(&header);
    let fit = clauses.iter().find_map(|clause| {
        Some(Output { encoding: clause.encoding()?, shape: clause.shape().filter(&has)? })
    });
    fit.ok_or_else(not_acceptable)
}

/// Which form of discovery a client takes: the version of the aggregated one, or none for the lists of old.
pub fn aggregated_discovery(headers: &HeaderMap) -> Option<&'static str> {
    let header = accept(headers);
    for clause in clauses(&header) {
        if clause.encoding().is_none() {
            continue;
        }
        match (clause.get("g"), clause.get("v"), clause.get("as")) {
            ("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList") => return Some("v2"),
            ("apidiscovery.k8s.io", "v2beta1", "APIGroupDiscoveryList") => return Some("v2beta1"),
            (_, _, "") => return None,
            _ => {}
        }
    }
    None
}

/// In what form the body came.
pub fn input(headers: &HeaderMap) -> Result<Input, Status> {
    match content_type(headers) {
        "" | "application/json" => Ok(Input::Json),
        "application/yaml" => Ok(Input::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Input::Protobuf),
        _ => Err(unsupported_media(TYPES)),
    }
}

/// The body's media type without parameters.
pub fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// 406.
pub fn not_acceptable() -> Status {
    Status::failure(406, "NotAcceptable", format!("only the following media types are accepted: {TYPES}"))
}

/// 415, with those that are taken.
pub fn unsupported_media(accepted: &str) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    Status::failure(415, "UnsupportedMediaType", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        headers
    }

    #[test]
    fn the_first_alternative_that_fits_counts() {
        let json = Output::JSON;
        let yaml = Output { encoding: Encoding::Yaml, shape: Shape::Object };
        let table = Output { encoding: Encoding::Json, shape: Shape::Table("v1") };
        let cases = [
            ("", Some(json)),
            ("*/*", Some(json)),
            ("application/yaml", Some(yaml)),
            ("application/yaml;q=0.5,application/json", Some(json)),
            ("application/vnd.kubernetes.protobuf,application/json", Some(json)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some(table),
            ),
            ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Some(json)),
            ("application/vnd.kubernetes.protobuf", None),
            ("image/png", None),
        ];
        for (accept, want) in cases {
            assert_eq!(output(&headers(accept)).ok(), want, "{accept}");
        }
    }

    #[test]
    fn discovery_is_aggregated_for_those_who_ask_first() {
        let new = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        assert_eq!(aggregated_discovery(&headers(new)), Some("v2"));
        assert_eq!(aggregated_discovery(&headers("application/json, */*")), None);
    }
}
