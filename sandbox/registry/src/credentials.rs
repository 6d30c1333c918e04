//! The credentials that the official client sends with a request: `X-Registry-Auth` and `X-Registry-Config`.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fmt};

/// A header longer than this holds no credentials.
const HEADER_MAX: usize = 64 * 1024;

/// Who somebody is at a registry, as `docker login` stores it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// The name of the account.
    #[serde(deserialize_with = "null_is_empty")]
    pub username: String,
    /// Its password.
    #[serde(deserialize_with = "null_is_empty")]
    pub password: String,
    /// User name and password in base64, which old clients send in place of both.
    #[serde(deserialize_with = "null_is_empty")]
    pub auth: String,
    /// The registry that they are for.
    #[serde(deserialize_with = "null_is_empty")]
    pub serveraddress: String,
    /// A refresh token in place of a password.
    #[serde(deserialize_with = "null_is_empty")]
    pub identitytoken: String,
    /// A bearer token that is sent as it is.
    #[serde(deserialize_with = "null_is_empty")]
    pub registrytoken: String,
}

/// As Go reads them: `null` is the empty text. Some clients send all fields.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Why credentials cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The header is not base64.
    #[error("invalid X-Registry-Auth header: illegal base64 data")]
    Base64,
    /// What it holds is not JSON of the right form.
    #[error("invalid X-Registry-Auth header: {0}")]
    Json(String),
    /// It is too long.
    #[error("invalid X-Registry-Auth header: too long")]
    TooLong,
}

/// Passwords and tokens stay out of logs.
impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

impl AuthConfig {
    /// User name and password, if both are there.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        if !self.username.is_empty() && !self.password.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let plain = String::from_utf8(decode(&self.auth).ok()?).ok()?;
        let (user, password) = plain.split_once(':')?;
        let password = password.trim_end_matches('\0');
        (!user.is_empty() && !password.is_empty()).then(|| (user.to_owned(), password.to_owned()))
    }
}

/// Reads the value of `X-Registry-Auth`. An empty value means nobody in particular.
pub fn decode_registry_auth(header: &str) -> Result<AuthConfig, CredentialsError> {
    if header.is_empty() {
        return Ok(AuthConfig::default());
    }
    let json = decode(header)?;
    serde_json::from_slice(&json).map_err(|e| CredentialsError::Json(e.to_string()))
}

/// Reads the value of `X-Registry-Config`, which builds get: credentials by registry.
pub fn decode_registry_config(header: &str) -> Result<HashMap<String, AuthConfig>, CredentialsError> {
    if header.is_empty() {
        return Ok(HashMap::new());
    }
    let json = decode(header)?;
    serde_json::from_slice(&json).map_err(|e| CredentialsError::Json(e.to_string()))
}

/// Both alphabets of base64, padded or not: clients differ.
fn decode(text: &str) -> Result<Vec<u8>, CredentialsError> {
    if text.len() > HEADER_MAX {
        return Err(CredentialsError::TooLong);
    }
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let standard: String = text
        .trim()
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(standard).map_err(|_| CredentialsError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE};

    #[test]
    fn headers_of_all_clients_are_read() {
        let json = r#"{"username":"a?>","password":"b~~","serveraddress":"registry:5000"}"#;
        for header in [BASE64_URL_SAFE.encode(json), BASE64_STANDARD_NO_PAD.encode(json)] {
            let auth = decode_registry_auth(&header).unwrap();
            assert_eq!(auth.basic(), Some(("a?>".into(), "b~~".into())));
            assert_eq!(auth.serveraddress, "registry:5000");
        }
        assert_eq!(decode_registry_auth("e30=").unwrap(), AuthConfig::default());
        assert_eq!(decode_registry_auth("").unwrap(), AuthConfig::default());
        let config = BASE64_URL_SAFE.encode(format!(r#"{{"registry:5000":{json}}}"#));
        assert_eq!(decode_registry_config(&config).unwrap()["registry:5000"].username, "a?>");
    }

    #[test]
    fn both_in_one_field() {
        let auth = AuthConfig { auth: BASE64_URL_SAFE.encode("ann:s:e"), ..AuthConfig::default() };
        assert_eq!(auth.basic(), Some(("ann".into(), "s:e".into())));
        assert_eq!(AuthConfig::default().basic(), None);
    }

    #[test]
    fn garbage_is_refused_and_secrets_are_not_printed() {
        assert_eq!(decode_registry_auth("%%%"), Err(CredentialsError::Base64));
        assert!(matches!(decode_registry_auth("AAAA"), Err(CredentialsError::Json(_))));
        assert_eq!(decode_registry_auth(&"A".repeat(HEADER_MAX + 1)), Err(CredentialsError::TooLong));
        let auth =
            AuthConfig { password: "hush".into(), identitytoken: "hush".into(), ..AuthConfig::default() };
        assert!(!format!("{auth:?}").contains("hush"));
    }

    #[test]
    fn fields_that_are_null_are_empty() {
        let json = r#"{"username":"ann","password":"secret","auth":null,"email":null,"serveraddress":null,"identitytoken":null}"#;
        let auth = decode_registry_auth(&BASE64_URL_SAFE.encode(json)).unwrap();
        assert_eq!(auth.basic(), Some(("ann".into(), "secret".into())));
        assert_eq!(auth.serveraddress, "");
    }
}
