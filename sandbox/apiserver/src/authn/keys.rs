//! Keys of service-account tokens: those that check signatures, and the one that makes them. ES256 and RS256, as upstream's default
//! keys are; which one it is, the key itself says.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::{Error, ErrorKind};
use std::path::Path;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

fn wrong(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}

/// A key that checks signatures.
#[derive(Debug)]
pub struct Verifier {
    /// The `kid` of tokens that it checks: a hash of the key (`keyIDFromPublicKey`).
    pub id: String,
    /// `ES256` or `RS256`.
    pub algorithm: &'static str,
    /// What ring takes: a point, or a modulus and an exponent in DER.
    key: Vec<u8>,
    /// As JWKS tells it.
    pub jwk: Value,
}

impl Verifier {
    /// All public keys of a file.
    pub fn read(path: &Path) -> std::io::Result<Vec<Self>> {
        let keys = SubjectPublicKeyInfoDer::pem_file_iter(path).map_err(|error| wrong(path, error))?;
        let keys: Vec<Self> = keys
            .map(|key| Self::new(&key.map_err(|error| wrong(path, error))?, path))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(wrong(path, "data does not contain any valid RSA or ECDSA public keys"));
        }
        Ok(keys)
    }

    fn new(der: &SubjectPublicKeyInfoDer<'_>, path: &Path) -> std::io::Result<Self> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|error| wrong(path, error))?;
        let key = info.subject_public_key.data.to_vec();
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(der));
        let number = |bytes: &[u8]| {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            URL_SAFE_NO_PAD.encode(&bytes[zeros..])
        };
        match info.parsed() {
            // An uncompressed point: 4, x, y.
            Ok(PublicKey::EC(_)) if key.len() == 65 && key[0] == 4 => {
                let jwk = json!({
                    "use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256",
                    "x": URL_SAFE_NO_PAD.encode(&key[1..33]), "y": URL_SAFE_NO_PAD.encode(&key[33..]),
                });
                Ok(Self { id, algorithm: "ES256", key, jwk })
            }
            Ok(PublicKey::RSA(rsa)) => {
                let jwk = json!({
                    "use": "sig", "kty": "RSA", "kid": id, "alg": "RS256",
                    "n": number(rsa.modulus), "e": number(rsa.exponent),
                });
                Ok(Self { id, algorithm: "RS256", key, jwk })
            }
            _ => Err(wrong(path, "it is neither an RSA key nor an ECDSA key over P-256")),
        }
    }

    /// Whether this key's owner signed these bytes.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = match self.algorithm {
            "ES256" => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &self.key)
                .verify(message, signature),
            _ => UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, &self.key)
                .verify(message, signature),
        };
        checked.is_ok()
    }
}

/// The key that makes signatures.
pub struct Signer {
    pair: Pair,
    random: SystemRandom,
}

enum Pair {
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}

impl Signer {
    /// The private key of a file, PKCS#8.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_file(path).map_err(|error| wrong(path, error))?;
        let der = der.secret_pkcs8_der();
        let random = SystemRandom::new();
        let ecdsa = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
        let pair = match ecdsa {
            Ok(pair) => Pair::Ecdsa(Box::new(pair)),
            Err(_other_kind) => {
                let pair = RsaKeyPair::from_pkcs8(der);
                Pair::Rsa(Box::new(
                    pair.map_err(|_| wrong(path, "it is neither an RSA key nor an ECDSA key over P-256"))?,
                ))
            }
        };
        Ok(Self { pair, random })
    }

    /// `ES256` or `RS256`.
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ecdsa(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// The `kid` of what it signs: that of the public key among these which checks it.
    pub fn id<'a>(&self, verifiers: &'a [Verifier]) -> Option<&'a str> {
        let signature = self.sign(b"").ok()?;
        let own =
            verifiers.iter().find(|key| key.algorithm == self.algorithm() && key.verify(b"", &signature))?;
        Some(&own.id)
    }

    /// A signature of these bytes.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&self.random, message)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &self.random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}
