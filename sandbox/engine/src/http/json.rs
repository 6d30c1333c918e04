//! JSON bodies: read as Docker's server reads them (and refuses them), written with a newline at the end as Go writes them.

use crate::containers::model::from_json;
use crate::error::{Error, Result};
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a handler returns.
pub type Answer = Result<Response>;

/// Longest JSON body that is read. A create request with thousands of labels is far below it.
const MAX_JSON: usize = 8 << 20;

/// A JSON answer.
pub fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).map(|mut text| {
        text.push(b'\n');
        text
    });
    let (status, text) = match text {
        Ok(text) => (status, text),
        Err(error) => {
            tracing::error!(%error, "an answer is not JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, b"{\"message\":\"internal error\"}\n".to_vec())
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// Reads a JSON body; `None` if it is empty, which is no error in itself.
pub async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<Option<T>> {
    let content_type =
        headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let body = Limited::new(body, MAX_JSON)
        .collect()
        .await
        .map_err(|error| Error::invalid(format!("invalid JSON: {error}")))?
        .to_bytes();
    check_type(content_type.as_deref(), body.is_empty())?;
    if body.is_empty() {
        return Ok(None);
    }
    let mut documents = serde_json::Deserializer::from_slice(&body).into_iter();
    let value = match documents.next() {
        Some(value) => value.map_err(|error| {
            Error::invalid(format!(
                "invalid JSON: {}",
                drydock_go::json::words(&body, &error, "unexpected EOF")
            ))
        })?,
        None => return Err(Error::invalid("invalid JSON: got EOF while reading request body")),
    };
    match documents.next() {
        None => Ok(Some(value)),
        Some(_) => Err(Error::invalid("unexpected content after JSON")),
    }
}

/// Reads the JSON of a request as Go does: `null`, and no body, are as good as nothing.
pub async fn read_request<T: DeserializeOwned + Default>(headers: &HeaderMap, body: Body) -> Result<T> {
    match read_json(headers, body).await? {
        Some(value) => from_json(value).map_err(|error| Error::invalid(format!("invalid JSON: {error}"))),
        None => Ok(T::default()),
    }
}

fn check_type(content_type: Option<&str>, empty: bool) -> Result<()> {
    let text = match content_type {
        None | Some("") if empty => return Ok(()),
        None | Some("") => {
            return Err(Error::invalid("malformed Content-Type header (): mime: no media type"));
        }
        Some(text) => text,
    };
    let media_type = text.split(';').next().unwrap_or("").trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Error::invalid(format!("unsupported Content-Type header ({text}): must be 'application/json'")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    async fn read(content_type: Option<&str>, body: &str) -> Result<Option<Value>, String> {
        let mut headers = HeaderMap::new();
        if let Some(text) = content_type {
            headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
        }
        read_json(&headers, Body::from(body.to_owned())).await.map_err(|error| error.message)
    }

    #[tokio::test]
    async fn bodies_are_read_or_refused_in_dockers_words() {
        assert_eq!(read(Some("application/json"), r#"{"a":1}"#).await, Ok(Some(json!({"a": 1}))));
        assert_eq!(read(Some("application/json; charset=utf-8"), " {}\n").await, Ok(Some(json!({}))));
        assert_eq!(read(None, "").await, Ok(None));
        let wrong = read(Some("text/plain"), "{}").await.unwrap_err();
        assert_eq!(wrong, "unsupported Content-Type header (text/plain): must be 'application/json'");
        let none = read(None, "{}").await.unwrap_err();
        assert_eq!(none, "malformed Content-Type header (): mime: no media type");
        assert_eq!(read(Some("application/json"), "{").await.unwrap_err(), "invalid JSON: unexpected EOF");
        let key = read(Some("application/json"), "{invalid json").await.unwrap_err();
        let expected = "invalid JSON: invalid character 'i' looking for beginning of object key string";
        assert_eq!(key, expected);
        let more = read(Some("application/json"), "{} {}").await.unwrap_err();
        assert_eq!(more, "unexpected content after JSON");
    }

    #[tokio::test]
    async fn a_huge_body_is_not_read() {
        let body = format!("[{}0]", "0,".repeat(MAX_JSON / 2));
        assert!(read(Some("application/json"), &body).await.unwrap_err().contains("length limit"));
    }

    #[tokio::test]
    async fn answers_end_with_a_newline() {
        let response = answer(StatusCode::CREATED, &json!([]));
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "[]\n");
    }
}
