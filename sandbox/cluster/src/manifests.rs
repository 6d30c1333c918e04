//! The manifests of the control plane's static pods, as kubeadm 1.35 writes them (`cmd/kubeadm/app/phases/controlplane/manifests.go`,
//! `phases/etcd/local.go`), but for two flags: etcd does not wait for the disk, and the API server's port may be held for it.

use crate::{API_PORT, Cluster, POD_CIDR, SERVICE_CIDR, VERSION};
use std::{fmt::Write, net::Ipv4Addr};

const PKI: &str = "/etc/kubernetes/pki";

/// A component: all that its manifest says.
struct Component {
    name: &'static str,
    annotation: Option<(&'static str, String)>,
    flags: Vec<String>,
    cpu: &'static str,
    memory: Option<&'static str>,
    probe: Probe,
    volumes: Vec<Volume>,
}

struct Probe {
    host: String,
    port: u16,
    scheme: &'static str,
    live: &'static str,
    ready: Option<&'static str>,
    startup: &'static str,
}

struct Volume {
    name: &'static str,
    path: &'static str,
    kind: &'static str,
    read_only: bool,
}

impl Volume {
    const fn new(name: &'static str, path: &'static str, kind: &'static str, read_only: bool) -> Self {
        Self { name, path, kind, read_only }
    }
}

/// (file name, content) of each.
pub fn all(cluster: &Cluster<'_>) -> Vec<(String, String)> {
    let components = [etcd(cluster), api_server(cluster), controller_manager(), scheduler()];
    components.iter().map(|c| (format!("{}.yaml", c.name), render(c))).collect()
}

fn etcd(cluster: &Cluster<'_>) -> Component {
    let (node, ip) = (cluster.node, cluster.address);
    let (clients, peers) = (format!("https://{ip}:2379"), format!("https://{ip}:2380"));
    Component {
        name: "etcd",
        annotation: Some(("kubeadm.kubernetes.io/etcd.advertise-client-urls", clients.clone())),
        flags: vec![
            format!("--advertise-client-urls={clients}"),
            format!("--cert-file={PKI}/etcd/server.crt"),
            "--client-cert-auth=true".into(),
            "--data-dir=/var/lib/etcd".into(),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster={node}={peers}"),
            format!("--key-file={PKI}/etcd/server.key"),
            format!("--listen-client-urls=https://127.0.0.1:2379,{clients}"),
            "--listen-metrics-urls=http://127.0.0.1:2381".into(),
            format!("--listen-peer-urls={peers}"),
            format!("--name={node}"),
            format!("--peer-cert-file={PKI}/etcd/peer.crt"),
            "--peer-client-cert-auth=true".into(),
            format!("--peer-key-file={PKI}/etcd/peer.key"),
            format!("--peer-trusted-ca-file={PKI}/etcd/ca.crt"),
            "--snapshot-count=10000".into(),
            format!("--trusted-ca-file={PKI}/etcd/ca.crt"),
            // A session's disk does not outlive its machine: surviving the death of the process is enough, and waiting for the disk
            // would be the greatest part of each write.
            "--unsafe-no-fsync=true".into(),
        ],
        cpu: "100m",
        memory: Some("100Mi"),
        probe: Probe {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: 2381,
            scheme: "HTTP",
            live: "/livez",
            ready: Some("/readyz"),
            startup: "/readyz",
        },
        volumes: vec![
            Volume::new("etcd-data", "/var/lib/etcd", "DirectoryOrCreate", false),
            Volume::new("etcd-certs", "/etc/kubernetes/pki/etcd", "DirectoryOrCreate", false),
        ],
    }
}

fn api_server(cluster: &Cluster<'_>) -> Component {
    let ip = cluster.address;
    Component {
        name: "kube-apiserver",
        annotation: Some((
            "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint",
            format!("{ip}:{API_PORT}"),
        )),
        flags: vec![
            format!("--advertise-address={ip}"),
            "--allow-privileged=true".into(),
            "--authorization-mode=Node,RBAC".into(),
            format!("--client-ca-file={PKI}/ca.crt"),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--enable-bootstrap-token-auth=true".into(),
            format!("--etcd-cafile={PKI}/etcd/ca.crt"),
            format!("--etcd-certfile={PKI}/apiserver-etcd-client.crt"),
            format!("--etcd-keyfile={PKI}/apiserver-etcd-client.key"),
            "--etcd-servers=https://127.0.0.1:2379".into(),
            format!("--kubelet-client-certificate={PKI}/apiserver-kubelet-client.crt"),
            format!("--kubelet-client-key={PKI}/apiserver-kubelet-client.key"),
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname".into(),
            // The kubelet holds the port until the server listens, so that nobody is refused meanwhile.
            "--permit-port-sharing=true".into(),
            format!("--proxy-client-cert-file={PKI}/front-proxy-client.crt"),
            format!("--proxy-client-key-file={PKI}/front-proxy-client.key"),
            "--requestheader-allowed-names=front-proxy-client".into(),
            format!("--requestheader-client-ca-file={PKI}/front-proxy-ca.crt"),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            format!("--secure-port={API_PORT}"),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-account-key-file={PKI}/sa.pub"),
            format!("--service-account-signing-key-file={PKI}/sa.key"),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            format!("--tls-cert-file={PKI}/apiserver.crt"),
            format!("--tls-private-key-file={PKI}/apiserver.key"),
        ],
        cpu: "250m",
        memory: None,
        probe: Probe {
            host: ip.to_string(),
            port: API_PORT,
            scheme: "HTTPS",
            live: "/livez",
            ready: Some("/readyz"),
            startup: "/livez",
        },
        volumes: vec![
            Volume::new("ca-certs", "/etc/ssl/certs", "DirectoryOrCreate", true),
            Volume::new("etc-ca-certificates", "/etc/ca-certificates", "DirectoryOrCreate", true),
            Volume::new("k8s-certs", PKI, "DirectoryOrCreate", true),
            Volume::new(
                "usr-local-share-ca-certificates",
                "/usr/local/share/ca-certificates",
                "DirectoryOrCreate",
                true,
            ),
            Volume::new("usr-share-ca-certificates", "/usr/share/ca-certificates", "DirectoryOrCreate", true),
        ],
    }
}

fn controller_manager() -> Component {
    let config = "/etc/kubernetes/controller-manager.conf";
    Component {
        name: "kube-controller-manager",
        annotation: None,
        flags: vec![
            "--allocate-node-cidrs=true".into(),
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            "--bind-address=127.0.0.1".into(),
            format!("--client-ca-file={PKI}/ca.crt"),
            format!("--cluster-cidr={POD_CIDR}"),
            "--cluster-name=kubernetes".into(),
            format!("--cluster-signing-cert-file={PKI}/ca.crt"),
            format!("--cluster-signing-key-file={PKI}/ca.key"),
            "--controllers=*,bootstrapsigner,tokencleaner".into(),
            format!("--kubeconfig={config}"),
            "--leader-elect=true".into(),
            format!("--requestheader-client-ca-file={PKI}/front-proxy-ca.crt"),
            format!("--root-ca-file={PKI}/ca.crt"),
            format!("--service-account-private-key-file={PKI}/sa.key"),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            "--use-service-account-credentials=true".into(),
        ],
        cpu: "200m",
        memory: None,
        probe: Probe {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: 10257,
            scheme: "HTTPS",
            live: "/healthz",
            ready: None,
            startup: "/healthz",
        },
        volumes: vec![
            Volume::new("ca-certs", "/etc/ssl/certs", "DirectoryOrCreate", true),
            Volume::new("k8s-certs", PKI, "DirectoryOrCreate", true),
            Volume::new("kubeconfig", config, "FileOrCreate", true),
        ],
    }
}

fn scheduler() -> Component {
    let config = "/etc/kubernetes/scheduler.conf";
    Component {
        name: "kube-scheduler",
        annotation: None,
        flags: vec![
            format!("--authentication-kubeconfig={config}"),
            format!("--authorization-kubeconfig={config}"),
            "--bind-address=127.0.0.1".into(),
            format!("--kubeconfig={config}"),
            "--leader-elect=true".into(),
        ],
        cpu: "100m",
        memory: None,
        probe: Probe {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: 10259,
            scheme: "HTTPS",
            live: "/livez",
            ready: Some("/readyz"),
            startup: "/livez",
        },
        volumes: vec![Volume::new("kubeconfig", config, "FileOrCreate", true)],
    }
}

fn render(component: &Component) -> String {
    let name = component.name;
    let mut y = String::from("apiVersion: v1\nkind: Pod\nmetadata:\n");
    // Writing to a String can't fail.
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _always_works = y.write_fmt(text);
        y.push('\n');
    };
    if let Some((key, value)) = &component.annotation {
        line(format_args!("  annotations:\n    {key}: {value}"));
    }
    line(format_args!("  labels:\n    component: {name}\n    tier: control-plane"));
    line(format_args!(
        "  name: {name}\n  namespace: kube-system\nspec:\n  containers:\n  - command:\n    - {name}"
    ));
    for flag in &component.flags {
        line(format_args!("    - {flag}"));
    }
    line(format_args!("    image: registry.k8s.io/{name}:{VERSION}\n    imagePullPolicy: IfNotPresent"));
    let probe = &component.probe;
    let mut probes = vec![("livenessProbe", probe.live, 8, 10, Some(10))];
    probes.extend(probe.ready.map(|path| ("readinessProbe", path, 3, 1, None)));
    probes.push(("startupProbe", probe.startup, 24, 10, Some(10)));
    for (kind, path, failures, period, delay) in probes {
        let Probe { host, port, scheme, .. } = probe;
        if kind == "startupProbe" {
            line(format_args!("    name: {name}"));
            line(format_args!(
                "    ports:\n    - containerPort: {port}\n      name: probe-port\n      protocol: TCP"
            ));
            line(format_args!("    resources:\n      requests:\n        cpu: {}", component.cpu));
            if let Some(memory) = component.memory {
                line(format_args!("        memory: {memory}"));
            }
        }
        line(format_args!(
            "    {kind}:\n      failureThreshold: {failures}\n      httpGet:\n        host: {host}"
        ));
        line(format_args!("        path: {path}\n        port: probe-port\n        scheme: {scheme}"));
        if let Some(delay) = delay {
            line(format_args!("      initialDelaySeconds: {delay}"));
        }
        line(format_args!("      periodSeconds: {period}\n      timeoutSeconds: 15"));
    }
    line(format_args!("    volumeMounts:"));
    for volume in &component.volumes {
        line(format_args!("    - mountPath: {}\n      name: {}", volume.path, volume.name));
        if volume.read_only {
            line(format_args!("      readOnly: true"));
        }
    }
    line(format_args!(
        "  hostNetwork: true\n  priority: 2000001000\n  priorityClassName: system-node-critical"
    ));
    line(format_args!("  securityContext:\n    seccompProfile:\n      type: RuntimeDefault\n  volumes:"));
    for volume in &component.volumes {
        line(format_args!(
            "  - hostPath:\n      path: {}\n      type: {}\n    name: {}",
            volume.path, volume.kind, volume.name
        ));
    }
    line(format_args!("status: {{}}"));
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn they_are_pods_that_a_kubelet_can_run() {
        let cluster = Cluster {
            seed: &[0; 32],
            created: 0,
            node: "node1",
            address: Ipv4Addr::new(192, 168, 0, 11),
            control_plane: Ipv4Addr::new(192, 168, 0, 11),
        };
        let all = all(&cluster);
        assert_eq!(all.len(), 4);
        for (file, text) in all {
            let pod: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}\n{text}"));
            let name = file.strip_suffix(".yaml").unwrap();
            assert_eq!(pod["metadata"]["name"], name);
            assert_eq!(pod["metadata"]["labels"]["tier"], "control-plane");
            assert_eq!(pod["spec"]["hostNetwork"], true);
            let container = &pod["spec"]["containers"][0];
            assert_eq!(container["command"][0], name);
            assert_eq!(container["image"], format!("registry.k8s.io/{name}:v1.35.0"));
            assert_eq!(container["startupProbe"]["httpGet"]["port"], "probe-port");
            assert_eq!(container["startupProbe"]["failureThreshold"], 24);
            let mounts = container["volumeMounts"].as_array().unwrap();
            assert_eq!(mounts.len(), pod["spec"]["volumes"].as_array().unwrap().len());
        }
    }
}
