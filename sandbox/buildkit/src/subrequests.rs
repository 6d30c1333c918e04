//! `docker build --check` and `--call=targets`: questions about a Dockerfile (frontend/subrequests), answered without a build.

use crate::error::failed;
use crate::frontend::Prepared;
use crate::lint;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;
use tonic::Status;

/// Answers one.
///
/// # Errors
/// If it is of another kind.
pub fn answer(request: &str, prepared: &Prepared) -> Result<HashMap<String, Vec<u8>>, Status> {
    let (value, text) = match request {
        "frontend.lint" => {
            let (value, text) = lint::results(&prepared.warnings, &prepared.source);
            let mut answer = messages(&value, text);
            // The client's exit code.
            let code = if prepared.warnings.is_empty() { "0" } else { "1" };
            answer.insert("result.statuscode".to_owned(), code.as_bytes().to_vec());
            return Ok(answer);
        }
        "frontend.targets" => targets(prepared),
        "frontend.subrequests.describe" => describe(),
        other => return Err(failed(format!("unsupported request {other}"))),
    };
    Ok(messages(&value, text))
}

fn messages(value: &Value, text: String) -> HashMap<String, Vec<u8>> {
    let json = serde_json::to_vec_pretty(value).unwrap_or_default();
    HashMap::from([
        ("result.json".to_owned(), json),
        ("result.txt".to_owned(), text.into_bytes()),
        ("version".to_owned(), b"1.0.0".to_vec()),
    ])
}

fn targets(prepared: &Prepared) -> (Value, String) {
    let stages = &prepared.dockerfile.stages;
    let last = stages.len().saturating_sub(1);
    let mut text = String::from("TARGET\tDESCRIPTION\n");
    let list: Vec<Value> = stages
        .iter()
        .enumerate()
        .map(|(index, stage)| {
            let name = stage.name.clone().unwrap_or_default();
            let mark = if index == last { " (default)" } else { "" };
            // Writing to a String can't fail.
            _ = writeln!(text, "{name}{mark}\t");
            let mut target = json!({ "base": stage.base, "location": location(stage.line) });
            if !name.is_empty() {
                target["name"] = name.into();
            }
            if index == last {
                target["default"] = true.into();
            }
            target
        })
        .collect();
    (json!({ "targets": list, "sources": [STANDARD.encode(&prepared.source.data)] }), text)
}

fn location(line: usize) -> Value {
    json!({ "ranges": [{ "start": { "line": line }, "end": { "line": line } }] })
}

fn describe() -> (Value, String) {
    let list = [
        ("frontend.lint", "Lint a Dockerfile"),
        ("frontend.targets", "List all targets current build supports"),
        ("frontend.subrequests.describe", "List available subrequest types"),
    ];
    let mut text = String::from("NAME\tVERSION\tDESCRIPTION\n");
    let value = list.iter().map(|(name, description)| {
        _ = writeln!(text, "{name}\t1.0.0\t{description}");
        json!({ "name": name, "version": "1.0.0", "type": "rpc", "description": description,
                "metadata": [{ "Name": "result.json" }, { "Name": "result.txt" }] })
    });
    let value = value.collect();
    (value, text)
}
