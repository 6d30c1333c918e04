//! An API server over a store in memory on a loopback port, for trying clients: `kubectl --server URL --token admin get namespaces`.

use drydock_apiserver::testing::TestServer;
use std::io::Write;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let server = TestServer::start().await;
    writeln!(std::io::stdout(), "{}", server.url())?;
    std::future::pending().await
}
