//! Images of the catalogue that the host has a recipe for and has not made yet: it is asked to, at the gateway of the session, and says
//! how far it is. The asking is plain HTTP, by hand of hyper, on one connection.

use crate::error::{Error, Result};
use crate::http::{Lines, lines};
use drydock_images::{DEFAULT_DOMAIN, Reference};
use drydock_runtime::spawner::GATEWAY;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// The port of the site's services.
const PORT: u16 = 5000;
/// Where the host takes orders for its catalogue.
const PATH: &str = "/drydock/catalogue";
/// The host answers within this time, or there is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest list of names, in bytes.
const MAX_LIST: usize = 64 << 10;
/// Longest line about the progress, in bytes.
const MAX_LINE: usize = 4096;

/// Has the host make an image that its catalogue has a recipe for. False if it has none, or if there is no host that answers. `alone`:
/// there is no other place that the image could come from.
pub async fn prepare(name: &Reference, alone: bool, lines: &Lines) -> Result<bool> {
    if !is_made(name, alone) {
        return Ok(false);
    }
    let recipe = name.familiar_name();
    if !recipes().await.contains(&recipe) {
        return Ok(false);
    }
    let ask = format!("{PATH}/{recipe}");
    let response = tokio::time::timeout(ANSWER_WITHIN, send(Method::POST, &ask)).await.ok().flatten();
    let Some(response) = response.filter(|response| response.status() == StatusCode::OK) else {
        return Ok(false);
    };
    lines
        .send(&lines::status(
            &name.familiar(),
            &format!("{recipe} is not in the catalogue yet: preparing it"),
        ))
        .await?;
    follow(response, &recipe, lines).await
}

/// Whether a recipe could make an image of this name. Which versions it makes is known only when it is made: so they are asked of it only
/// if nobody else has them.
fn is_made(name: &Reference, alone: bool) -> bool {
    const ALWAYS: [&str; 5] = ["latest", "stable", "slim", "stable-slim", "lts"];
    let fits = name.tag().is_none_or(|tag| alone || ALWAYS.contains(&tag));
    name.domain() == DEFAULT_DOMAIN && name.digest().is_none() && fits
}

/// Names of the images that the host can make; none if no host answers.
pub async fn recipes() -> Vec<String> {
    let ask = async {
        let response = send(Method::GET, PATH).await?;
        let body = Limited::new(response.into_body(), MAX_LIST).collect().await.ok()?.to_bytes();
        serde_json::from_slice(&body).ok()
    };
    tokio::time::timeout(ANSWER_WITHIN, ask).await.ok().flatten().unwrap_or_default()
}

async fn send(method: Method, path: &str) -> Option<Response<Incoming>> {
    let stream = TcpStream::connect((GATEWAY, PORT)).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "registry:5000");
    sender.send_request(request.body(Empty::<Bytes>::new()).ok()?).await.ok()
}

/// Passes the host's lines on. The last one says whether the image is there.
async fn follow(response: Response<Incoming>, recipe: &str, lines: &Lines) -> Result<bool> {
    let mut body = response.into_body();
    let mut rest = Vec::new();
    let failed = |why: &str| Error::internal(format!("{recipe} could not be prepared: {why}"));
    loop {
        let frame = match body.frame().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Err(failed(&error.to_string())),
            None => return Err(failed("the host broke off")),
        };
        let Ok(data) = frame.into_data() else { continue };
        for &byte in &data {
            if byte != b'\n' {
                if rest.len() < MAX_LINE {
                    rest.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut rest)).trim().to_owned();
            match line.strip_prefix("failed: ") {
                Some(why) => return Err(failed(why)),
                None if line == "ok" => return Ok(true),
                None => lines.send(&lines::status(recipe, &line)).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_made_for_those_who_have_no_other_place() {
        let made = |name: &str, alone| is_made(&Reference::parse(name).unwrap(), alone);
        assert!(made("nginx", false) && made("nginx:latest", false) && made("node:lts", false));
        assert!(!made("node:20", false) && made("node:20", true));
        assert!(!made("registry.example/nginx", true));
    }
}
