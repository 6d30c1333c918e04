//! HTTPS: whose certificate is believed.

mod common;

use axum::serve::Listener;
use common::*;
use drydock_registry::{Cache, CacheLimits, Client, ClientOptions, Resolver};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
    server::TlsStream,
};

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves a registry by TLS on an address; gives the port and the certificate of who signed.
async fn secure(site: &Site, address: IpAddr) -> (u16, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["registry.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
    let router = site.registry.router();
    tokio::spawn(async move { axum::serve(tls, router).await.unwrap() });
    (port, issuer.pem())
}

/// An address of this machine that is not loopback: loopback is never secure.
fn local_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|a| !a.is_loopback() && !a.is_unspecified())
}

#[tokio::test]
async fn loopback_needs_no_certificate_that_anybody_signed() {
    let site = site().await;
    pushed(&format!("{}/app", site.domain), &[1000]).await;
    let (port, _) = secure(&site, IpAddr::from([127, 0, 0, 1])).await;
    let request = pull_of(&format!("127.0.0.1:{port}/app"));
    client().pull(&request, &Memory::default(), &Log::default().events()).await.unwrap();
}

#[tokio::test]
async fn elsewhere_somebody_must_have_signed() {
    let Some(address) = local_address() else { return };
    let site = site().await;
    pushed(&format!("{}/app", site.domain), &[1000]).await;
    let (port, signer) = secure(&site, address).await;
    let resolver: Resolver = Arc::new(move |_| Box::pin(async move { Ok(vec![address]) }));
    let certs = tempfile::tempdir().unwrap();
    let pull = async |host: &str| {
        let options = ClientOptions {
            resolver: Some(Arc::clone(&resolver)),
            certs: Some(certs.path().into()),
            ..options()
        };
        let request = pull_of(&format!("{host}:{port}/app"));
        Client::new(options).pull(&request, &Memory::default(), &Log::default().events()).await
    };
    assert_eq!(
        pull("registry.test").await.unwrap_err().to_string(),
        format!(
            "Get \"https://registry.test:{port}/v2/\": tls: failed to verify certificate: x509: certificate signed by \
             unknown authority"
        )
    );
    for host in ["registry.test", "other.test"] {
        let folder = certs.path().join(format!("{host}:{port}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ca.crt"), &signer).unwrap();
    }
    pull("registry.test").await.unwrap();
    let other = pull("other.test").await.unwrap_err().to_string();
    assert!(other.contains("tls: failed to verify certificate: x509: "), "{other}");
}

#[tokio::test]
async fn the_cache_believes_whom_its_host_believes() {
    let Some(address) = local_address() else { return };
    let site = site().await;
    pushed(&format!("{}/app", site.domain), &[1000]).await;
    let (port, signer) = secure(&site, address).await;
    let resolver: Resolver = Arc::new(move |_| Box::pin(async move { Ok(vec![address]) }));
    let certs = tempfile::tempdir().unwrap();
    let registry = format!("registry.test:{port}");
    let shelf = tempfile::tempdir().unwrap();
    let host = ClientOptions { resolver: Some(resolver), certs: Some(certs.path().into()), ..options() };
    let limits = CacheLimits { registries: vec![registry.clone()], ..CacheLimits::default() };
    let cache = Cache::open(shelf.path(), host, limits).unwrap();
    let at = serve(axum::Router::new().nest("/cache", cache.router())).await;
    // A node that has no way to the registry itself.
    let nowhere: Resolver = Arc::new(|_| Box::pin(async { Err(io::Error::other("no such name")) }));
    let node = ClientOptions {
        cache: Some(format!("http://{at}/cache")),
        resolver: Some(nowhere),
        certs: None,
        ..options()
    };
    let pull = async || {
        let request = pull_of(&format!("{registry}/app"));
        Client::new(node.clone()).pull(&request, &Memory::default(), &Log::default().events()).await
    };
    pull().await.unwrap_err();
    assert_eq!(cache.used(), 0, "nobody has signed");
    let folder = certs.path().join(&registry);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("ca.crt"), &signer).unwrap();
    // Connections remember whom they believed: the host starts anew.
    let host = ClientOptions {
        certs: Some(certs.path().into()),
        resolver: Some(Arc::new(move |_| Box::pin(async move { Ok(vec![address]) }))),
        ..options()
    };
    let limits = CacheLimits { registries: vec![registry.clone()], ..CacheLimits::default() };
    let cache = Cache::open(shelf.path(), host, limits).unwrap();
    let at = serve(axum::Router::new().nest("/cache", cache.router())).await;
    let node = ClientOptions { cache: Some(format!("http://{at}/cache")), ..node.clone() };
    let request = pull_of(&format!("{registry}/app"));
    Client::new(node).pull(&request, &Memory::default(), &Log::default().events()).await.unwrap();
    assert!(cache.used() > 1000);
}
