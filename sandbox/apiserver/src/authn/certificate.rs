//! The user of a client certificate: its common name, with its organisations as groups (`x509.CommonNameUserConversion`). The TLS library
//! has checked its signature, its dates and its purpose.

use super::User;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The user, if the certificate names one.
pub fn user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().last()?.as_str().ok()?.to_string();
    let groups = subject.iter_organization().filter_map(|one| one.as_str().ok()).map(String::from).collect();
    (!name.is_empty()).then(|| User { name, groups, ..User::default() })
}
