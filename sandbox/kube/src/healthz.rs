//! The port at which the kubelet asks the scheduler and the controller manager whether they live: HTTPS with a certificate that nobody has
//! to trust, as upstream's secure serving makes one when it is given none. Called by the components' command lines.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::NoServerSessionStorage;

/// More connections than that wait.
const MOST: usize = 8;
/// Nobody needs longer to ask.
const PATIENCE: Duration = Duration::from_secs(15);

/// Answers until the future is dropped.
pub async fn serve(address: IpAddr, port: u16) -> anyhow::Result<()> {
    let address = SocketAddr::new(address, port);
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))?;
    let acceptor = TlsAcceptor::from(Arc::new(tls()?));
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let place = places.clone().acquire_owned().await?;
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Who breaks off or takes too long is let go.
            let _let_go = tokio::time::timeout(PATIENCE, answer(acceptor, stream)).await;
            drop(place);
        });
    }
}

/// A certificate of its own, made anew at each start.
fn tls() -> anyhow::Result<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()])?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let builder = ServerConfig::builder().with_no_client_auth();
    let mut config = builder.with_single_cert(vec![made.cert.der().clone()], key)?;
    // Who asks comes without a memory of the last time.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream) -> anyhow::Result<()> {
    let stream = acceptor.accept(stream).await?;
    let service =
        service_fn(
            |request: Request<Incoming>| async move { Ok::<_, Infallible>(respond(request.uri().path())) },
        );
    http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(8 * 1024)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

fn respond(path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/healthz" | "/livez" | "/readyz" => (StatusCode::OK, "ok"),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_health_is_told() {
        for (path, expected) in
            [("/healthz", 200), ("/livez", 200), ("/readyz", 200), ("/", 404), ("/metrics", 404)]
        {
            assert_eq!(respond(path).status().as_u16(), expected, "{path}");
        }
    }

    #[test]
    fn a_certificate_is_made() {
        assert!(tls().is_ok());
    }
}
