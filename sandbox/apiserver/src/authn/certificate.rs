//! The user of a client certificate: its common name, with its organisations as groups (`x509.CommonNameUserConversion`). The TLS library
//! has checked its signature, its dates and its purpose.

use super::User;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The user, if the certificate names one.
pub fn user(der: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().last()?.as_str().ok()?.to_string();
    let groups = subject.iter_organization().filter_map(|one| one.as_str().ok()).map(String::from).collect();
    // Which certificate it was, for those who look into logs (KEP-740).
    let digest: String = Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect();
    let credential = format!("X509SHA256={digest}");
    let extra =
        BTreeMap::from([("authentication.kubernetes.io/credential-id".to_string(), vec![credential])]);
    (!name.is_empty()).then(|| User { name, groups, extra, ..User::default() })
}
