//! Whether a port that does not answer in HTTP speaks TLS, so that the page in its stead can say so. Called by the proxy once a
//! request has failed; nothing is sent but a greeting.

use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

/// How long the other side may take to greet back.
const WITHIN: Duration = Duration::from_secs(3);

/// True if the other side of a connection answers a greeting as TLS has it, be it with a refusal. No certificate is trusted: that it
/// is refused tells as much as one that is not.
pub async fn speaks<S>(stream: S) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let (Ok(builder), Ok(name)) =
        (builder.with_safe_default_protocol_versions(), ServerName::try_from("localhost"))
    else {
        return false;
    };
    let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    match timeout(WITHIN, TlsConnector::from(Arc::new(config)).connect(name, stream)).await {
        Ok(Ok(_)) => true,
        Ok(Err(e)) => {
            let why = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            why.is_some_and(|why| !matches!(why, rustls::Error::InvalidMessage(_)))
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    async fn answers(answer: &'static [u8]) -> bool {
        let (ours, mut theirs) = duplex(16 * 1024);
        let serve = async move {
            // The greeting, then an answer and the end.
            assert_ne!(theirs.read(&mut [0; 4096]).await.unwrap(), 0);
            theirs.write_all(answer).await.unwrap();
        };
        tokio::join!(speaks(ours), serve).0
    }

    #[tokio::test]
    async fn a_refusal_by_tls_is_tls_and_other_words_are_not() {
        // Alert: handshake failure (RFC 8446, 6).
        assert!(answers(&[21, 3, 3, 0, 2, 2, 40]).await);
        for other in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b""] {
            assert!(!answers(other).await, "{other:?}");
        }
    }
}
