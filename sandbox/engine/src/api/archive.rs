//! Endpoints of `docker cp`.

use crate::{
    containers::copy::{self, View},
    engine::{Engine, blocking},
    error::{Context, Error, Result},
    http::{Answer, Query, produce, reader},
};
use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{
    io::{self, Read},
    sync::Arc,
};

const STAT: &str = "x-docker-container-path-stat";

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/containers/{id}/archive", get(read).head(stat).put(write))
}

type Engined = State<Arc<Engine>>;

fn path(query: &Query) -> Result<String> {
    query.text("path").map(Into::into).ok_or_else(|| Error::invalid("missing path in request"))
}

fn with_stat(mut response: Response, stat: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(stat) {
        response.headers_mut().insert(STAT, value);
    }
    response
}

async fn open(engine: &Arc<Engine>, id: &str, query: &Query) -> Result<View> {
    let container = engine.containers.get(id)?;
    let path = path(query)?;
    let engine = engine.clone();
    blocking(move || View::open(&engine, &container, &path)).await
}

async fn stat(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let view = open(&engine, &id, &query).await?;
    let stat = view.stat(&id)?;
    let response = with_stat(StatusCode::OK.into_response(), &stat.header());
    Ok(response)
}

async fn read(State(engine): Engined, Path(id): Path<String>, query: Query) -> Answer {
    let view = open(&engine, &id, &query).await?;
    let stat = view.stat(&id)?;
    let container = engine.containers.get(&id)?;
    engine.container_event(&container.record(), "archive-path", &[]);
    let response = produce("application/x-tar", move |to| {
        view.write_tar(to).doing(|| "read the container's files".into())
    });
    Ok(with_stat(response.await?, &stat.header()))
}

async fn write(State(engine): Engined, Path(id): Path<String>, query: Query, body: Body) -> Answer {
    let view = open(&engine, &id, &query).await?;
    let (no_overwrite, as_user) = (query.flag("noOverwriteDirNonDir"), query.flag("copyUIDGID"));
    let (for_owner, container) = (engine.clone(), engine.containers.get(&id)?);
    let tar = reader(body);
    let name = id.clone();
    blocking(move || {
        let tar = decompressed(tar).doing(|| "read the tar".into())?;
        let owner = if as_user { copy::owner(&for_owner, &container)? } else { None };
        view.extract(&name, tar, copy::Options { no_overwrite, owner })
    })
    .await?;
    let container = engine.containers.get(&id)?;
    engine.container_event(&container.record(), "extract-to-dir", &[]);
    Ok(StatusCode::OK.into_response())
}

/// A tar may come compressed; what it is, its first bytes tell.
fn decompressed(mut tar: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut first = Vec::new();
    tar.by_ref().take(2).read_to_end(&mut first)?;
    let gzip = first == [0x1f, 0x8b];
    let whole = io::Cursor::new(first).chain(tar);
    Ok(if gzip { Box::new(flate2::read::MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}
