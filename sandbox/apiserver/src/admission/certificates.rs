//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may approve and sign requests of a signer, and that
//! nobody gets a certificate of the masters.

use super::{Context, Operation, forbidden};
use crate::authz::{Attributes, Authorizer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::text;
use serde_json::Value;
use tokio_rustls::rustls::pki_types::CertificateSigningRequestDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

const GROUP: &str = "certificates.k8s.io";

/// Says in a new request who asks (`csrStrategy.PrepareForCreate`). What the client wrote there counts for nothing: approval asks what that
/// user may do.
pub fn requester(context: &Context<'_>, request: &mut Value) {
    let is_new = context.operation == Operation::Create && context.subresource.is_empty();
    if !is_new || !context.is(GROUP, "certificatesigningrequests") {
        return;
    }
    let Some(spec) = request.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    if let Ok(Value::Object(user)) = serde_json::to_value(context.user) {
        spec.extend(user);
    }
}

/// Refuses a write of a request that its writer may not do.
pub fn check(
    authorizer: &Authorizer,
    context: &Context<'_>,
    request: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if !context.is(GROUP, "certificatesigningrequests") {
        return Ok(());
    }
    let signer = text(request, &["spec", "signerName"]);
    match (context.operation, context.subresource, old) {
        (Operation::Create, "", _) => check_subject(context, request),
        (Operation::Update, "approval", Some(old)) => {
            let signer = text(old, &["spec", "signerName"]);
            if may(authorizer, context, "approve", signer) {
                return Ok(());
            }
            let why = format!("user not permitted to approve requests with signerName {signer:?}");
            Err(forbidden(context, request, &why))
        }
        (Operation::Update, "status", Some(old)) => {
            let is_same = |field: &str| request["status"].get(field) == old["status"].get(field);
            if is_same("certificate") && is_same("conditions") || may(authorizer, context, "sign", signer) {
                return Ok(());
            }
            let why = format!("user not permitted to sign requests with signerName {signer:?}");
            Err(forbidden(context, request, &why))
        }
        _ => Ok(()),
    }
}

/// `IsAuthorizedForSignerName`: for the signer, or for all of its domain.
fn may(authorizer: &Authorizer, context: &Context<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_string(), format!("{domain}/*")].iter().any(|name| {
        authorizer
            .decide(&Attributes {
                user: context.user,
                verb,
                is_resource: true,
                path: "",
                group: GROUP,
                version: "*",
                resource: "signers",
                subresource: "",
                namespace: "",
                name,
            })
            .is_allowed()
    })
}

fn check_subject(context: &Context<'_>, request: &Value) -> Result<(), Status> {
    const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
    if text(request, &["spec", "signerName"]) != CLIENT {
        return Ok(());
    }
    let is_master = || -> Option<bool> {
        let pem = STANDARD.decode(text(request, &["spec", "request"])).ok()?;
        let der = CertificateSigningRequestDer::from_pem_slice(&pem).ok()?;
        let (_, parsed) = X509CertificationRequest::from_der(&der).ok()?;
        let mut organizations = parsed.certification_request_info.subject.iter_organization();
        Some(organizations.any(|one| one.as_str() == Ok("system:masters")))
    };
    // What can't be read is refused by validation.
    if is_master() != Some(true) {
        return Ok(());
    }
    let why = format!("use of {CLIENT} signer with system:masters group is not allowed");
    Err(forbidden(context, request, &why))
}
