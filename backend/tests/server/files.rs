//! Files of a node over HTTP.

use crate::harness::TestServer;
use axum::body::Body;
use drydock_protocol::api::Listing;
use hyper::{Method, Request};
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn files_go_in_and_come_out() {
    let t = TestServer::start(&[]).await;
    let s = t.create().await;
    let base = format!("/api/v1/sessions/{}/nodes/node1", s.id);
    let bearer = format!("Bearer {}", s.token);
    let data: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let put = |path: &str| Request::put(format!("{base}/file?path={path}")).header("authorization", &bearer);
    assert_eq!(t.send(put("/root/a%20b%3Cc"), data.clone()).await.status, 204);

    let get = |q: &str| {
        Request::get(format!("{base}/file?path=/root/a%20b%3Cc{q}")).header("authorization", &bearer)
    };
    let answer = t.send(get("&download=1"), "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == data);
    assert_eq!(answer.headers["x-modified-micros"], "1234");
    assert_eq!(answer.headers["content-disposition"], "attachment; filename*=UTF-8''a%20b%3Cc");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert!(answer.headers["content-security-policy"].to_str().unwrap().contains("sandbox"));
    assert_eq!(t.send(get("&limit=100"), "").await.status, 413);

    let listing: Listing =
        t.get(&format!("/sessions/{}/nodes/node1/files?path=/root", s.id), &s.token).await.json();
    assert_eq!((listing.entries.len(), listing.entries[0].size), (1, 3_000_000));

    let stale = put("/root/a%20b%3Cc").header("if-unmodified-since-micros", "99");
    assert_eq!(t.send(stale, "new").await.status, 409);
    let fresh = put("/root/a%20b%3Cc").header("if-unmodified-since-micros", "1234");
    assert_eq!(t.send(fresh, "new").await.status, 204);
    assert_eq!(t.send(put("relative"), "x").await.code(), "bad_path");
    assert_eq!(
        t.send(put("/x").header("if-unmodified-since-micros", "soon"), "x").await.code(),
        "bad_header"
    );
    assert_eq!(
        t.get(&format!("/sessions/{}/nodes/pod1/files?path=/", s.id), &s.token).await.code(),
        "node_not_found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_an_upload_that_is_too_large() {
    let t = TestServer::start(&["--max-upload", "1MiB"]).await;
    let s = t.create().await;
    let path = format!("/api/v1/sessions/{}/nodes/node1/file?path=/root/big", s.id);
    let put = || Request::put(&path).header("authorization", format!("Bearer {}", s.token));
    assert_eq!(t.send(put(), vec![0; 2 << 20]).await.status, 413);
    // Without an announced length it is noticed on the way.
    let pieces = (0..32).map(|_| Ok::<_, std::io::Error>(vec![0u8; 65_536]));
    let answer = t.send(put(), Body::from_stream(futures_util::stream::iter(pieces))).await;
    assert_eq!(answer.status, 413, "{:?}", answer.body);
    // One whose sender goes away.
    let mut sender = tokio::net::TcpStream::connect(t.address).await.unwrap();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: 5000\r\n\r\n123",
        s.token
    );
    sender.write_all(head.as_bytes()).await.unwrap();
    let writes = || t.fake.log().iter().filter(|l| *l == "write").count();
    crate::harness::eventually("the session writes", || writes() == 2).await;
    drop(sender);
    let half = || t.fake.state.lock().unwrap().sessions[&s.id].half_written;
    crate::harness::eventually("the session saw both break off", || half() == 2).await;
    assert!(t.fake.state.lock().unwrap().sessions[&s.id].files.is_empty());
    assert_eq!(t.call(Method::GET, "/host", None, None).await.status, 200);
}
