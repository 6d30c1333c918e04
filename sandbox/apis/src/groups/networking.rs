//! `networking.k8s.io/v1` and `discovery.k8s.io/v1`.

use crate::defaults::others;
use crate::kind::{Generation, Kind, Scope, Subresource};
use crate::prepare;
use crate::printers;
use crate::validation;

const BASE: Kind = Kind { group: "networking.k8s.io", generation: Generation::Spec, ..Kind::BASE };

pub static INGRESS_CLASS: Kind = Kind {
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    scope: Scope::Cluster,
    defaults: others::ingress_class,
    columns: printers::network::INGRESS_CLASS,
    row: printers::network::ingress_class,
    validate: validation::networking::validate_ingress_class,
    ..BASE
};

pub static SERVICE_CIDR: Kind = Kind {
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    scope: Scope::Cluster,
    subresources: &[Subresource::status("ServiceCIDR")],
    columns: printers::network::SERVICE_CIDR,
    row: printers::network::service_cidr,
    validate: validation::networking::validate_service_cidr,
    ..BASE
};

pub static INGRESS: Kind = Kind {
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short: &["ing"],
    subresources: &[Subresource::status("Ingress")],
    defaults: others::ingress,
    prepare: prepare::balanced,
    columns: printers::network::INGRESS,
    row: printers::network::ingress,
    validate: validation::networking::validate_ingress,
    validate_status: validation::service::validate_status,
    warnings: crate::warnings::ingress,
    ..BASE
};

pub static IP_ADDRESS: Kind = Kind {
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short: &["ip"],
    scope: Scope::Cluster,
    generation: Generation::None,
    columns: printers::network::IP_ADDRESS,
    row: printers::network::ip_address,
    validate: validation::networking::validate_ip_address,
    validate_name: validation::networking::ip_address_name,
    ..BASE
};

pub static NETWORK_POLICY: Kind = Kind {
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short: &["netpol"],
    defaults: others::network_policy,
    columns: printers::network::NETWORK_POLICY,
    row: printers::network::network_policy,
    validate: validation::networking::validate_network_policy,
    ..BASE
};

pub static ENDPOINT_SLICE: Kind = Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    generation: Generation::Spec,
    defaults: others::endpoint_slice,
    columns: printers::network::ENDPOINT_SLICE,
    row: printers::network::endpoint_slice,
    validate: validation::networking::validate_endpoint_slice,
    ..Kind::BASE
};
