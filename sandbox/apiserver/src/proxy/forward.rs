//! One request passed on: plain ones with their bodies as streams, upgraded ones (`exec` and the like) as two streams of bytes.

use super::target::{KubeletClient, Target};
use crate::http::body;
use crate::http::respond::Answer;
use bytes::Bytes;
use drydock_apimachinery::Status;
use futures_util::StreamExt;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

/// What concerns one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: &[HeaderName] =
    &[CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Of a refusal's text, so much is passed on.
const LONGEST_REFUSAL: usize = 16 * 1024;

/// A request as it is passed on.
#[derive(Debug)]
pub struct Forward<'a> {
    /// Where to.
    pub target: &'a Target,
    /// Path and query there.
    pub path: String,
    /// With this method.
    pub method: Method,
    /// With these headers.
    pub headers: &'a HeaderMap,
}

/// Whether a client wants the connection to become something else.
pub fn wants_upgrade(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    headers.contains_key(UPGRADE)
        && values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case("upgrade"))
}

impl Forward<'_> {
    fn request<B>(&self, body: B, upgrade: bool) -> Result<Request<B>, Status> {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.path);
        for (name, value) in self.headers {
            let is_ours = *name == AUTHORIZATION || *name == HOST;
            let ends_here =
                HOP_BY_HOP.contains(name) && !(upgrade && (*name == UPGRADE || *name == CONNECTION));
            if !is_ours && !ends_here {
                request = request.header(name, value);
            }
        }
        request = request.header(HOST, self.target.authority());
        request.body(body).map_err(|error| Status::bad_request(error.to_string()))
    }

    /// Passes it on and gives back the answer, whatever it is.
    pub async fn plain(&self, client: &KubeletClient, body: Incoming) -> Result<Response<Incoming>, Status> {
        self.target.send(client, self.request(body, false)?).await
    }

    /// Passes it on so that the connection becomes what both agree on; then bytes are carried until one side ends.
    pub async fn upgrade(
        &self,
        client: &KubeletClient,
        body: Incoming,
        ours: OnUpgrade,
    ) -> Result<Answer, Status> {
        drop(body);
        let empty = http_body_util::Empty::<Bytes>::new();
        let mut theirs = self.target.send(client, self.request(empty, true)?).await?;
        if theirs.status() != StatusCode::SWITCHING_PROTOCOLS {
            // As `UpgradeAwareHandler`: the refusal goes to the client as it is, which shows its words.
            return Ok(self::answer(theirs));
        }
        let mut answer = Response::new(body::full(Bytes::new()));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = theirs.headers().clone();
        let theirs = hyper::upgrade::on(&mut theirs);
        tokio::spawn(async move {
            let (ours, theirs) = match tokio::try_join!(ours, theirs) {
                Ok(both) => both,
                Err(error) => return tracing::debug!(%error, "a connection was not upgraded"),
            };
            let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
            // However it ends: what was to be said was said on the streams within.
            let _end =
                tokio::io::copy_bidirectional_with_sizes(&mut ours, &mut theirs, 16 * 1024, 16 * 1024).await;
        });
        Ok(answer)
    }
}

/// The beginning of a body as text.
pub async fn text_of(theirs: Response<Incoming>) -> String {
    match Limited::new(theirs.into_body(), LONGEST_REFUSAL).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim_end().to_string(),
        Err(_) => String::new(),
    }
}

/// As `GenericHttpResponseChecker` of `pkg/registry/generic/rest/response_checker.go`.
pub fn generic(code: StatusCode, text: &str) -> Status {
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        StatusCode::NOT_FOUND => Status::failure(
            404,
            "NotFound",
            if text.is_empty() {
                "the server could not find the requested resource".into()
            } else {
                text.to_string()
            },
        ),
        code => {
            let message = format!(
                "the server responded with the status code {} but did not return more information: {text}",
                code.as_u16()
            );
            Status::failure(code.as_u16(), "", message)
        }
    }
}

/// An answer as ours, its body as a stream.
pub fn answer(theirs: Response<Incoming>) -> Answer {
    let (mut parts, incoming) = theirs.into_parts();
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    let pieces = incoming.into_data_stream().take_while(|piece| std::future::ready(piece.is_ok()));
    let body = body::stream(pieces.filter_map(|piece| std::future::ready(piece.ok())));
    Response::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrades_are_seen_among_other_tokens() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, "keep-alive, Upgrade".parse().expect("a header"));
        assert!(!wants_upgrade(&headers));
        headers.insert(UPGRADE, "websocket".parse().expect("a header"));
        assert!(wants_upgrade(&headers));
    }

    #[test]
    fn a_kubelets_refusals_keep_their_words() {
        assert_eq!(
            generic(StatusCode::BAD_REQUEST, "container \"c\" is waiting").message,
            "container \"c\" is waiting"
        );
        assert_eq!(generic(StatusCode::NOT_FOUND, "no such pod").code, 404);
    }
}
