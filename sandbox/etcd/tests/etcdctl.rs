//! The store as Debian's `etcdctl` sees it, over TLS with certificates of clients; and, where there is an `etcd`, compared with it
//! command by command. Needs the package `etcd-client`; the comparison also `etcd-server`, which starts a server of its own on machines
//! with systemd, so it runs only when asked for.

use drydock_etcd::{ClientFiles, Options, Servers, Store, serve};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// An authority and two certificates of it, as kubeadm makes them.
struct Pki {
    dir: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("an authority");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "etcd-ca");
        let issuer = rcgen::CertifiedIssuer::self_signed(ca, key).expect("an authority");
        let pki = Self { dir };
        pki.write("ca.crt", &issuer.pem());
        for name in ["server", "client"] {
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut params =
                rcgen::CertificateParams::new(vec![address().to_string()]).expect("a certificate");
            params.extended_key_usages =
                vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            let cert = params.signed_by(&key, &issuer).expect("a certificate");
            pki.write(&format!("{name}.crt"), &cert.pem());
            pki.write(&format!("{name}.key"), &key.serialize_pem());
        }
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("a file");
    }
}

/// A loopback address that this process alone uses, so that nobody takes a port of it before a server does.
fn address() -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 0)) | std::process::id())
}

/// Where a server may listen.
fn free_url(scheme: &str) -> String {
    static NEXT: AtomicU16 = AtomicU16::new(2379);
    format!("{scheme}://{}:{}", address(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ended_already = self.0.wait();
    }
}

struct Ctl {
    url: String,
    flags: Vec<String>,
}

impl Ctl {
    async fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "").await
    }

    async fn run_with(&self, args: &[&str], input: &'static str) -> Output {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.url)).args(&self.flags).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("Debian's etcd-client is installed");
            std::io::Write::write_all(&mut child.stdin.take().expect("its input"), input.as_bytes())
                .expect("it reads");
            child.wait_with_output().expect("its end")
        })
        .await
        .expect("it ran")
    }

    /// Output and success, without what differs from one store to the next.
    async fn answer(&self, args: &[&str], input: &'static str) -> (String, bool) {
        let output = self.run_with(args, input).await;
        let error = String::from_utf8_lossy(&output.stderr);
        // Beside the error itself, clients log that and how they tried.
        let error: String = error.lines().filter(|line| line.starts_with("Error")).collect();
        (String::from_utf8_lossy(&output.stdout).into_owned() + &error, output.status.success())
    }

    async fn wait(&self) {
        while !self.run(&["endpoint", "health"]).await.status.success() {
            tokio::task::yield_now().await;
        }
    }
}

async fn start(pki: &Pki, data: &Path) -> Ctl {
    let url = free_url("https");
    let options = Options {
        name: "node1".into(),
        data_dir: data.into(),
        listen_client_urls: vec![url.clone()],
        advertise_client_urls: vec![url.clone()],
        cert_file: Some(pki.path("server.crt")),
        key_file: Some(pki.path("server.key")),
        trusted_ca_file: Some(pki.path("ca.crt")),
        client_cert_auth: true,
        ..Options::default()
    };
    tokio::spawn(async move { serve(options, Box::pin(std::future::pending())).await.expect("it serves") });
    let flag = |name: &str, file: &str| format!("--{name}={}", pki.path(file).display());
    let flags = vec![flag("cacert", "ca.crt"), flag("cert", "client.crt"), flag("key", "client.key")];
    let ctl = Ctl { url, flags };
    ctl.wait().await;
    ctl
}

const CASES: &[(&[&str], &str)] = &[
    (&["put", "a", "1"], ""),
    (&["put", "b", "2"], ""),
    (&["put", "/registry/pods/default/x", r#"{"kind":"Pod"}"#], ""),
    (&["put", "/registry/pods/default/y", r#"{"kind":"Pod"}"#], ""),
    (&["get", "a"], ""),
    (&["get", "a", "--print-value-only"], ""),
    (&["get", "--prefix", "/registry", "--keys-only"], ""),
    (&["get", "", "--prefix", "--sort-by=MODIFY", "--order=DESCEND", "--limit=2"], ""),
    (&["get", "a", "z", "--rev=2"], ""),
    (&["get", "a", "--rev=99"], ""),
    (&["put", "a", "3", "--prev-kv"], ""),
    (&["put", "nope", "--ignore-value"], ""),
    (&["txn"], "value(\"a\") = \"3\"\nversion(\"b\") > \"0\"\n\nput a 4\nget a\n\nget b\n\n"),
    (&["txn"], "mod(\"a\") < \"1\"\n\nput a 5\n\nget b\ndel b\n\n"),
    (&["txn"], "\nput a 1\nput a 2\n\n\n"),
    (&["del", "a", "--prev-kv"], ""),
    (&["del", "--prefix", "/registry/pods/default/x"], ""),
    (&["del", "nothing"], ""),
    (&["put", "x", "y", "--lease=1234"], ""),
    (&["lease", "revoke", "1234"], ""),
    (&["lease", "timetolive", "1234"], ""),
    (&["compact", "5"], ""),
    (&["get", "a", "--rev=3"], ""),
    (&["compact", "5"], ""),
    (&["compact", "999"], ""),
    (&["get", "/registry/pods/default/y"], ""),
    (&["alarm", "list"], ""),
];

#[tokio::test]
#[ignore = "needs Debian's etcd-server, whose installation starts one"]
async fn etcdctl_gets_the_same_answers_as_from_etcd() {
    let pki = Pki::new();
    let data = tempfile::tempdir().expect("a directory");
    let ours = start(&pki, data.path()).await;
    let (clients, peers) = (free_url("http"), free_url("http"));
    let etcd = Command::new("etcd")
        .arg("--data-dir")
        .arg(data.path().join("real"))
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
        .stderr(Stdio::null())
        .spawn()
        .expect("Debian's etcd-server is installed");
    let _etcd = Killed(etcd);
    let real = Ctl { url: clients, flags: Vec::new() };
    real.wait().await;
    for (args, input) in CASES {
        let (mine, its) = (ours.answer(args, input).await, real.answer(args, input).await);
        assert_eq!(mine, its, "etcdctl {args:?}");
    }
}

#[tokio::test]
async fn etcdctl_saves_a_snapshot_and_clients_need_a_certificate() {
    let pki = Pki::new();
    let data = tempfile::tempdir().expect("a directory");
    let ours = start(&pki, &data.path().join("first")).await;
    assert!(ours.run(&["put", "kept", "value"]).await.status.success());
    let file = data.path().join("snapshot");
    let saved = ours.run(&["snapshot", "save", &file.display().to_string()]).await;
    assert!(saved.status.success(), "{saved:?}");
    let second = data.path().join("second");
    Store::restore(&file, &second).expect("a snapshot");
    let restored = start(&pki, &second).await;
    assert_eq!(restored.answer(&["get", "kept"], "").await, ("kept\nvalue\n".into(), true));

    let nobody =
        Ctl { url: ours.url.clone(), flags: vec![ours.flags[0].clone(), "--command-timeout=2s".into()] };
    assert!(!nobody.run(&["get", "kept"]).await.status.success());
}

#[tokio::test]
async fn a_copy_is_fed_at_the_same_port_with_the_same_certificates() {
    let (pki, other) = (Pki::new(), Pki::new());
    let data = tempfile::tempdir().expect("a directory");
    let ours = start(&pki, data.path()).await;
    let replica = |authority: &Pki, own: Option<&Pki>| {
        let files = ClientFiles {
            ca: Some(authority.path("ca.crt")),
            cert: own.map(|pki| pki.path("client.crt")),
            key: own.map(|pki| pki.path("client.key")),
        };
        Store::replica(Servers::new(std::slice::from_ref(&ours.url), &files).expect("its files"))
    };
    let copy = replica(&pki, Some(&pki)).await.expect("a copy");
    assert!(ours.run(&["put", "a", "1"]).await.status.success());
    copy.sync().await.expect("the owner");
    assert!(copy.get(b"a", None).expect("readable").is_some());
    copy.create("b".into(), "2".into(), 0).await.expect("a write");
    assert_eq!(ours.answer(&["get", "b"], "").await, ("b\n2\n".into(), true));

    let said =
        replica(&other, Some(&pki)).await.expect_err("an authority that it does not trust").to_string();
    assert!(
        said.contains("tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        "{said}"
    );
    replica(&pki, Some(&other)).await.expect_err("a certificate of somebody else's");
    replica(&pki, None).await.expect_err("no certificate");
}
