//! `kube-apiserver`: the API server, with upstream's flags as kubeadm's manifest gives them.

use anyhow::{Context, bail};
use clap::{ArgAction, Parser};
use drydock_apiserver::options::{KeyPair, RequestHeader, TlsFiles};
use drydock_apiserver::services::Range;
use drydock_apiserver::{Options, run as serve};
use drydock_etcd::{ClientFiles, Servers, Store};
use futures_util::future::BoxFuture;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The Kubernetes API server validates and configures data for the api objects.
#[derive(Debug, Parser)]
#[command(name = "kube-apiserver", version = "v1.35.0+drydock")]
pub struct Command {
    /// The IP address on which to advertise the apiserver to members of the cluster.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    advertise_address: IpAddr,
    /// The IP address on which to listen.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    bind_address: IpAddr,
    /// The port on which to serve HTTPS.
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    /// Whether others of the same user may listen at that port, too (SO_REUSEPORT).
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    permit_port_sharing: bool,
    /// List of etcd servers to connect with (scheme://ip:port).
    #[arg(long, value_delimiter = ',')]
    etcd_servers: Vec<String>,
    /// File with the authority that signs clients' certificates.
    #[arg(long)]
    client_ca_file: Option<PathBuf>,
    /// File with the server's certificate.
    #[arg(long)]
    tls_cert_file: Option<PathBuf>,
    /// File with its key.
    #[arg(long)]
    tls_private_key_file: Option<PathBuf>,
    /// Certificate with which kubelets are asked.
    #[arg(long)]
    kubelet_client_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    kubelet_client_key: Option<PathBuf>,
    /// Authority of the kubelets' certificates; without it they are not checked, as upstream.
    #[arg(long)]
    kubelet_certificate_authority: Option<PathBuf>,
    /// Which addresses of a node to use, in order of preference.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP"
    )]
    kubelet_preferred_address_types: Vec<String>,
    /// File with tokens: `token,user,uid,"group1,group2"`.
    #[arg(long)]
    token_auth_file: Option<PathBuf>,
    /// Files with the keys that service accounts' tokens are checked with.
    #[arg(long)]
    service_account_key_file: Vec<PathBuf>,
    /// File with the key that they are signed with.
    #[arg(long)]
    service_account_signing_key_file: Option<PathBuf>,
    /// Who issues them.
    #[arg(long, default_value = "https://kubernetes.default.svc.cluster.local")]
    service_account_issuer: String,
    /// Addresses of Services.
    #[arg(long, default_value = "10.96.0.0/12")]
    service_cluster_ip_range: String,
    /// Ports of nodes for Services: `FIRST-LAST`, `FIRST+COUNT` or one.
    #[arg(long, default_value = "30000-32767")]
    service_node_port_range: String,
    /// Whether those who show nothing are `system:anonymous`, or are refused.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value = "true", default_missing_value = "true")]
    anonymous_auth: bool,
    /// Who decides what is allowed, in order.
    #[arg(long, value_delimiter = ',', default_value = "RBAC")]
    authorization_mode: Vec<String>,
    /// Admission plug-ins beside those that are on by default.
    #[arg(long, value_delimiter = ',')]
    enable_admission_plugins: Vec<String>,
    /// Admission plug-ins that are off.
    #[arg(long, value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    /// Whether Secrets of type `bootstrap.kubernetes.io/token` let clients in.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    enable_bootstrap_token_auth: bool,
    /// Authority of proxies that say who asks.
    #[arg(long)]
    requestheader_client_ca_file: Option<PathBuf>,
    /// Names that their certificates may have.
    #[arg(long, value_delimiter = ',')]
    requestheader_allowed_names: Vec<String>,
    /// Headers with the user's name.
    #[arg(long, value_delimiter = ',')]
    requestheader_username_headers: Vec<String>,
    /// Headers with its groups.
    #[arg(long, value_delimiter = ',')]
    requestheader_group_headers: Vec<String>,
    /// Beginnings of headers with what else there is.
    #[arg(long, value_delimiter = ',')]
    requestheader_extra_headers_prefix: Vec<String>,
    /// Taken and without meaning: privileged containers are the node's matter.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_value = "true", default_missing_value = "true")]
    allow_privileged: bool,
    /// Who signs etcd's certificate.
    #[arg(long)]
    etcd_cafile: Option<PathBuf>,
    /// Certificate that etcd is shown.
    #[arg(long)]
    etcd_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    etcd_keyfile: Option<PathBuf>,
    /// Taken and without meaning: there are no aggregated API servers.
    #[arg(long)]
    proxy_client_cert_file: Option<PathBuf>,
    /// See `--proxy-client-cert-file`.
    #[arg(long)]
    proxy_client_key_file: Option<PathBuf>,
}

/// How long the store may take to be there (`dialTimeout` of apiserver's `storage/storagebackend/factory/etcd3.go`).
const STORE_IN: Duration = Duration::from_secs(20);

/// Runs until `stop` is done.
pub async fn run(command: Command, mut stop: BoxFuture<'static, ()>) -> anyhow::Result<()> {
    let files = ClientFiles {
        ca: command.etcd_cafile.clone(),
        cert: command.etcd_certfile.clone(),
        key: command.etcd_keyfile.clone(),
    };
    let urls = command.etcd_servers.clone();
    let options = options(command)?;
    if urls.iter().all(String::is_empty) {
        bail!("--etcd-servers must be specified");
    }
    let servers = Servers::new(&urls, &files).context("error creating storage factory")?;
    let store = tokio::select! {
        () = &mut stop => return Ok(()),
        store = connect(&servers) => store,
        () = tokio::time::sleep(STORE_IN) => bail!("error creating storage factory: context deadline exceeded"),
    };
    Ok(serve(store, options, stop).await?)
}

/// After how long the store is missed; in a new cluster it comes up beside us.
const MISSED: Duration = Duration::from_millis(200);

/// The store may come up after us.
async fn connect(servers: &Servers) -> Store {
    let mut pause = Duration::from_millis(2);
    loop {
        match Store::replica(servers.clone()).await {
            Ok(store) => return store,
            Err(error) => {
                if pause > MISSED {
                    let to = format!("{servers:?}");
                    tracing::warn!(to, %error, "grpc: addrConn.createTransport failed to connect");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        }
    }
}

fn options(command: Command) -> anyhow::Result<Options> {
    check_names(&command)?;
    let pair = |certificate: Option<PathBuf>, key: Option<PathBuf>, flags: &str| match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(KeyPair { certificate, key })),
        (None, None) => Ok(None),
        _ => Err(anyhow::anyhow!("{flags} must be given together")),
    };
    let own = pair(
        command.tls_cert_file,
        command.tls_private_key_file,
        "--tls-cert-file and --tls-private-key-file",
    )?;
    let own = own.context("--tls-cert-file and --tls-private-key-file are required")?;
    let kubelet_client = pair(
        command.kubelet_client_certificate,
        command.kubelet_client_key,
        "--kubelet-client-certificate and --kubelet-client-key",
    )?;
    let range = &command.service_cluster_ip_range;
    let request_header = command.requestheader_client_ca_file.map(|client_ca| RequestHeader {
        client_ca,
        allowed_names: command.requestheader_allowed_names,
        username_headers: command.requestheader_username_headers,
        group_headers: command.requestheader_group_headers,
        extra_prefixes: command.requestheader_extra_headers_prefix,
    });
    Ok(Options {
        advertise_address: command.advertise_address,
        bind_address: command.bind_address,
        secure_port: command.secure_port,
        permit_port_sharing: command.permit_port_sharing,
        tls: Some(TlsFiles { own, client_ca: command.client_ca_file }),
        kubelet_client,
        kubelet_ca: command.kubelet_certificate_authority,
        kubelet_address_types: command.kubelet_preferred_address_types,
        token_file: command.token_auth_file,
        service_account_keys: command.service_account_key_file,
        service_account_signing_key: command.service_account_signing_key_file,
        service_account_issuer: command.service_account_issuer,
        service_range: Range::parse(range).with_context(|| format!("{range:?} is no range of addresses"))?,
        node_ports: node_ports(&command.service_node_port_range)?,
        anonymous: command.anonymous_auth,
        authorization_modes: command.authorization_mode,
        enable_admission: command.enable_admission_plugins,
        disable_admission: command.disable_admission_plugins,
        bootstrap_tokens: command.enable_bootstrap_token_auth,
        request_header,
    })
}

/// A name that nobody knows would be a protection that is not there (`pkg/kubeapiserver/options/authorization.go`, apiserver
/// `pkg/server/options/admission.go`).
fn check_names(command: &Command) -> anyhow::Result<()> {
    const MODES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
    if let Some(mode) = command.authorization_mode.iter().find(|mode| !MODES.contains(&mode.as_str())) {
        anyhow::bail!("authorization-mode {mode:?} is not a valid mode");
    }
    for (flag, names) in [
        ("enable-admission-plugins", &command.enable_admission_plugins),
        ("disable-admission-plugins", &command.disable_admission_plugins),
    ] {
        if let Some(name) = names.iter().find(|name| !drydock_apiserver::admission::is_plugin(name)) {
            anyhow::bail!("{flag} plugin {name:?} is unknown");
        }
    }
    Ok(())
}

/// `PortRange` of k8s.io/apimachinery `pkg/util/net`.
fn node_ports(text: &str) -> anyhow::Result<RangeInclusive<u16>> {
    let number = |text: &str| text.trim().parse::<u16>().ok();
    let range = match (text.split_once('-'), text.split_once('+')) {
        (Some((first, last)), _) => number(first).zip(number(last)),
        (None, Some((first, more))) => {
            number(first).zip(number(more)).and_then(|(first, more)| Some((first, first.checked_add(more)?)))
        }
        (None, None) => number(text).map(|one| (one, one)),
    };
    match range {
        Some((first, last)) if first > 0 && first <= last => Ok(first..=last),
        _ => {
            bail!("invalid argument {text:?} for \"--service-node-port-range\" flag: not a valid port range")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadms_flags_are_taken() {
        let flags = [
            "kube-apiserver",
            "--advertise-address=10.0.0.1",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            "--client-ca-file=/p/ca.crt",
            "--enable-admission-plugins=NodeRestriction",
            "--enable-bootstrap-token-auth=true",
            "--etcd-cafile=/p/etcd/ca.crt",
            "--etcd-servers=https://127.0.0.1:2379",
            "--kubelet-client-certificate=/p/k.crt",
            "--kubelet-client-key=/p/k.key",
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-client-ca-file=/p/front.crt",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--secure-port=6443",
            "--service-account-key-file=/p/sa.pub",
            "--service-account-signing-key-file=/p/sa.key",
            "--service-cluster-ip-range=10.96.0.0/12",
            "--tls-cert-file=/p/a.crt",
            "--tls-private-key-file=/p/a.key",
        ];
        let options = options(Command::try_parse_from(flags).expect("flags")).expect("options");
        assert_eq!(options.authorization_modes, ["Node", "RBAC"]);
        assert_eq!(options.kubelet_address_types[0], "InternalIP");
        assert!(options.bootstrap_tokens && options.request_header.is_some());
    }

    #[test]
    fn names_that_nobody_knows_are_refused() {
        let of = |flag: &str| {
            let command = Command::try_parse_from(["kube-apiserver", "--etcd-servers=https://x:1", flag]);
            check_names(&command.expect(flag)).map_err(|error| error.to_string())
        };
        assert_eq!(of("--authorization-mode=Node,RBAC"), Ok(()));
        assert_eq!(of("--enable-admission-plugins=NodeRestriction,AlwaysPullImages"), Ok(()));
        let mode = "authorization-mode \"Nope\" is not a valid mode";
        assert_eq!(of("--authorization-mode=Node,Nope"), Err(mode.into()));
        let plugin = "enable-admission-plugins plugin \"Foo\" is unknown";
        assert_eq!(of("--enable-admission-plugins=Foo"), Err(plugin.into()));
    }

    #[test]
    fn ranges_of_ports_are_read_as_upstream_reads_them() {
        for (text, want) in [("30000-32767", 30_000..=32_767), ("8000+10", 8000..=8010), ("80", 80..=80)] {
            assert_eq!(node_ports(text).expect(text), want);
        }
        for text in ["", "a", "2-1", "0-5", "1-70000", "65535+1"] {
            assert!(node_ports(text).is_err(), "{text}");
        }
    }
}
