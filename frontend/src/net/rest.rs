//! The REST interface under `/api/v1`, one function a request. Every failure becomes a [`Problem`], whose message is a
//! sentence for people.

use crate::{
    browser,
    logic::read::{Read, from_text},
    term::vendor,
};
use drydock_protocol::{
    NodeName, SessionId,
    api::{
        ApiError, CreateLink, CreateSession, Created, Extend, Host, Link, Listing, NodeAddress, Playground,
        PortLink, Queued, Session, SetPower,
    },
};
use js_sys::{Uint8Array, encode_uri_component as encode};
use serde::Serialize;
use std::{pin::Pin, rc::Rc};
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
    pub session: Option<Rc<Session>>,
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
        match from_text::<ApiError>(body) {
            Some(error) => {
                let session = (status == 410).then(|| from_text(body).map(Rc::new)).flatten();
                Self { status, code: error.code, message: error.message, session }
            }
            None => {
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

/// What a request will bring.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

const API: &str = "/api/v1";

/// A request that is being put together. Everything that takes time is in its methods, once for all requests.
struct Call {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<JsValue>,
}

fn call(method: &'static str, path: impl Into<String>) -> Call {
    Call { method, path: path.into(), headers: Vec::new(), body: None }
}

fn get(path: impl Into<String>) -> Call {
    call("GET", path)
}

fn post(path: impl Into<String>) -> Call {
    call("POST", path)
}

fn delete(path: impl Into<String>) -> Call {
    call("DELETE", path)
}

impl Call {
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn json(mut self, body: &impl Serialize) -> Self {
        // The contract's bodies have no part that JSON can't hold.
        self.body = serde_json::to_string(body).ok().map(|text| JsValue::from_str(&text));
        self.header("Content-Type", "application/json")
    }

    async fn send(self) -> Result<Response, Problem> {
        let lost = |_| Problem::unreachable();
        let init = RequestInit::new();
        init.set_method(self.method);
        let fields = Headers::new().map_err(lost)?;
        for (name, value) in &self.headers {
            fields.set(name, value).map_err(lost)?;
        }
        init.set_headers(&fields);
        if let Some(body) = &self.body {
            init.set_body(body);
        }
        let answer = browser::window().fetch_with_str_and_init(&format!("{API}{}", self.path), &init);
        let response: Response = JsFuture::from(answer).await.map_err(lost)?.unchecked_into();
        if let Ok(Some(date)) = response.headers().get("Date") {
            browser::server_time(&date);
        }
        if response.ok() {
            return Ok(response);
        }
        let text = text(&response).await?;
        Err(Problem::from_body(response.status(), &text))
    }

    /// Status and body.
    async fn text(self) -> Result<(u16, String), Problem> {
        let response = self.send().await?;
        Ok((response.status(), text(&response).await?))
    }

    /// What the body says.
    fn read<T: Read + 'static>(self) -> Answer<T> {
        self.answer(|_, body| from_text(body))
    }

    /// That it is done.
    fn done(self) -> Answer<()> {
        self.answer(|_, _| Some(()))
    }

    /// A session, or a place in the queue for one.
    fn place(self) -> Answer<Place> {
        self.answer(|status, body| match status {
            202 => from_text(body).map(Place::Waiting),
            _ => from_text(body).map(|created| Place::Ready(Box::new(created))),
        })
    }

    fn answer<T: 'static>(self, read: fn(u16, &str) -> Option<T>) -> Answer<T> {
        Box::pin(async move {
            let (status, body) = self.text().await?;
            read(status, &body).ok_or_else(|| Problem::unreadable(status))
        })
    }
}

async fn text(response: &Response) -> Result<String, Problem> {
    let promise = response.text().map_err(|_| Problem::unreachable())?;
    let text = JsFuture::from(promise).await.map_err(|_| Problem::unreachable())?;
    Ok(text.as_string().unwrap_or_default())
}

/// What can be started.
pub fn playgrounds() -> Answer<Vec<Playground>> {
    get("/playgrounds").read()
}

/// How full the host is.
pub fn host() -> Answer<Host> {
    get("/host").read()
}

/// Asks for a session.
pub fn create(wish: &CreateSession) -> Answer<Place> {
    post("/sessions").json(wish).place()
}

/// Asks how far a place in the queue has come.
pub fn queue(ticket: &str) -> Answer<Place> {
    get(format!("/queue/{}", String::from(encode(ticket)))).place()
}

/// Gives up a place in the queue.
pub fn leave_queue(ticket: &str) -> Answer<()> {
    delete(format!("/queue/{}", String::from(encode(ticket)))).done()
}

/// Turns a link's token into this browser's right to the session (a cookie that the page can't read).
pub fn enter(id: &SessionId, token: &str) -> Answer<()> {
    post(format!("/sessions/{id}/enter")).header("Authorization", format!("Bearer {token}")).done()
}

/// How a session stands.
pub fn session(id: &SessionId) -> Answer<Session> {
    get(format!("/sessions/{id}")).read()
}

/// Ends a session.
pub fn end(id: &SessionId) -> Answer<()> {
    delete(format!("/sessions/{id}")).done()
}

/// Gives a session more time.
pub fn extend(id: &SessionId, seconds: u64) -> Answer<()> {
    post(format!("/sessions/{id}/extend")).json(&Extend { seconds }).done()
}

/// Adds a node.
pub fn add_node(id: &SessionId) -> Answer<NodeAddress> {
    post(format!("/sessions/{id}/nodes")).read()
}

/// Removes a node.
pub fn remove_node(id: &SessionId, node: NodeName) -> Answer<()> {
    delete(format!("/sessions/{id}/nodes/{node}")).done()
}

/// Switches a node on or off.
pub fn power(id: &SessionId, node: NodeName, on: bool) -> Answer<()> {
    post(format!("/sessions/{id}/nodes/{node}/power")).json(&SetPower { on }).done()
}

/// The session's links.
pub fn links(id: &SessionId) -> Answer<Vec<Link>> {
    get(format!("/sessions/{id}/links")).read()
}

/// Makes a link.
pub fn create_link(id: &SessionId, wish: &CreateLink) -> Answer<Link> {
    post(format!("/sessions/{id}/links")).json(wish).read()
}

/// Makes a kubeconfig for the session's cluster.
pub fn kubeconfig(id: &SessionId) -> Answer<String> {
    post(format!("/sessions/{id}/kubeconfig")).answer(|_, body| Some(body.to_owned()))
}

/// Makes a link useless.
pub fn revoke_link(id: &SessionId, link: u64) -> Answer<()> {
    delete(format!("/sessions/{id}/links/{link}")).done()
}

/// Where a browser opens a port of a node.
pub fn port(id: &SessionId, node: NodeName, port: u16) -> Answer<PortLink> {
    post(format!("/sessions/{id}/ports/{node}/{port}")).read()
}

/// What is in a directory of a node.
pub fn list(id: &SessionId, node: NodeName, path: &str) -> Answer<Listing> {
    get(format!("/sessions/{id}/nodes/{node}/files?path={}", String::from(encode(path)))).read()
}

/// Makes a directory.
pub fn make_dir(id: &SessionId, node: NodeName, path: &str) -> Answer<()> {
    let path = format!("/sessions/{id}/nodes/{node}/files/mkdir?path={}", String::from(encode(path)));
    post(path).done()
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
pub fn read_file(id: &SessionId, node: NodeName, path: &str) -> Answer<FileContent> {
    let call = get(file(id, node, path));
    Box::pin(async move {
        let response = call.send().await?;
        let modified_micros = modified(&response);
        let buffer = response.array_buffer().map_err(|_| Problem::unreachable())?;
        let buffer = JsFuture::from(buffer).await.map_err(|_| Problem::unreachable())?;
        Ok(FileContent { bytes: Uint8Array::new(&buffer).to_vec(), modified_micros })
    })
}

/// What must hold of the file that is there, or nothing is written.
#[derive(Clone, Copy)]
pub enum If<'a> {
    /// Nothing.
    Any,
    /// There is none.
    New,
    /// It was modified at this time, as the server tells it.
    UnchangedSince(&'a str),
}

/// Writes a text file. The answer is since when it is as written.
pub fn write_file(
    id: &SessionId,
    node: NodeName,
    path: &str,
    text: &str,
    condition: If<'_>,
) -> Answer<Option<String>> {
    let mut put = call("PUT", file(id, node, path)).header("Content-Type", "application/octet-stream");
    put.body = Some(JsValue::from_str(text));
    put = match condition {
        If::Any => put,
        If::New => put.header("If-None-Match", "*"),
        If::UnchangedSince(micros) => put.header("If-Unmodified-Since-Micros", micros),
    };
    Box::pin(async move { Ok(modified(&put.send().await?)) })
}

/// For `If-Unmodified-Since-Micros`.
fn modified(response: &Response) -> Option<String> {
    response.headers().get("X-Modified-Micros").ok().flatten()
}

/// Deletes a file or a directory with all in it.
pub fn remove_file(id: &SessionId, node: NodeName, path: &str) -> Answer<()> {
    delete(file(id, node, path)).done()
}

/// Runs a command in a node: words with a space between each; what went wrong is what it said.
pub async fn run(id: &SessionId, node: NodeName, command: &str) -> Result<(), String> {
    let ran = vendor::run(&format!("{API}/sessions/{id}/nodes/{node}/exec"), command);
    let said = JsFuture::from(ran).await.map_err(|_| Problem::unreachable().message)?;
    said.as_string().filter(|said| !said.is_empty()).map_or(Ok(()), Err)
}

/// Renames a file or directory; refused if there is something of the new name.
pub fn rename(id: &SessionId, node: NodeName, from: &str, to: &str) -> Answer<()> {
    let mut call =
        post(format!("/sessions/{id}/nodes/{node}/files/rename")).header("Content-Type", "application/json");
    let body = browser::object(&[("from", from.into()), ("to", to.into())]);
    call.body = js_sys::JSON::stringify(&body).ok().map(Into::into);
    call.done()
}

/// Opens an address of the outside world in a tab that knows nothing of this page.
pub fn open_window(address: &str) {
    let _ = browser::window().open_with_url_and_target_and_features(address, "_blank", "noopener,noreferrer");
}
