//! Endpoints of containers. What they do is in [`crate::containers`]; here is how requests ask for it.

use crate::{
    clock::Timestamp,
    containers::{
        Container, attach, changes, commit, create, inspect, list, logs,
        model::{self, Config, CreateRequest},
        prune,
        record::Phase,
        remove, start, stats, stop,
        streams::{Input, Stream},
        top, update, validate, wait,
    },
    engine::{Engine, blocking},
    error::{Context, Error, Result},
    filters::Filters,
    http::{
        Answer, ApiVersion, Connection, Form, Peer, Query, answer, body_of, hijack, produce, read_json,
        websocket, whole::to_its_end,
    },
    images,
};
use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State, ws::WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Pieces of a log on their way to a client.
const PIECES: usize = 32;

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/containers/create", post(create_one))
        .route("/containers/prune", post(prune_all))
        .route("/containers/{id}/start", post(start_one))
        .route("/containers/{id}/stop", post(stop_one))
        .route("/containers/{id}/restart", post(restart_one))
        .route("/containers/{id}/kill", post(kill_one))
        .route("/containers/{id}/pause", post(pause_one))
        .route("/containers/{id}/unpause", post(unpause_one))
        .route("/containers/{id}/rename", post(rename_one))
        .route("/containers/{id}/update", post(update_one))
        .route("/containers/{id}", delete(remove_one))
        .route("/containers/{id}/{alias}", delete(remove_link))
        .route("/commit", post(commit_one))
        .route_layer(middleware::from_fn(to_its_end))
        .route("/containers/json", get(ps))
        .route("/containers/{id}/json", get(inspect_one))
        .route("/containers/{id}/wait", post(wait_for))
        .route("/containers/{id}/resize", post(resize))
        .route("/containers/{id}/attach", post(attach_to))
        .route("/containers/{id}/attach/ws", get(attach_by_websocket))
        .route("/containers/{id}/logs", get(logs_of))
        .route("/containers/{id}/top", get(top_of))
        .route("/containers/{id}/stats", get(stats_of))
        .route("/containers/{id}/changes", get(changes_of))
        .route("/containers/{id}/export", get(export))
}

type Engined = State<Arc<Engine>>;

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

async fn ps(State(engine): Engined, query: Query) -> Answer {
    // As an error of its own: dockerd does not call it the client's.
    let wrong = |text| Error::internal(format!("strconv.Atoi: parsing {text:?}: invalid syntax"));
    let limit = query.text("limit").map(|text| text.parse::<i64>().map_err(|_| wrong(text))).transpose()?;
    let wanted = list::Wanted {
        all: query.flag("all"),
        size: query.flag("size"),
        limit: limit.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0),
        filters: Filters::of(&query)?,
    };
    Ok(answer(StatusCode::OK, &list::list(&engine, &wanted)?))
}

async fn create_one(
    State(engine): Engined,
    version: ApiVersion,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let value: Option<Value> = read_json(&headers, body).await?;
    let value = value.ok_or_else(|| Error::invalid("invalid JSON: got EOF while reading request body"))?;
    let configured = value
        .as_object()
        .is_some_and(|o| o.keys().any(|key| !matches!(key.as_str(), "HostConfig" | "NetworkingConfig")));
    if !configured {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    }
    let request: CreateRequest =
        model::from_json(value).map_err(|e| Error::invalid(format!("invalid JSON: {e}")))?;
    let mut mounts = request.host_config.mounts.iter().flatten();
    if !version.at_least(48) && mounts.any(|mount| mount.kind == "image") {
        return Err(Error::invalid("Mount type \"Image\" needs API v1.48 or newer"));
    }
    if version.at_least(48) {
        validate::check_interface_sysctls(&request.host_config)?;
    }
    let created = create::create(&engine, query.text("name"), query.text("platform"), request)?;
    Ok(answer(StatusCode::CREATED, &created))
}

async fn inspect_one(
    State(engine): Engined,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
    peer: Peer,
) -> Answer {
    let container = match engine.containers.get(&id) {
        Ok(container) => container,
        Err(error) => engine.containers.departed.get(&id, peer.0).ok_or(error)?,
    };
    container.between_runs().await;
    Ok(answer(StatusCode::OK, &inspect::inspect(&engine, &container, query.flag("size"), version)))
}

async fn start_one(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    attach::keys(query.get("detachKeys"))?;
    let container = engine.containers.get(&id)?;
    start::start(&engine, &container).await?;
    Ok(no_content())
}

fn seconds(query: &Query) -> Result<Option<i64>> {
    match query.text("t") {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(Error::invalid(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"))),
        },
    }
}

async fn stop_one(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let container = engine.containers.get(&id)?;
    stop::stop(&engine, &container, query.text("signal"), seconds(&query)?).await?;
    Ok(no_content())
}

async fn restart_one(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let container = engine.containers.get(&id)?;
    stop::restart(&engine, &container, query.text("signal"), seconds(&query)?).await?;
    Ok(no_content())
}

async fn kill_one(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let container = engine.containers.get(&id)?;
    stop::kill(&engine, &container, &id, query.get("signal")).await?;
    Ok(no_content())
}

async fn pause_one(State(engine): Engined, Path(id): Path<String>) -> Answer {
    stop::pause(&engine, &engine.containers.get(&id)?).await?;
    Ok(no_content())
}

async fn unpause_one(State(engine): Engined, Path(id): Path<String>) -> Answer {
    stop::unpause(&engine, &engine.containers.get(&id)?).await?;
    Ok(no_content())
}

async fn rename_one(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    stop::rename(&engine, &engine.containers.get(&id)?, query.get("name")).await?;
    Ok(no_content())
}

async fn update_one(
    State(engine): Engined,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let value: Option<Value> = read_json(&headers, body).await?;
    let request = model::from_json(value.unwrap_or_default())
        .map_err(|e| Error::invalid(format!("invalid JSON: {e}")))?;
    let container = engine.containers.get(&id)?;
    let warnings = update::update(&engine, &container, request).await?;
    let warnings = if warnings.is_empty() { Value::Null } else { json!(warnings) };
    Ok(answer(StatusCode::OK, &json!({"Warnings": warnings})))
}

async fn remove_one(State(engine): Engined, Path(id): Path<String>, query: Query, peer: Peer) -> Answer {
    let container = engine.containers.get(&id)?;
    if query.flag("link") {
        return Err(Error::invalid("Conflict, cannot remove the default link name of the container"));
    }
    let options = remove::Options { force: query.flag("force"), volumes: query.flag("v") };
    remove::remove(&engine, &container, options).await?;
    engine.containers.departed.told(&container.id, peer.0);
    Ok(no_content())
}

/// `docker rm --link PARENT/ALIAS`; there is nothing else to delete here.
async fn remove_link(
    State(engine): Engined,
    Path((parent, alias)): Path<(String, String)>,
    query: Query,
) -> Answer {
    if !query.flag("link") {
        return Err(Error::not_found("page not found"));
    }
    crate::containers::links::unlink(&engine, &parent, &alias)?;
    Ok(no_content())
}

async fn prune_all(State(engine): Engined, query: Query) -> Answer {
    Ok(answer(StatusCode::OK, &prune::prune(&engine, &Filters::of(&query)?).await?))
}

/// The head goes out at once, the body at the end of the wait.
async fn wait_for(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let container = engine.containers.get(&id)?;
    let condition = wait::Condition::parse(query.get("condition"))?;
    let waiting = wait::wait(&container, condition);
    Ok(body_of(stream::once(async move {
        let answer = waiting.await;
        let mut text = serde_json::to_vec(&answer).unwrap_or_default();
        text.push(b'\n');
        Bytes::from(text)
    })))
}

/// Height and width of a terminal from a query.
pub fn size(query: &Query) -> Result<(u16, u16)> {
    let number = |key: &str, what: &str| {
        let text = query.get(key);
        cells(text).map_err(|why| Error::invalid(format!("invalid resize {what} \"{text}\": {why}")))
    };
    Ok((number("h", "height")?, number("w", "width")?))
}

/// A number of 32 bits, or why it is none in Go's words. Terminals count to 65535.
fn cells(text: &str) -> Result<u16, &'static str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("invalid syntax");
    }
    let number = text.parse::<u32>().map_err(|_| "value out of range")?;
    Ok(u16::try_from(number).unwrap_or(u16::MAX))
}

async fn resize(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let (rows, columns) = size(&query)?;
    let container = engine.containers.get(&id)?;
    container.running()?;
    let input = container.streams.input().borrow().clone();
    match input {
        Input::Open(terminal) if container.record().config.tty => {
            terminal.resize(rows, columns).doing(|| "resize".to_string())?;
        }
        _ => {}
    }
    let attributes = [("height", rows.to_string()), ("width", columns.to_string())];
    engine.container_event(&container.record(), "resize", &attributes);
    Ok(StatusCode::OK.into_response())
}

/// What the stream of a container looks like to a client.
fn form(tty: bool, version: ApiVersion) -> Form {
    if tty || !version.at_least(42) { Form::Raw } else { Form::Multiplexed }
}

/// What `attach` asks for, whatever the client speaks.
struct Attachment {
    container: Arc<Container>,
    session: attach::Session,
    past: mpsc::Receiver<Bytes>,
    output: Option<mpsc::Receiver<(Stream, Bytes)>>,
}

impl Attachment {
    /// `streams`: standard input, output and error are wanted. `raw`: never in frames.
    fn new(engine: &Engine, id: &str, query: &Query, streams: [bool; 3], raw: bool) -> Result<Self> {
        let container = engine.containers.get(id)?;
        let keys = attach::keys(query.get("detachKeys"))?;
        match container.phase() {
            Phase::Paused => {
                return Err(Error::conflict(format!(
                    "container {id} is paused, unpause the container before attach"
                )));
            }
            Phase::Restarting => {
                return Err(Error::conflict(format!(
                    "container {id} is restarting, wait until the container is running"
                )));
            }
            _ => {}
        }
        let (tty, open_stdin, stdin_once) = {
            let config = &container.record().config;
            (config.tty, config.open_stdin, config.stdin_once)
        };
        let [input, out, err] = streams;
        let stream = query.flag("stream");
        let raw = raw || tty;
        let session = attach::Session {
            tty,
            raw,
            input: (stream && input && open_stdin).then(|| container.streams.input()),
            close_input: stdin_once,
            keys,
        };
        let output = stream.then(|| container.streams.attach(out, err));
        let past = logs::Wanted { out, err, framed: !raw, ..logs::Wanted::default() };
        let past = past_of(&container, query.flag("logs").then_some(past));
        Ok(Self { container, session, past, output })
    }

    /// Serves the client to its end.
    async fn serve(self, engine: &Arc<Engine>, connection: Connection) {
        let Self { container, session, past, output } = self;
        let closed = {
            let (engine, container) = (engine.clone(), container.clone());
            move || container.close_input(&engine.init)
        };
        let ended = attach::serve(connection, session, past, output, closed).await;
        if ended == attach::Ended::Detached {
            engine.container_event(&container.record(), "detach", &[]);
        }
    }
}

async fn attach_to(
    State(engine): Engined,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
    request: Request,
) -> Answer {
    let streams = ["stdin", "stdout", "stderr"].map(|name| query.flag(name));
    let attachment = Attachment::new(&engine, &id, &query, streams, false)?;
    let (mut parts, body) = request.into_parts();
    let (response, pending) = hijack(&mut parts, body, form(attachment.session.tty, version));
    engine.container_event(&attachment.container.record(), "attach", &[]);
    tokio::spawn(async move {
        let Ok(connection) = pending.open().await else { return };
        attachment.serve(&engine, connection).await;
    });
    Ok(response)
}

/// The same over a WebSocket.
async fn attach_by_websocket(
    State(engine): Engined,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
    upgrade: WebSocketUpgrade,
) -> Answer {
    // Older clients get everything.
    let streams = ["stdin", "stdout", "stderr"].map(|name| !version.at_least(42) || query.flag(name));
    let attachment = Attachment::new(&engine, &id, &query, streams, true)?;
    engine.container_event(&attachment.container.record(), "attach", &[]);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let (connection, carrying) = websocket::connection(socket, version.at_least(28));
        tokio::join!(attachment.serve(&engine, connection), carrying);
    }))
}

/// What has been logged so far, if it is wanted.
fn past_of(container: &Arc<Container>, wanted: Option<logs::Wanted>) -> mpsc::Receiver<Bytes> {
    let (to, from) = mpsc::channel(PIECES);
    if let Some(wanted) = wanted {
        let container = container.clone();
        tokio::spawn(async move {
            let _not_readable = container.log.read(wanted, to).await;
        });
    }
    from
}

async fn logs_of(
    State(engine): Engined,
    Path(id): Path<String>,
    version: ApiVersion,
    query: Query,
) -> Answer {
    let container = engine.containers.get(&id)?;
    let (out, err) = (query.flag("stdout"), query.flag("stderr"));
    if !out && !err {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let time = |key: &str| match query.text(key) {
        None | Some("0") => Ok(None),
        Some(text) => Timestamp::from_query(text)
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("invalid value for \"{key}\": \"{text}\""))),
    };
    if !container.log.is_readable() {
        return Err(Error::not_implemented("configured logging driver does not support reading"));
    }
    let tty = container.record().config.tty;
    let wanted = logs::Wanted {
        out,
        err,
        follow: query.flag("follow"),
        tail: query.number("tail").and_then(|n| usize::try_from(n).ok()),
        since: time("since")?,
        until: time("until")?,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        framed: !tty,
    };
    let from = past_of(&container, Some(wanted));
    let pieces = stream::unfold(from, |mut from| async move { from.recv().await.map(|piece| (piece, from)) });
    let mut response = body_of(pieces);
    let kind = HeaderValue::from_static(form(tty, version).content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn top_of(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let container = engine.containers.get(&id)?;
    Ok(answer(StatusCode::OK, &top::top(&engine, &container, query.get("ps_args")).await?))
}

async fn stats_of(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let container = engine.containers.get(&id)?;
    let streaming = query.flag_or("stream", true);
    if streaming && query.flag("one-shot") {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    if !streaming && query.flag("one-shot") {
        let now = stats::sample(&engine, &container);
        let text = stats::answer(&container.record(), &stats::Sample::default(), &now);
        return Ok(answer(StatusCode::OK, &text));
    }
    if !streaming {
        let before = stats::sample(&engine, &container);
        if container.live().is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let now = stats::sample(&engine, &container);
        let text = stats::answer(&container.record(), &before, &now);
        return Ok(answer(StatusCode::OK, &text));
    }
    let first = (engine, container, None::<stats::Sample>);
    let samples = stream::unfold(first, |(engine, container, before)| async move {
        if before.is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if container.ends.borrow().removed {
                return None;
            }
        }
        let now = stats::sample(&engine, &container);
        let before = before.unwrap_or_default();
        let text = stats::answer(&container.record(), &before, &now);
        Some((Bytes::from(format!("{text}\n")), (engine, container, Some(now))))
    });
    Ok(body_of(samples))
}

async fn changes_of(State(engine): Engined, Path(id): Path<String>) -> Answer {
    let container = engine.containers.get(&id)?;
    let found = blocking(move || changes::changes(&engine, &container)).await?;
    Ok(answer(StatusCode::OK, &found))
}

async fn export(State(engine): Engined, Path(id): Path<String>) -> Answer {
    let container = engine.containers.get(&id)?;
    engine.container_event(&container.record(), "export", &[]);
    let view = crate::containers::copy::View::root_only(&engine, &container)?;
    produce("application/octet-stream", move |to| {
        view.write_root(to).doing(|| format!("export {}", container.id))
    })
    .await
}

async fn commit_one(State(engine): Engined, query: Query, headers: HeaderMap, body: Body) -> Answer {
    let config: Option<Value> = read_json(&headers, body).await?;
    let config: Option<Config> = config
        .filter(|c| c.as_object().is_some_and(|o| !o.is_empty()))
        .map(model::from_json)
        .transpose()
        .map_err(|e| Error::invalid(format!("invalid JSON: {e}")))?;
    let container = engine.containers.get(query.get("container"))?;
    let name = images::tagged(query.get("repo"), query.get("tag"))?;
    let changes: Vec<String> = query.all("changes").flat_map(str::lines).map(Into::into).collect();
    let options = commit::Options {
        author: query.get("author").into(),
        comment: query.get("comment").into(),
        pause: query.flag_or("pause", true),
        config,
        changes,
    };
    let (for_work, of) = (engine.clone(), container.clone());
    let id = blocking(move || commit::commit(&for_work, &of, &options)).await?;
    images::emit(&engine, "create", &id, &id);
    let mut attributes = vec![("imageID", id.clone())];
    if let Some(name) = &name {
        let digest = id.parse().map_err(|_| Error::internal("invalid image id"))?;
        images::tag(&engine, &digest, name).await?;
        attributes.push(("imageRef", name.familiar()));
    }
    engine.container_event(&container.record(), "commit", &attributes);
    Ok(answer(StatusCode::CREATED, &json!({"Id": id})))
}

#[cfg(test)]
mod tests {
    use super::cells;

    #[test]
    fn sizes_of_terminals_are_numbers() {
        for (text, found) in [
            ("24", Ok(24)),
            ("4294967295", Ok(u16::MAX)),
            ("4294967296", Err("value out of range")),
            ("-100", Err("value out of range")),
            ("", Err("invalid syntax")),
            ("-", Err("invalid syntax")),
            ("x", Err("invalid syntax")),
        ] {
            assert_eq!(cells(text), found, "{text}");
        }
    }
}
