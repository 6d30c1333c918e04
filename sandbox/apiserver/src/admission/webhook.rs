//! Admission webhooks: programs in the cluster that are asked before a write is stored, and may change or refuse it (k8s.io/apiserver
//! `pkg/admission/plugin/webhook`). Those that change are asked one after the other, and some once more if a later one changed
//! something; those that only refuse are asked all at once.

mod call;

use super::matching::{Version, Write, matches, namespace_of};
use super::{Context, policy, reader};
use crate::server::Server;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use drydock_apimachinery::Status;
use drydock_apimachinery::decode;
use drydock_apimachinery::object::{self, int, list, text};
use drydock_apimachinery::patch::{self, PatchKind};
use drydock_apimachinery::schema;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::HashSet;

/// A webhook of a configuration.
struct Hook {
    /// Of which there is one.
    id: String,
    tree: Value,
}

/// What became of a question.
enum Verdict {
    /// It was not asked.
    None,
    /// It could not be asked, which does not matter.
    Ignored,
    /// It allows it, with this response about this version.
    Allowed(Value, Version),
}

/// What webhooks have to be asked again, since the object changed after they were (`reinvocationPolicy: IfNeeded`;
/// `mutating/reinvocationcontext.go`).
#[derive(Debug, Default)]
pub struct Rounds {
    is_second: bool,
    is_second_wanted: bool,
    asked: HashSet<String>,
    due: HashSet<String>,
    last: Option<Value>,
}

impl Rounds {
    /// Whether all is to be done once more; there are two rounds at most.
    pub fn again(&mut self) -> bool {
        let begins = self.is_second_wanted && !self.is_second;
        self.is_second |= begins;
        begins
    }

    /// All who were asked before this change are to be asked again.
    fn changed(&mut self) {
        self.due.extend(self.asked.drain());
    }
}

/// Lets webhooks change a new object.
pub async fn mutate(
    server: &Server,
    context: &Context<'_>,
    object: &mut Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
    rounds: &mut Rounds,
) -> Result<(), Status> {
    // What other plug-ins changed since.
    if rounds.last.take().is_some_and(|last| last != *object) {
        rounds.changed();
    }
    for hook in hooks(server, context, "mutatingwebhookconfigurations")? {
        if rounds.is_second && !rounds.due.contains(&hook.id) {
            continue;
        }
        // In a box: it is large, and mostly there is no webhook.
        match Box::pin(ask(server, context, &hook.tree, object, old, true, warnings)).await? {
            Verdict::None => continue,
            Verdict::Ignored => {}
            Verdict::Allowed(response, version) => {
                let mut seen = version.of(server, context, object).await?.into_owned();
                if change(&version.context(context), &hook.tree, &response, &mut seen)? {
                    *object = version.back(server, context, seen).await?;
                    rounds.changed();
                    rounds.is_second_wanted = true;
                }
            }
        }
        if text(&hook.tree, &["reinvocationPolicy"]) == "IfNeeded" {
            rounds.asked.insert(hook.id);
        }
    }
    // They may put in what is no field of a custom resource; what is kept has none of it.
    if let Some(custom) = context.resource.custom() {
        custom.drop_unknown(object);
    }
    if rounds.is_second_wanted && !rounds.is_second {
        rounds.last = Some(object.clone());
    }
    Ok(())
}

/// Lets webhooks refuse a write.
pub async fn validate(
    server: &Server,
    context: &Context<'_>,
    object: &Value,
    old: Option<&Value>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let hooks = hooks(server, context, "validatingwebhookconfigurations")?;
    let all = hooks.iter().map(|hook| async {
        let mut warnings = Vec::new();
        let verdict = ask(server, context, &hook.tree, object, old, false, &mut warnings).await;
        (verdict, warnings)
    });
    let mut refusal = None;
    for (verdict, mut told) in join_all(all).await {
        warnings.append(&mut told);
        refusal = refusal.or(verdict.err());
    }
    refusal.map_or(Ok(()), Err)
}

/// All webhooks of a kind, in the order of their configurations' names. Their configurations themselves are nobody's business.
fn hooks(server: &Server, context: &Context<'_>, place: &str) -> Result<Vec<Hook>, Status> {
    if &*context.resource.group == "admissionregistration.k8s.io" {
        return Ok(Vec::new());
    }
    let configurations = reader::list(&server.store, place)?;
    let of = |configuration: &Value| {
        let name = object::name(configuration);
        let hooks = list(configuration, &["webhooks"]).iter().enumerate();
        hooks
            .map(|(index, tree)| Hook { id: format!("{name}/{index}"), tree: tree.clone() })
            .collect::<Vec<_>>()
    };
    Ok(configurations.iter().flat_map(|one| of(one)).collect())
}

/// Makes the change that a response wants; whether there was one.
fn change(context: &Context<'_>, hook: &Value, response: &Value, object: &mut Value) -> Result<bool, Status> {
    let Some(patch) = response.get("patch").and_then(Value::as_str) else { return Ok(false) };
    let patch = BASE64_STANDARD.decode(patch).map_err(Status::internal)?;
    if serde_json::from_slice::<Vec<Value>>(&patch).is_ok_and(|patch| patch.is_empty()) {
        return Ok(false);
    }
    if object.is_null() {
        let name = text(hook, &["name"]);
        return Err(Status::internal(format!(
            "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
        )));
    }
    let changed = patched(context, object, &patch).map_err(Status::internal)?;
    let differs = changed != *object;
    *object = changed;
    Ok(differs)
}

/// The object as the patch makes it, with defaults for what is new.
fn patched(context: &Context<'_>, object: &Value, patch: &[u8]) -> Result<Value, String> {
    let resource = context.resource;
    let mut changed =
        patch::apply(PatchKind::Json, object.clone(), patch, None).map_err(|status| status.message)?.object;
    // It is asked about this object, not for another one.
    for field in ["name", "namespace", "uid"] {
        if text(&changed, &["metadata", field]) != text(object, &["metadata", field]) {
            return Err(format!("a webhook may not change metadata.{field}"));
        }
    }
    let kind = context.kind();
    let schema = schema::find(kind.group, kind.version, kind.kind);
    if let Some(schema) = schema.filter(|_| context.kind.is_some() || resource.custom().is_none()) {
        changed = decode::conform(&changed, schema).map_err(|error| error.to_string())?.object;
    }
    if context.kind.is_none() {
        resource.default(&mut changed);
    }
    Ok(changed)
}

/// What a webhook says of a write.
async fn ask(
    server: &Server,
    context: &Context<'_>,
    hook: &Value,
    object: &Value,
    old: Option<&Value>,
    changes: bool,
    warnings: &mut Vec<String>,
) -> Result<Verdict, Status> {
    let namespace = namespace_of(server, context, object, old)?;
    let write = Write { context, object, old: old.unwrap_or(&Value::Null), namespace: &namespace };
    let named = json!({
        "matchPolicy": hook["matchPolicy"],
        "resourceRules": hook["rules"],
        "namespaceSelector": hook["namespaceSelector"],
        "objectSelector": hook["objectSelector"],
    });
    let Some(version) = matches(server, &write, &named) else { return Ok(Verdict::None) };
    let object = version.of(server, context, write.object).await?;
    let old = version.of(server, context, write.old).await?;
    let write = Write { context: &version.context(context), object: &object, old: &old, ..write };
    let name = text(hook, &["name"]);
    let fails = text(hook, &["failurePolicy"]) != "Ignore";
    match policy::conditions(&write, server, list(hook, &["matchConditions"])) {
        Ok(true) => {}
        Ok(false) => return Ok(Verdict::None),
        Err(why) if fails => return Err(failed(name, &why)),
        Err(_) => return Ok(Verdict::None),
    }
    if context.dry_run && !matches!(text(hook, &["sideEffects"]), "None" | "NoneOnDryRun") {
        return Err(Status::bad_request(format!("admission webhook {name:?} does not support dry run")));
    }
    let response = match call::ask(server, hook, &write, changes).await {
        Ok(response) => response,
        Err(why) if fails => return Err(failed(name, &why)),
        Err(why) => {
            tracing::warn!("Failed calling webhook, failing open {name}: {why}");
            return Ok(Verdict::Ignored);
        }
    };
    warnings.extend(list(&response, &["warnings"]).iter().filter_map(Value::as_str).map(String::from));
    if response["allowed"] == true {
        Ok(Verdict::Allowed(response, version))
    } else {
        Err(denied(name, &response["status"]))
    }
}

fn failed(name: &str, why: &str) -> Status {
    Status::internal(format!("failed calling webhook {name:?}: {why}"))
}

/// `ToStatusErr`.
fn denied(name: &str, result: &Value) -> Status {
    let by = format!("admission webhook {name:?} denied the request");
    let message = match (text(result, &["message"]), text(result, &["reason"])) {
        ("", "") => format!("{by} without explanation"),
        ("", why) | (why, _) => format!("{by}: {why}"),
    };
    let code = int(result, &["code"]).and_then(|code| u16::try_from(code).ok()).unwrap_or(0).max(400);
    Status::failure(code, text(result, &["reason"]), message)
}
