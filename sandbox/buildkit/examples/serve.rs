//! Listens on a Unix socket as an engine that can build and nothing else, for trying the official clients:
//!
//! ```sh
//! cargo run -p drydock-buildkit --example serve -- /tmp/engine.sock &
//! DOCKER_HOST=unix:///tmp/engine.sock docker buildx build --progress plain .
//! ```

#[path = "../tests/engine/mod.rs"]
mod engine;

use bytes::Bytes;
use drydock_buildkit::BuildKit;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string()));
    let builder = Response::builder().status(status).header("Content-Type", "application/json");
    let builder =
        builder.header("Api-Version", "1.51").header("Builder-Version", "2").header("Ostype", "linux");
    builder.body(body).unwrap_or_default()
}

fn upgrade(buildkit: &BuildKit, mut request: Request<Incoming>, session: bool) -> Answer {
    let buildkit = buildkit.clone();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(io) = upgraded.await else { return };
        let io = TokioIo::new(io);
        let result = if session {
            buildkit.serve_session(io, request.headers()).await
        } else {
            buildkit.serve_grpc(io).await
        };
        if let Err(error) = result {
            eprintln!("connection: {error}");
        }
    });
    let builder = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    builder.header("Connection", "Upgrade").header("Upgrade", "h2c").body(Full::default()).unwrap_or_default()
}

async fn serve(buildkit: BuildKit, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let path = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((_, rest)) => format!("/{rest}"),
        None => path,
    };
    eprintln!("{} {path}", request.method());
    Ok(match path.as_str() {
        "/_ping" => answer(StatusCode::OK, &Value::Null),
        "/version" => answer(
            StatusCode::OK,
            &json!({ "Version": "28.5.2", "ApiVersion": "1.51", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64" }),
        ),
        "/info" => answer(
            StatusCode::OK,
            &json!({ "ID": "test", "OSType": "linux", "Architecture": "x86_64", "Driver": "overlay2", "ServerVersion": "28.5.2" }),
        ),
        "/images/json" => answer(StatusCode::OK, &json!([])),
        "/grpc" => upgrade(&buildkit, request, false),
        "/session" => upgrade(&buildkit, request, true),
        _ => answer(StatusCode::NOT_FOUND, &json!({ "message": "page not found" })),
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "engine.sock".into());
    _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(path)?;
    let buildkit = BuildKit::new(engine::TestEngine::new());
    loop {
        let (io, _) = listener.accept().await?;
        let buildkit = buildkit.clone();
        let service = hyper::service::service_fn(move |request| serve(buildkit.clone(), request));
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
        tokio::spawn(connection.with_upgrades());
    }
}
