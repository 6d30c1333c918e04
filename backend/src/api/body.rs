//! JSON bodies and query parameters. What is wrong with them is told in words for people: no name of a type of ours.

use super::{BODY_WITHIN, MAX_JSON};
use crate::error::Error;
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A JSON body, which is an object; refusals are [`Error`]s.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Error;
    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        match tokio::time::timeout(BODY_WITHIN, Json::<Value>::from_request(request, state)).await {
            Ok(Ok(Json(value))) => read(value).map(Self),
            Ok(Err(e)) => Err(refused(&e)),
            Err(_) => Err(Error::new(
                StatusCode::REQUEST_TIMEOUT,
                "slow_body",
                "The body did not come within 30 seconds.",
            )),
        }
    }
}

/// A list would do, too, field by field, if it were let.
fn read<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    if !value.is_object() {
        return Err(Error::invalid("bad_body", "The body must be a JSON object: {\"name\": value, …}."));
    }
    serde_path_to_error::deserialize(value).map_err(|e| {
        let (path, why) = (e.path().to_string(), words(&e.inner().to_string()));
        let text = if path == "." { format!("The body: {why}.") } else { format!("'{path}': {why}.") };
        Error::invalid("bad_body", text)
    })
}

fn refused(e: &JsonRejection) -> Error {
    match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::too_large(format!("The body is larger than {MAX_JSON} bytes."))
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Error::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "The body must be JSON, with the header 'Content-Type: application/json'.",
        ),
        _ => {
            let text = e.body_text();
            let why = text.rsplit(": ").next().unwrap_or_default();
            Error::invalid("bad_body", format!("The body is no JSON: {}.", cut(why)))
        }
    }
}

/// Query parameters; refusals are [`Error`]s.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(e) => {
                let text = e.body_text();
                let why = text.split_once(": ").map_or(text.as_str(), |(_, why)| why);
                Err(Error::invalid("bad_query", format!("What follows '?' in the address: {}.", words(why))))
            }
        }
    }
}

/// What serde says, with its names of types as people call them.
fn words(text: &str) -> String {
    let expected = |name: &str| match name {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        name if name.starts_with("struct ") || name == "a map" => "an object",
        name if name.starts_with("a tuple ") => "a list",
        _ => "",
    };
    match text.rsplit_once(", expected ") {
        Some((what, name)) if !expected(name).is_empty() => {
            cut(&format!("{what}, expected {}", expected(name)))
        }
        _ => cut(text),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_protocol::api::{CreateSession, SetRegistryRules};
    use serde_json::json;

    fn said<T: DeserializeOwned + std::fmt::Debug>(body: Value) -> String {
        read::<T>(body).unwrap_err().message
    }

    #[test]
    fn people_are_told_in_their_words() {
        let create = said::<CreateSession>;
        assert_eq!(
            create(json!({"playground": "linux", "nodes": 300})),
            "'nodes': invalid value: integer `300`, expected a whole number from 0 to 255."
        );
        assert!(create(json!({"playground": 1})).ends_with("expected a string."));
        assert!(create(json!({})).contains("missing field `playground`"));
        assert_eq!(
            said::<SetRegistryRules>(json!({"accounts": [7]})),
            "'accounts[0]': invalid type: integer `7`, expected an object."
        );
    }

    #[test]
    fn only_an_object_is_a_wish() {
        for body in [json!(["linux", 1, 60]), json!("linux"), json!(null)] {
            assert!(said::<CreateSession>(body).contains("must be a JSON object"));
        }
    }
}
