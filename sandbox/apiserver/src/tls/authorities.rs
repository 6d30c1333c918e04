//! Whether a server's certificate is good, as Go's `crypto/x509` sees it: a certificate that is an authority itself, as
//! `openssl req -x509` makes them, is good for its names if it is one of those that are believed.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

/// What is wrong with a certificate, in Go's words.
#[derive(Debug)]
pub struct Words(pub String);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Words {}

fn refused(words: impl Into<String>) -> Error {
    Error::Other(OtherError(Arc::new(Words(words.into()))))
}

/// Certificates that are believed, and whom they believe.
#[derive(Debug)]
pub struct Authorities {
    provider: Arc<CryptoProvider>,
    known: Vec<CertificateDer<'static>>,
    /// None: there are no authorities.
    chains: Option<Arc<WebPkiServerVerifier>>,
}

impl Authorities {
    /// These certificates.
    pub fn new(known: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &known {
            roots.add(certificate.clone())?;
        }
        let chains = if roots.is_empty() {
            None
        } else {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            Some(builder.build().map_err(|error| Error::General(error.to_string()))?)
        };
        Ok(Self { provider, known, chains })
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let unreadable = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        if self.known.iter().any(|known| known == end_entity) {
            let (_, certificate) = X509Certificate::from_der(end_entity).map_err(unreadable)?;
            let time = ASN1Time::from_timestamp(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
            if !time.is_ok_and(|time| certificate.validity().is_valid_at(time)) {
                return Err(Error::InvalidCertificate(CertificateError::Expired));
            }
            check_name(&certificate, &server_name.to_str())?;
            return Ok(ServerCertVerified::assertion());
        }
        let Some(chains) = &self.chains else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        match chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                why @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
            )) => {
                let (_, certificate) = X509Certificate::from_der(end_entity).map_err(unreadable)?;
                check_name(&certificate, &server_name.to_str())?;
                // Whoever is stricter is right.
                Err(Error::InvalidCertificate(why))
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `VerifyHostname`.
fn check_name(certificate: &X509Certificate<'_>, host: &str) -> Result<(), Error> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let has_names = names.is_some();
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    if let Ok(wanted) = host.parse::<IpAddr>() {
        let addresses: Vec<IpAddr> = names.iter().filter_map(address).collect();
        if addresses.contains(&wanted) {
            return Ok(());
        }
        if addresses.is_empty() {
            let why = "because it doesn't contain any IP SANs";
            return Err(refused(format!("cannot validate certificate for {host} {why}")));
        }
        let valid: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        return Err(refused(format!("certificate is valid for {}, not {host}", valid.join(", "))));
    }
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_string()),
        _ => None,
    };
    let valid: Vec<String> = names.iter().filter_map(dns).collect();
    if valid.iter().any(|name| covers(name, host)) {
        return Ok(());
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    if !has_names && common.into_iter().any(|name| covers(name, host)) {
        return Err(refused("certificate relies on legacy Common Name field, use SANs instead"));
    }
    Err(refused(match &valid[..] {
        [] => format!("certificate is not valid for any names, but wanted to match {host}"),
        valid => format!("certificate is valid for {}, not {host}", valid.join(", ")),
    }))
}

fn address(name: &GeneralName<'_>) -> Option<IpAddr> {
    match name {
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a name, whose first label may be `*`, is that of a host.
fn covers(name: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    name.eq_ignore_ascii_case(host)
        || name.strip_prefix("*.").is_some_and(|rest| {
            host.split_once('.')
                .is_some_and(|(first, after)| !first.is_empty() && rest.eq_ignore_ascii_case(after))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
    use tokio_rustls::rustls::crypto::ring;

    /// As `openssl req -x509` makes one: an authority.
    fn own(names: &[&str], common: &str) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, common);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().clone()
    }

    fn verdict(known: &CertificateDer<'static>, shown: &CertificateDer<'_>, host: &str) -> String {
        let provider = Arc::new(ring::default_provider());
        let all = Authorities::new(vec![known.clone()], provider).expect("authorities");
        let name = ServerName::try_from(host.to_string()).expect("a name");
        match all.verify_server_cert(shown, &[], &name, &[], UnixTime::now()) {
            Ok(_) => "good".into(),
            Err(error) => super::super::words(&error),
        }
    }

    #[test]
    fn an_authority_is_good_for_its_own_names() {
        let hook = own(&["hook.default.svc", "*.example.com", "10.0.0.1"], "hook");
        for host in ["hook.default.svc", "a.example.com", "10.0.0.1"] {
            assert_eq!(verdict(&hook, &hook, host), "good", "{host}");
        }
        let told = |host: &str| verdict(&hook, &hook, host);
        assert_eq!(
            told("other.default.svc"),
            "x509: certificate is valid for hook.default.svc, *.example.com, not other.default.svc"
        );
        assert_eq!(told("10.0.0.2"), "x509: certificate is valid for 10.0.0.1, not 10.0.0.2");
        let old = own(&[], "hook.default.svc");
        assert_eq!(
            verdict(&old, &old, "hook.default.svc"),
            "x509: certificate relies on legacy Common Name field, use SANs instead"
        );
        assert_eq!(
            verdict(&old, &old, "10.0.0.1"),
            "x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs"
        );
        assert_ne!(verdict(&old, &hook, "hook.default.svc"), "good", "nobody believes this one");
    }
}
