//! What tells that this server is there, a lease that it renews (`pkg/controlplane/apiserver/server.go`), and since when such servers look
//! at the use of old service account tokens (`pkg/controlplane/controller/legacytokentracking`).

use super::{ensure, put};
use crate::rest::meta;
use crate::server::Server;
use drydock_apimachinery::Status;
use jiff::Timestamp;
use ring::digest;
use serde_json::json;
use std::sync::{Arc, OnceLock};

/// How long the lease holds (`IdentityLeaseDurationSeconds`).
const SECONDS: u32 = 3600;

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_lowercase()
}

/// The server's name, which another start on the same host has too.
fn name_of(hostname: &str) -> String {
    let hash = digest::digest(&digest::SHA256, hostname.as_bytes());
    format!("apiserver-{}", base32(&hash.as_ref()[..16]))
}

/// Five bits a letter, in small letters and without padding (RFC 4648, section 6).
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    let letters = (0..(bytes.len() * 8).div_ceil(5))
        .map(|letter| (0..5).fold(0, |bits, next| bits << 1 | bit(5 * letter + next)));
    letters.map(|bits| char::from(LETTERS[bits])).collect()
}

/// Makes the lease, or renews it.
pub async fn renew(server: &Arc<Server>) -> Result<(), Status> {
    static HOLDER: OnceLock<String> = OnceLock::new();
    let hostname = hostname();
    let name = name_of(&hostname);
    let holder = match HOLDER.get() {
        Some(holder) => holder,
        None => {
            let new = format!("{name}_{}", meta::uid()?);
            HOLDER.get_or_init(|| new)
        }
    };
    let lease = json!({
        "kind": "Lease",
        "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"name": name, "namespace": "kube-system", "labels": {
            "apiserver.kubernetes.io/identity": "kube-apiserver",
            "kubernetes.io/hostname": hostname,
        }},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": SECONDS,
            "renewTime": format!("{:.6}", Timestamp::now()),
        },
    });
    put(server, "coordination.k8s.io", "v1", "leases", lease, &["spec"]).await
}

/// Tells since when this is a cluster whose servers look at the use of old tokens.
pub async fn tracking(server: &Arc<Server>) -> Result<(), Status> {
    let map = json!({
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
        "data": {"since": Timestamp::now().strftime("%Y-%m-%d").to_string()},
    });
    ensure(server, "", "v1", "configmaps", map).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_name_that_upstream_gives_it() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(b"f"), "my");
        let name = name_of("node1");
        assert_eq!(name.len(), "apiserver-".len() + 26);
        assert_eq!(name, name_of("node1"));
    }
}
