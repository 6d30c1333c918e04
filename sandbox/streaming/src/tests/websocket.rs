use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{connection, shout};
use crate::negotiate::{Encoding, Wire};
use crate::{Options, Outcome, Protocol, TerminalSize, port_forward, remote_command};

const ALL: Options = Options { stdin: true, stdout: true, stderr: true, tty: false };

fn channels(encoding: Encoding, version: u8) -> Protocol {
    Protocol(Wire::Channels { encoding, version })
}

async fn client(stream: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

/// All that a channel carries until the connection ends.
async fn rest(client: &mut WebSocketStream<DuplexStream>) -> Vec<(u8, Vec<u8>)> {
    let mut messages = Vec::new();
    while let Some(Ok(message)) = client.next().await {
        if let Message::Binary(bytes) = message {
            messages.push((bytes[0], bytes[1..].to_vec()));
        }
    }
    messages
}

#[tokio::test]
async fn version_5_runs_a_command_and_tells_its_exit_code() {
    let (ours, theirs) = connection();
    let command = remote_command(ours, channels(Encoding::Binary, 5), ALL).await.unwrap();
    let command = tokio::spawn(shout(command));
    let mut client = client(theirs).await;
    for message in [&b"\x00hel"[..], b"\x00lo", b"\x09nobody listens", b"", b"\xff\x00"] {
        client.send(Message::binary(message.to_vec())).await.unwrap();
    }
    let messages = rest(&mut client).await;
    let status = serde_json::from_slice::<serde_json::Value>(&messages.last().unwrap().1).unwrap();
    assert_eq!(messages[..3], [(1, vec![]), (1, b"HELLO".to_vec()), (2, b"oh no".to_vec())]);
    assert_eq!((messages[3].0, &status["reason"]), (3, &"NonZeroExitCode".into()));
    assert_eq!(messages.len(), 4);
    command.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn client_go_has_time_to_make_its_streams() {
    for (version, least) in [(5, Duration::from_millis(5)), (4, Duration::ZERO)] {
        let (ours, theirs) = connection();
        let began = tokio::time::Instant::now();
        let command = remote_command(ours, channels(Encoding::Binary, version), ALL).await.unwrap();
        let mut client = client(theirs).await;
        client.next().await.unwrap().unwrap();
        assert!(began.elapsed() >= least && began.elapsed() <= least * 10, "{:?}", began.elapsed());
        drop(command);
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_written_has_its_streams() {
    let (ours, theirs) = connection();
    let began = tokio::time::Instant::now();
    let command = remote_command(ours, channels(Encoding::Binary, 5), ALL).await.unwrap();
    let mut client = client(theirs).await;
    client.send(Message::binary(&b"\x00a"[..])).await.unwrap();
    client.next().await.unwrap().unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    drop(command);
}

#[tokio::test]
async fn base64_messages_are_text() {
    let (ours, theirs) = connection();
    let only = Options { stdin: true, ..Options::default() };
    let mut command = remote_command(ours, channels(Encoding::Base64, 4), only).await.unwrap();
    let mut client = client(theirs).await;
    client.send(Message::text("0aGVsbG8=")).await.unwrap();
    let mut text = [0; 5];
    command.stdin.as_mut().unwrap().read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hello");
    tokio::spawn(command.exit.finish(Outcome::Success));
    assert_eq!(
        client.next().await.unwrap().unwrap(),
        Message::text("3"),
        "the first message says that the command is reached"
    );
    let status = client.next().await.unwrap().unwrap();
    assert_eq!(status, Message::text("3eyJtZXRhZGF0YSI6e30sInN0YXR1cyI6IlN1Y2Nlc3MifQ=="));
}

#[tokio::test]
async fn sizes_arrive_however_they_are_cut() {
    let (ours, theirs) = connection();
    let tty = Options { stdin: true, stdout: true, stderr: false, tty: true };
    let mut command = remote_command(ours, channels(Encoding::Binary, 5), tty).await.unwrap();
    let mut client = client(theirs).await;
    for message in ["\u{4}{\"Width\":80,\"Height\":24}\n{\"Width\":1", "\u{4}00,\"Height\":50}", "\u{4}\n"] {
        client.send(Message::binary(message.as_bytes().to_vec())).await.unwrap();
    }
    let resize = command.resize.as_mut().unwrap();
    assert_eq!(resize.recv().await, Some(TerminalSize { width: 80, height: 24 }));
    assert_eq!(resize.recv().await, Some(TerminalSize { width: 100, height: 50 }));
    client.send(Message::binary(&b"\x04no json"[..])).await.unwrap();
    assert_eq!(resize.recv().await, None, "what is no size ends the sizes");
    assert!(command.stderr.is_none());
}

#[tokio::test]
async fn a_client_that_goes_ends_input_and_breaks_output() {
    let (ours, theirs) = connection();
    let mut command = remote_command(ours, channels(Encoding::Binary, 4), ALL).await.unwrap();
    drop(theirs);
    command.exit.disconnected().await;
    assert_eq!(command.stdin.as_mut().unwrap().read(&mut [0; 9]).await.unwrap(), 0);
    assert!(command.stdout.as_mut().unwrap().write_all(b"x").await.is_err());
    command.exit.finish(Outcome::Success).await;
}

#[tokio::test]
async fn a_command_may_write_while_nobody_reads_its_input() {
    let (ours, theirs) = connection();
    let mut command = remote_command(ours, channels(Encoding::Binary, 5), ALL).await.unwrap();
    let (mut sink, mut source) = client(theirs).await.split();
    let flood = tokio::spawn(async move {
        for _ in 0..200 {
            if sink.send(Message::binary(vec![0; 32 * 1024])).await.is_err() {
                return;
            }
        }
    });
    let mut stdout = command.stdout.take().unwrap();
    let writer = tokio::spawn(async move { stdout.write_all(&vec![b'x'; 1024 * 1024]).await });
    let mut length = 0;
    while length < 1024 * 1024 {
        length += source.next().await.unwrap().unwrap().into_data().len() - 1;
    }
    writer.await.unwrap().unwrap();
    assert!(!flood.is_finished(), "input that nobody reads holds its sender up");
    flood.abort();
}

#[tokio::test]
async fn channels_forward_ports() {
    let (ours, theirs) = connection();
    let mut forward = port_forward(ours, channels(Encoding::Binary, 4), &[80, 443]).await;
    let mut client = client(theirs).await;
    let greetings = [(0, vec![80, 0]), (1, vec![80, 0]), (2, vec![0xbb, 1]), (3, vec![0xbb, 1])];
    for expected in greetings {
        let message = client.next().await.unwrap().unwrap().into_data();
        assert_eq!((message[0], message[1..].to_vec()), expected);
    }
    let (mut first, second) = (forward.accept().await.unwrap(), forward.accept().await.unwrap());
    assert_eq!((first.port, second.port), (80, 443));
    client.send(Message::binary(&b"\x00ping"[..])).await.unwrap();
    let mut text = [0; 4];
    first.data.read_exact(&mut text).await.unwrap();
    first.data.write_all(&text).await.unwrap();
    second.error.finish(Some("refused".into())).await;
    first.error.finish(None).await;
    drop((first.data, second.data));
    let mut messages = rest(&mut client).await;
    messages.sort();
    assert_eq!(messages, [(0, b"ping".to_vec()), (3, b"refused".to_vec())]);
    assert!(forward.accept().await.is_none());
}
