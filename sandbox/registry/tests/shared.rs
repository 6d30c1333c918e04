//! Repositories in which several may write: whose a tag is, who pays for what, and what is left of those who are gone.

mod common;

use axum::{body::Body, http::Request};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use common::ask;
use drydock_images::Digest;
use drydock_registry::{
    media_type,
    server::{Garbage, Limits, Policy, Registry},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, sync::Arc};
use tempfile::TempDir;

const QUOTA: u64 = 1_000_000;

/// `shared/…` is for all; who pushes there pays.
struct Class;

impl Policy for Class {
    fn anonymous(&self) -> bool {
        false
    }

    fn check_password(&self, _: &str, _: &str) -> bool {
        true
    }

    fn setter(&self, user: Option<&str>, repository: &str) -> Option<String> {
        user.filter(|_| repository.starts_with("shared/")).map(str::to_owned)
    }

    fn quota(&self, _: &str) -> Option<u64> {
        Some(QUOTA)
    }
}

struct Bench {
    registry: Registry,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path(), Arc::new(Class), Limits::default()).unwrap();
        Self { registry, folder }
    }

    /// The same folder as the next process finds it.
    fn again(self) -> Self {
        let registry = Registry::open(self.folder.path(), Arc::new(Class), Limits::default()).unwrap();
        Self { registry, folder: self.folder }
    }

    /// Status and message.
    async fn send(&self, user: &str, method: &str, path: &str, body: impl Into<Body>) -> (u16, String) {
        let account = BASE64_STANDARD.encode(format!("{user}:x"));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Basic {account}"))
            .header("content-type", media_type::OCI_MANIFEST);
        let answer = ask(self.registry.router(), request.body(body.into()).unwrap()).await;
        let status = answer.status().as_u16();
        let place = answer.headers().get("location").map(|at| at.to_str().unwrap().to_owned());
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let error = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        let message = error["errors"][0]["message"].as_str().map(str::to_owned);
        (status, message.or(place).unwrap_or_default())
    }

    async fn blob(&self, user: &str, name: &str, content: &[u8]) -> (u16, String) {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(content));
        self.send(user, "POST", &path, content.to_vec()).await
    }

    /// Pushes an image of one layer; blobs that are there are not pushed, as clients do it.
    async fn push(&self, user: &str, name: &str, tag: &str, layer: &[u8]) -> (u16, String) {
        for content in [b"{}", layer] {
            let there = format!("/v2/{name}/blobs/{}", Digest::of(content));
            if self.send(user, "HEAD", &there, "").await.0 != 200 {
                let pushed = self.blob(user, name, content).await;
                if pushed.0 != 201 {
                    return pushed;
                }
            }
        }
        let body = manifest(layer).to_string();
        self.send(user, "PUT", &format!("/v2/{name}/manifests/{tag}"), body).await
    }

    async fn has(&self, image: &str) -> bool {
        let (name, tag) = image.split_once(':').unwrap();
        self.send("who", "GET", &format!("/v2/{name}/manifests/{tag}"), "").await.0 == 200
    }

    async fn used(&self, user: &str) -> u64 {
        self.registry.used(user).await.unwrap()
    }

    async fn end(&self, user: &str) {
        self.registry.delete_owners(BTreeSet::from([user.to_owned()])).await.unwrap();
        self.registry.collect_garbage(Garbage::default()).await.unwrap();
    }

    /// How many blobs and manifests are on the disk.
    fn contents(&self) -> usize {
        let folders = fs::read_dir(self.folder.path().join("blobs/sha256")).unwrap();
        folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    }
}

fn manifest(layer: &[u8]) -> Value {
    let digest = Digest::of(layer);
    json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": media_type::OCI_CONFIG, "size": 2, "digest": Digest::of(b"{}")},
        "layers": [{"mediaType": media_type::OCI_LAYER_GZIP, "size": layer.len(), "digest": digest}],
    })
}

#[tokio::test]
async fn only_who_has_set_a_tag_moves_it() {
    let bench = Bench::new();
    assert_eq!(bench.push("ann", "shared/tool", "1", b"good").await.0, 201);
    let refused = (403, "shared/tool:1 is another session's: push another tag".to_owned());
    assert_eq!(bench.push("bob", "shared/tool", "1", b"evil").await, refused);
    // By a digest with tags, too.
    let evil = manifest(b"evil").to_string();
    let path = format!("/v2/shared/tool/manifests/{}?tag=new&tag=1", Digest::of(evil.as_bytes()));
    assert_eq!(bench.send("bob", "PUT", &path, evil).await, refused);
    assert!(!bench.has("shared/tool:new").await, "all of it or nothing");

    assert_eq!(bench.push("bob", "shared/tool", "1", b"good").await.0, 201, "what it means anyway");
    assert_eq!(bench.push("bob", "shared/tool", "2", b"evil").await.0, 201);
    assert_eq!(bench.push("bob", "shared/tool", "1", b"evil").await, refused, "nor is it his by that");
    assert_eq!(bench.push("ann", "shared/tool", "1", b"better").await.0, 201);
    bench.end("ann").await;
    let bench = bench.again();
    assert_eq!(bench.push("bob", "shared/tool", "1", b"evil").await, refused, "after she is gone, too");
    assert!(bench.has("shared/tool:1").await);

    // Where nobody in particular answers for a tag, whoever may push may move it; so for one of an older server.
    assert_eq!(bench.push("bob", "bob/tool", "1", b"one").await.0, 201);
    assert_eq!(bench.push("ann", "bob/tool", "1", b"two").await.0, 201);
    let file = bench.folder.path().join("repositories/shared/tool/_tags/old");
    fs::write(file, Digest::of(manifest(b"better").to_string().as_bytes()).to_string()).unwrap();
    assert_eq!(bench.push("bob", "shared/tool", "old", b"evil").await.0, 201);
    assert_eq!(bench.push("cyd", "shared/tool", "old", b"good").await.0, 403);
}

#[tokio::test]
async fn who_pushes_pays() {
    let bench = Bench::new();
    let half = vec![7; 400_000];
    assert_eq!(bench.push("ann", "ann/app", "1", &[1; 400_000]).await.0, 201);
    assert_eq!(bench.push("ann", "shared/fill", "1", &half).await.0, 201);
    let (status, why) = bench.push("ann", "shared/fill", "2", &[8; 400_000]).await;
    assert_eq!((status, why.starts_with("the quota")), (403, true), "{why}");
    assert_eq!(bench.push("ann", "ann/app", "2", &[9; 400_000]).await.0, 403, "it is one quota");
    assert_eq!(bench.push("bob", "shared/fill", "3", &[8; 400_000]).await.0, 201, "others have theirs");
    // What is there already costs who uses it as much.
    assert_eq!(bench.push("bob", "shared/fill", "4", &half).await.0, 201);
    assert_eq!(bench.push("bob", "shared/more", "5", &[5; 300_000]).await.0, 403);
    assert!(bench.used("shared").await < 100_000, "nobody fills what all have");
    let used = (bench.used("ann").await, bench.used("bob").await);
    assert!(used.0 > 800_000 && used.1 > 800_000, "{used:?}");
    let again = bench.again();
    assert_eq!((again.used("ann").await, again.used("bob").await), used, "counting again gives the same");
}

#[tokio::test]
async fn an_index_costs_what_it_leads_to() {
    let bench = Bench::new();
    assert_eq!(bench.push("ann", "shared/app", "amd64", &[1; 600_000]).await.0, 201);
    let child = manifest(&[1; 600_000]).to_string();
    let entry = json!({"mediaType": media_type::OCI_MANIFEST, "size": child.len(), "digest": Digest::of(child.as_bytes())});
    let index =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]}).to_string();
    let account = BASE64_STANDARD.encode("bob:x");
    let request = Request::builder()
        .method("PUT")
        .uri("/v2/shared/app/manifests/1")
        .header("authorization", format!("Basic {account}"))
        .header("content-type", media_type::OCI_INDEX);
    let answer = ask(bench.registry.router(), request.body(index.into()).unwrap()).await;
    assert_eq!(answer.status().as_u16(), 201);
    assert!(bench.used("bob").await > 600_000);
    bench.end("ann").await;
    assert!(bench.used("shared").await < 100_000 && bench.used("bob").await > 600_000, "so it stays his");
    bench.end("bob").await;
    assert!(bench.used("bob").await == 0 && bench.used("shared").await > 600_000);
    assert!(bench.registry.delete_tag("shared/app:amd64").await.unwrap());
    assert!(bench.has("shared/app:1").await, "the index still leads to it");
    assert_eq!(bench.contents(), 4);
    assert!(bench.registry.delete_tag("shared/app:1").await.unwrap());
    assert_eq!(bench.contents(), 0);
}

#[tokio::test]
async fn what_no_image_needs_goes_with_who_brought_it() {
    let bench = Bench::new();
    assert_eq!(bench.push("ann", "shared/tool", "1", b"kept").await.0, 201);
    let kept = bench.contents();
    assert_eq!(bench.blob("ann", "shared/fill", &[1; 200_000]).await.0, 201);
    assert_eq!(bench.blob("ann", "shared/tool", &[2; 200_000]).await.0, 201);
    assert_eq!(bench.blob("ann", "ann/app", &[3; 200_000]).await.0, 201);
    let place = bench.send("ann", "POST", "/v2/shared/fill/blobs/uploads/", "").await.1;
    assert_eq!(bench.send("ann", "PATCH", &place, vec![4; 1000]).await.0, 202);
    assert_eq!(bench.blob("bob", "shared/fill", b"fresh").await.0, 201);

    // The next process knows of her, whatever she had.
    let bench = bench.again();
    assert!(bench.registry.owners().await.unwrap().contains("ann"));
    bench.end("ann").await;
    assert_eq!(bench.contents(), kept + 1, "her image, and what bob has only just brought");
    assert_eq!(fs::read_dir(bench.folder.path().join("uploads")).unwrap().count(), 0);
    assert_eq!(bench.send("ann", "PATCH", &place, "x").await.0, 404);
    assert!(bench.has("shared/tool:1").await);
    assert_eq!(bench.used("ann").await, 0);
    assert!(!bench.registry.owners().await.unwrap().contains("ann"));
}

#[tokio::test]
async fn what_the_gone_have_left_makes_room_the_largest_heap_first() {
    let bench = Bench::new();
    assert_eq!(bench.push("teacher", "shared/lesson", "1", &[1; 200_000]).await.0, 201);
    bench.end("teacher").await;
    for (tag, byte) in [("1", 2), ("2", 3)] {
        assert_eq!(bench.push("ann", "shared/fill", tag, &vec![byte; 450_000]).await.0, 201);
    }
    assert_eq!(bench.push("bob", "shared/fill", "mine", &[3; 450_000]).await.0, 201);
    assert!(bench.used("shared").await < 300_000);
    bench.end("ann").await;
    // One of hers that bob needs is his; what is left fits.
    for image in ["shared/lesson:1", "shared/fill:1", "shared/fill:2", "shared/fill:mine"] {
        assert!(bench.has(image).await, "{image}");
    }
    for (tag, byte, size) in [("a", 4, 450_000), ("b", 5, 250_000)] {
        assert_eq!(bench.push("cyd", "shared/more", tag, &vec![byte; size]).await.0, 201);
    }
    bench.end("cyd").await;
    assert!(bench.used("shared").await <= QUOTA);
    assert!(bench.has("shared/lesson:1").await && bench.has("shared/more:b").await);
    assert!(!bench.has("shared/more:a").await);
}

#[tokio::test]
async fn the_host_sees_and_deletes_tags() {
    let bench = Bench::new();
    assert_eq!(bench.push("ann", "shared/tool", "1", b"x").await.0, 201);
    assert_eq!(bench.push("ann", "shared/tool", "2", b"x").await.0, 201);
    let tags = bench.registry.tags_of("shared").await.unwrap();
    let told: Vec<_> = tags.iter().map(|tag| (tag.image.as_str(), tag.by.as_deref())).collect();
    assert_eq!(told, [("shared/tool:1", Some("ann")), ("shared/tool:2", Some("ann"))]);
    assert!(bench.registry.delete_tag("shared/tool:1").await.unwrap());
    assert!(!bench.has("shared/tool:1").await && bench.has("shared/tool:2").await);
    assert!(bench.registry.delete_tag("shared/tool:2").await.unwrap());
    assert_eq!(bench.contents(), 0);
    for none in ["shared/tool:2", "shared/tool", "../x:1", "shared/none:1"] {
        assert!(!bench.registry.delete_tag(none).await.unwrap(), "{none}");
    }
    assert_eq!(bench.push("bob", "shared/tool", "1", b"y").await.0, 201, "it is free again");
}
