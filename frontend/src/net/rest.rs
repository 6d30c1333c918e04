//! The REST interface under `/api/v1`, one function a request. Every failure becomes a [`Problem`], whose message is a
//! sentence for people.

use drydock_protocol::{
    NodeName, SessionId,
    api::{
        ApiError, CreateLink, CreateSession, Created, Extend, Host, Link, Listing, NodeAddress, Playground,
        PortLink, Queued, Session, SetPower,
    },
};
use js_sys::{Uint8Array, encode_uri_component as encode};
use serde::{Serialize, de::DeserializeOwned};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Headers, RequestInit, Response};

/// A request that did not work.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// HTTP status; 0 if the server could not be reached.
    pub status: u16,
    /// Short name from the server.
    pub code: String,
    /// What was wrong and what to do.
    pub message: String,
    /// Of a session that has ended, what is still known (status 410).
    pub session: Option<Box<Session>>,
}

impl Problem {
    fn unreachable() -> Self {
        let message = "The server can't be reached. Check your connection, then try again.";
        Self { status: 0, code: "unreachable".into(), message: message.into(), session: None }
    }

    fn unreadable(status: u16) -> Self {
        let message = "The server's answer makes no sense to this page. Load the page again; it may be older than the server.";
        Self { status, code: "unreadable".into(), message: message.into(), session: None }
    }

    /// From an answer whose body should be an [`ApiError`].
    pub fn from_body(status: u16, body: &str) -> Self {
        match serde_json::from_str::<ApiError>(body) {
            Ok(error) => {
                let session = (status == 410).then(|| serde_json::from_str(body).ok()).flatten();
                Self { status, code: error.code, message: error.message, session }
            }
            Err(_) => {
                let message = format!("The server answered with status {status}. Try again in a moment.");
                Self { status, code: "unknown".into(), message, session: None }
            }
        }
    }
}

/// The answer to a wish for a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// It is ready.
    Ready(Box<Created>),
    /// The host is full.
    Waiting(Queued),
}

/// A file's content and the time it was last changed.
pub struct FileContent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// For `If-Unmodified-Since-Micros`.
    pub modified_micros: Option<String>,
}

const API: &str = "/api/v1";

async fn send(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&JsValue>,
) -> Result<Response, Problem> {
    let lost = |_| Problem::unreachable();
    let init = RequestInit::new();
    init.set_method(method);
    let fields = Headers::new().map_err(lost)?;
    for (name, value) in headers {
        fields.set(name, value).map_err(lost)?;
    }
    init.set_headers(&fields);
    if let Some(body) = body {
        init.set_body(body);
    }
    let answer = crate::browser::window().fetch_with_str_and_init(&format!("{API}{path}"), &init);
    let response: Response = JsFuture::from(answer).await.map_err(lost)?.unchecked_into();
    if response.ok() {
        return Ok(response);
    }
    let text = text(&response).await?;
    Err(Problem::from_body(response.status(), &text))
}

async fn text(response: &Response) -> Result<String, Problem> {
    let promise = response.text().map_err(|_| Problem::unreachable())?;
    let text = JsFuture::from(promise).await.map_err(|_| Problem::unreachable())?;
    Ok(text.as_string().unwrap_or_default())
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Problem> {
    let body = text(&response).await?;
    serde_json::from_str(&body).map_err(|_| Problem::unreadable(response.status()))
}

async fn get<T: DeserializeOwned>(path: &str) -> Result<T, Problem> {
    read(send("GET", path, &[], None).await?).await
}

async fn post(path: &str, body: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_string(body).map_err(|_| Problem::unreadable(0))?;
    send("POST", path, &[("Content-Type", "application/json")], Some(&JsValue::from_str(&body))).await
}

async fn delete(path: &str) -> Result<(), Problem> {
    send("DELETE", path, &[], None).await.map(drop)
}

/// What can be started.
pub async fn playgrounds() -> Result<Vec<Playground>, Problem> {
    get("/playgrounds").await
}

/// How full the host is.
pub async fn host() -> Result<Host, Problem> {
    get("/host").await
}

async fn place(response: Response) -> Result<Place, Problem> {
    if response.status() == 202 {
        read(response).await.map(Place::Waiting)
    } else {
        read(response).await.map(Place::Ready)
    }
}

/// Asks for a session.
pub async fn create(wish: &CreateSession) -> Result<Place, Problem> {
    place(post("/sessions", wish).await?).await
}

/// Asks how far a place in the queue has come.
pub async fn queue(ticket: &str) -> Result<Place, Problem> {
    let path = format!("/queue/{}", String::from(encode(ticket)));
    place(send("GET", &path, &[], None).await?).await
}

/// Turns a link's token into this browser's right to the session (a cookie that the page can't read).
pub async fn enter(id: &SessionId, token: &str) -> Result<(), Problem> {
    let path = format!("/sessions/{id}/enter");
    send("POST", &path, &[("Authorization", &format!("Bearer {token}"))], None).await.map(drop)
}

/// How a session stands.
pub async fn session(id: &SessionId) -> Result<Session, Problem> {
    get(&format!("/sessions/{id}")).await
}

/// Ends a session.
pub async fn end(id: &SessionId) -> Result<(), Problem> {
    delete(&format!("/sessions/{id}")).await
}

/// Gives a session more time.
pub async fn extend(id: &SessionId, seconds: u64) -> Result<(), Problem> {
    post(&format!("/sessions/{id}/extend"), &Extend { seconds }).await.map(drop)
}

/// Adds a node.
pub async fn add_node(id: &SessionId) -> Result<NodeAddress, Problem> {
    read(send("POST", &format!("/sessions/{id}/nodes"), &[], None).await?).await
}

/// Removes a node.
pub async fn remove_node(id: &SessionId, node: NodeName) -> Result<(), Problem> {
    delete(&format!("/sessions/{id}/nodes/{node}")).await
}

/// Switches a node on or off.
pub async fn power(id: &SessionId, node: NodeName, on: bool) -> Result<(), Problem> {
    post(&format!("/sessions/{id}/nodes/{node}/power"), &SetPower { on }).await.map(drop)
}

/// The session's links.
pub async fn links(id: &SessionId) -> Result<Vec<Link>, Problem> {
    get(&format!("/sessions/{id}/links")).await
}

/// Makes a link.
pub async fn create_link(id: &SessionId, wish: &CreateLink) -> Result<Link, Problem> {
    read(post(&format!("/sessions/{id}/links"), wish).await?).await
}

/// Makes a link useless.
pub async fn revoke_link(id: &SessionId, link: u64) -> Result<(), Problem> {
    delete(&format!("/sessions/{id}/links/{link}")).await
}

/// Where a browser opens a port of a node.
pub async fn port(id: &SessionId, node: NodeName, port: u16) -> Result<PortLink, Problem> {
    read(send("POST", &format!("/sessions/{id}/ports/{node}/{port}"), &[], None).await?).await
}

/// What is in a directory of a node.
pub async fn list(id: &SessionId, node: NodeName, path: &str) -> Result<Listing, Problem> {
    get(&format!("/sessions/{id}/nodes/{node}/files?path={}", String::from(encode(path)))).await
}

/// Makes a directory.
pub async fn make_dir(id: &SessionId, node: NodeName, path: &str) -> Result<(), Problem> {
    let path = format!("/sessions/{id}/nodes/{node}/files/mkdir?path={}", String::from(encode(path)));
    send("POST", &path, &[], None).await.map(drop)
}

/// The address of a file, below [`API`].
fn file(id: &SessionId, node: NodeName, path: &str) -> String {
    format!("/sessions/{id}/nodes/{node}/file?path={}", String::from(encode(path)))
}

/// The address from which a browser downloads a file.
pub fn download_url(id: &SessionId, node: NodeName, path: &str) -> String {
    format!("{API}{}&download=1", file(id, node, path))
}

/// The address to which a file is uploaded.
pub fn upload_url(id: &SessionId, node: NodeName, path: &str) -> String {
    format!("{API}{}", file(id, node, path))
}

/// Reads a file.
pub async fn read_file(id: &SessionId, node: NodeName, path: &str) -> Result<FileContent, Problem> {
    let response = send("GET", &file(id, node, path), &[], None).await?;
    let modified_micros = response.headers().get("X-Modified-Micros").ok().flatten();
    let buffer = response.array_buffer().map_err(|_| Problem::unreachable())?;
    let buffer = JsFuture::from(buffer).await.map_err(|_| Problem::unreachable())?;
    Ok(FileContent { bytes: Uint8Array::new(&buffer).to_vec(), modified_micros })
}

/// Writes a text file; refused if it was changed since `unless_changed_since`.
pub async fn write_file(
    id: &SessionId,
    node: NodeName,
    path: &str,
    text: &str,
    unless_changed_since: Option<&str>,
) -> Result<(), Problem> {
    let mut headers = vec![("Content-Type", "application/octet-stream")];
    headers.extend(unless_changed_since.map(|micros| ("If-Unmodified-Since-Micros", micros)));
    send("PUT", &file(id, node, path), &headers, Some(&JsValue::from_str(text))).await.map(drop)
}

/// Deletes a file or a directory with all in it.
pub async fn remove_file(id: &SessionId, node: NodeName, path: &str) -> Result<(), Problem> {
    delete(&file(id, node, path)).await
}

/// Opens an address of the outside world in a tab that knows nothing of this page.
pub fn open_window(address: &str) {
    let _ = crate::browser::window().open_with_url_and_target_and_features(
        address,
        "_blank",
        "noopener,noreferrer",
    );
}
