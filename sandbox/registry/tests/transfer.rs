//! Client and server together: push, pull, what is told on the way, and what happens when the other side misbehaves.

mod common;

use axum::{
    body::Body,
    http::{Method, Response, StatusCode, header},
};
use common::*;
use drydock_images::Digest;
use drydock_registry::{AuthConfig, Client, ClientOptions, Kind, KnownBlob, PullRequest, media_type};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

#[tokio::test]
async fn what_is_pushed_can_be_pulled() {
    let site = site().await;
    let name = format!("{}/team/app:v1", site.domain);
    let tars = [noise(1, 300_000), vec![b'a'; 2_000_000]];
    let (image, source) = image(&tars);
    let log = Log::default();
    let outcome = client().push(&push_of(&name), image.clone(), &source, &log.events()).await.unwrap();
    assert_eq!(log.of("")[0], format!("The push refers to repository [{}/team/app]", site.domain));
    let digest = outcome.digest.clone();
    assert_eq!(log.of("")[1], format!("v1: digest: {digest} size: {}", outcome.size));
    let aux = log.0.lock().unwrap().last().unwrap().aux.clone().unwrap();
    assert_eq!(aux, serde_json::json!({"Tag": "v1", "Digest": digest, "Size": outcome.size}));
    for tar in &tars {
        assert_eq!(log.of(&short(&Digest::of(tar))), ["Preparing", "Pushing", "Pushed"]);
    }

    let (sink, log) = (Memory::default(), Log::default());
    let pulled = client().pull(&pull_of(&name), &sink, &log.events()).await.unwrap();
    assert_eq!((&pulled.digest, pulled.updated), (&digest, true));
    assert_eq!(log.of("v1"), ["Pulling from team/app"]);
    assert_eq!(
        log.of(""),
        [format!("Digest: {digest}"), format!("Status: Downloaded newer image for {name}")]
    );
    let layers = sink.layers.lock().unwrap().clone();
    assert_eq!(layers.iter().map(|(l, _)| l.index).collect::<Vec<_>>(), [0, 1], "bottom first");
    for ((layer, blob), tar) in layers.iter().zip(&tars) {
        assert_eq!(unpack(blob), *tar);
        assert_eq!(layer.diff_id, Digest::of(tar));
        let told = log.of(&short(&layer.digest));
        let all =
            ["Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Pull complete"];
        assert_eq!(told, all, "events of a layer");
    }
    assert_eq!(sink.images.lock().unwrap()[&reference(&name)].config, image.config);

    let log = Log::default();
    let again = client().pull(&pull_of(&name), &sink, &log.events()).await.unwrap();
    assert!(!again.updated);
    assert_eq!(log.of("")[1], format!("Status: Image is up to date for {name}"));
    let by_digest = format!("{}/team/app@{digest}", site.domain);
    assert!(client().pull(&pull_of(&by_digest), &sink, &log.events()).await.is_ok());
    assert_eq!(Digest::of(&outcome.manifest), digest);
}

#[tokio::test]
async fn layers_that_are_there_are_not_sent_again() {
    let site = site().await;
    let tars = [noise(3, 100_000)];
    let (mut image, source) = image(&tars);
    let first = format!("{}/one/app", site.domain);
    client().push(&push_of(&first), image.clone(), &source, &Log::default().events()).await.unwrap();
    image.layers[0].known = source.pushed.lock().unwrap().clone();
    assert_eq!(image.layers[0].known[0].repository.as_deref(), Some(first.as_str()));
    let id = short(&Digest::of(&tars[0]));

    let log = Log::default();
    client().push(&push_of(&first), image.clone(), &source, &log.events()).await.unwrap();
    assert_eq!(log.of(&id), ["Preparing", "Layer already exists"]);

    let log = Log::default();
    let second = format!("{}/two/app", site.domain);
    client().push(&push_of(&second), image, &source, &log.events()).await.unwrap();
    assert_eq!(log.of(&id), ["Preparing", "Mounted from one/app"]);
    let sink = Memory { known: vec![Digest::of(&tars[0])], ..Memory::default() };
    let log = Log::default();
    client().pull(&pull_of(&second), &sink, &log.events()).await.unwrap();
    assert_eq!(log.count("Already exists"), 1);
    assert!(sink.layers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_mount_that_fails_becomes_an_upload() {
    let site = site().await;
    let (mut image, source) = image(&[noise(4, 10_000)]);
    let elsewhere = KnownBlob {
        digest: Digest::of(b"something else"),
        size: 14,
        media_type: media_type::DOCKER_LAYER.into(),
        repository: Some(format!("{}/no/such", site.domain)),
    };
    image.layers[0].known = vec![elsewhere];
    let log = Log::default();
    let name = format!("{}/app", site.domain);
    client().push(&push_of(&name), image, &source, &log.events()).await.unwrap();
    assert_eq!(log.count("Pushed"), 1);
    assert!(client().pull(&pull_of(&name), &Memory::default(), &log.events()).await.is_ok());
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_was() {
    let site = site().await;
    pushed(&format!("{}/app", site.domain), &[1_000_000]).await;
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ranges);
    let domain = between(&site.registry, move |request, inner| {
        let seen = Arc::clone(&seen);
        async move {
            let blob = request.uri().path().contains("/blobs/");
            let range = request.headers().get(header::RANGE).map(|v| v.to_str().unwrap().to_owned());
            let answer = ask(inner, request).await;
            let length: usize = answer
                .headers()
                .get(header::CONTENT_LENGTH)
                .map_or(0, |l| l.to_str().unwrap().parse().unwrap());
            if !blob || length < 300_000 {
                return answer;
            }
            seen.lock().unwrap().push(range);
            // The first two answers break off after 300 kB.
            if seen.lock().unwrap().len() > 2 {
                return answer;
            }
            let (head, body) = answer.into_parts();
            let all = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let pieces = [Ok(all.slice(..300_000)), Err(std::io::Error::other("cable pulled"))];
            let slowly = futures_util::StreamExt::then(futures_util::stream::iter(pieces), async |piece| {
                tokio::time::sleep(Duration::from_millis(50)).await;
                piece
            });
            Response::from_parts(head, Body::from_stream(slowly))
        }
    })
    .await;
    let (sink, log) = (Memory::default(), Log::default());
    client().pull(&pull_of(&format!("{domain}/app")), &sink, &log.events()).await.unwrap();
    let ranges = ranges.lock().unwrap().clone();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    let offset = |text: &Option<String>| -> u64 {
        text.as_ref().unwrap().strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap()
    };
    assert!(offset(&ranges[1]) > 0, "the first continuation starts behind the beginning");
    assert!(offset(&ranges[2]) > offset(&ranges[1]), "the second one starts behind the first");
    assert!(log.count("Retrying in 1 second") >= 2);
    assert_eq!(unpack(&sink.layers.lock().unwrap()[0].1), noise(7, 1_000_000));
}

#[tokio::test]
async fn wrong_content_never_reaches_the_store() {
    let site = site().await;
    pushed(&format!("{}/app", site.domain), &[50_000]).await;
    for (kind, text) in [
        ("flip", "filesystem layer verification failed for digest sha256:"),
        ("more", "is larger than its manifest says"),
        ("config", "image config verification failed for digest sha256:"),
        ("manifest", "manifest verification failed for digest sha256:"),
        ("huge", "the manifest exceeds the limit of 4194304 bytes"),
    ] {
        let domain = between(&site.registry, move |request, inner| async move {
            let path = request.uri().path().to_owned();
            let get = request.method() == Method::GET;
            let (head, body) = ask(inner, request).await.into_parts();
            let mut bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
            let (blob, manifest) = (path.contains("/blobs/"), path.contains("/manifests/"));
            match kind {
                "flip" if blob && bytes.len() > 10_000 => bytes[5_000] ^= 1,
                "more" if blob && bytes.len() > 10_000 => bytes.push(0),
                "config" if blob && bytes.len() < 10_000 => bytes.push(b' '),
                "manifest" if manifest && get => bytes.push(b' '),
                "huge" if manifest && get => bytes.resize(5 << 20, b' '),
                _ => {}
            }
            let mut answer = Response::from_parts(head, Body::from(bytes));
            if get {
                answer.headers_mut().remove(header::CONTENT_LENGTH);
            }
            answer
        })
        .await;
        let (sink, log) = (Memory::default(), Log::default());
        let error =
            client().pull(&pull_of(&format!("{domain}/app")), &sink, &log.events()).await.unwrap_err();
        assert!(error.to_string().contains(text), "{kind}: {error}");
        assert!(sink.layers.lock().unwrap().is_empty(), "{kind}");
        assert!(sink.images.lock().unwrap().is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn a_registry_that_is_away_is_told_as_docker_tells_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = listener.local_addr().unwrap().to_string();
    drop(listener);
    let log = Log::default();
    let error =
        client().pull(&pull_of(&format!("{gone}/app")), &Memory::default(), &log.events()).await.unwrap_err();
    let text = format!("Get \"http://{gone}/v2/\": dial tcp {gone}: connect: connection refused");
    assert_eq!(error.to_string(), text);
    assert_eq!(error.kind(), Kind::System);
    let (image, source) = image(&[noise(1, 10)]);
    let error =
        client().push(&push_of(&format!("{gone}/app")), image, &source, &log.events()).await.unwrap_err();
    assert_eq!(error.to_string(), text);

    let nowhere = Client::new(ClientOptions {
        resolver: Some(Arc::new(|_| {
            Box::pin(async { Err(std::io::Error::other("Name or service not known")) })
        })),
        ..options()
    });
    let error =
        nowhere.pull(&pull_of("busybox"), &Memory::default(), &log.events()).await.unwrap_err().to_string();
    assert!(
        error.starts_with("Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io"),
        "{error}"
    );
    assert!(error.ends_with(": no such host"), "{error}");
    let error = nowhere.search("busybox", 0, &AuthConfig::default()).await.unwrap_err().to_string();
    assert!(
        error.starts_with("Get \"https://index.docker.io/v1/search?q=busybox&n=25\": dial tcp: lookup"),
        "{error}"
    );
}

#[tokio::test]
async fn a_secure_registry_is_never_asked_in_the_clear() {
    let site = site().await;
    // Not on the list, and its name does not say that it is this machine.
    let port = site.domain.rsplit_once(':').unwrap().1.to_owned();
    let address = local_address();
    let Some(address) = address else { return };
    let listener = tokio::net::TcpListener::bind((address, 0)).await.unwrap();
    let domain = listener.local_addr().unwrap().to_string();
    let router = site.registry.router();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let log = Log::default();
    let request = pull_of(&format!("{domain}/app"));
    let error = client().pull(&request, &Memory::default(), &log.events()).await.unwrap_err();
    let text = format!("Get \"https://{domain}/v2/\": http: server gave HTTP response to HTTPS client");
    assert_eq!(error.to_string(), text, "port {port}");

    let trusting = Client::new(ClientOptions { insecure: vec![domain.clone()], ..options() });
    let error = trusting.pull(&request, &Memory::default(), &log.events()).await.unwrap_err();
    assert!(error.to_string().contains("not known to registry"), "{error}");
}

/// An address of this machine that is not loopback.
fn local_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|a| !a.is_loopback() && !a.is_unspecified())
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_not_waited_for_for_ever() {
    let site = site().await;
    pushed(&format!("{}/app", site.domain), &[50_000]).await;
    let domain = between(&site.registry, |request, inner| async move {
        let blob = request.uri().path().contains("/blobs/");
        let (head, body) = ask(inner, request).await.into_parts();
        let first = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        if !blob || first.len() < 10_000 {
            return Response::from_parts(head, Body::from(first));
        }
        let start = futures_util::stream::iter([Ok::<_, std::io::Error>(first.slice(..1000))]);
        let silence = futures_util::StreamExt::chain(start, futures_util::stream::pending());
        Response::from_parts(head, Body::from_stream(silence))
    })
    .await;
    let hasty =
        Client::new(ClientOptions { idle_timeout: Duration::from_millis(100), attempts: 2, ..options() });
    let begun = Instant::now();
    let error = hasty
        .pull(&pull_of(&format!("{domain}/app")), &Memory::default(), &Log::default().events())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "read: i/o timeout");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pulls_share_three_places() {
    let site = site().await;
    let name = format!("{}/app", site.domain);
    let tars = pushed(&name, &[80_000, 90_000, 70_000, 60_000, 50_000]).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&now), Arc::clone(&most));
    let domain = between(&site.registry, move |request, inner| {
        let (now, most) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
        async move {
            let blob = request.uri().path().contains("/blobs/");
            let (head, body) = ask(inner, request).await.into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            if blob && bytes.len() > 10_000 {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                now.fetch_sub(1, Ordering::SeqCst);
            }
            Response::from_parts(head, Body::from(bytes))
        }
    })
    .await;
    let (client, log) = (client(), Log::default());
    let pulls: Vec<_> = (0..8)
        .map(|_| {
            let (client, log, request) = (client.clone(), log.clone(), pull_of(&format!("{domain}/app")));
            tokio::spawn(async move {
                let sink = Memory::default();
                client.pull(&request, &sink, &log.events()).await.unwrap();
                sink.layers
                    .into_inner()
                    .unwrap()
                    .into_iter()
                    .map(|(_, blob)| unpack(&blob))
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), tars);
    }
    assert_eq!(most.load(Ordering::SeqCst), 3, "layers on their way at a time");
    assert!(log.count("Waiting") > 0);
}

#[tokio::test]
async fn a_pull_that_is_given_up_leaves_nothing() {
    let site = site().await;
    pushed(&format!("{}/app", site.domain), &[200_000, 200_000]).await;
    let domain = between(&site.registry, |request, inner| async move {
        if request.uri().path().contains("/blobs/") && request.headers().get(header::RANGE).is_none() {
            let (head, body) = ask(inner, request).await.into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            if bytes.len() < 10_000 {
                return Response::from_parts(head, Body::from(bytes));
            }
            let start = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes.slice(..100_000))]);
            let silence = futures_util::StreamExt::chain(start, futures_util::stream::pending());
            return Response::from_parts(head, Body::from_stream(silence));
        }
        ask(inner, request).await
    })
    .await;
    let spool = tempfile::tempdir().unwrap();
    let client = Client::new(ClientOptions { spool: spool.path().into(), ..options() });
    let (sink, log, request) = (Memory::default(), Log::default(), pull_of(&format!("{domain}/app")));
    let events = log.events();
    let pull = client.pull(&request, &sink, &events);
    assert!(tokio::time::timeout(Duration::from_millis(300), pull).await.is_err(), "it hangs");
    assert!(log.count("Downloading") > 0);
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
    drop(events);
    for _ in 0..100 {
        if Arc::strong_count(&log.0) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a task of the pull goes on");
}

#[tokio::test]
async fn what_is_not_there_is_told_as_docker_tells_it() {
    let site = site().await;
    let name = format!("{}/app", site.domain);
    pushed(&name, &[1000]).await;
    let text = async |name: &str| {
        let error =
            client().pull(&pull_of(name), &Memory::default(), &Log::default().events()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        error.to_string()
    };
    assert_eq!(
        text(&format!("{name}:none")).await,
        format!("manifest for {name}:none not found: manifest unknown: manifest unknown")
    );
    assert!(text(&format!("{}/other", site.domain)).await.starts_with("repository "));
    let scratch = client().pull(&pull_of("scratch"), &Memory::default(), &Log::default().events()).await;
    assert_eq!(scratch.unwrap_err().to_string(), "'scratch' is a reserved name");
}

#[tokio::test]
async fn an_index_gives_the_image_of_the_platform() {
    let site = site().await;
    let mut entries = Vec::new();
    for (i, (platform, os, architecture)) in
        [("arm", "linux", "arm64"), ("wasm", "wasi", "wasm")].into_iter().enumerate()
    {
        let (image, source) = image(&[noise(i as u64 + 40, 5000)]);
        let name = format!("{}/app:{platform}", site.domain);
        let out = client().push(&push_of(&name), image, &source, &Log::default().events()).await.unwrap();
        entries.push(serde_json::json!({
            "mediaType": media_type::DOCKER_MANIFEST, "size": out.size, "digest": out.digest,
            "platform": {"os": os, "architecture": architecture},
        }));
    }
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
    let put =
        axum::http::Request::put("/v2/app/manifests/all").header(header::CONTENT_TYPE, media_type::OCI_INDEX);
    let answer = ask(site.registry.router(), put.body(Body::from(index.to_string())).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::CREATED);

    let name = format!("{}/app:all", site.domain);
    let pull = async |platform: &str, sink: &Memory| {
        let request = PullRequest { platform: Some(platform.parse().unwrap()), ..pull_of(&name) };
        client().pull(&request, sink, &Log::default().events()).await
    };
    let sink = Memory::default();
    let outcome = pull("wasi/wasm", &sink).await.unwrap();
    assert_eq!(outcome.digest, Digest::of(index.to_string().as_bytes()), "the name means the index");
    assert_eq!(unpack(&sink.layers.lock().unwrap()[0].1), noise(41, 5000));
    let error = pull("linux/s390x", &Memory::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");

    let inspection = client().inspect(&reference(&name), &AuthConfig::default()).await.unwrap();
    assert_eq!(inspection.platforms.len(), 2);
    assert_eq!(inspection.descriptor.media_type, media_type::OCI_INDEX);
}

#[tokio::test]
async fn schema_1_is_refused() {
    let site = site().await;
    let domain = between(&site.registry, |request, inner| async move {
        if request.uri().path().contains("/manifests/") {
            let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
            let body = Body::from(r#"{"schemaVersion":1,"fsLayers":[]}"#);
            return Response::builder().header(header::CONTENT_TYPE, kind).body(body).unwrap();
        }
        ask(inner, request).await
    })
    .await;
    let name = format!("{domain}/old:1");
    let error =
        client().pull(&pull_of(&name), &Memory::default(), &Log::default().events()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the \
             author of {name} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More \
             information at https://docs.docker.com/go/deprecated-image-specs/"
        )
    );
    assert_eq!(error.kind(), Kind::Invalid);
}

#[tokio::test]
async fn all_tags_and_the_catalogue() {
    let site = site().await;
    let name = format!("{}/team/app", site.domain);
    for (i, tag) in ["a", "b", "c"].into_iter().enumerate() {
        let (image, source) = image(&[noise(i as u64, 1000)]);
        client()
            .push(&push_of(&format!("{name}:{tag}")), image, &source, &Log::default().events())
            .await
            .unwrap();
    }
    let (sink, log) = (Memory::default(), Log::default());
    let all = client().pull_all(&pull_of(&name), &sink, &log.events()).await.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(log.of("").last().unwrap(), &format!("Status: Downloaded newer image for {name}"));
    let found = client().search(&format!("{}/eam", site.domain), 0, &AuthConfig::default()).await.unwrap();
    assert_eq!(found.iter().map(|r| r.name.clone()).collect::<Vec<_>>(), [name]);
}

#[tokio::test]
async fn a_mirror_that_fails_is_passed_over_and_learns_no_password() {
    let site = site().await;
    pushed(&format!("{}/library/busybox", site.domain), &[1000]).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let headers = Arc::clone(&seen);
    let mirror =
        serve(axum::Router::new().fallback(axum::routing::any(move |request: axum::extract::Request| {
            headers.lock().unwrap().push(request.headers().get(header::AUTHORIZATION).cloned());
            let status = if request.uri().path() == "/v2/" {
                StatusCode::UNAUTHORIZED
            } else {
                StatusCode::BAD_GATEWAY
            };
            async move { (status, [(header::WWW_AUTHENTICATE, "Basic realm=\"x\"")]) }
        })))
        .await;
    let client = Client::new(ClientOptions {
        mirrors: vec![format!("http://{mirror}")],
        hub: format!("http://{}", site.domain),
        ..options()
    });
    let request = PullRequest { auth: auth("ann", "secret"), ..pull_of("busybox") };
    client.pull(&request, &Memory::default(), &Log::default().events()).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.iter().all(Option::is_none));
}
