//! JSON Web Tokens: signed by a private key (ES256), or by a shared secret without their content (HS256, for `cluster-info`). Pure.

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::error::Error;

/// What comes before the point of a P-256 key in its `SubjectPublicKeyInfo` (RFC 5480): of this the key's name is a hash.
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Signs tokens.
pub struct Signer {
    key: EcdsaKeyPair,
    id: String,
}

fn encode(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

impl Signer {
    /// One with a key in PKCS #8, as PEM.
    pub fn new(pem: &str) -> Result<Self, Error> {
        let wrong = |error: String| Error::File { path: "--service-account-private-key-file".into(), error };
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| wrong(error.to_string()))?;
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pem.contents, &SystemRandom::new());
        let key = key.map_err(|error| wrong(format!("the key is none of ECDSA P-256: {error}")))?;
        let public = [P256_PREFIX, key.public_key().as_ref()].concat();
        Ok(Self { id: BASE64URL_NOPAD.encode(digest(&SHA256, &public).as_ref()), key })
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let content = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": self.id})), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), content.as_bytes());
        let signature =
            signature.map_err(|error| Error::Object(format!("the token cannot be signed: {error}")))?;
        Ok(format!("{content}.{}", BASE64URL_NOPAD.encode(signature.as_ref())))
    }
}

/// The signature of a content by a shared secret, with the content left out: `HEADER..SIGNATURE`.
pub fn detached(content: &[u8], id: &str, secret: &str) -> String {
    let header = encode(&json!({"alg": "HS256", "kid": id}));
    let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(content));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{header}..{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}

#[cfg(test)]
pub(crate) mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    /// A key as PEM.
    pub(crate) fn key() -> String {
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem()
    }

    #[test]
    fn a_token_can_be_checked_with_the_public_key() {
        let signer = Signer::new(&key()).unwrap();
        let token = signer.sign(&json!({"sub": "me"})).unwrap();
        let (content, signature) = token.rsplit_once('.').unwrap();
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, signer.key.public_key().as_ref());
        assert!(public.verify(content.as_bytes(), &signature).is_ok());
        assert!(Signer::new("no key").is_err());
    }

    /// From upstream's `TestComputeDetachedSig`.
    #[test]
    fn detached_signatures() {
        let content = b"Hello from the other side. I must have called a thousand times.";
        let signature = detached(content, "joshua", "my voice is my passcode");
        assert_eq!(
            signature,
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }
}
