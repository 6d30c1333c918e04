//! `componentstatuses`: whether the other components of the control plane are well, asked of them at their health ports
//! (`pkg/registry/core/componentstatus`). Deprecated for years, and still typed by everybody who learns.

use crate::http::respond::Answer;
use crate::proxy::dial_error;
use crate::rest::Call;
use crate::tls;
use bytes::Bytes;
use drydock_apimachinery::Status;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// Who has not answered by then is not well.
const SLOWEST: Duration = Duration::from_secs(2);

/// Name and port of `/healthz` on this machine.
const COMPONENTS: &[(&str, u16)] = &[("controller-manager", 10_257), ("scheduler", 10_259)];

/// Answers `get` and `list`.
pub async fn answer(call: &Call) -> Result<Answer, Status> {
    let mut items = join_all(COMPONENTS.iter().map(|(name, port)| async move {
        let checked = tokio::time::timeout(SLOWEST, check(*port)).await;
        status(name, checked.unwrap_or_else(|_| Err("context deadline exceeded".into())))
    }))
    .await;
    let store = tokio::time::timeout(SLOWEST, call.server.store.sync()).await;
    let store = match store {
        Ok(done) => done.map(|()| "ok".to_string()).map_err(|error| error.to_string()),
        Err(_) => Err("context deadline exceeded".into()),
    };
    items.push(status("etcd-0", store));
    if call.info.verb == "get" {
        let found = items.into_iter().find(|one| one["metadata"]["name"] == call.info.name.as_str());
        return call.answer_tree(StatusCode::OK, found.ok_or_else(|| call.not_found())?);
    }
    call.answer_list("ComponentStatusList", "v1", items)
}

fn status(name: &str, checked: Result<String, String>) -> Value {
    let condition = match checked {
        Ok(message) => json!({"type": "Healthy", "status": "True", "message": message}),
        Err(error) => json!({"type": "Healthy", "status": "False", "message": error, "error": error}),
    };
    json!({
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [condition],
    })
}

async fn check(port: u16) -> Result<String, String> {
    let text = |error: &dyn std::fmt::Display| format!("Get \"https://127.0.0.1:{port}/healthz\": {error}");
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
    let stream = stream.map_err(|error| text(&dial_error(&format!("127.0.0.1:{port}"), &error)))?;
    let connector = tls::connector(None, None).map_err(|error| text(&error))?;
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let stream = connector.connect(name, stream).await.map_err(|error| text(&error))?;
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/healthz").header("host", "127.0.0.1").body(Empty::new());
    let request = request.map_err(|error| text(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), 4096).collect().await.map_err(|error| text(&error))?;
    connection.abort();
    let said = String::from_utf8_lossy(&body.to_bytes()).trim().to_string();
    if code.is_success() {
        Ok(said)
    } else {
        Err(format!("HTTP probe failed with statuscode: {}", code.as_u16()))
    }
}
