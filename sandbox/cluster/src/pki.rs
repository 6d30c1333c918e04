//! The cluster's authorities and the certificates that they sign, as kubeadm has them (`cmd/kubeadm/app/phases/certs/certlist.go`).

use crate::{Cluster, DOMAIN, Error, KUBERNETES_SERVICE, keys};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use std::net::{IpAddr, Ipv4Addr};
use time::OffsetDateTime;

/// As kubeadm dates certificates back: clocks differ.
const BACKDATE: i64 = 300;
const DAY: i64 = 86_400;

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// The cluster's own.
    Cluster,
    /// Of proxies in front of extension API servers.
    FrontProxy,
    /// Of etcd.
    Etcd,
}

impl Authority {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::FrontProxy, Self::Etcd];

    /// Its file below the directory of certificates, without an extension.
    pub fn file(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::FrontProxy => "front-proxy-ca",
            Self::Etcd => "etcd/ca",
        }
    }

    fn common_name(self) -> &'static str {
        match self {
            Self::Cluster => "kubernetes",
            Self::FrontProxy => "front-proxy-ca",
            Self::Etcd => "etcd-ca",
        }
    }

    fn parameters(self, cluster: &Cluster<'_>) -> Result<CertificateParams, Error> {
        let mut params = parameters(cluster, &format!("{} authority", self.file()), 3650)?;
        params.distinguished_name = name(self.common_name(), &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.subject_alt_names = vec![dns(self.common_name())?];
        Ok(params)
    }

    fn issuer(self, cluster: &Cluster<'_>) -> Result<Issuer<'static, KeyPair>, Error> {
        Ok(Issuer::new(self.parameters(cluster)?, keys::pair(cluster.seed, self.file())?))
    }

    /// Its own certificate and key: the same on every node.
    pub fn certificate(self, cluster: &Cluster<'_>) -> Result<Certificate, Error> {
        let key = keys::pair(cluster.seed, self.file())?;
        let made = self.parameters(cluster)?.self_signed(&key).map_err(failed(self.file()))?;
        Ok(Certificate { certificate: made.pem(), key: key.serialize_pem() })
    }
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Names its key.
    pub label: String,
    /// Who signs it.
    pub authority: Authority,
    /// User (or server) that it stands for.
    pub common_name: String,
    /// Groups of the user.
    pub organizations: Vec<&'static str>,
    /// Clients find this server by these names.
    pub names: Vec<String>,
    /// Clients find this server by these addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// It stands for a server.
    pub server: bool,
    /// It stands for a client.
    pub client: bool,
}

impl Identity {
    /// A user of the API.
    pub fn user(common_name: &str, organizations: &[&'static str]) -> Self {
        Self {
            label: common_name.into(),
            authority: Authority::Cluster,
            common_name: common_name.into(),
            organizations: organizations.to_vec(),
            names: vec![],
            addresses: vec![],
            server: false,
            client: true,
        }
    }

    /// A server, which these addresses lead to.
    fn serving(
        authority: Authority,
        label: &str,
        common_name: &str,
        names: &[&str],
        addresses: &[Ipv4Addr],
    ) -> Self {
        Self {
            label: label.into(),
            authority,
            names: names.iter().map(|n| (*n).into()).collect(),
            addresses: addresses.to_vec(),
            server: true,
            client: false,
            ..Self::user(common_name, &[])
        }
    }

    /// The API server.
    pub fn api_server(cluster: &Cluster<'_>) -> Self {
        let domain = format!("kubernetes.default.svc.{DOMAIN}");
        let names = [
            cluster.node,
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            &domain,
            "localhost",
        ];
        let addresses = [KUBERNETES_SERVICE, cluster.address, Ipv4Addr::LOCALHOST];
        Self::serving(Authority::Cluster, "apiserver", "kube-apiserver", &names, &addresses)
    }

    /// etcd towards its clients, and towards its peers.
    pub fn etcd_server(cluster: &Cluster<'_>, label: &str) -> Self {
        let addresses = [cluster.address, Ipv4Addr::LOCALHOST];
        let both =
            Self::serving(Authority::Etcd, label, cluster.node, &[cluster.node, "localhost"], &addresses);
        Self { client: true, ..both }
    }

    /// A client that another authority than the cluster's vouches for.
    pub fn client_of(authority: Authority, label: &str, common_name: &str) -> Self {
        Self { label: label.into(), authority, ..Self::user(common_name, &[]) }
    }

    /// The kubelet of this node as a client of the API server.
    pub fn kubelet_client(cluster: &Cluster<'_>) -> Self {
        Self::user(&format!("system:node:{}", cluster.node), &["system:nodes"])
    }

    /// The kubelet of this node as a server.
    pub fn kubelet_server(cluster: &Cluster<'_>) -> Self {
        let label = format!("kubelet of {}", cluster.node);
        let name = format!("system:node:{}", cluster.node);
        let addresses = [cluster.address, Ipv4Addr::LOCALHOST];
        let server =
            Self::serving(Authority::Cluster, &label, &name, &[cluster.node, "localhost"], &addresses);
        Self { organizations: vec!["system:nodes"], ..server }
    }

    /// Makes the key and the certificate.
    pub fn certificate(&self, cluster: &Cluster<'_>) -> Result<Certificate, Error> {
        let key = keys::pair(cluster.seed, &self.label)?;
        let mut params = parameters(cluster, &self.label, 365)?;
        params.distinguished_name = name(&self.common_name, &self.organizations);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        if self.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if self.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = self.names.iter().map(|n| dns(n)).collect::<Result<_, _>>()?;
        params.subject_alt_names.extend(self.addresses.iter().map(|a| SanType::IpAddress(IpAddr::V4(*a))));
        let issuer = self.authority.issuer(cluster)?;
        let made = params.signed_by(&key, &issuer).map_err(failed(&self.label))?;
        Ok(Certificate { certificate: made.pem(), key: key.serialize_pem() })
    }
}

/// The pair that service-account tokens are signed with: (private, public), PEM. Only the control plane has it, so it follows from
/// nothing. ECDSA, since clients of tokens know no Ed25519.
pub fn service_account_keys() -> Result<(String, String), Error> {
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed("sa"))?;
    Ok((pair.serialize_pem(), pair.public_key_pem()))
}

fn failed(what: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Certificate { what, source }
}

/// What all certificates have in common.
fn parameters(cluster: &Cluster<'_>, label: &str, days: i64) -> Result<CertificateParams, Error> {
    let created = i64::try_from(cluster.created).map_err(|_| Error::Time)?;
    let moment = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Time);
    let mut params = CertificateParams::default();
    params.not_before = moment(created - BACKDATE)?;
    params.not_after = moment(created + days * DAY)?;
    let mut serial = keys::derive(cluster.seed, &format!("serial {label}"))[..8].to_vec();
    // Positive and never zero (RFC 5280, section 4.1.2.2).
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from(serial));
    Ok(params)
}

fn name(common_name: &str, organizations: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, *organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn dns(text: &str) -> Result<SanType, Error> {
    Ok(SanType::DnsName(text.try_into().map_err(failed(text))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::*;

    const SEED: [u8; 32] = [7; 32];

    fn cluster(node: &str, number: u8) -> Cluster<'_> {
        Cluster {
            seed: &SEED,
            created: 1_800_000_000,
            node,
            address: Ipv4Addr::new(192, 168, 0, 10 + number),
            control_plane: Ipv4Addr::new(192, 168, 0, 11),
        }
    }

    fn der(pem: &str) -> Vec<u8> {
        parse_x509_pem(pem.as_bytes()).unwrap().1.contents
    }

    #[test]
    fn every_node_has_the_same_authority_and_it_has_signed_their_certificates() {
        let ca = Authority::Cluster.certificate(&cluster("node1", 1)).unwrap();
        assert_eq!(ca.certificate, Authority::Cluster.certificate(&cluster("node2", 2)).unwrap().certificate);
        let ca = der(&ca.certificate);
        let ca = parse_x509_certificate(&ca).unwrap().1;
        assert!(ca.is_ca());
        ca.verify_signature(None).unwrap();
        let two = cluster("node2", 2);
        let client = der(&Identity::kubelet_client(&two).certificate(&two).unwrap().certificate);
        let client = parse_x509_certificate(&client).unwrap().1;
        client.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(client.subject().to_string(), "O=system:nodes, CN=system:node:node2");
        assert_eq!(client.validity().not_before.timestamp(), 1_800_000_000 - 300);
        let usage = client.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
    }

    #[test]
    fn the_api_server_is_found_by_its_service_and_its_node() {
        let one = cluster("node1", 1);
        let made = der(&Identity::api_server(&one).certificate(&one).unwrap().certificate);
        let made = parse_x509_certificate(&made).unwrap().1;
        let names = made.subject_alternative_name().unwrap().unwrap().value;
        let said: Vec<String> = names.general_names.iter().map(ToString::to_string).collect();
        for wanted in ["kubernetes.default.svc.cluster.local", "0a:60:00:01", "c0:a8:00:0b", "node1"] {
            assert!(said.iter().any(|n| n.contains(wanted)), "{wanted} is not in {said:?}");
        }
    }

    #[test]
    fn another_authority_vouches_for_etcd() {
        let one = cluster("node1", 1);
        let ca = der(&Authority::Cluster.certificate(&one).unwrap().certificate);
        let ca = parse_x509_certificate(&ca).unwrap().1;
        let server = der(&Identity::etcd_server(&one, "etcd/server").certificate(&one).unwrap().certificate);
        let server = parse_x509_certificate(&server).unwrap().1;
        assert!(server.verify_signature(Some(ca.public_key())).is_err());
        assert_eq!(server.issuer().to_string(), "CN=etcd-ca");
    }
}
