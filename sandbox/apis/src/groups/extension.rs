//! What extends the API: `apiregistration.k8s.io`, `admissionregistration.k8s.io` and `apiextensions.k8s.io`.

use crate::defaults::extension;
use crate::kind::{Generation, Kind, Scope, Subresource};
use crate::prepare;
use crate::printers;
use crate::validation;
use drydock_apimachinery::names;

const BASE: Kind = Kind {
    categories: &["api-extensions"],
    scope: Scope::Cluster,
    generation: Generation::Spec,
    unconditional_update: false,
    ..Kind::BASE
};
const ADMISSION: Kind = Kind { group: "admissionregistration.k8s.io", ..BASE };

pub static API_SERVICE: Kind = Kind {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    subresources: &[Subresource::status("APIService")],
    generation: Generation::None,
    validate_name: names::name_is_path_segment,
    defaults: extension::api_service,
    prepare: prepare::empty_status,
    columns: printers::others::API_SERVICE,
    row: printers::others::api_service,
    validate: validation::extension::validate_api_service,
    ..BASE
};

pub static MUTATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    defaults: extension::mutating_webhooks,
    columns: printers::others::WEBHOOKS,
    row: printers::others::webhooks,
    validate: validation::extension::validate_webhooks,
    ..ADMISSION
};

pub static VALIDATING_ADMISSION_POLICY: Kind = Kind {
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    subresources: &[Subresource::status("ValidatingAdmissionPolicy")],
    defaults: extension::admission_policy,
    prepare: prepare::empty_status,
    columns: printers::others::ADMISSION_POLICY,
    row: printers::others::admission_policy,
    validate: validation::admission_policy::validate,
    ..ADMISSION
};

pub static VALIDATING_ADMISSION_POLICY_BINDING: Kind = Kind {
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    defaults: extension::admission_policy_binding,
    columns: printers::others::ADMISSION_BINDING,
    row: printers::others::admission_binding,
    validate: validation::extension::validate_admission_binding,
    ..ADMISSION
};

pub static VALIDATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    defaults: extension::validating_webhooks,
    columns: printers::others::WEBHOOKS,
    row: printers::others::webhooks,
    validate: validation::extension::validate_webhooks,
    ..ADMISSION
};

pub static CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short: &["crd", "crds"],
    subresources: &[Subresource::status("CustomResourceDefinition")],
    defaults: extension::custom_resource_definition,
    prepare: prepare::custom_resource_definition,
    validate: validation::extension::validate_definition,
    ..BASE
};
