//! Servers: components of the world `wasi:http/proxy`. Each request gets an instance of its own, as `wasmtime serve` has it.

use crate::command::{World, linker};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
};
use wasmtime::{Result, Store, bail, component::Component, error::Context as _};
use wasmtime_wasi_http::{
    WasiHttpView,
    io::TokioIo,
    p2::{
        bindings::{ProxyPre, http::types::Scheme},
        body::HyperOutgoingBody,
    },
};

/// Where to listen, if no argument says; the variable is that of containerd's wasmtime shim.
const VARIABLE: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";
const ADDRESS: &str = "0.0.0.0:8080";
/// Connections at a time; more wait to be taken.
const CONNECTIONS: usize = 1024;

/// Whether a component is a server and not a command.
pub fn is_proxy(component: &Component) -> bool {
    let engine = component.engine();
    component.component_type().exports(engine).any(|(name, _)| {
        name == "wasi:http/incoming-handler" || name.starts_with("wasi:http/incoming-handler@")
    })
}

struct Server {
    instances: ProxyPre<World>,
    words: Vec<String>,
}

/// Serves until a signal ends the process.
pub async fn serve(component: &Component, words: &[String]) -> Result<u8> {
    let variable = std::env::var(VARIABLE).ok();
    let address = address(words, variable.as_deref())?;
    let instances = ProxyPre::new(linker(component)?.instantiate_pre(component)?)?;
    let server = Arc::new(Server { instances, words: words.to_vec() });
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen at {address}"))?;
    eprintln!("Serving HTTP on http://{}/", listener.local_addr()?);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = room.clone().acquire_owned().await?;
        let Ok((connection, _)) = listener.accept().await else {
            // Out of descriptors: some will be free again.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let server = server.clone();
        tokio::spawn(async move {
            talk(server, connection).await;
            drop(place);
        });
    }
}

/// `--addr ADDRESS` among the arguments, the variable, or port 8080 everywhere.
fn address(words: &[String], variable: Option<&str>) -> Result<SocketAddr> {
    let mut rest = words.iter().skip(1);
    let mut address = variable.unwrap_or(ADDRESS);
    while let Some(word) = rest.next() {
        if let Some(given) = word.strip_prefix("--addr=") {
            address = given;
        } else if word == "--addr" {
            address = rest.next().context("--addr needs an address")?;
        }
    }
    address.parse::<SocketAddr>().with_context(|| format!("invalid address {address:?}"))
}

async fn talk(server: Arc<Server>, connection: TcpStream) {
    let answer = service_fn(move |request| {
        let server = server.clone();
        async move { server.answer(request).await.inspect_err(|error| eprintln!("Error: {error:?}")) }
    });
    // Clients go away as they like.
    let _gone =
        http1::Builder::new().keep_alive(true).serve_connection(TokioIo::new(connection), answer).await;
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<HyperOutgoingBody>> {
        let mut store = Store::new(self.instances.engine(), World::new(&self.words)?);
        let (sender, receiver) = oneshot::channel();
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let out = store.data_mut().http().new_response_outparam(sender)?;
        let instances = self.instances.clone();
        // It may go on after it has answered.
        let work = tokio::spawn(async move {
            let proxy = instances.instantiate_async(&mut store).await?;
            proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
        });
        match receiver.await {
            Ok(answer) => Ok(answer?),
            Err(_) => match work.await {
                Ok(Ok(())) => bail!("the component gave no answer"),
                Ok(Err(error)) => Err(error.context("the component gave no answer")),
                Err(error) => Err(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_argument_then_of_the_variable() {
        let at = |words: &[&str], variable| {
            let words: Vec<String> = words.iter().map(|w| (*w).into()).collect();
            address(&words, variable).map(|a| a.to_string())
        };
        assert_eq!(at(&["m"], None).unwrap(), "0.0.0.0:8080");
        assert_eq!(at(&["m"], Some("[::]:80")).unwrap(), "[::]:80");
        assert_eq!(at(&["m", "--addr", "127.0.0.1:1"], Some("[::]:80")).unwrap(), "127.0.0.1:1");
        assert_eq!(at(&["m", "--addr=127.0.0.1:2"], None).unwrap(), "127.0.0.1:2");
        assert!(at(&["m", "--addr"], None).is_err());
        assert!(at(&["m", "--addr=x"], None).is_err());
    }
}
