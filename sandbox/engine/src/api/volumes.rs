//! Endpoints of volumes. What a volume is stands in [`crate::volumes`]; who uses it is asked of the containers.

use crate::clock::Timestamp;
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::http::{Answer, ApiVersion, Query, answer, read_request};
use crate::volumes::{ANONYMOUS, LOCAL, Volume};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/prune", post(prune))
        .route("/volumes/{name}", get(inspect).delete(remove).put(update))
}

async fn list(State(engine): State<Arc<Engine>>, query: Query) -> Answer {
    let filters = Filters::of(&query).map_err(|error| Error {
        message: format!("error reading volume filters: {}", error.message),
        ..error
    })?;
    filters.validate(&["dangling", "name", "driver", "label"])?;
    let dangling = filters.truth("dangling")?;
    let mut volumes = engine.volumes.list();
    volumes.retain(|volume| {
        filters.exact("driver", &volume.driver)
            && filters.matches("name", &volume.name)
            && filters.labels("label", volume.labels.as_ref().unwrap_or(&BTreeMap::new()))
            && dangling.is_none_or(|dangling| dangling == users(&engine, &volume.name).is_empty())
    });
    let volumes: Vec<_> = volumes.iter().map(to_json).collect();
    Ok(answer(StatusCode::OK, &json!({ "Volumes": volumes, "Warnings": null })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateRequest {
    name: Option<String>,
    driver: Option<String>,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    cluster_volume_spec: Option<Value>,
}

async fn create(State(engine): State<Arc<Engine>>, headers: HeaderMap, body: Body) -> Answer {
    let request: CreateRequest = read_request(&headers, body).await?;
    if request.cluster_volume_spec.is_some() {
        return Err(super::swarm::no_manager());
    }
    let mut labels = request.labels;
    let name = match request.name.filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => {
            labels.get_or_insert_default().insert(ANONYMOUS.to_owned(), String::new());
            random_id()?
        }
    };
    let driver = request.driver.unwrap_or_default();
    let volume = engine.volumes.create(&name, &driver, request.driver_opts, labels)?;
    if volume.new {
        emit(&engine, "create", &volume.name);
    }
    Ok(answer(StatusCode::CREATED, &to_json(&volume)))
}

async fn inspect(State(engine): State<Arc<Engine>>, Path(name): Path<String>) -> Answer {
    Ok(answer(StatusCode::OK, &to_json(&engine.volumes.get(&name)?)))
}

async fn update() -> Answer {
    let text = "volume update only valid for cluster volumes, but swarm is unavailable";
    Err(Error::new(StatusCode::SERVICE_UNAVAILABLE, text))
}

async fn remove(State(engine): State<Arc<Engine>>, Path(name): Path<String>, query: Query) -> Answer {
    match delete(&engine, &name).await {
        // With `force` it is enough that it is gone.
        Err(error) if error.status == StatusCode::NOT_FOUND && query.flag("force") => {}
        other => other?,
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn prune(State(engine): State<Arc<Engine>>, version: ApiVersion, query: Query) -> Result<Response> {
    let filters = Filters::of(&query)?;
    // Before 1.42 all unused volumes went, now only those without a name of their own.
    let all = !version.at_least(42) || wants_all(&filters)?;
    filters.validate(&["label", "label!", "all"])?;
    let mut deleted = vec![];
    let mut reclaimed = 0;
    for volume in engine.volumes.list() {
        let none = BTreeMap::new();
        let labels = volume.labels.as_ref().unwrap_or(&none);
        let wanted = (all || volume.is_anonymous())
            && !volume.has_options()
            && filters.prune_labels(labels)
            && users(&engine, &volume.name).is_empty();
        if !wanted {
            continue;
        }
        let size = size_of(&volume).await;
        if delete(&engine, &volume.name).await.is_ok() {
            reclaimed += u64::try_from(size).unwrap_or(0);
            deleted.push(volume.name);
        }
    }
    let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
    engine.events.emit("volume", "prune", "", attributes);
    Ok(answer(StatusCode::OK, &json!({ "VolumesDeleted": deleted, "SpaceReclaimed": reclaimed })))
}

fn wants_all(filters: &Filters) -> Result<bool> {
    let values: Vec<_> = filters.get("all").collect();
    match values[..] {
        [] => Ok(false),
        ["1" | "t" | "T" | "TRUE" | "true" | "True"] => Ok(true),
        ["0" | "f" | "F" | "FALSE" | "false" | "False"] => Ok(false),
        [wrong] => Err(Error::invalid(format!(
            "invalid filter 'all': strconv.ParseBool: parsing {wrong:?}: invalid syntax"
        ))),
        _ => Err(Error::invalid(format!(
            "invalid filter 'all=[{}]': only one value is expected",
            values.join(" ")
        ))),
    }
}

/// Removes one, in a thread that may block.
async fn delete(engine: &Arc<Engine>, name: &str) -> Result<()> {
    let (held, owned) = (engine.clone(), name.to_owned());
    blocking(move || held.volumes.remove(&owned, &users(&held, &owned))).await?;
    emit(engine, "destroy", name);
    Ok(())
}

/// Volumes with the room that they take, for `docker system df`.
pub async fn usage(engine: &Arc<Engine>) -> Vec<Value> {
    let mut list = vec![];
    for volume in engine.volumes.list().iter().filter(|volume| !volume.has_options()) {
        let mut value = to_json(volume);
        value["UsageData"] =
            json!({ "RefCount": users(engine, &volume.name).len(), "Size": size_of(volume).await });
        list.push(value);
    }
    list
}

async fn size_of(volume: &Volume) -> i64 {
    let path = volume.mountpoint.clone();
    blocking(move || Ok(crate::volumes::size(&path))).await.unwrap_or(-1)
}

fn users(engine: &Engine, name: &str) -> Vec<String> {
    engine.containers.using_volume(name)
}

fn emit(engine: &Engine, action: &str, name: &str) {
    let attributes = BTreeMap::from([("driver".to_owned(), LOCAL.to_owned())]);
    engine.events.emit("volume", action, name, attributes);
}

fn to_json(volume: &Volume) -> Value {
    json!({
        "CreatedAt": Timestamp::from_unix(volume.created.seconds(), 0),
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": volume.options,
        "Scope": LOCAL,
    })
}

/// 64 hexadecimal digits.
fn random_id() -> Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
