//! Objects of custom resources as a webhook converts them between versions (apiextensions-apiserver
//! `pkg/apiserver/conversion/webhook_converter.go`). Records are converted before anybody looks into them: whoever lists, watches or changes
//! objects sees them in the version that he asked for.

use super::CustomKind;
use crate::resource::Resource;
use crate::rest::meta;
use crate::server::Server;
use crate::storage;
use crate::webhook_client;
use bytes::Bytes;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{list, text};
use drydock_etcd::{Event, Record};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A webhook that has not answered by then failed, in seconds.
const SLOWEST: u64 = 30;

/// Most objects of one question.
const TOGETHER: usize = 100;

/// Most bytes of objects of one question; a larger object is asked about alone.
const LONG: usize = 1024 * 1024;

/// Most bytes of converted objects that are kept.
const KEPT: usize = 4 * 1024 * 1024;

/// The forms of the question that we know.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// Who converts the objects of a definition.
#[derive(Debug)]
pub struct Webhook {
    /// How it is reached: its `clientConfig`.
    config: Value,
    /// In which form it wants to be asked; none: in none that we know.
    review: Option<&'static str>,
}

impl Webhook {
    /// That of a definition, if it has one.
    pub fn of(definition: &Value) -> Option<Self> {
        let conversion = &definition["spec"]["conversion"];
        (conversion["strategy"] == "Webhook").then(|| {
            let hook = &conversion["webhook"];
            let wanted = list(hook, &["conversionReviewVersions"]).iter().filter_map(Value::as_str);
            let review = wanted.into_iter().find_map(|one| VERSIONS.into_iter().find(|known| *known == one));
            Self { config: hook["clientConfig"].clone(), review }
        })
    }
}

/// Converted records, kept until there are too many: lists and watches come to the same ones again and again.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    records: HashMap<Id, Arc<Record>>,
    bytes: usize,
}

/// A revision of an object in a version, as a definition of some revision has it converted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Id {
    key: Bytes,
    revision: i64,
    version: String,
    definition: i64,
}

impl Cache {
    fn get(&self, id: &Id) -> Option<Arc<Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).records.get(id).cloned()
    }

    fn keep(&self, id: Id, record: &Arc<Record>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + record.value.len() > KEPT {
            *kept = Kept::default();
        }
        kept.bytes += record.value.len() + id.key.len() + 200;
        kept.records.insert(id, record.clone());
    }
}

/// The records with their objects in the resource's version.
pub async fn records(
    server: &Server,
    resource: &Resource,
    mut records: Vec<Arc<Record>>,
) -> Result<Vec<Arc<Record>>, Status> {
    let Some((custom, _)) = webhook(resource) else { return Ok(records) };
    let (mut due, mut bytes) = (Vec::new(), 0);
    for index in 0..records.len() {
        let record = &records[index];
        if record.is_tombstone() {
            continue;
        }
        let id = Id {
            key: record.key.clone(),
            revision: record.mod_revision,
            version: resource.api_version.clone(),
            definition: custom.since,
        };
        if let Some(kept) = server.conversions.get(&id) {
            records[index] = kept;
            continue;
        }
        let tree = storage::decode(record)?;
        if text(&tree, &["apiVersion"]) == resource.api_version {
            continue;
        }
        if due.len() == TOGETHER || bytes + record.value.len() > LONG {
            exchange(server, resource, &mut records, std::mem::take(&mut due)).await?;
            bytes = 0;
        }
        bytes += records[index].value.len();
        due.push(Due { index, id, tree });
    }
    exchange(server, resource, &mut records, due).await?;
    Ok(records)
}

/// A record that is to be converted.
struct Due {
    index: usize,
    id: Id,
    tree: Value,
}

/// Puts converted records in the places of these.
async fn exchange(
    server: &Server,
    resource: &Resource,
    records: &mut [Arc<Record>],
    due: Vec<Due>,
) -> Result<(), Status> {
    let Some((custom, hook)) = webhook(resource) else { return Ok(()) };
    let (places, trees): (Vec<_>, Vec<_>) =
        due.into_iter().map(|Due { index, id, tree }| ((index, id), tree)).unzip();
    let converted = convert(server, hook, &resource.api_version, trees).await?;
    for ((index, id), mut tree) in places.into_iter().zip(converted) {
        custom.refresh(&mut tree);
        let record = Arc::new(records[index].with_value(storage::encode(&tree)));
        server.conversions.keep(id, &record);
        records[index] = record;
    }
    Ok(())
}

/// An event with its objects in the resource's version.
pub async fn event(server: &Server, resource: &Resource, event: Arc<Event>) -> Result<Arc<Event>, Status> {
    if webhook(resource).is_none() {
        return Ok(event);
    }
    // In a box: each watch has room for this, and hardly one ever asks.
    Box::pin(async {
        let prev = match &event.prev {
            Some(prev) => Some(record(server, resource, prev.clone()).await?),
            None => None,
        };
        let record = record(server, resource, event.record.clone()).await?;
        Ok(Arc::new(Event { kind: event.kind, record, prev }))
    })
    .await
}

/// A record with its object in the resource's version.
pub async fn record(
    server: &Server,
    resource: &Resource,
    record: Arc<Record>,
) -> Result<Arc<Record>, Status> {
    if webhook(resource).is_none() {
        return Ok(record);
    }
    let converted = records(server, resource, vec![record]).await?;
    converted.into_iter().next().ok_or_else(|| Status::internal("a record was lost"))
}

/// An object as it is stored in the resource's version.
pub async fn from_stored(server: &Server, resource: &Resource, tree: Value) -> Result<Value, Status> {
    match webhook(resource) {
        Some((custom, hook)) if text(&tree, &["apiVersion"]) != resource.api_version => {
            let mut tree = one(server, hook, &resource.api_version, tree).await?;
            custom.refresh(&mut tree);
            Ok(tree)
        }
        _ => Ok(tree),
    }
}

/// An object of one version of a resource in another.
pub async fn between(server: &Server, from: &Resource, to: &Resource, tree: Value) -> Result<Value, Status> {
    match webhook(to) {
        Some((_, hook)) if from.api_version != to.api_version => {
            one(server, hook, &to.api_version, tree).await
        }
        _ => Ok(to.load(from.store(tree))),
    }
}

/// An object of the resource's version in that which is stored.
pub async fn to_stored(server: &Server, resource: &Resource, tree: Value) -> Result<Value, Status> {
    let Some((custom, hook)) = webhook(resource) else { return Ok(tree) };
    if custom.stored_version == resource.api_version {
        return Ok(tree);
    }
    one(server, hook, &custom.stored_version, tree).await
}

async fn one(server: &Server, hook: &Webhook, to: &str, tree: Value) -> Result<Value, Status> {
    let converted = convert(server, hook, to, vec![tree]).await?;
    converted.into_iter().next().ok_or_else(|| Status::internal("an object was lost"))
}

fn webhook(resource: &Resource) -> Option<(&CustomKind, &Webhook)> {
    let custom = resource.custom()?;
    Some((custom, custom.webhook.as_deref()?))
}

/// The objects in another version.
async fn convert(server: &Server, hook: &Webhook, to: &str, trees: Vec<Value>) -> Result<Vec<Value>, Status> {
    let Some(first) = trees.first() else { return Ok(trees) };
    let kind = format!("{}, Kind={}", text(first, &["apiVersion"]), text(first, &["kind"]));
    let refused = |why: String| Status::failure(500, "", format!("conversion webhook for {kind} {why}"));
    let failed = |why: String| refused(format!("failed: {why}"));
    let none = "webhook does not accept known ConversionReview versions (v1, v1beta1)";
    let form = hook.review.ok_or_else(|| failed(none.into()))?;
    let uid = meta::uid()?;
    let review = json!({
        "kind": "ConversionReview",
        "apiVersion": format!("apiextensions.k8s.io/{form}"),
        "request": {"uid": uid, "desiredAPIVersion": to, "objects": trees},
    });
    let answer = webhook_client::post(server, &hook.config, review.to_string().into_bytes(), SLOWEST).await;
    let converted = answer.and_then(|answer| verified(answer, &uid, form)).map_err(failed)?;
    if converted.len() != trees.len() {
        let (told, wanted) = (converted.len(), trees.len());
        return Err(refused(format!("returned {told} objects, expected {wanted}")));
    }
    let both = trees.into_iter().zip(converted);
    both.map(|(old, new)| restored(&old, new, to).map_err(refused)).collect()
}

/// What is in an answer, if it is one to this question (`getConvertedObjectsFromResponse`).
fn verified(mut answer: Value, uid: &str, form: &str) -> Result<Vec<Value>, String> {
    let wanted = format!("apiextensions.k8s.io/{form}, Kind=ConversionReview");
    let told = format!("{}, Kind={}", text(&answer, &["apiVersion"]), text(&answer, &["kind"]));
    if told != wanted {
        return Err(format!("expected webhook response of {wanted}, got {told}"));
    }
    let response = &mut answer["response"];
    if response.is_null() {
        return Err("no response provided".into());
    }
    let told = text(response, &["uid"]);
    // The old form did not ask for it.
    if form == "v1" && told != uid {
        return Err(format!("expected response.uid={uid:?}, got {told:?}"));
    }
    let status = text(response, &["result", "status"]);
    if status != "Success" {
        return Err(match text(response, &["result", "message"]) {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            message => message.to_string(),
        });
    }
    match response["convertedObjects"].take() {
        Value::Array(all) => Ok(all),
        _ => Ok(Vec::new()),
    }
}

/// A converted object with the metadata that it had: a webhook may change labels and annotations, and nothing else of it
/// (`validateConvertedObject`, `restoreObjectMeta`).
fn restored(old: &Value, mut new: Value, to: &str) -> Result<Value, String> {
    let wrong = |why: String| format!("returned invalid converted object: {why}");
    let told = text(&new, &["apiVersion"]);
    if told != to {
        return Err(wrong(format!("invalid groupVersion (expected {to}, received {told})")));
    }
    let (told, wanted) = (text(&new, &["kind"]), text(old, &["kind"]));
    if told != wanted {
        return Err(wrong(format!("invalid kind (expected {wanted}, received {told})")));
    }
    let mut metadata = old["metadata"].clone();
    for field in ["labels", "annotations"] {
        let given = new["metadata"].get(field).filter(|value| !value.is_null()).cloned();
        let texts = |map: &serde_json::Map<_, _>| map.values().all(Value::is_string);
        match given {
            None => drop(metadata.as_object_mut().and_then(|metadata| metadata.remove(field))),
            Some(map) if map.as_object().is_some_and(texts) => metadata[field] = map,
            Some(_) => {
                return Err(format!("returned invalid metadata: invalid metadata.{field}: no map of texts"));
            }
        }
    }
    if !new["metadata"].is_object() {
        return Err("returned invalid metadata: missing metadata in converted object".into());
    }
    new["metadata"] = metadata;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_none_is_told_in_upstreams_words() {
        let told = |answer: Value| verified(answer, "u", "v1").expect_err("it is wrong");
        let answer = |response: Value| json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response});
        assert_eq!(
            told(json!({"kind": "Pod", "apiVersion": "v1"})),
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got v1, Kind=Pod"
        );
        assert_eq!(told(answer(Value::Null)), "no response provided");
        assert_eq!(told(answer(json!({"uid": "v"}))), "expected response.uid=\"u\", got \"v\"");
        let silent = answer(json!({"uid": "u", "result": {"status": "Failed"}}));
        assert_eq!(told(silent), "response.result.status was 'Failed', not 'Success'");
        let failed = answer(json!({"uid": "u", "result": {"status": "Failed", "message": "no port"}}));
        assert_eq!(told(failed), "no port");
        let done = answer(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]}));
        assert_eq!(verified(done, "u", "v1"), Ok(vec![json!({})]));
    }

    #[test]
    fn only_labels_and_annotations_of_the_metadata_change() {
        let old = json!({"apiVersion": "e/v1", "kind": "K", "metadata": {"name": "a", "uid": "1", "labels": {"x": "1"}}});
        let new =
            |metadata: Value| json!({"apiVersion": "e/v2", "kind": "K", "metadata": metadata, "spec": 1});
        let labels = json!({"y": "2"});
        let made = restored(&old, new(json!({"name": "b", "labels": labels})), "e/v2");
        assert_eq!(made, Ok(new(json!({"name": "a", "uid": "1", "labels": labels}))));
        let words = restored(&old, new(json!({"labels": {"y": 2}})), "e/v2");
        assert!(words.expect_err("numbers").starts_with("returned invalid metadata: "));
        let words = restored(&old, old.clone(), "e/v2").expect_err("it is not converted");
        assert_eq!(
            words,
            "returned invalid converted object: invalid groupVersion (expected e/v2, received e/v1)"
        );
    }
}
