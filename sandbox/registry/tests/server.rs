//! The server by the specification: status codes, headers and error codes of each endpoint, and hostile requests.

mod common;

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use bytes::Bytes;
use common::*;
use drydock_images::Digest;
use drydock_registry::{
    media_type,
    server::{Collected, Garbage, Limits, Open, Registry},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;

/// A registry that is asked without a network.
struct Bench {
    registry: Registry,
    folder: TempDir,
}

struct Seen {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and error code.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["errors"][0]["code"].as_str().unwrap().to_owned())
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::open(folder.path(), Arc::new(Open), limits).unwrap();
        Self { registry, folder }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Seen {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = ask(self.registry.router(), request.body(body.into()).unwrap()).await;
        let (head, body) = answer.into_parts();
        assert_eq!(head.headers["docker-distribution-api-version"], "registry/2.0");
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Seen { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Seen {
        self.send("GET", path, &[], "").await
    }

    async fn blob(&self, name: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let seen = self.send("POST", &path, &[], content.to_vec()).await;
        assert_eq!(seen.status, 201);
        assert_eq!(seen.header("location"), format!("/v2/{name}/blobs/{digest}"));
        digest
    }

    /// Pushes a manifest of one layer.
    async fn image(&self, name: &str, tag: &str, content: &[u8]) -> Digest {
        let config = self.blob(name, b"{}").await;
        let layer = self.blob(name, content).await;
        let manifest = manifest(&config, &layer, content.len());
        let seen = self.put(name, tag, &manifest).await;
        assert_eq!(seen.status, 201, "{:?}", seen.body);
        Digest::of(manifest.to_string().as_bytes())
    }

    async fn put(&self, name: &str, tag: &str, manifest: &Value) -> Seen {
        let kind = manifest["mediaType"].as_str().unwrap_or(media_type::OCI_MANIFEST);
        let path = format!("/v2/{name}/manifests/{tag}");
        self.send("PUT", &path, &[("content-type", kind)], manifest.to_string()).await
    }

    async fn collect(&self, garbage: Garbage) -> Collected {
        self.registry.collect_garbage(garbage).await.unwrap()
    }
}

fn manifest(config: &Digest, layer: &Digest, size: usize) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": media_type::OCI_CONFIG, "size": 2, "digest": config},
        "layers": [{"mediaType": media_type::OCI_LAYER_GZIP, "size": size, "digest": layer}],
    })
}

fn now() -> Garbage {
    Garbage { grace: Duration::ZERO, uploads: Duration::ZERO, untagged: true }
}

#[tokio::test]
async fn the_base_says_that_the_protocol_is_spoken() {
    let bench = Bench::new();
    assert_eq!(bench.get("/v2/").await.status, 200);
    assert_eq!(bench.get("/v2").await.status, 200);
    assert_eq!(bench.send("DELETE", "/v2/", &[], "").await.refusal(), (405, "UNSUPPORTED".into()));
    assert_eq!(bench.get("/v2/a/nonsense/x").await.status, 404);
}

#[tokio::test]
async fn a_blob_in_one_request() {
    let bench = Bench::new();
    let digest = bench.blob("a/b", b"hello").await;
    let path = format!("/v2/a/b/blobs/{digest}");
    let seen = bench.get(&path).await;
    assert_eq!((seen.status, &seen.body[..]), (200, &b"hello"[..]));
    assert_eq!(seen.header("docker-content-digest"), digest.to_string());
    let head = bench.send("HEAD", &path, &[], "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "5", 0));
    let other = bench.get(&format!("/v2/b/blobs/{digest}")).await;
    assert_eq!(other.refusal(), (404, "BLOB_UNKNOWN".into()), "a blob belongs to its repository");
    let known = bench.send("GET", &path, &[("if-none-match", &format!("\"{digest}\""))], "").await;
    assert_eq!(known.status, 304);

    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(bench.send("POST", &path, &[], "other").await.refusal(), (400, "DIGEST_INVALID".into()));
    let bad = bench.send("POST", "/v2/a/blobs/uploads/?digest=sha256:xyz", &[], "x").await;
    assert_eq!(bad.refusal(), (400, "DIGEST_INVALID".into()));
    let algorithm = bench.send("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", &[], "").await;
    assert_eq!(algorithm.refusal(), (400, "DIGEST_INVALID".into()));
    assert_eq!(std::fs::read_dir(bench.folder.path().join("uploads")).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn parts_of_a_blob() {
    let bench = Bench::new();
    let digest = bench.blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    let part = async |range: &str| bench.send("GET", &path, &[("range", range)], "").await;
    let seen = part("bytes=2-4").await;
    assert_eq!((seen.status, &seen.body[..]), (206, &b"234"[..]));
    assert_eq!(seen.header("content-range"), "bytes 2-4/10");
    assert_eq!(&part("bytes=7-").await.body[..], b"789");
    assert_eq!(&part("bytes=-2").await.body[..], b"89");
    let beyond = part("bytes=10-").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */10"));
}

#[tokio::test]
async fn a_blob_in_pieces() {
    let bench = Bench::new();
    let begun = bench.send("POST", "/v2/a/blobs/uploads/", &[("content-length", "0")], "").await;
    assert_eq!((begun.status, begun.header("range")), (202, "0-0"));
    let place = begun.header("location").to_owned();
    assert!(place.ends_with(begun.header("docker-upload-uuid")));
    let piece = async |range: &str, data: &'static str| {
        bench.send("PATCH", &place, &[("content-range", range)], data).await
    };
    let first = piece("0-4", "01234").await;
    assert_eq!((first.status, first.header("range"), first.header("location")), (202, "0-4", place.as_str()));
    let hole = piece("7-9", "789").await;
    assert_eq!((hole.status, hole.header("range")), (416, "0-4"));
    assert_eq!(piece("0-4", "01234").await.status, 416, "a piece does not come twice");
    assert_eq!(piece("nonsense", "x").await.status, 400);
    let status = bench.get(&place).await;
    assert_eq!((status.status, status.header("range")), (204, "0-4"));
    assert_eq!(bench.send("PATCH", &place, &[], "56").await.status, 202, "the range may be left out");

    assert_eq!(bench.send("PUT", &place, &[], "").await.refusal(), (400, "DIGEST_INVALID".into()));
    let digest = Digest::of(b"0123456789");
    let done =
        bench.send("PUT", &format!("{place}?digest={digest}"), &[("content-range", "7-9")], "789").await;
    assert_eq!(done.status, 201);
    assert_eq!(&bench.get(done.header("location")).await.body[..], b"0123456789");
    assert_eq!(bench.get(&place).await.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()), "it is over");
}

#[tokio::test]
async fn uploads_can_be_cancelled_and_belong_to_their_repository() {
    let bench = Bench::new();
    let begun = bench.send("POST", "/v2/a/blobs/uploads/", &[], "").await;
    let place = begun.header("location").to_owned();
    let foreign = place.replace("/v2/a/", "/v2/b/");
    assert_eq!(bench.get(&foreign).await.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    assert_eq!(bench.send("DELETE", &place, &[], "").await.status, 204);
    assert_eq!(bench.send("PATCH", &place, &[], "x").await.refusal(), (404, "BLOB_UPLOAD_UNKNOWN".into()));
    let wrong = bench.send("POST", "/v2/a/blobs/uploads/", &[], "").await;
    let path = format!("{}?digest={}", wrong.header("location"), Digest::of(b"x"));
    assert_eq!(bench.send("PUT", &path, &[], "y").await.refusal(), (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let bench = Bench::new();
    let begun = bench.send("POST", "/v2/a/blobs/uploads/", &[], "").await;
    let place = begun.header("location").to_owned();
    assert_eq!(bench.send("PATCH", &place, &[], "01234").await.status, 202);
    let registry = Registry::open(bench.folder.path(), Arc::new(Open), Limits::default()).unwrap();
    let bench = Bench { registry, folder: bench.folder };
    assert_eq!(bench.get(&place).await.header("range"), "0-4");
    let digest = Digest::of(b"0123456789");
    assert_eq!(bench.send("PUT", &format!("{place}?digest={digest}"), &[], "56789").await.status, 201);
    assert_eq!(&bench.get(&format!("/v2/a/blobs/{digest}")).await.body[..], b"0123456789");
}

#[tokio::test]
async fn blobs_are_mounted() {
    let bench = Bench::new();
    let digest = bench.blob("a", b"x").await;
    let seen = bench.send("POST", &format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), &[], "").await;
    assert_eq!((seen.status, seen.header("location")), (201, format!("/v2/b/blobs/{digest}").as_str()));
    for query in [
        format!("mount={digest}&from=nowhere"),
        format!("mount={digest}"),
        format!("mount={}&from=a", Digest::of(b"y")),
        format!("mount={digest}&from=../../a"),
    ] {
        let seen = bench.send("POST", &format!("/v2/c/blobs/uploads/?{query}"), &[], "").await;
        assert_eq!(seen.status, 202, "{query}: an upload begins");
    }
}

#[tokio::test]
async fn manifests_and_tags() {
    let bench = Bench::new();
    let digest = bench.image("team/app", "v1", b"layer").await;
    for name in ["v1", &digest.to_string()] {
        let path = format!("/v2/team/app/manifests/{name}");
        let seen = bench.get(&path).await;
        assert_eq!((seen.status, seen.header("content-type")), (200, media_type::OCI_MANIFEST));
        assert_eq!(seen.header("docker-content-digest"), digest.to_string());
        assert_eq!(Digest::of(&seen.body), digest, "byte by byte as it was pushed");
        let head = bench.send("HEAD", &path, &[], "").await;
        assert_eq!(head.header("content-length"), seen.body.len().to_string());
    }
    assert_eq!(bench.get("/v2/team/app/manifests/v2").await.refusal(), (404, "MANIFEST_UNKNOWN".into()));
    assert_eq!(bench.get("/v2/no/app/manifests/v2").await.refusal(), (404, "NAME_UNKNOWN".into()));

    assert_eq!(bench.send("DELETE", "/v2/team/app/manifests/v1", &[], "").await.status, 202);
    assert_eq!(bench.get("/v2/team/app/manifests/v1").await.status, 404);
    assert_eq!(
        bench.get(&format!("/v2/team/app/manifests/{digest}")).await.status,
        200,
        "only the tag is gone"
    );
    bench.image("team/app", "v3", b"layer").await;
    assert_eq!(bench.send("DELETE", &format!("/v2/team/app/manifests/{digest}"), &[], "").await.status, 202);
    assert_eq!(
        bench.get("/v2/team/app/manifests/v3").await.status,
        404,
        "tags of a deleted manifest go with it"
    );
    let again = bench.send("DELETE", &format!("/v2/team/app/manifests/{digest}"), &[], "").await;
    assert_eq!(again.refusal(), (404, "MANIFEST_UNKNOWN".into()));
    let blob = Digest::of(b"layer");
    assert_eq!(bench.send("DELETE", &format!("/v2/team/app/blobs/{blob}"), &[], "").await.status, 202);
    assert_eq!(bench.send("DELETE", &format!("/v2/team/app/blobs/{blob}"), &[], "").await.status, 404);
}

#[tokio::test]
async fn manifests_that_are_refused() {
    let bench = Bench::new();
    let config = bench.blob("a", b"{}").await;
    let missing = bench.put("a", "x", &manifest(&config, &Digest::of(b"missing"), 7)).await;
    assert_eq!(missing.refusal(), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    for bad in
        [json!({}), json!([]), json!({"schemaVersion": 1, "fsLayers": []}), json!({"schemaVersion": 2})]
    {
        assert_eq!(bench.put("a", "x", &bad).await.refusal(), (400, "MANIFEST_INVALID".into()), "{bad}");
    }
    let good = manifest(&config, &config, 2);
    let lie = bench
        .send("PUT", "/v2/a/manifests/x", &[("content-type", media_type::DOCKER_MANIFEST)], good.to_string())
        .await;
    assert_eq!(lie.refusal(), (400, "MANIFEST_INVALID".into()));
    let other = bench.put("a", &Digest::of(b"other").to_string(), &good).await;
    assert_eq!(other.refusal(), (400, "DIGEST_INVALID".into()));
    let huge = vec![b' '; 5 << 20];
    let seen =
        bench.send("PUT", "/v2/a/manifests/x", &[("content-type", media_type::OCI_MANIFEST)], huge).await;
    assert_eq!(seen.refusal(), (413, "MANIFEST_INVALID".into()));
    assert_eq!(bench.get("/v2/a/manifests/x").await.status, 404, "none of them was taken");
}

#[tokio::test]
async fn a_manifest_by_digest_with_several_tags() {
    let bench = Bench::new();
    let config = bench.blob("a", b"{}").await;
    let good = manifest(&config, &config, 2);
    let digest = Digest::of(good.to_string().as_bytes());
    let seen = bench.put("a", &format!("{digest}?tag=one&tag=two"), &good).await;
    assert_eq!(seen.status, 201);
    let tags: Vec<_> = seen.headers.get_all("oci-tag").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(tags, ["one", "two"]);
    assert_eq!(bench.get("/v2/a/manifests/two").await.status, 200);
    let many: String = (0..33).map(|i| format!("&tag=t{i}")).collect();
    assert_eq!(bench.put("a", &format!("{digest}?{}", &many[1..]), &good).await.status, 414);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let bench = Bench::new();
    for tag in ["c", "a", "b", "B"] {
        bench.image("app", tag, b"x").await;
    }
    bench.image("app/part", "a", b"x").await;
    bench.image("other", "a", b"x").await;
    let all = bench.get("/v2/app/tags/list").await.json();
    assert_eq!(all, json!({"name": "app", "tags": ["B", "a", "b", "c"]}));
    let page = bench.get("/v2/app/tags/list?n=2").await;
    assert_eq!(page.json()["tags"], json!(["B", "a"]));
    assert_eq!(page.header("link"), "</v2/app/tags/list?last=a&n=2>; rel=\"next\"");
    let last = bench.get("/v2/app/tags/list?last=a&n=2").await;
    assert_eq!(last.json()["tags"], json!(["b", "c"]));
    assert!(last.headers.get("link").is_none());
    let none = bench.get("/v2/app/tags/list?n=0").await;
    assert_eq!((none.json()["tags"].clone(), none.headers.get("link")), (json!([]), None));
    assert_eq!(
        bench.get("/v2/app/tags/list?n=-1").await.refusal(),
        (400, "PAGINATION_NUMBER_INVALID".into())
    );
    assert_eq!(bench.get("/v2/none/tags/list").await.refusal(), (404, "NAME_UNKNOWN".into()));
    assert_eq!(bench.get("/v2/_catalog").await.json(), json!({"repositories": ["app", "app/part", "other"]}));
    let first = bench.get("/v2/_catalog?n=1").await;
    assert_eq!(first.header("link"), "</v2/_catalog?last=app&n=1>; rel=\"next\"");
}

#[tokio::test]
async fn referrers() {
    let bench = Bench::new();
    let subject = bench.image("app", "v1", b"x").await;
    let config = bench.blob("app", b"{}").await;
    let mut signature = manifest(&config, &config, 2);
    signature["subject"] = json!({"mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": subject});
    signature["artifactType"] = json!("application/x-signature");
    signature["annotations"] = json!({"by": "ann"});
    let seen = bench.put("app", "sig", &signature).await;
    assert_eq!(seen.header("oci-subject"), subject.to_string());
    let mut plain = signature.clone();
    plain.as_object_mut().unwrap().remove("artifactType");
    bench.put("app", "plain", &plain).await;

    let path = format!("/v2/app/referrers/{subject}");
    let seen = bench.get(&path).await;
    assert_eq!((seen.status, seen.header("content-type")), (200, media_type::OCI_INDEX));
    assert_eq!(seen.json()["manifests"].as_array().unwrap().len(), 2);
    let some = bench.get(&format!("{path}?artifactType=application/x-signature")).await;
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    let some = some.json()["manifests"].clone();
    assert_eq!(some[0]["digest"], json!(Digest::of(signature.to_string().as_bytes())));
    assert_eq!((&some[0]["annotations"]["by"], some.as_array().unwrap().len()), (&json!("ann"), 1));
    let by_config =
        bench.get(&format!("{path}?artifactType={}", media_type::OCI_CONFIG.replace('+', "%2B"))).await;
    assert_eq!(
        by_config.json()["manifests"].as_array().unwrap().len(),
        1,
        "the configuration's type stands in"
    );
    let none = bench.get(&format!("/v2/none/referrers/{subject}")).await;
    assert_eq!((none.status, none.json()["manifests"].clone()), (200, json!([])));
    assert_eq!(bench.get("/v2/app/referrers/sha256:xyz").await.refusal(), (400, "DIGEST_INVALID".into()));

    let digest = Digest::of(signature.to_string().as_bytes());
    bench.send("DELETE", &format!("/v2/app/manifests/{digest}"), &[], "").await;
    assert_eq!(bench.get(&path).await.json()["manifests"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn large_referrers_come_page_by_page() {
    let bench = Bench::new();
    let subject = bench.image("app", "v1", b"x").await;
    let config = bench.blob("app", b"{}").await;
    for n in 0..5 {
        let mut large = manifest(&config, &config, 2);
        large["subject"] = json!({"mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": subject});
        large["artifactType"] = json!("application/x-note");
        large["annotations"] = json!({"n": n.to_string(), "text": "x".repeat(3 << 20)});
        bench.put("app", &format!("n{n}"), &large).await;
    }
    let mut path = format!("/v2/app/referrers/{subject}?artifactType=application/x-note");
    let (mut pages, mut found) = (0, std::collections::BTreeSet::new());
    loop {
        let seen = bench.get(&path).await;
        assert!(seen.body.len() < 8 << 20, "{} bytes", seen.body.len());
        pages += 1;
        for one in seen.json()["manifests"].as_array().unwrap() {
            assert!(found.insert(one["digest"].to_string()), "twice: {}", one["digest"]);
        }
        let Some(link) = seen.headers.get("link") else { break };
        path = link.to_str().unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    }
    assert_eq!((found.len(), pages), (5, 3));
}

#[tokio::test]
async fn what_is_deleted_is_gone_from_the_disk() {
    let bench = Bench::with(Limits { repositories: 3, ..Limits::default() });
    let blobs = || walk(&bench.folder.path().join("blobs"), true);
    let blob = bench.blob("me/app", &[7; 5000]).await;
    let shared = bench.blob("me/app", b"shared").await;
    let mount = format!("/v2/me/other/blobs/uploads/?mount={shared}&from=me/app");
    assert_eq!(bench.send("POST", &mount, &[], "").await.status, 201);
    let before = bench.registry.used("me").await.unwrap();
    assert_eq!(blobs(), 2);
    for digest in [&blob, &shared] {
        assert_eq!(bench.send("DELETE", &format!("/v2/me/app/blobs/{digest}"), &[], "").await.status, 202);
    }
    // The other repository still has the one.
    assert_eq!((blobs(), bench.get(&format!("/v2/me/other/blobs/{shared}")).await.status), (1, 200));
    assert_eq!(before - bench.registry.used("me").await.unwrap(), 5000 + 6 + 2 * 4096);
    // Names and their folders are counted, bounded, and go with their owner.
    let deep = ["me"; 17].join("/");
    let refused = bench.send("POST", &format!("/v2/{deep}/blobs/uploads/"), &[], "").await;
    assert_eq!(refused.refusal(), (400, "NAME_INVALID".into()));
    bench.blob(&["me"; 16].join("/"), b"shared").await;
    let many = bench
        .send("POST", &format!("/v2/me/more/blobs/uploads/?mount={shared}&from=me/other"), &[], "")
        .await;
    assert_eq!(many.refusal(), (403, "DENIED".into()));
    assert!(bench.registry.owners().await.unwrap().contains("me"));
    bench.registry.delete_owners(["me".to_owned()].into()).await.unwrap();
    assert!(!bench.registry.owners().await.unwrap().contains("me"));
    assert_eq!(walk(&bench.folder.path().join("repositories"), false), 0);
    assert_eq!(bench.registry.used("me").await.unwrap(), 0);
}

/// How many files, or else how many entries, are below a folder.
fn walk(folder: &std::path::Path, files: bool) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { walk(&path, files) + usize::from(!files) } else { 1 }).sum()
}

#[tokio::test]
async fn limits_hold() {
    let bench = Bench::with(Limits { blob: 10, uploads: 2, ..Limits::default() });
    let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"01234567890"));
    assert_eq!(bench.send("POST", &path, &[], "01234567890").await.refusal(), (413, "SIZE_INVALID".into()));
    let begun = bench.send("POST", "/v2/a/blobs/uploads/", &[], "").await;
    let place = begun.header("location").to_owned();
    assert_eq!(bench.send("PATCH", &place, &[], "0123456789").await.status, 202);
    assert_eq!(bench.send("PATCH", &place, &[], "x").await.status, 413);
    let done = bench.send("PUT", &format!("{place}?digest={}", Digest::of(b"0123456789")), &[], "").await;
    assert_eq!(done.status, 201, "what was within the limit is not lost");
    for status in [202, 202, 429] {
        assert_eq!(bench.send("POST", "/v2/a/blobs/uploads/", &[], "").await.status, status);
    }
}

#[tokio::test]
async fn hostile_names_reach_no_file() {
    let bench = Bench::new();
    let digest = Digest::of(b"x");
    for path in [
        "/v2/..%2f..%2fetc/tags/list".to_owned(),
        "/v2/a%2f..%2fb/manifests/latest".into(),
        "/v2/_layers/tags/list".into(),
        format!("/v2/UPPER/blobs/{digest}"),
        format!("/v2/{}/blobs/{digest}", "a/".repeat(200) + "a"),
        "/v2/a/manifests/%2e%2e".into(),
        "/v2/a/blobs/sha256:..%2f..%2fetc%2fpasswd".into(),
    ] {
        let seen = bench.get(&path).await;
        assert!(matches!(seen.status, 400 | 404), "{path}: {}", seen.status);
        let seen = bench.send("PUT", &path, &[], "x").await;
        assert!(matches!(seen.status, 400 | 404 | 405), "{path}: {}", seen.status);
    }
    assert_eq!(std::fs::read_dir(bench.folder.path().join("repositories")).unwrap().count(), 0);
}

#[tokio::test]
async fn garbage_is_what_nothing_leads_to() {
    let bench = Bench::new();
    let kept = bench.image("app", "v1", b"kept").await;
    bench.image("app", "v2", b"replaced").await;
    bench.image("app", "v2", b"current").await;
    bench.blob("app", b"loose").await;
    bench.send("POST", "/v2/app/blobs/uploads/", &[], "").await;
    let config = bench.blob("app", b"{}").await;
    let mut signature = manifest(&config, &config, 2);
    signature["subject"] = json!({"mediaType": media_type::OCI_MANIFEST, "size": 1, "digest": kept});
    let signature_digest = Digest::of(signature.to_string().as_bytes());
    bench.put("app", &signature_digest.to_string(), &signature).await;
    let used = bench.registry.used("app").await.unwrap();

    let none = bench.collect(Garbage::default()).await;
    assert_eq!(none, Collected::default(), "a running push loses nothing");
    let some = bench.collect(Garbage { untagged: false, ..now() }).await;
    assert_eq!((some.manifests, some.blobs, some.bytes, some.uploads), (0, 1, 5, 1));
    let more = bench.collect(now()).await;
    assert_eq!((more.manifests, more.blobs), (1, 2), "the replaced manifest and its layer");
    assert!(bench.registry.used("app").await.unwrap() < used);
    for name in ["v1", "v2", &signature_digest.to_string()] {
        assert_eq!(bench.get(&format!("/v2/app/manifests/{name}")).await.status, 200, "{name}");
    }
    assert_eq!(bench.get(&format!("/v2/app/blobs/{}", Digest::of(b"kept"))).await.status, 200);
    assert_eq!(bench.get(&format!("/v2/app/blobs/{}", Digest::of(b"replaced"))).await.status, 404);
    assert_eq!(bench.collect(now()).await, Collected::default(), "once is enough");
}

#[tokio::test]
async fn a_body_that_stops_is_not_waited_for() {
    let bench = Bench::with(Limits { idle: Duration::from_millis(50), ..Limits::default() });
    let begun = bench.send("POST", "/v2/a/blobs/uploads/", &[], "").await;
    let place = begun.header("location").to_owned();
    let start = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"01234"))]);
    let silence = futures_util::StreamExt::chain(start, futures_util::stream::pending());
    let seen = bench.send("PATCH", &place, &[], Body::from_stream(silence)).await;
    assert_eq!(seen.refusal(), (400, "BLOB_UPLOAD_INVALID".into()));
    assert_eq!(bench.get(&place).await.header("range"), "0-4", "what arrived stays");
}

#[tokio::test]
async fn only_one_writes_to_an_upload() {
    let bench = Bench::new();
    let begun = bench.send("POST", "/v2/a/blobs/uploads/", &[], "").await;
    let place = begun.header("location").to_owned();
    // A body is read only by who has the upload already.
    let (reads, read) = tokio::sync::oneshot::channel();
    let body = futures_util::stream::once(async move {
        reads.send(()).unwrap();
        std::future::pending::<std::io::Result<Bytes>>().await
    });
    let request = Request::builder().method(Method::PATCH).uri(&place).body(Body::from_stream(body)).unwrap();
    let router = bench.registry.router();
    let slow = tokio::spawn(ask(router, request));
    read.await.unwrap();
    assert_eq!(bench.send("PATCH", &place, &[], "x").await.refusal(), (400, "BLOB_UPLOAD_INVALID".into()));
    let collected = bench.collect(now()).await;
    assert_eq!(collected.uploads, 0, "one that is being written to is not stale");
    slow.abort();
    let _ = slow.await;
    assert_eq!(bench.send("PATCH", &place, &[], "x").await.status, StatusCode::ACCEPTED.as_u16());
}
