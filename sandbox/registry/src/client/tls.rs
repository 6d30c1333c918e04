//! TLS towards registries: whom to trust.
//!
//! The roots are the node's own (`/etc/ssl/certs/ca-certificates.crt`) where it has them, else Mozilla's list, which is
//! compiled in, because a small node image brings none. `/etc/docker/certs.d/HOST/*.crt` adds to them, as with dockerd.

use drydock_insecure_tls::any_server;
use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};
use tokio_rustls::rustls::{
    ClientConfig, Error, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
const FILE_MAX: u64 = 4 * 1024 * 1024;
const NONBLOCK: i32 = 0o4000;

/// The configuration for one registry.
pub(super) fn config(host: &str, certs: Option<&Path>, insecure: bool) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let config = if insecure {
        builder.dangerous().with_custom_certificate_verifier(any_server(provider)).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(host, certs)).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

fn roots(host: &str, certs: Option<&Path>) -> RootCertStore {
    let mut store = system_roots();
    // The host is part of a reference, so it has no slash; `.` and `..` are no hosts.
    let folder = certs.filter(|_| !host.contains('/') && !host.starts_with('.')).map(|dir| dir.join(host));
    for entry in folder.and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten().take(64) {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "crt")
            && let Some(pem) = read_bounded(&path)
        {
            add(&mut store, &pem);
        }
    }
    store
}

/// Whom a node trusts: its own list, or Mozilla's where it has none.
pub fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    if let Some(pem) = read_bounded(Path::new(SYSTEM_ROOTS)) {
        add(&mut store, &pem);
    }
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}

fn add(store: &mut RootCertStore, pem: &[u8]) {
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
}

/// The node's owner may have put anything there: a FIFO, a device, something endless.
pub(super) fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let file = File::options().read(true).custom_flags(NONBLOCK).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
