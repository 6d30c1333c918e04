//! A store alone, for trying clients on it: `cargo run -p drydock-etcd --example etcd -- DIRECTORY`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), drydock_etcd::ServeError> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "default.etcd".into());
    let options = drydock_etcd::Options {
        name: "default".into(),
        data_dir: dir.into(),
        listen_client_urls: vec!["http://127.0.0.1:12379".into()],
        advertise_client_urls: vec!["http://127.0.0.1:12379".into()],
        ..drydock_etcd::Options::default()
    };
    drydock_etcd::serve(options, Box::pin(std::future::pending())).await
}
