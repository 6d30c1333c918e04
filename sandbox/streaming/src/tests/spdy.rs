use std::collections::HashMap;

use bytes::Buf as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{connection, shout};
use crate::negotiate::Wire;
use crate::spdy::frame::{self, FLAG_FIN};
use crate::spdy::headers::client::Compressor;
use crate::{Error, Options, Protocol, port_forward, remote_command};

const ALL: Options = Options { stdin: true, stdout: true, stderr: true, tty: false };

/// What a server sends: a control frame (kind, payload) or data (stream, flags, bytes).
#[derive(Debug, PartialEq)]
enum Frame {
    Control(u16, Vec<u8>),
    Data(u32, u8, Vec<u8>),
}

async fn next(client: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 8];
    client.read_exact(&mut head).await.ok()?;
    let mut bytes = &head[..];
    let (first, second) = (bytes.get_u32(), bytes.get_u32());
    let mut payload = vec![0; (second & 0xff_ffff) as usize];
    client.read_exact(&mut payload).await.unwrap();
    Some(if first >> 31 == 1 {
        Frame::Control(first as u16, payload)
    } else {
        Frame::Data(first, (second >> 24) as u8, payload)
    })
}

async fn send(client: &mut DuplexStream, bytes: &[u8]) {
    client.write_all(bytes).await.unwrap();
}

/// Opens a stream and waits for the reply, as client-go does.
async fn open(client: &mut DuplexStream, headers: &mut Compressor, id: u32, list: &[(&str, &str)]) {
    send(client, &frame::client::syn_stream(id, 0, &headers.headers(list))).await;
    match next(client).await.unwrap() {
        Frame::Control(2, payload) => assert_eq!(payload[..4], id.to_be_bytes()),
        other => panic!("{other:?} is no reply"),
    }
}

#[tokio::test]
async fn version_4_runs_a_command_and_tells_its_exit_code() {
    let (ours, mut client) = connection();
    let command = tokio::spawn(async move {
        shout(remote_command(ours, Protocol(Wire::Spdy { version: 4 }), ALL).await.unwrap()).await;
    });
    let mut headers = Compressor::new();
    // client-go's order.
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        open(&mut client, &mut headers, id, &[("streamtype", kind)]).await;
    }
    send(&mut client, &frame::ping(1)).await;
    assert_eq!(next(&mut client).await, Some(Frame::Control(6, vec![0, 0, 0, 1])));
    send(&mut client, &frame::data(3, 0, b"hel")).await;
    send(&mut client, &frame::data(3, FLAG_FIN, b"lo")).await;
    assert_eq!(next(&mut client).await, Some(Frame::Data(5, 0, b"HELLO".to_vec())));
    assert_eq!(next(&mut client).await, Some(Frame::Data(7, 0, b"oh no".to_vec())));
    let Some(Frame::Data(1, 0, status)) = next(&mut client).await else { panic!("no status") };
    assert!(String::from_utf8(status).unwrap().contains(r#""reason":"NonZeroExitCode""#));
    assert_eq!(next(&mut client).await, Some(Frame::Data(1, FLAG_FIN, vec![])));
    assert_eq!(next(&mut client).await, Some(Frame::Control(7, vec![0; 8])));
    assert_eq!(next(&mut client).await, None);
    drop(client);
    command.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_too_few_streams_is_given_up() {
    let (ours, mut client) = connection();
    let waiting = tokio::spawn(remote_command(ours, Protocol(Wire::Spdy { version: 4 }), ALL));
    open(&mut client, &mut Compressor::new(), 1, &[("streamtype", "error")]).await;
    assert!(matches!(waiting.await.unwrap(), Err(Error::StreamTimeout)));
}

#[tokio::test]
async fn streams_are_forwarded_in_pairs_and_errors_told() {
    let (ours, mut client) = connection();
    let mut forward = port_forward(ours, Protocol(Wire::Spdy { version: 1 }), &[]).await;
    let server = tokio::spawn(async move {
        while let Some(mut forwarded) = forward.accept().await {
            tokio::spawn(async move {
                if forwarded.port == 81 {
                    return forwarded.error.finish(Some("nobody listens".into())).await;
                }
                let mut text = String::new();
                forwarded.data.read_to_string(&mut text).await.unwrap();
                forwarded.data.write_all(format!("{} got {text}", forwarded.port).as_bytes()).await.unwrap();
                forwarded.error.finish(None).await;
            });
        }
    });
    let mut headers = Compressor::new();
    // Two connections whose streams cross, one to a port where nobody is.
    for (id, kind, port, request) in
        [(1, "error", "80", "0"), (3, "error", "81", "1"), (5, "data", "80", "0")]
    {
        open(&mut client, &mut headers, id, &[("streamtype", kind), ("port", port), ("requestid", request)])
            .await;
        if kind == "error" {
            send(&mut client, &frame::data(id, FLAG_FIN, b"")).await;
        }
    }
    send(&mut client, &frame::data(5, FLAG_FIN, b"hello")).await;
    let mut seen: HashMap<u32, (String, bool)> = HashMap::new();
    for _ in 0..3 {
        let Some(Frame::Data(id, flags, bytes)) = next(&mut client).await else { panic!("no data") };
        let stream = seen.entry(id).or_default();
        stream.0.push_str(std::str::from_utf8(&bytes).unwrap());
        stream.1 |= flags & FLAG_FIN != 0;
    }
    assert_eq!((&seen[&5], &seen[&1]), (&("80 got hello".into(), true), &(String::new(), true)));
    open(&mut client, &mut headers, 7, &[("streamtype", "data"), ("port", "81"), ("requestid", "1")]).await;
    let expected = [(3, 0, &b"nobody listens"[..]), (7, FLAG_FIN, b""), (3, FLAG_FIN, b"")];
    for (id, flags, bytes) in expected {
        assert_eq!(next(&mut client).await, Some(Frame::Data(id, flags, bytes.to_vec())));
    }
    send(
        &mut client,
        &frame::client::syn_stream(9, 0, &headers.headers(&[("streamtype", "data"), ("port", "0")])),
    )
    .await;
    assert_eq!(
        next(&mut client).await,
        Some(Frame::Control(3, vec![0, 0, 0, 9, 0, 0, 0, 3])),
        "port 0 is refused"
    );
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_reset_is_an_error_and_not_an_end() {
    let (ours, mut client) = connection();
    let mut forward = port_forward(ours, Protocol(Wire::Spdy { version: 1 }), &[]).await;
    let accepted = tokio::spawn(async move { (forward.accept().await.unwrap(), forward) });
    let mut headers = Compressor::new();
    for (id, kind) in [(1, "error"), (3, "data")] {
        open(&mut client, &mut headers, id, &[("streamtype", kind), ("port", "80")]).await;
    }
    let (mut forwarded, _forward) = accepted.await.unwrap();
    send(&mut client, &frame::rst_stream(3, 5)).await;
    let error = forwarded.data.read(&mut [0; 9]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_breaks_the_rules_costs_a_stream_or_the_connection() {
    let (ours, mut client) = connection();
    let mut forward = port_forward(ours, Protocol(Wire::Spdy { version: 1 }), &[]).await;
    let mut headers = Compressor::new();
    let serve = tokio::spawn(async move { while forward.accept().await.is_some() {} });
    open(&mut client, &mut headers, 5, &[("streamtype", "error"), ("port", "80"), ("requestid", "0")]).await;
    for id in [3, 5, 6] {
        send(&mut client, &frame::client::syn_stream(id, 0, &headers.headers(&[("streamtype", "data")])))
            .await;
        let expected = [id.to_be_bytes(), 1u32.to_be_bytes()].concat();
        assert_eq!(next(&mut client).await, Some(Frame::Control(3, expected)), "numbers are odd and grow");
    }
    send(&mut client, &frame::data(99, 0, b"a stream that never was")).await;
    send(&mut client, &frame::client::syn_stream(7, 0, b"rubbish")).await;
    assert_eq!(next(&mut client).await, None, "without its header stream a connection has no sense");
    serve.await.unwrap();
}

#[tokio::test]
async fn spdy_passes_through_a_websocket() {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    let (ours, theirs) = connection();
    let server = tokio::spawn(async move {
        let mut forward = port_forward(ours, Protocol(Wire::Tunnel), &[]).await;
        let mut forwarded = forward.accept().await.unwrap();
        let mut text = String::new();
        forwarded.data.read_to_string(&mut text).await.unwrap();
        forwarded.error.finish(Some(text)).await;
        assert!(forward.accept().await.is_none());
    });
    let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
    let mut headers = Compressor::new();
    let mut bytes = Vec::new();
    for (id, kind) in [(1, "error"), (3, "data")] {
        bytes.extend_from_slice(&frame::client::syn_stream(
            id,
            0,
            &headers.headers(&[("streamtype", kind), ("port", "80"), ("requestid", "0")]),
        ));
    }
    bytes.extend_from_slice(&frame::data(3, FLAG_FIN, b"through the tunnel"));
    // Frames need not begin where messages do.
    for piece in bytes.chunks(7) {
        client.send(Message::binary(piece.to_vec())).await.unwrap();
    }
    let mut received = Vec::new();
    while !received.ends_with(&frame::data(1, FLAG_FIN, b"")) {
        received.extend_from_slice(&client.next().await.unwrap().unwrap().into_data());
    }
    let mut received = &received[..];
    let mut frames = Vec::new();
    while let Some(frame) = next(&mut received).await {
        frames.push(frame);
    }
    assert!(frames.contains(&Frame::Data(1, 0, b"through the tunnel".to_vec())), "{frames:?}");
    client.close(None).await.unwrap();
    drop(client);
    server.await.unwrap();
}
