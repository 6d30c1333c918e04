//! Which files a node of a cluster has, and writing those that are missing.

use crate::{
    Cluster, Error, NETWORK_USER, kubeconfig, kubelet, manifests,
    pki::{Authority, Certificate, Identity, service_account_keys},
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `/`, or elsewhere in tests.
    root: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self::below("/")
    }
}

impl Paths {
    /// All below another directory.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where certificates are.
    pub fn pki(&self) -> PathBuf {
        self.root.join("etc/kubernetes/pki")
    }

    /// Where the manifests of static pods are.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("etc/kubernetes/manifests")
    }

    /// A kubeconfig of the node.
    pub fn config(&self, name: &str) -> PathBuf {
        self.root.join("etc/kubernetes").join(name)
    }

    /// The kubelet's own.
    pub fn kubelet_config(&self) -> PathBuf {
        self.config("kubelet.conf")
    }

    /// A path of the node's.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What the kubelet's unit says how it is started.
    pub fn kubelet_drop_in(&self) -> PathBuf {
        self.at("/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf")
    }

    /// The pod network's.
    pub fn network_config(&self) -> PathBuf {
        self.config("pod-network.conf")
    }

    /// (certificate, key) that the kubelet serves with.
    pub fn kubelet_serving(&self) -> (PathBuf, PathBuf) {
        let dir = self.root.join("var/lib/kubelet/pki");
        (dir.join("kubelet.crt"), dir.join("kubelet.key"))
    }

    /// kubectl's.
    pub fn admin_home(&self) -> PathBuf {
        self.root.join("root/.kube/config")
    }
}

/// Writes what a node of this cluster has and this one lacks. The directory of the manifests comes to be last of all and whole: a
/// learner who takes a manifest away has it away.
pub fn set_up(cluster: &Cluster<'_>, paths: &Paths) -> Result<(), Error> {
    // Later what is missing there was taken away.
    if !paths.kubelet_config().exists() {
        kubelet_files(paths)?;
    }
    let ca = Authority::Cluster.certificate(cluster)?;
    let pki = paths.pki();
    write(&pki.join("ca.crt"), 0o644, || Ok(ca.certificate.clone()))?;
    let user = |path: PathBuf, user: &str, identity: Identity| {
        write(&path, 0o600, || {
            Ok(kubeconfig::write(&cluster.server(), &ca.certificate, user, &identity.certificate(cluster)?))
        })
    };
    let kubelet = Identity::kubelet_client(cluster);
    user(paths.kubelet_config(), &kubelet.common_name.clone(), kubelet)?;
    user(paths.network_config(), NETWORK_USER, Identity::user(NETWORK_USER, &[]))?;
    let (certificate, key) = paths.kubelet_serving();
    pair(&certificate, &key, || Identity::kubelet_server(cluster).certificate(cluster))?;
    let admin = || Identity::user("kubernetes-admin", &["kubeadm:cluster-admins"]);
    user(paths.admin_home(), "kubernetes-admin", admin())?;
    if !cluster.is_control_plane() {
        return make_dir(&paths.manifests());
    }
    user(paths.config("admin.conf"), "kubernetes-admin", admin())?;
    let super_admin = Identity::user("kubernetes-super-admin", &["system:masters"]);
    user(paths.config("super-admin.conf"), "kubernetes-super-admin", super_admin)?;
    for component in ["controller-manager", "scheduler"] {
        let name =
            if component == "scheduler" { "system:kube-scheduler" } else { "system:kube-controller-manager" };
        user(paths.config(&format!("{component}.conf")), name, Identity::user(name, &[]))?;
    }
    control_plane_certificates(cluster, &pki)?;
    if paths.manifests().exists() {
        return Ok(());
    }
    let draft = paths.config(".manifests");
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let _left_over = fs::remove_dir_all(&draft);
    make_dir(&draft)?;
    for (name, content) in manifests::all(cluster) {
        write(&draft.join(name), 0o600, || Ok(content.clone()))?;
    }
    fs::rename(&draft, paths.manifests()).map_err(file(&paths.manifests()))
}

/// What the kubelet is started with.
fn kubelet_files(paths: &Paths) -> Result<(), Error> {
    let files = [
        (paths.kubelet_drop_in(), kubelet::DROP_IN.to_owned()),
        (paths.at("/usr/lib/systemd/system/kubelet.service"), kubelet::UNIT.into()),
        (paths.at("/etc/default/kubelet"), kubelet::DEFAULT.into()),
        (paths.at("/var/lib/kubelet/kubeadm-flags.env"), kubelet::flags()),
        (paths.at("/var/lib/kubelet/config.yaml"), kubelet::kubelet_configuration()),
    ];
    files.into_iter().try_for_each(|(path, content)| write(&path, 0o644, || Ok(content)))
}

fn control_plane_certificates(cluster: &Cluster<'_>, pki: &Path) -> Result<(), Error> {
    for authority in Authority::ALL {
        let (certificate, key) = files(pki, authority.file());
        pair(&certificate, &key, || authority.certificate(cluster))?;
    }
    let kubelet_client = Identity {
        label: "apiserver-kubelet-client".into(),
        ..Identity::user("kube-apiserver-kubelet-client", &["kubeadm:cluster-admins"])
    };
    let leaves = [
        ("apiserver", Identity::api_server(cluster)),
        ("apiserver-kubelet-client", kubelet_client),
        (
            "front-proxy-client",
            Identity::client_of(Authority::FrontProxy, "front-proxy-client", "front-proxy-client"),
        ),
        ("etcd/server", Identity::etcd_server(cluster, "etcd/server")),
        ("etcd/peer", Identity::etcd_server(cluster, "etcd/peer")),
        (
            "etcd/healthcheck-client",
            Identity::client_of(Authority::Etcd, "etcd/healthcheck-client", "kube-etcd-healthcheck-client"),
        ),
        (
            "apiserver-etcd-client",
            Identity::client_of(Authority::Etcd, "apiserver-etcd-client", "kube-apiserver-etcd-client"),
        ),
    ];
    for (name, identity) in leaves {
        let (certificate, key) = files(pki, name);
        pair(&certificate, &key, || identity.certificate(cluster))?;
    }
    let (public, private) = (pki.join("sa.pub"), pki.join("sa.key"));
    if !private.exists() {
        let (key, public_key) = service_account_keys()?;
        write(&public, 0o600, || Ok(public_key.clone()))?;
        write(&private, 0o600, || Ok(key.clone()))?;
    }
    Ok(())
}

fn files(pki: &Path, name: &str) -> (PathBuf, PathBuf) {
    (pki.join(format!("{name}.crt")), pki.join(format!("{name}.key")))
}

fn pair(
    certificate: &Path,
    key: &Path,
    make: impl FnOnce() -> Result<Certificate, Error>,
) -> Result<(), Error> {
    if certificate.exists() && key.exists() {
        return Ok(());
    }
    let made = make()?;
    write(certificate, 0o644, || Ok(made.certificate.clone()))?;
    write(key, 0o600, || Ok(made.key.clone()))
}

fn make_dir(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|source| Error::File { path: path.into(), source })
}

/// Writes a file that is not there.
fn write(path: &Path, mode: u32, content: impl FnOnce() -> Result<String, Error>) -> Result<(), Error> {
    if path.exists() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let content = content()?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    match opened.and_then(|mut file| file.write_all(content.as_bytes())) {
        // A link that leads nowhere: the learner's.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|source| Error::File { path: path.into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn cluster(node: &str, number: u8) -> Cluster<'_> {
        Cluster {
            seed: &[9; 32],
            created: 1_800_000_000,
            node,
            address: Ipv4Addr::new(192, 168, 0, 10 + number),
            control_plane: Ipv4Addr::new(192, 168, 0, 11),
        }
    }

    #[test]
    fn the_control_plane_has_all_and_keeps_what_its_learner_changed() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        set_up(&cluster("node1", 1), &paths).unwrap();
        for file in
            ["apiserver.key", "etcd/healthcheck-client.crt", "front-proxy-client.key", "sa.pub", "ca.key"]
        {
            assert!(paths.pki().join(file).exists(), "{file}");
        }
        assert!(paths.config("super-admin.conf").exists());
        let taken = [paths.manifests().join("kube-scheduler.yaml"), paths.at("/var/lib/kubelet/config.yaml")];
        taken.iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::write(paths.admin_home(), "mine").unwrap();
        set_up(&cluster("node1", 1), &paths).unwrap();
        assert!(taken.iter().all(|path| !path.exists()));
        assert_eq!(fs::read_to_string(paths.admin_home()).unwrap(), "mine");
    }

    #[test]
    fn a_worker_has_no_key_of_the_authority() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        set_up(&cluster("node2", 2), &paths).unwrap();
        assert!(paths.kubelet_config().exists() && paths.admin_home().exists());
        assert!(paths.manifests().is_dir());
        assert!(!paths.pki().join("ca.key").exists() && !paths.config("admin.conf").exists());
    }
}
