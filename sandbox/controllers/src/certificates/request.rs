//! What a request for a certificate asks for, and what the signers of Kubernetes allow (pkg/apis/certificates/helpers.go). Pure.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// Certificates of users.
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Certificates with which kubelets come to the API server.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Certificates with which kubelets are come to.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Anything, as in the days when there were no signers.
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// Common names.
    pub names: Vec<String>,
    /// Organizations: groups.
    pub organizations: Vec<String>,
    /// Whether other things of the subject are there than these.
    pub others: bool,
    /// DNS names.
    pub dns: Vec<String>,
    /// How many addresses.
    pub addresses: usize,
    /// Whether there are mail addresses.
    pub has_mail: bool,
    /// Whether there are URIs.
    pub has_uris: bool,
}

/// The DER of a request; its PEM has one block `CERTIFICATE REQUEST`.
pub fn der(request: &CertificateSigningRequest) -> Result<Vec<u8>, String> {
    let wrong = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&request.spec.request.0).map_err(|_| wrong())?;
    if pem.label == "CERTIFICATE REQUEST" { Ok(pem.contents) } else { Err(wrong()) }
}

/// Reads what is asked for.
pub fn subject(der: &[u8]) -> Result<Subject, String> {
    let (_, request) =
        X509CertificationRequest::from_der(der).map_err(|error| format!("unable to parse csr: {error}"))?;
    let info = &request.certification_request_info;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute.as_str().map(ToOwned::to_owned).ok()
    };
    let mut subject = Subject {
        names: info.subject.iter_common_name().filter_map(text).collect(),
        organizations: info.subject.iter_organization().filter_map(text).collect(),
        ..Subject::default()
    };
    subject.others =
        info.subject.iter_attributes().count() != subject.names.len() + subject.organizations.len();
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => subject.dns.push((*name).to_owned()),
                GeneralName::IPAddress(_) => subject.addresses += 1,
                GeneralName::RFC822Name(_) => subject.has_mail = true,
                GeneralName::URI(_) => subject.has_uris = true,
                _ => {}
            }
        }
    }
    Ok(subject)
}

/// Whether the signer allows it; else why not.
pub fn allowed(signer: &str, subject: &Subject, usages: &[String]) -> Result<(), String> {
    match signer {
        CLIENT => are_client_usages(usages)?,
        KUBELET_CLIENT => kubelet_client(subject, usages)?,
        KUBELET_SERVING => kubelet_serving(subject, usages)?,
        _ => {}
    }
    // The writer of certificates keeps one value of a kind: a group that is dropped silently would be a lie.
    if subject.organizations.len() > 1 || subject.names.len() > 1 {
        return Err(
            "several organizations or common names in one subject are not supported by this signer".into()
        );
    }
    Ok(())
}

/// `validAPIServerClientUsages` of `pkg/controller/certificates/signer/signer.go`.
fn are_client_usages(usages: &[String]) -> Result<(), String> {
    const AUTH: &str = "client auth";
    let other = usages
        .iter()
        .find(|usage| ![AUTH, "digital signature", "key encipherment"].contains(&usage.as_str()));
    match other {
        Some(other) => Err(format!("invalid usage for client certificate: {other}")),
        None if !usages.iter().any(|usage| usage == AUTH) => {
            Err(format!("missing required usage for client certificate: {AUTH}"))
        }
        None => Ok(()),
    }
}

const NOT_NODES: &str = "subject organization is not system:nodes";
const NOT_A_NODE: &str = "subject common name does not begin with system:node:";

/// `ValidateKubeletClientCSR`, in its order.
fn kubelet_client(subject: &Subject, usages: &[String]) -> Result<(), String> {
    let why = if subject.organizations != ["system:nodes"] {
        NOT_NODES
    } else if !subject.dns.is_empty() {
        "DNS subjectAltNames are not allowed"
    } else if subject.has_mail {
        "Email subjectAltNames are not allowed"
    } else if subject.addresses > 0 {
        "IP subjectAltNames are not allowed"
    } else if subject.has_uris {
        "URI subjectAltNames are not allowed"
    } else if !is_node(subject) {
        NOT_A_NODE
    } else {
        return are_usages(usages, "client auth");
    };
    Err(why.into())
}

/// `ValidateKubeletServingCSR`, in its order.
fn kubelet_serving(subject: &Subject, usages: &[String]) -> Result<(), String> {
    if subject.organizations != ["system:nodes"] {
        return Err(NOT_NODES.into());
    }
    if subject.dns.is_empty() && subject.addresses == 0 {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if subject.has_mail {
        return Err("Email subjectAltNames are not allowed".into());
    }
    if subject.has_uris {
        return Err("URI subjectAltNames are not allowed".into());
    }
    are_usages(usages, "server auth")?;
    if is_node(subject) { Ok(()) } else { Err(NOT_A_NODE.into()) }
}

/// Whether the (last) common name is a node's.
fn is_node(subject: &Subject) -> bool {
    subject.names.last().is_some_and(|name| name.starts_with("system:node:"))
}

/// Whether the usages are those of a kubelet's certificate: a key of RSA may encipher keys, too.
fn are_usages(usages: &[String], auth: &str) -> Result<(), String> {
    let has = |usage: &str| usages.iter().any(|other| other == usage);
    let known = |usage: &str| usage == auth || matches!(usage, "digital signature" | "key encipherment");
    if has(auth) && has("digital signature") && usages.iter().all(|usage| known(usage)) {
        return Ok(());
    }
    let mut wanted = [auth, "digital signature", "key encipherment"];
    wanted.sort_unstable();
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

/// Whether a condition of that type is set.
pub fn has_condition(request: &CertificateSigningRequest, type_: &str) -> bool {
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == type_ && one.status == "True")
}

/// Whether a certificate was issued.
pub fn is_issued(request: &CertificateSigningRequest) -> bool {
    request
        .status
        .as_ref()
        .is_some_and(|status| status.certificate.as_ref().is_some_and(|bytes| !bytes.0.is_empty()))
}

/// A condition as of now.
pub fn condition(type_: &str, reason: &str, message: &str) -> CertificateSigningRequestCondition {
    let now = Some(Time(Timestamp::now()));
    CertificateSigningRequestCondition {
        type_: type_.into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: now.clone(),
        last_transition_time: now,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    /// A request of that name and group, as DER.
    pub(crate) fn made(name: &str, group: &str, dns: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.subject_alt_names =
            dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect();
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn what_signers_allow() {
        let usages = |list: &[&str]| list.iter().map(|usage| (*usage).to_owned()).collect::<Vec<_>>();
        let client = usages(&["client auth"]);
        let kubelet = usages(&["digital signature", "client auth"]);
        let serving = usages(&["digital signature", "server auth"]);
        for (signer, name, group, dns, usages, expected) in [
            (CLIENT, "alice", "dev", &[][..], &client, true),
            (CLIENT, "alice", "dev", &[][..], &serving, false),
            (KUBELET_CLIENT, "system:node:n1", "system:nodes", &[][..], &kubelet, true),
            (KUBELET_CLIENT, "alice", "system:nodes", &[][..], &kubelet, false),
            (KUBELET_CLIENT, "system:node:n1", "system:masters", &[][..], &kubelet, false),
            (KUBELET_CLIENT, "system:node:n1", "system:nodes", &["n1"][..], &kubelet, false),
            (KUBELET_SERVING, "system:node:n1", "system:nodes", &["n1"][..], &serving, true),
            (KUBELET_SERVING, "system:node:n1", "system:nodes", &[][..], &serving, false),
            (LEGACY, "any", "one", &[][..], &client, true),
        ] {
            let subject = subject(&made(name, group, dns)).unwrap();
            assert_eq!(
                allowed(signer, &subject, usages).is_ok(),
                expected,
                "{signer} {name} {group} {dns:?}"
            );
        }
    }

    #[test]
    fn why_somebody_gets_none() {
        let usages = |list: &[&str]| list.iter().map(|usage| (*usage).to_owned()).collect::<Vec<_>>();
        let client = usages(&["digital signature", "client auth"]);
        let serving = usages(&["digital signature", "server auth"]);
        for (signer, name, group, dns, usages, expected) in [
            (CLIENT, "alice", "dev", &[][..], &serving, "invalid usage for client certificate: server auth"),
            (
                CLIENT,
                "alice",
                "dev",
                &[][..],
                &usages(&["digital signature"]),
                "missing required usage for client certificate: client auth",
            ),
            (KUBELET_CLIENT, "alice", "dev", &[][..], &client, NOT_NODES),
            (KUBELET_CLIENT, "alice", "system:nodes", &[][..], &client, NOT_A_NODE),
            (
                KUBELET_CLIENT,
                "system:node:n",
                "system:nodes",
                &["n"][..],
                &client,
                "DNS subjectAltNames are not allowed",
            ),
            (
                KUBELET_CLIENT,
                "system:node:n",
                "system:nodes",
                &[][..],
                &serving,
                "usages did not match [client auth digital signature key encipherment]",
            ),
            (KUBELET_SERVING, "alice", "dev", &["n"][..], &serving, NOT_NODES),
            (KUBELET_SERVING, "alice", "system:nodes", &["n"][..], &serving, NOT_A_NODE),
            (
                KUBELET_SERVING,
                "system:node:n",
                "system:nodes",
                &[][..],
                &serving,
                "DNS or IP subjectAltName is required",
            ),
            (
                KUBELET_SERVING,
                "system:node:n",
                "system:nodes",
                &["n"][..],
                &client,
                "usages did not match [digital signature key encipherment server auth]",
            ),
        ] {
            let subject = subject(&made(name, group, dns)).unwrap();
            assert_eq!(
                allowed(signer, &subject, usages),
                Err(expected.to_owned()),
                "{signer} {name} {group}"
            );
        }
    }

    #[test]
    fn what_is_no_request() {
        let request = |text: &str| CertificateSigningRequest {
            spec: k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec {
                request: k8s_openapi::ByteString(text.into()),
                ..Default::default()
            },
            ..CertificateSigningRequest::default()
        };
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(der(&request(text)).is_err(), "{text}");
        }
        assert!(subject(b"\x30\x03\x02\x01\x01").is_err());
    }
}
