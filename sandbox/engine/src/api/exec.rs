//! Endpoints of `docker exec`.

use crate::{
    containers::{attach, streams::Input},
    engine::Engine,
    exec::{self, Exec, ExecConfig},
    http::{Answer, ApiVersion, Form, Query, answer, hijack, read_request, whole::to_its_end},
};
use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode},
    middleware,
    response::IntoResponse,
    routing::{get, post},
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::{io::AsyncWriteExt, sync::mpsc};

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route_layer(middleware::from_fn(to_its_end))
        .route("/exec/{id}/json", get(inspect))
        .route("/exec/{id}/resize", post(resize))
}

type Engined = State<Arc<Engine>>;

async fn create(State(engine): Engined, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    let config: ExecConfig = read_request(&headers, body).await?;
    attach::keys(&config.detach_keys)?;
    let container = engine.containers.get(&id)?;
    let exec = exec::create(&engine, &container, &id, config)?;
    Ok(answer(StatusCode::CREATED, &json!({"Id": exec.id})))
}

/// Body of `POST /exec/{id}/start`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartRequest {
    detach: bool,
    tty: bool,
    console_size: Option<[u32; 2]>,
}

async fn start(
    State(engine): Engined,
    Path(id): Path<String>,
    version: ApiVersion,
    request: Request,
) -> Answer {
    let (mut parts, body) = request.into_parts();
    // The body is JSON of known length; what follows it is the input of the program.
    let asked: StartRequest = read_request(&parts.headers, body).await?;
    let exec = engine.execs.get(&id)?;
    exec.check_container()?;
    let claim = exec.claim();
    if asked.detach {
        exec::start(&engine, claim?, false, asked.console_size).await?;
        return Ok(StatusCode::OK.into_response());
    }
    // Whether there is a terminal was said when the exec was made; whether there are frames is said now.
    let (tty, raw) = (exec.config.tty, asked.tty);
    let form = if raw || !version.at_least(42) { Form::Raw } else { Form::Multiplexed };
    let (response, pending) = hijack(&mut parts, Body::empty(), form);
    let config = &exec.config;
    let session = attach::Session {
        tty,
        raw,
        input: config.attach_stdin.then(|| exec.streams.input()),
        close_input: true,
        keys: attach::keys(&config.detach_keys)?,
    };
    let output = exec.streams.attach(config.attach_stdout || tty, config.attach_stderr);
    tokio::spawn(async move {
        let Ok(mut connection) = pending.open().await else { return };
        let started = match claim {
            Ok(claim) => exec::start(&engine, claim, session.input.is_some(), asked.console_size).await,
            Err(error) => Err(error),
        };
        // What is wrong from here on is told as output (moby `api/server/router/container/exec.go`).
        if let Err(error) = started {
            let text = format!("{}\r\n", error.message);
            let piece = if raw {
                Bytes::from(text)
            } else {
                crate::containers::streams::frame(crate::containers::streams::Stream::Out, text.as_bytes())
            };
            let _client_gone = connection.write_all(&piece).await;
            let _client_gone = connection.shutdown().await;
            return;
        }
        let (_, nothing) = mpsc::channel(1);
        let input = exec.clone();
        let closed = move || input.streams.set_input(Input::Closed);
        let ended = attach::serve(connection, session, nothing, Some(output), closed).await;
        if ended == attach::Ended::Detached {
            tell_detached(&engine, &exec);
        }
    });
    Ok(response)
}

fn tell_detached(engine: &Engine, exec: &Exec) {
    engine.container_event(&exec.container.record(), "exec_detach", &[("execID", exec.id.clone())]);
}

async fn inspect(State(engine): Engined, Path(id): Path<String>) -> Answer {
    Ok(answer(StatusCode::OK, &engine.execs.get(&id)?.inspect()))
}

async fn resize(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let (rows, columns) = super::containers::size(&query)?;
    engine.execs.get(&id)?.resize(rows, columns).await?;
    Ok(StatusCode::OK.into_response())
}
