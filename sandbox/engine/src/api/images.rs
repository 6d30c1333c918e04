//! Endpoints of images. Names have slashes, so what follows `/images/` is one wildcard and its last part says what is wanted.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::http::{Answer, ApiVersion, Query, answer, lines, produce, read_request, reader, stream};
use crate::images::{self, platform};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use drydock_images::local::{Image, LocalStore, Removal, RemoveOptions};
use drydock_images::{Digest, Reference};
use drydock_registry::{AuthConfig, Client, Platform, decode_registry_auth};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a search waits for the index when the catalogue has something already.
const SEARCH_PATIENCE: Duration = Duration::from_secs(5);

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/images/json", get(list))
        .route("/images/create", post(create))
        .route("/images/get", get(save_many))
        .route("/images/load", post(load))
        .route("/images/prune", post(prune))
        .route("/images/search", get(search))
        .route("/images/{*rest}", get(one).post(change).delete(remove))
        .route("/distribution/{*rest}", get(distribution))
        .route("/auth", post(auth))
}

async fn list(State(engine): State<Arc<Engine>>, version: ApiVersion, query: Query) -> Answer {
    let mut filters = Filters::of(&query)?;
    if let Some(pattern) = query.text("filter").filter(|_| !version.at_least(41)) {
        filters.add("reference", pattern);
    }
    let (all, with_shared) = (query.flag("all"), query.flag("shared-size") && version.at_least(42));
    let (found, shared) = images::blocking(&engine, move |store| {
        let shared = with_shared.then(|| images::shared_sizes(store));
        Ok::<_, Error>((images::select(store, &filters, all)?, shared))
    })
    .await?;
    let show = |image: &Image| {
        let id = &image.id;
        let users = || images::made_from(&engine, id);
        let shared = shared.as_ref().map(|sizes| sizes.get(id).copied().unwrap_or(0));
        images::summary(image, version, shared, if version.at_least(51) { users() } else { -1 })
    };
    Ok(answer(StatusCode::OK, &found.iter().map(show).collect::<Vec<_>>()))
}

/// Bytes of all layers of images, and images with the room that they take, for `docker system df`.
pub async fn usage(engine: &Arc<Engine>) -> Result<(u64, Vec<Value>)> {
    let version = crate::http::MAX_API;
    let (found, shared, layers) = images::blocking(engine, move |store| {
        let found = images::select(store, &Filters::default(), false)?;
        let layers = images::layers_size(store);
        Ok::<_, Error>((found, images::shared_sizes(store), layers))
    })
    .await?;
    let show = |image: &Image| {
        let users = images::made_from(engine, &image.id);
        let mut value = images::summary(image, version, shared.get(&image.id).copied(), users);
        for names in ["RepoTags", "RepoDigests"] {
            if value[names].as_array().is_some_and(Vec::is_empty) {
                value[names] = Value::Null;
            }
        }
        value
    };
    Ok((layers, found.iter().map(show).collect()))
}

/// Pull or import.
async fn create(State(engine): State<Arc<Engine>>, headers: HeaderMap, query: Query, body: Body) -> Answer {
    let platform = platform_text(&query)?;
    let tag = query.get("tag");
    let Some(image) = query.text("fromImage") else { return import(engine, &query, platform, body).await };
    // "pull -a" of old clients ends the name with a colon.
    let mut name = Reference::parse(image.strip_suffix(':').unwrap_or(image))?;
    if !tag.is_empty() {
        name = match tag.parse::<Digest>() {
            Ok(_) => name.name_only().with_digest(tag)?,
            Err(_) => name.with_tag(tag)?,
        };
    }
    let auth = credentials(&headers);
    stream(move |lines| async move { images::pull(&engine, &name, platform, auth, &lines).await }).await
}

async fn import(engine: Arc<Engine>, query: &Query, platform: Option<Platform>, body: Body) -> Answer {
    if platform.as_ref().is_some_and(|platform| !["linux", "wasi"].contains(&platform.os.as_str())) {
        return Err(Error::invalid("operating system is not supported"));
    }
    let source = query.get("fromSrc").to_owned();
    let name = images::tagged(query.get("repo"), query.get("tag"))?;
    let comment = query.text("message").map_or_else(|| format!("Imported from {source}"), str::to_owned);
    let changes: Vec<_> = query.all("changes").map(str::to_owned).collect();
    if source == "-" {
        let tar = reader(body);
        return stream(move |out| async move {
            imported(&engine, tar, platform, comment, changes, name, &out).await
        })
        .await;
    }
    // As dockerd: what has no scheme is HTTP.
    let url = if source.contains("://") { source } else { format!("http://{source}") };
    let tar = crate::build::fetch(&engine, url.clone()).await?;
    stream(move |out| async move {
        out.send(&lines::status("", &format!("Downloading from {url}"))).await?;
        imported(&engine, tar, platform, comment, changes, name, &out).await
    })
    .await
}

async fn imported(
    engine: &Engine,
    tar: impl std::io::Read + Send + 'static,
    platform: Option<Platform>,
    comment: String,
    changes: Vec<String>,
    name: Option<Reference>,
    out: &crate::http::Lines,
) -> Result<()> {
    let id = images::import(engine, tar, platform, comment, changes).await?;
    if let Some(name) = name {
        images::tag(engine, &id, &name).await?;
    }
    out.send(&lines::status("", &id.to_string())).await
}

async fn one(
    State(engine): State<Arc<Engine>>,
    Path(rest): Path<String>,
    version: ApiVersion,
    query: Query,
) -> Answer {
    let (name, what) = split(&rest)?;
    match what {
        "json" => {
            if query.flag("manifests") && query.has("platform") {
                let text = "conflicting options: manifests and platform options cannot both be set";
                return Err(Error::invalid(text));
            }
            let wanted = platform::asked(&query, version, 49)?;
            let value = images::blocking(&engine, move |store| {
                let image = store.find(&name)?;
                platform::check(&image, wanted.as_ref(), &name)?;
                images::inspect(store, &image, version)
            });
            Ok(answer(StatusCode::OK, &value.await?))
        }
        "history" => {
            let wanted = platform::asked(&query, version, 48)?;
            let value = images::blocking(&engine, move |store| {
                let image = store.find(&name)?;
                platform::check(&image, wanted.as_ref(), &name)?;
                Ok::<_, Error>(store.history(&image.id)?)
            });
            Ok(answer(StatusCode::OK, &value.await?))
        }
        "get" => save(engine, vec![name], version, &query).await,
        _ => Err(Error::not_found("page not found")),
    }
}

async fn change(
    State(engine): State<Arc<Engine>>,
    Path(rest): Path<String>,
    version: ApiVersion,
    headers: HeaderMap,
    query: Query,
) -> Answer {
    let (name, what) = split(&rest)?;
    match what {
        "tag" => {
            let new = images::tagged(query.get("repo"), query.get("tag"))?;
            let new = new.ok_or_else(|| Error::invalid("invalid reference format"))?;
            let image = images::blocking(&engine, move |store| store.find(&name)).await?;
            images::tag(&engine, &image.id, &new).await?;
            Ok(StatusCode::CREATED.into_response())
        }
        "push" => {
            let mut reference = Reference::parse(&name)?;
            if let Some(tag) = query.text("tag") {
                reference = reference.with_tag(tag)?;
            }
            if let Some(wanted) = platform::asked(&query, version, 46)? {
                let text = reference.to_string();
                let check =
                    move |store: &LocalStore| platform::check(&store.find(&text)?, Some(&wanted), &text);
                images::blocking(&engine, check).await?;
            }
            let auth = credentials(&headers);
            stream(move |lines| async move { images::push(&engine, &reference, auth, &lines).await }).await
        }
        _ => Err(Error::not_found("page not found")),
    }
}

/// `team/app:1/json` → the name and `json`.
fn split(rest: &str) -> Result<(String, &str)> {
    match rest.rsplit_once('/') {
        Some((name, what)) if !name.is_empty() => Ok((name.to_owned(), what)),
        _ => Err(Error::not_found("page not found")),
    }
}

async fn remove(
    State(engine): State<Arc<Engine>>,
    Path(name): Path<String>,
    version: ApiVersion,
    query: Query,
) -> Answer {
    if name.trim().is_empty() {
        return Err(Error::invalid("image name cannot be blank"));
    }
    let (force, keep_parents, held) = (query.flag("force"), query.flag("noprune"), engine.clone());
    let wanted = platform::asked_of_removal(&query, version)?;
    let removed = images::blocking(&engine, move |store| {
        let users = |image: &Digest| images::users(&held, image);
        platform::check(&store.find(&name)?, wanted.as_ref(), &name)?;
        Ok::<_, Error>(store.remove(&name, RemoveOptions { force, keep_parents, users: &users })?)
    })
    .await?;
    tell(&engine, &removed);
    Ok(answer(StatusCode::OK, &images::removed(&removed)))
}

fn tell(engine: &Engine, removed: &[Removal]) {
    for removal in removed {
        match removal {
            Removal::Untagged { image, .. } => {
                images::emit(engine, "untag", &image.to_string(), &image.to_string());
            }
            Removal::Image(id) => images::emit(engine, "delete", &id.to_string(), &id.to_string()),
            Removal::Layer(_) => {}
        }
    }
}

async fn prune(State(engine): State<Arc<Engine>>, query: Query) -> Answer {
    let filters = Filters::of(&query)?;
    filters.validate(&["dangling", "label", "label!", "until"])?;
    let dangling = filters.truth("dangling")?.unwrap_or(true);
    let until = super::until(&filters)?;
    let held = engine.clone();
    let pruned = images::blocking(&engine, move |store| {
        let none = BTreeMap::new();
        let fits = |image: &Image| {
            let created = image.config.created.as_deref().and_then(|text| text.parse().ok());
            until.is_none_or(|until| created.is_some_and(|created: crate::clock::Timestamp| created <= until))
                && filters.prune_labels(image.config.config.labels.as_ref().unwrap_or(&none))
        };
        store.prune(dangling, &fits, &|image| images::users(&held, image))
    })
    .await?;
    tell(&engine, &pruned.removed);
    let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.reclaimed.to_string())]);
    engine.events.emit("image", "prune", "", attributes);
    let deleted = if pruned.removed.is_empty() { Value::Null } else { images::removed(&pruned.removed) };
    Ok(answer(StatusCode::OK, &json!({ "ImagesDeleted": deleted, "SpaceReclaimed": pruned.reclaimed })))
}

async fn search(State(engine): State<Arc<Engine>>, headers: HeaderMap, query: Query) -> Answer {
    let limit = match query.text("limit") {
        None => 0,
        Some(text) => {
            let limit = text.parse::<i64>().ok().filter(|limit| *limit >= 0);
            limit.ok_or_else(|| Error::invalid("invalid limit specified"))?
        }
    };
    let filters = Filters::of(&query)?;
    filters.validate(&["is-automated", "is-official", "stars"])?;
    if limit > 100 {
        return Err(Error::invalid(format!("limit {limit} is outside the range of [1, 100]")));
    }
    let term = query.get("term").to_owned();
    let wanted = term.clone();
    let here = images::blocking(&engine, move |store| Ok::<_, Error>(in_catalogue(store, &wanted))).await?;
    let auth = credentials(&headers);
    let index =
        engine.registries.with(async move |client: Client| Ok(client.search(&term, limit, &auth).await?));
    let there = if here.is_empty() {
        index.await?
    } else {
        // What the host has is told also when there is no way to the index.
        tokio::time::timeout(SEARCH_PATIENCE, index)
            .await
            .ok()
            .and_then(|found| found.ok())
            .unwrap_or_default()
    };
    let known: Vec<_> = here.iter().map(|found| found["name"].clone()).collect();
    let there = there.iter().filter_map(|found| serde_json::to_value(found).ok());
    let mut found: Vec<_> =
        here.into_iter().chain(there.filter(|found| !known.contains(&found["name"]))).collect();
    if let Some(official) = filters.truth("is-official")? {
        found.retain(|found| found["is_official"] == json!(official));
    }
    if let Some(automated) = filters.truth("is-automated")? {
        found.retain(|found| found["is_automated"] == json!(automated));
    }
    if let Some(stars) = filters.get("stars").filter_map(|stars| stars.parse::<i64>().ok()).max() {
        found.retain(|found| found["star_count"].as_i64().is_some_and(|count| count >= stars));
    }
    if let Ok(limit @ 1..) = usize::try_from(limit) {
        found.truncate(limit);
    }
    Ok(answer(StatusCode::OK, &found))
}

/// Names of the catalogue with the term in them, once each whatever their tags.
fn in_catalogue(store: &LocalStore, term: &str) -> Vec<Value> {
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for image in store.catalogue() {
        let name = image.name.familiar_name();
        if !name.contains(term) {
            continue;
        }
        let description = image.facts.get("org.opencontainers.image.description");
        let description = description.map_or("In the catalogue of this host", String::as_str);
        let line = json!({
            "star_count": 0, "is_official": !name.contains('/'), "name": name, "is_automated": false,
            "description": description,
        });
        found.insert(name, line);
    }
    found.into_values().collect()
}

async fn distribution(
    State(engine): State<Arc<Engine>>,
    Path(rest): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let (name, what) = split(&rest)?;
    if what != "json" {
        return Err(Error::not_found("page not found"));
    }
    let reference = Reference::parse(&name)?.with_default_tag();
    let found = images::inspect_remote(&engine, reference, credentials(&headers)).await?;
    Ok(answer(StatusCode::OK, &json!({ "Descriptor": found.descriptor, "Platforms": found.platforms })))
}

async fn auth(State(engine): State<Arc<Engine>>, headers: HeaderMap, body: Body) -> Answer {
    let auth: AuthConfig = read_request(&headers, body).await?;
    let login = engine.registries.with(async move |client: Client| Ok(client.login(&auth).await?));
    let outcome = login.await?;
    let value = json!({ "IdentityToken": outcome.identity_token, "Status": outcome.status });
    Ok(answer(StatusCode::OK, &value))
}

async fn save_many(State(engine): State<Arc<Engine>>, version: ApiVersion, query: Query) -> Answer {
    save(engine, query.all("names").map(str::to_owned).collect(), version, &query).await
}

async fn save(engine: Arc<Engine>, names: Vec<String>, version: ApiVersion, query: &Query) -> Answer {
    let wanted = platform::asked_once(query, version, 48)?;
    produce("application/x-tar", move |out| {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        if let Some(wanted) = wanted {
            for image in names.iter().map(|name| engine.images.find(name)) {
                if !platform::fits(&image?.config, &wanted) {
                    let text = format!("no suitable export target found for platform {wanted}");
                    return Err(Error::internal(text));
                }
            }
        }
        let mut tell = |id: &Digest| images::emit(&engine, "save", &id.to_string(), &id.to_string());
        Ok(engine.images.save(&names, out, &mut tell)?)
    })
    .await
}

async fn load(State(engine): State<Arc<Engine>>, version: ApiVersion, query: Query, body: Body) -> Answer {
    let quiet = query.flag_or("quiet", true);
    let wanted = platform::asked_once(&query, version, 48)?;
    let tar = reader(body);
    stream(move |out| async move {
        match images::load(&engine, tar, wanted, quiet, &out).await {
            Ok(()) => Ok(()),
            // Docker answers 200 before it reads the tar, so clients look for failures here.
            Err(error) => out.send(&lines::failure(&error.message)).await,
        }
    })
    .await
}

/// Who asks. What can't be read counts as nobody, as Docker has it.
pub fn credentials(headers: &HeaderMap) -> AuthConfig {
    let header = headers.get("x-registry-auth").and_then(|value| value.to_str().ok()).unwrap_or("");
    decode_registry_auth(header).unwrap_or_default()
}

fn platform_text(query: &Query) -> Result<Option<Platform>> {
    let parse = |text: &str| text.parse::<Platform>().map_err(|error| Error::invalid(error.to_string()));
    query.text("platform").map(parse).transpose()
}
