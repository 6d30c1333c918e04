//! Signs what is approved with the cluster's certificate authority.

use std::sync::Arc;
use std::time::Duration;

use drydock_kubeclient::informer::{Event, Informer};
use drydock_kubeclient::{ObjectKey, WorkQueue, errors};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::PostParams;
use kube::{Api, Client};
use rcgen::{
    CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::request::{
    CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY, allowed, condition, der, has_condition, is_issued,
    subject,
};
use crate::context::{Context, Reconcile, Running, work};
use crate::error::Error;
use crate::shared::meta::Meta;

/// Clocks differ: certificates hold from a little earlier.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// No certificate is asked for that holds shorter.
const SHORTEST: u64 = 600;

/// The certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Nothing it signs holds longer than it does itself.
    until: OffsetDateTime,
    longest: Duration,
}

struct Controller {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
    authority: Authority,
}

impl Authority {
    /// That of a certificate and its key, both PEM; what it signs holds so long at most.
    pub fn new(certificate: &str, key: &str, longest: Duration) -> Result<Self, Error> {
        let wrong = |path: &str, error: String| Error::File { path: path.into(), error };
        let key =
            KeyPair::from_pem(key).map_err(|error| wrong("--cluster-signing-key-file", error.to_string()))?;
        let of_certificate = |error: String| wrong("--cluster-signing-cert-file", error);
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes())
            .map_err(|error| of_certificate(error.to_string()))?;
        let parsed = pem.parse_x509().map_err(|error| of_certificate(error.to_string()))?;
        let until = parsed.validity().not_after.to_datetime();
        let issuer =
            Issuer::from_ca_cert_pem(certificate, key).map_err(|error| of_certificate(error.to_string()))?;
        Ok(Self { issuer, until, longest })
    }

    /// Signs a request; the certificate as PEM, or why not.
    pub fn sign(
        &self,
        der: &[u8],
        usages: &[String],
        seconds: Option<i32>,
        now: OffsetDateTime,
    ) -> Result<String, String> {
        let mut request =
            CertificateSigningRequestParams::from_der(&der.into()).map_err(|error| error.to_string())?;
        let params = &mut request.params;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        (params.key_usages, params.extended_key_usages) = purposes(usages)?;
        let asked = seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(|seconds| Duration::from_secs(seconds.max(SHORTEST)));
        let duration = asked.map_or(self.longest, |asked| asked.min(self.longest));
        params.not_before = now - BACKDATE;
        let end = time::Duration::try_from(duration).ok().and_then(|duration| now.checked_add(duration));
        params.not_after = end.map_or(self.until, |end| end.min(self.until));
        request
            .signed_by(&self.issuer)
            .map(|certificate| certificate.pem())
            .map_err(|error| error.to_string())
    }
}

/// Usages as the certificate tells them.
fn purposes(usages: &[String]) -> Result<(Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>), String> {
    let (mut key, mut extended) = (Vec::new(), Vec::new());
    for usage in usages {
        match &**usage {
            "signing" | "digital signature" => key.push(KeyUsagePurpose::DigitalSignature),
            "content commitment" => key.push(KeyUsagePurpose::ContentCommitment),
            "key encipherment" => key.push(KeyUsagePurpose::KeyEncipherment),
            "key agreement" => key.push(KeyUsagePurpose::KeyAgreement),
            "data encipherment" => key.push(KeyUsagePurpose::DataEncipherment),
            "encipher only" => key.push(KeyUsagePurpose::EncipherOnly),
            "decipher only" => key.push(KeyUsagePurpose::DecipherOnly),
            "any" => extended.push(ExtendedKeyUsagePurpose::Any),
            "server auth" => extended.push(ExtendedKeyUsagePurpose::ServerAuth),
            "client auth" => extended.push(ExtendedKeyUsagePurpose::ClientAuth),
            "code signing" => extended.push(ExtendedKeyUsagePurpose::CodeSigning),
            "email protection" | "s/mime" => extended.push(ExtendedKeyUsagePurpose::EmailProtection),
            "timestamping" => extended.push(ExtendedKeyUsagePurpose::TimeStamping),
            "ocsp signing" => extended.push(ExtendedKeyUsagePurpose::OcspSigning),
            // `cert sign` and `crl sign` would make an authority of it.
            other => return Err(format!("unrecognized usage values: {other:?}")),
        }
    }
    key.dedup();
    Ok((key, extended))
}

/// Sets the controller up, if the command line names an authority.
pub fn start(context: &Context) -> Option<Running> {
    let settings = &context.settings;
    let (certificate, key) = (settings.signing_certificate.as_deref()?, settings.signing_key.as_deref()?);
    let authority = match Authority::new(certificate, key, settings.signing_duration) {
        Ok(authority) => authority,
        Err(error) => {
            tracing::error!(%error, "certificates cannot be signed");
            return None;
        }
    };
    let queue: WorkQueue<ObjectKey> = WorkQueue::new();
    let requests = context.informer::<CertificateSigningRequest>();
    let to_queue = queue.clone();
    requests.subscribe(move |event| {
        if !matches!(event, Event::Deleted(_)) {
            to_queue.add(event.object().key());
        }
    });
    Some(work(Arc::new(Controller { client: context.client.clone(), requests, authority }), queue, 1))
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Option<Duration>, Error> {
        let Some(request) = self.requests.get(key) else { return Ok(None) };
        let ready = has_condition(&request, "Approved")
            && !has_condition(&request, "Denied")
            && !has_condition(&request, "Failed");
        let signer = &*request.spec.signer_name;
        if !ready
            || is_issued(&request)
            || ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY].contains(&signer)
        {
            return Ok(None);
        }
        let usages = request.spec.usages.clone().unwrap_or_default();
        let signed = der(&request).and_then(|der| {
            allowed(signer, &subject(&der)?, &usages)?;
            self.authority.sign(&der, &usages, request.spec.expiration_seconds, OffsetDateTime::now_utc())
        });
        let mut copy = CertificateSigningRequest::clone(&request);
        let status = copy.status.get_or_insert_default();
        match signed {
            Ok(pem) => status.certificate = Some(ByteString(pem.into_bytes())),
            Err(why) => {
                status.conditions.get_or_insert_default().push(condition(
                    "Failed",
                    "SignerValidationFailure",
                    &why,
                ));
            }
        }
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        errors::unless_gone(api.replace_status(&key.name, &PostParams::default(), &copy).await)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams};

    use super::super::request::tests::made;
    use super::*;

    #[test]
    fn a_certificate_is_what_was_asked_for_and_no_authority() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap().pem();
        let authority =
            Authority::new(&certificate, &key.serialize_pem(), Duration::from_secs(3600)).unwrap();
        let now = OffsetDateTime::now_utc();
        let usages = ["client auth".to_owned()];
        let pem = authority.sign(&made("alice", "dev", &[]), &usages, Some(1_000_000), now).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let signed = pem.parse_x509().unwrap();
        assert_eq!(signed.subject().iter_common_name().next().unwrap().as_str().unwrap(), "alice");
        assert_eq!(signed.subject().iter_organization().next().unwrap().as_str().unwrap(), "dev");
        assert!(!signed.is_ca());
        assert!(signed.extended_key_usage().unwrap().unwrap().value.client_auth);
        let holds = signed.validity().not_after.timestamp() - now.unix_timestamp();
        assert_eq!(holds, 3600, "no longer than the command line allows");
        assert!(authority.sign(&made("alice", "dev", &[]), &["cert sign".to_owned()], None, now).is_err());
        assert!(authority.sign(b"junk", &usages, None, now).is_err());
    }
}
