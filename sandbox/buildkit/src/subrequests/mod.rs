//! Questions about a Dockerfile (frontend/subrequests), answered without a build: `docker build --check`, `--call=targets`,
//! `--call=outline`. The client makes its tables of the JSON; fields are in BuildKit's order, as `format=json` shows them.

mod outline;

use crate::error::{Source, failed};
use crate::frontend::Prepared;
use crate::lint::Warning;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drydock_dockerfile::build::BuildError;
use drydock_dockerfile::language::{Stage, description};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::Write;
use tonic::Status;

/// The request of `docker build --check`.
pub const LINT: &str = "frontend.lint";

/// Where something is in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Location {
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Position {
    line: usize,
}

impl Location {
    fn of(first: usize, last: usize) -> Self {
        Self { ranges: vec![Range { start: Position { line: first }, end: Position { line: last } }] }
    }
}

/// Answers one.
///
/// # Errors
/// If it is of another kind.
pub fn answer(request: &str, prepared: &Prepared) -> Result<HashMap<String, Vec<u8>>, Status> {
    match request {
        LINT => {
            let (json, text) = lint(&prepared.warnings, prepared.problem.as_ref(), &prepared.source)?;
            let mut answer = messages(json, text);
            // The client's exit code.
            let fine = prepared.warnings.is_empty() && prepared.problem.is_none();
            answer.insert("result.statuscode".to_owned(), if fine { b"0" } else { b"1" }.to_vec());
            Ok(answer)
        }
        "frontend.outline" => {
            let outline = outline::Outline::of(&prepared.dockerfile, &prepared.options, &prepared.source);
            Ok(messages(json(&outline)?, outline.text()))
        }
        "frontend.targets" => {
            let targets = Targets::of(&prepared.dockerfile.stages, &prepared.source);
            Ok(messages(json(&targets)?, targets.text()))
        }
        "frontend.subrequests.describe" => {
            let kinds = kinds();
            let rows = kinds.iter().map(|kind| {
                let name = kind.name.trim_start_matches("frontend.");
                vec![name.to_owned(), kind.version.to_owned(), kind.description.to_owned()]
            });
            Ok(messages(json(&kinds)?, table(1, &["NAME", "VERSION", "DESCRIPTION"], rows.collect())))
        }
        other => Err(failed(format!("unsupported request {other}"))),
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Status> {
    serde_json::to_vec_pretty(value).map_err(|e| Status::internal(e.to_string()))
}

fn messages(json: Vec<u8>, text: String) -> HashMap<String, Vec<u8>> {
    HashMap::from([
        ("result.json".to_owned(), json),
        ("result.txt".to_owned(), text.into_bytes()),
        ("version".to_owned(), b"1.0.0".to_vec()),
    ])
}

/// Columns as Go's tabwriter sets them, with this many spaces between them.
fn table(padding: usize, head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows[0].len();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0) + padding;
    let mut text = String::new();
    for row in &rows {
        for (at, cell) in row.iter().enumerate() {
            // The last cell ends the line. Writing to a String can't fail.
            let width = if at + 1 < columns { width(at) } else { 0 };
            _ = write!(text, "{cell:<width$}");
        }
        text.push('\n');
    }
    text
}

// === Warnings

#[derive(Serialize)]
struct Results<'a> {
    warnings: Option<Vec<Found<'a>>>,
    sources: [File<'a>; 1],
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    error: Option<Problem<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    #[serde(rename = "ruleName")]
    rule: &'a str,
    description: &'a str,
    url: &'a str,
    detail: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct File<'a> {
    filename: &'a str,
    data: String,
    language: &'static str,
}

#[derive(Serialize)]
struct Problem<'a> {
    message: &'a str,
    location: Location,
}

fn lint(
    warnings: &[Warning],
    problem: Option<&BuildError>,
    source: &Source,
) -> Result<(Vec<u8>, String), Status> {
    fn found(warning: &Warning) -> Found<'_> {
        let Warning { rule, description, url, message, lines: (first, last) } = warning;
        Found { rule, description, url, detail: message, location: Location::of(*first, *last) }
    }
    let mut text = String::new();
    for warning in warnings {
        _ = write!(text, "\nWARNING: {} - {}\n{}\n", warning.rule, warning.url, warning.message);
    }
    let results = Results {
        // Go's empty list is null.
        warnings: Some(warnings.iter().map(found).collect()).filter(|list: &Vec<_>| !list.is_empty()),
        sources: [File {
            filename: &source.name,
            data: STANDARD.encode(&source.data),
            language: "Dockerfile",
        }],
        error: problem.map(|error| Problem {
            message: &error.message,
            location: match &error.lines {
                Some(lines) => Location::of(*lines.start(), *lines.end()),
                None => Location { ranges: Vec::new() },
            },
        }),
    };
    Ok((json(&results)?, text))
}

// === Targets

#[derive(Serialize)]
struct Targets {
    targets: Vec<Target>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    base: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    location: Location,
}

impl Targets {
    fn of(stages: &[Stage], source: &Source) -> Self {
        let target = |(index, stage): (usize, &Stage)| {
            let name = stage.name.clone().unwrap_or_default();
            Target {
                description: description(&stage.comments, &name).to_owned(),
                name,
                default: index + 1 == stages.len(),
                base: stage.base.clone(),
                platform: stage.platform.clone(),
                location: Location::of(stage.line, stage.line),
            }
        };
        let targets = stages.iter().enumerate().map(target).collect();
        Self { targets, sources: [STANDARD.encode(&source.data)] }
    }

    fn text(&self) -> String {
        let row = |target: &Target| {
            let name = match (target.name.as_str(), target.default) {
                ("", true) => "(default)".to_owned(),
                (name, true) => format!("{name} (default)"),
                (name, false) => name.to_owned(),
            };
            vec![name, target.description.clone()]
        };
        table(1, &["TARGET", "DESCRIPTION"], self.targets.iter().map(row).collect())
    }
}

// === What can be asked

#[derive(Serialize)]
struct Request {
    name: &'static str,
    version: &'static str,
    r#type: &'static str,
    description: &'static str,
    opts: Option<Vec<Named>>,
    inputs: Option<Vec<Named>>,
    metadata: Vec<Named>,
    refs: Option<Vec<Named>>,
}

#[derive(Serialize)]
struct Named {
    name: &'static str,
    description: &'static str,
}

/// BuildKit does not tell of checks.
fn kinds() -> Vec<Request> {
    let named = |name, description| Named { name, description };
    let request = |name, description, opts| Request {
        name,
        version: "1.0.0",
        r#type: "rpc",
        description,
        opts,
        inputs: None,
        metadata: vec![named("result.json", ""), named("result.txt", "")],
        refs: None,
    };
    let target = vec![named("target", "Target build stage")];
    vec![
        request("frontend.outline", "List all parameters current build target supports", Some(target)),
        request("frontend.targets", "List all targets current build supports", Some(Vec::new())),
        request("frontend.subrequests.describe", "List available subrequest types", None),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_dockerfile::language::parse;
    use serde_json::Value;

    fn source() -> Source {
        Source { name: "Dockerfile".into(), data: b"FROM x".as_slice().into() }
    }

    #[test]
    fn warnings_and_errors_are_in_buildkits_order() {
        let warning = Warning {
            rule: "StageNameCasing",
            description: "d",
            url: "u".into(),
            message: "m".into(),
            lines: (1, 2),
        };
        let error = drydock_dockerfile::build::BuildError::from(parse("FROMM x").unwrap_err());
        let (found, _) = lint(&[warning], Some(&error), &source()).unwrap();
        let text = String::from_utf8(found).unwrap();
        let order = [
            "\"warnings\"",
            "\"ruleName\"",
            "\"location\"",
            "\"start\"",
            "\"sources\"",
            "\"data\"",
            "\"buildError\"",
        ];
        let places: Vec<_> = order.iter().map(|part| text.find(part).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["buildError"]["location"]["ranges"][0]["start"]["line"], 1);
        let (nothing, _) = lint(&[], None, &source()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&nothing).unwrap()["warnings"], Value::Null);
    }

    #[test]
    fn targets_have_descriptions() {
        let file = parse("# one the first\nFROM a AS one\n# other\nFROM --platform=p b").unwrap();
        let targets = Targets::of(&file.stages, &source());
        assert_eq!(targets.text(), "TARGET    DESCRIPTION\none       the first\n(default) \n");
        let value = serde_json::to_value(&targets).unwrap();
        assert_eq!(value["targets"][1]["platform"], "p");
    }
}
