//! Connections of exec and port-forward after the upgrade. The first byte chooses the protocol.
#![no_main]

use drydock_streaming::{Options, Outcome, Protocol, Purpose, negotiate, port_forward, remote_command};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// What a request with these headers gets.
fn protocol(purpose: Purpose, headers: &[(&'static str, &'static str)]) -> Protocol {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    negotiate(purpose, &headers).expect("a protocol of ours").protocol
}

const SPDY: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];

async fn forward(stream: DuplexStream) {
    let headers = [SPDY[0], SPDY[1], ("x-stream-protocol-version", "portforward.k8s.io")];
    let mut forward = port_forward(stream, protocol(Purpose::PortForward, &headers), &[]).await;
    while let Some(mut forwarded) = forward.accept().await {
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            let result = forwarded.data.read_to_end(&mut bytes).await;
            forwarded.error.finish(result.err().map(|error| error.to_string())).await;
        });
    }
}

async fn command(stream: DuplexStream, protocol: Protocol) {
    let options = Options { stdin: true, stdout: true, stderr: true, tty: false };
    let Ok(mut command) = remote_command(stream, protocol, options).await else { return };
    if let (Some(mut stdin), Some(mut stdout)) = (command.stdin.take(), command.stdout.take()) {
        let _ = tokio::io::copy(&mut stdin, &mut stdout).await;
    }
    command.exit.finish(Outcome::Success).await;
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let choice = choice % 3;
    let talk = async {
        let server = tokio::spawn(async move {
            match choice {
                0 => forward(ours).await,
                1 => {
                    let headers = [SPDY[0], SPDY[1], ("x-stream-protocol-version", "v4.channel.k8s.io")];
                    command(ours, protocol(Purpose::RemoteCommand, &headers)).await;
                }
                _ => {
                    let headers = [
                        ("connection", "Upgrade"),
                        ("upgrade", "websocket"),
                        ("sec-websocket-version", "13"),
                        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                        ("sec-websocket-protocol", "v5.channel.k8s.io"),
                    ];
                    command(ours, protocol(Purpose::RemoteCommand, &headers)).await;
                }
            }
        });
        let (mut source, mut sink) = tokio::io::split(theirs);
        let reader =
            tokio::spawn(
                async move { while source.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {} },
            );
        let _ = sink.write_all(bytes).await;
        let _ = sink.shutdown().await;
        drop(sink);
        reader.await.expect("no panic");
        server.await.expect("no panic");
    };
    // Paused time jumps to the end of the wait when nothing moves any more: that is how a hang shows itself.
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(300), talk).await }).expect("it hangs");
});
