//! A node's image store at one end and a registry at the other.

mod common;

use common::*;
use drydock_images::{Digest, local::LocalStore};
use drydock_registry::{AuthConfig, PushRequest, StoreSink, StoreSource};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn ids(log: &Log, status: &str) -> Vec<String> {
    log.0.lock().unwrap().iter().filter(|e| e.status == status).map(|e| e.id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_registry_to_a_node_and_back() {
    // The store keeps owners of files.
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let site = site().await;
    let tars = [tar_of(&[("a", b"first"), ("b", &noise(1, 200_000))]), tar_of(&[("a", b"second")])];
    let (original, source) = image(&tars);
    let name = format!("{}/team/app:v1", site.domain);
    client().push(&push_of(&name), original.clone(), &source, &Log::default().events()).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path()).unwrap();
    let (sink, log) = (StoreSink::new(store.clone()), Log::default());
    let pulled = client().pull(&pull_of(&name), &sink, &log.events()).await.unwrap();
    assert!(pulled.updated);
    assert_eq!(store.id_of(&reference(&name)), Some(pulled.config_digest.clone()));
    assert_eq!(store.config_bytes(&pulled.config_digest).unwrap(), original.config);
    assert!(log.count("Extracting") >= 2);
    assert_eq!(ids(&log, "Pull complete").len(), 2);

    let log = Log::default();
    assert!(!client().pull(&pull_of(&name), &sink, &log.events()).await.unwrap().updated);
    assert_eq!(log.count("Pulling fs layer"), 0, "the image is there");

    let target = reference(&format!("{}/copy/app", site.domain));
    let mut source = StoreSource::new(store.clone());
    let again = source.add(&pulled.config_digest, &target).unwrap();
    let source = Arc::new(source);
    assert_eq!(again.config, original.config);
    let request = PushRequest { reference: target.clone(), auth: AuthConfig::default() };
    let log = Log::default();
    let pushed = client().push(&request, again, &source, &log.events()).await.unwrap();
    assert_eq!(log.count("Mounted from team/app"), 2, "{:?}", log.0.lock().unwrap());
    assert_eq!(store.pushed(&pulled.config_digest, &target, &pushed.manifest).unwrap(), pushed.digest);

    let memory = Memory::default();
    client().pull(&pull_of(&target.to_string()), &memory, &Log::default().events()).await.unwrap();
    let layers: Vec<_> = memory.layers.lock().unwrap().iter().map(|(_, blob)| unpack(blob)).collect();
    assert_eq!(layers, tars, "bit for bit");

    let mut source = StoreSource::new(store.clone());
    let third = source.add(&pulled.config_digest, &target).unwrap();
    let source = Arc::new(source);
    let log = Log::default();
    client().push(&request, third, &source, &log.events()).await.unwrap();
    assert_eq!(log.count("Layer already exists"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let site = site().await;
    let (mut wrong, source) = image(&[tar_of(&[("a", b"what is there")])]);
    let other = Digest::of(b"something else");
    let text = String::from_utf8(wrong.config.to_vec()).unwrap();
    wrong.config = text.replace(wrong.layers[0].diff_id.hex(), other.hex()).into();
    let name = format!("{}/app", site.domain);
    client().push(&push_of(&name), wrong, &source, &Log::default().events()).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path()).unwrap();
    let error = client()
        .pull(&pull_of(&name), &StoreSink::new(store.clone()), &Log::default().events())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("failed to register layer: ") && text.contains(other.hex()), "{text}");
    assert!(store.images().is_empty() && store.layers().is_empty());
}
