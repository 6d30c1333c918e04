//! Whatever a client sends, the connection ends in peace: no panic, nothing that waits for ever.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::connection;
use crate::negotiate::{Encoding, Wire};
use crate::spdy::frame;
use crate::spdy::headers::client::Compressor;
use crate::{Options, Outcome, Protocol, Purpose, negotiate, port_forward, remote_command};

/// One thing that a client does.
#[derive(Clone, Debug)]
enum Act {
    Rubbish(Vec<u8>),
    Open { stream: u32, flags: u8, kind: u8, port: u16, request: u8 },
    Block(u32, Vec<u8>),
    Data(u32, u8, Vec<u8>),
    Reset(u32),
    Ping(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let stream = 0u32..12;
    prop_oneof![
        1 => vec(any::<u8>(), 0..40).prop_map(Act::Rubbish),
        6 => (stream.clone(), 0u8..4, 0u8..7, 0u16..3, 0u8..3)
            .prop_map(|(stream, flags, kind, port, request)| Act::Open { stream, flags, kind, port, request }),
        1 => (stream.clone(), vec(any::<u8>(), 0..40)).prop_map(|(stream, bytes)| Act::Block(stream, bytes)),
        4 => (stream.clone(), 0u8..2, vec(any::<u8>(), 0..100)).prop_map(|(stream, flags, bytes)| Act::Data(stream, flags, bytes)),
        1 => stream.prop_map(Act::Reset),
        1 => any::<u32>().prop_map(Act::Ping),
    ]
}

fn bytes(act: Act, headers: &mut Compressor) -> Bytes {
    const KINDS: [&str; 7] = ["data", "error", "stdin", "stdout", "stderr", "resize", "\u{0}"];
    match act {
        Act::Rubbish(bytes) => Bytes::from(bytes),
        Act::Open { stream, flags, kind, port, request } => {
            let (port, request) = (port.to_string(), request.to_string());
            let list =
                [("streamtype", KINDS[usize::from(kind) % 7]), ("port", &port), ("requestid", &request)];
            frame::client::syn_stream(stream, flags, &headers.headers(&list))
        }
        Act::Block(stream, bytes) => frame::client::syn_stream(stream, 0, &bytes),
        Act::Data(stream, flags, bytes) => frame::data(stream, flags, &bytes),
        Act::Reset(stream) => frame::rst_stream(stream, 5),
        Act::Ping(id) => frame::ping(id),
    }
}

/// Sends everything, reads whatever comes, and goes.
async fn play(client: DuplexStream, acts: Vec<Act>) {
    let (mut source, mut sink) = tokio::io::split(client);
    let reader =
        tokio::spawn(
            async move { while source.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {} },
        );
    let mut headers = Compressor::new();
    for act in acts {
        if sink.write_all(&bytes(act, &mut headers)).await.is_err() {
            break;
        }
    }
    let _ = sink.shutdown().await;
    drop(sink);
    reader.await.unwrap();
}

fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    // Paused time jumps to the end of the wait when nothing moves any more: that is how a hang shows itself.
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(300), test).await }).expect("it hangs");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn port_forwards_end(acts in vec(act(), 0..40)) {
        run(async {
            let (ours, theirs) = connection();
            let server = tokio::spawn(async move {
                let mut forward = port_forward(ours, Protocol(Wire::Spdy { version: 1 }), &[]).await;
                while let Some(mut forwarded) = forward.accept().await {
                    tokio::spawn(async move {
                        let mut bytes = Vec::new();
                        let result = forwarded.data.read_to_end(&mut bytes).await;
                        forwarded.error.finish(result.err().map(|error| error.to_string())).await;
                    });
                }
            });
            play(theirs, acts).await;
            server.await.unwrap();
        });
    }

    #[test]
    fn commands_end(acts in vec(act(), 0..40), tty in any::<bool>()) {
        run(async {
            let (ours, theirs) = connection();
            let server = tokio::spawn(async move {
                let options = Options { stdin: true, stdout: true, stderr: false, tty };
                let Ok(mut command) = remote_command(ours, Protocol(Wire::Spdy { version: 4 }), options).await else { return };
                if let (Some(mut stdin), Some(mut stdout)) = (command.stdin.take(), command.stdout.take()) {
                    let _ = tokio::io::copy(&mut stdin, &mut stdout).await;
                }
                command.exit.finish(Outcome::Success).await;
            });
            play(theirs, acts).await;
            server.await.unwrap();
        });
    }

    #[test]
    fn websockets_end(pieces in vec(vec(any::<u8>(), 0..60), 0..20), base64 in any::<bool>()) {
        run(async {
            let (ours, theirs) = connection();
            let encoding = if base64 { Encoding::Base64 } else { Encoding::Binary };
            let options = Options { stdin: true, stdout: true, stderr: true, tty: true };
            let mut command = remote_command(ours, Protocol(Wire::Channels { encoding, version: 5 }), options).await.unwrap();
            let acts = pieces.into_iter().map(Act::Rubbish).collect();
            let server = tokio::spawn(async move {
                let _ = tokio::io::copy(&mut command.stdin.take().unwrap(), &mut command.stdout.take().unwrap()).await;
                command.exit.finish(Outcome::ExitCode(1)).await;
            });
            play(theirs, acts).await;
            server.await.unwrap();
        });
    }

    #[test]
    fn any_headers_are_answered(values in vec(vec(any::<u8>(), 0..30), 4), forward in any::<bool>()) {
        let mut headers = HeaderMap::new();
        let names = ["connection", "upgrade", "sec-websocket-protocol", "x-stream-protocol-version"];
        for (name, value) in names.iter().zip(values) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(*name, value);
            }
        }
        headers.append("connection", HeaderValue::from_static("upgrade"));
        headers.append("upgrade", HeaderValue::from_static("SPDY/3.1"));
        let purpose = if forward { Purpose::PortForward } else { Purpose::RemoteCommand };
        if let Err(refusal) = negotiate(purpose, &headers) {
            prop_assert!(refusal.status.is_client_error());
        }
    }
}
