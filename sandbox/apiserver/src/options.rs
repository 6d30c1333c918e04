//! Configuration of the API server: kube-apiserver's flags fill it, tests make it by hand.

use crate::services::{NODE_PORTS, Range};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// All that can be set.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address that the `kubernetes` service leads to (`--advertise-address`).
    pub advertise_address: IpAddr,
    /// Where it listens (`--bind-address`).
    pub bind_address: IpAddr,
    /// At which port (`--secure-port`); 0: any.
    pub secure_port: u16,
    /// Others of the same user may listen at that port, too (`--permit-port-sharing`).
    pub permit_port_sharing: bool,
    /// Certificates and keys; absent: plain HTTP (tests only).
    pub tls: Option<TlsFiles>,
    /// With what it comes to kubelets; absent: it can't.
    pub kubelet_client: Option<KeyPair>,
    /// Authority of the kubelets' certificates; absent: they are not checked (`--kubelet-certificate-authority`).
    pub kubelet_ca: Option<PathBuf>,
    /// `--kubelet-preferred-address-types`.
    pub kubelet_address_types: Vec<String>,
    /// Tokens of a file (`--token-auth-file`).
    pub token_file: Option<PathBuf>,
    /// Public keys of service-account tokens (`--service-account-key-file`).
    pub service_account_keys: Vec<PathBuf>,
    /// The key that signs new ones (`--service-account-signing-key-file`).
    pub service_account_signing_key: Option<PathBuf>,
    /// `--service-account-issuer`.
    pub service_account_issuer: String,
    /// `--service-cluster-ip-range`.
    pub service_range: Range,
    /// `--service-node-port-range`.
    pub node_ports: RangeInclusive<u16>,
    /// Whether those who show nothing are `system:anonymous`, or are refused (`--anonymous-auth`).
    pub anonymous: bool,
    /// Who may do what (`--authorization-mode`): `Node`, `RBAC`, `AlwaysAllow`.
    pub authorization_modes: Vec<String>,
    /// Plug-ins that are not on by themselves (`--enable-admission-plugins`).
    pub enable_admission: Vec<String>,
    /// Plug-ins that are off (`--disable-admission-plugins`).
    pub disable_admission: Vec<String>,
    /// Whether bootstrap tokens are taken (`--enable-bootstrap-token-auth`).
    pub bootstrap_tokens: bool,
    /// Headers of a proxy that authenticates others (`--requestheader-…`); absent: none is trusted.
    pub request_header: Option<RequestHeader>,
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// `…-cert-file`.
    pub certificate: PathBuf,
    /// `…-key-file`.
    pub key: PathBuf,
}

/// What the server shows and whom it believes.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Its own (`--tls-cert-file`, `--tls-private-key-file`).
    pub own: KeyPair,
    /// Authority of clients (`--client-ca-file`).
    pub client_ca: Option<PathBuf>,
}

/// A proxy that says who asks.
#[derive(Debug, Clone)]
pub struct RequestHeader {
    /// Authority of its certificate.
    pub client_ca: PathBuf,
    /// Names that the certificate may have; none: any.
    pub allowed_names: Vec<String>,
    /// Headers with the user's name.
    pub username_headers: Vec<String>,
    /// Headers with its groups.
    pub group_headers: Vec<String>,
    /// Beginnings of headers with what else there is.
    pub extra_prefixes: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            advertise_address: Ipv4Addr::LOCALHOST.into(),
            bind_address: Ipv4Addr::UNSPECIFIED.into(),
            secure_port: 6443,
            permit_port_sharing: false,
            tls: None,
            kubelet_client: None,
            kubelet_ca: None,
            kubelet_address_types: ["Hostname", "InternalDNS", "InternalIP"].map(String::from).into(),
            token_file: None,
            service_account_keys: Vec::new(),
            service_account_signing_key: None,
            service_account_issuer: "https://kubernetes.default.svc.cluster.local".into(),
            service_range: Range::DEFAULT,
            node_ports: NODE_PORTS,
            anonymous: true,
            authorization_modes: vec!["RBAC".into()],
            enable_admission: Vec::new(),
            disable_admission: Vec::new(),
            bootstrap_tokens: false,
            request_header: None,
        }
    }
}
