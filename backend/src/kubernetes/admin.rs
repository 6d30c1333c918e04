//! The administrator of a session's cluster: `/etc/kubernetes/admin.conf` of node1, where `kubeadm` leaves it. The file is the
//! learner's and may say anything: what it names is tried on this session's API server only, and everything is bounded.

use crate::{
    error::Error,
    pipe::{ANSWER_WITHIN, Frame, PipeError, Sockets},
};
use base64::Engine;
use drydock_protocol::{
    NodeName, SessionId,
    pipe::{FileOp, Open, Reply},
};
use serde::Deserialize;
use std::sync::Arc;
use tokio::time::timeout;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

const FILE: &str = "/etc/kubernetes/admin.conf";
/// Largest file, in bytes.
const MOST: u64 = 64 * 1024;

#[derive(Deserialize)]
struct Config {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: String,
    client_key_data: String,
}

/// Reads it from a node.
pub async fn read(sockets: &Sockets, id: &SessionId, node: NodeName) -> Result<ClientConfig, Error> {
    let text = timeout(ANSWER_WITHIN, content(sockets, id, node))
        .await
        .map_err(|_| PipeError::Timeout(ANSWER_WITHIN))?
        .map_err(|e| match e {
            PipeError::Refused { .. } => Error::unavailable(
                "no_admin",
                format!("The cluster has no administrator yet ({FILE} on node1): it is just starting, or the file was removed."),
            ),
            e => e.into(),
        })?;
    parse(&text).map_err(|why| {
        Error::conflict("bad_admin", format!("{FILE} on node1 is no administrator's configuration: {why}."))
    })
}

async fn content(sockets: &Sockets, id: &SessionId, node: NodeName) -> Result<Vec<u8>, PipeError> {
    let op = FileOp::Read { path: FILE.into(), limit: Some(MOST) };
    let (mut reader, _writer) = sockets.open(id, &Open::File { node, op }).await?;
    let Reply::File { .. } = reader.reply().await? else {
        return Err(PipeError::Malformed("an answer to another question"));
    };
    let mut text = Vec::new();
    loop {
        match reader.next().await? {
            Some(Frame::Binary(piece)) if (text.len() + piece.len()) as u64 <= MOST => {
                text.extend_from_slice(&piece)
            }
            Some(Frame::Binary(_)) => return Err(PipeError::Malformed("a file that is too long")),
            Some(Frame::Text(_)) => return Ok(text),
            None => return Err(PipeError::Closed),
        }
    }
}

/// What a configuration lets its holder do, or why it can't be used.
fn parse(text: &[u8]) -> Result<ClientConfig, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is no text")?;
    let config: Config = serde_saphyr::from_str(text).map_err(|e| first_line(&e))?;
    let (Some(cluster), Some(user)) = (config.clusters.first(), config.users.first()) else {
        return Err("it names no cluster or no user".into());
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&cluster.cluster.certificate_authority_data)? {
        roots.add(certificate).map_err(|e| format!("its authority: {e}"))?;
    }
    let chain = certificates(&user.user.client_certificate_data)?;
    let key = decode(&user.user.client_key_data)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| format!("its key: {e}"))?;
    let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| format!("its certificate: {e}"))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

fn certificates(data: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = decode(data)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.map_err(|e| format!("a certificate: {e}"))
}

fn decode(data: &str) -> Result<Vec<u8>, String> {
    base64::engine::general_purpose::STANDARD.decode(data.trim()).map_err(|e| format!("base64: {e}"))
}

fn first_line(e: &impl std::fmt::Display) -> String {
    e.to_string().lines().next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused_with_the_reason() {
        for (text, why) in [
            (&b"\xff"[..], "no text"),
            (b"a: [", ""),
            (b"clusters: []\nusers: []\n", "names no cluster"),
            (b"clusters: [{cluster: {certificate-authority-data: '*'}}]\nusers: [{user: {client-certificate-data: '', client-key-data: ''}}]\n", "base64"),
        ] {
            let refusal = parse(text).expect_err("refused");
            assert!(refusal.contains(why), "{refusal}");
        }
    }
}
