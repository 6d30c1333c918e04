//! `authentication.k8s.io`, `authorization.k8s.io` and `certificates.k8s.io`. Reviews are questions: they are created and answered,
//! never stored.

use crate::kind::{CREATE, Kind, Scope, Subresource};
use crate::prepare;
use crate::printers;
use crate::validation;
use drydock_apimachinery::object::text;

const AUTHENTICATION: Kind =
    Kind { group: "authentication.k8s.io", scope: Scope::Cluster, verbs: CREATE, ..Kind::BASE };
const AUTHORIZATION: Kind =
    Kind { group: "authorization.k8s.io", scope: Scope::Cluster, verbs: CREATE, ..Kind::BASE };

pub static SELF_SUBJECT_REVIEW: Kind = Kind {
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    ..AUTHENTICATION
};

pub static TOKEN_REVIEW: Kind =
    Kind { kind: "TokenReview", plural: "tokenreviews", singular: "tokenreview", ..AUTHENTICATION };

pub static LOCAL_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    scope: Scope::Namespaced,
    ..AUTHORIZATION
};

pub static SELF_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    ..AUTHORIZATION
};

pub static SELF_SUBJECT_RULES_REVIEW: Kind = Kind {
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    ..AUTHORIZATION
};

pub static SUBJECT_ACCESS_REVIEW: Kind = Kind {
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    ..AUTHORIZATION
};

pub static CERTIFICATE_SIGNING_REQUEST: Kind = Kind {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short: &["csr"],
    scope: Scope::Cluster,
    subresources: &[
        Subresource::own("approval", "CertificateSigningRequest"),
        Subresource::status("CertificateSigningRequest"),
    ],
    fields: &[("spec.signerName", |o| text(o, &["spec", "signerName"]).into())],
    prepare: prepare::signing_request,
    columns: printers::others::SIGNING_REQUEST,
    row: printers::others::signing_request,
    validate: validation::others::validate_signing_request,
    validate_status: validation::others::validate_signing_status,
    validate_subresource: |_, new, old| validation::others::validate_signing_status(new, old),
    ..Kind::BASE
};
