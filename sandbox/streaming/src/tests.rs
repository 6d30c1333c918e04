//! Whole connections: the client's side is played byte by byte (SPDY) or by tungstenite (WebSocket).

mod rubbish;
mod spdy;
mod websocket;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::{Channels, Outcome};

/// A connection's two ends.
fn connection() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(64 * 1024)
}

/// A command that answers its input in upper case, complains, and exits with 7.
async fn shout(mut channels: Channels) {
    let mut text = String::new();
    channels.stdin.as_mut().unwrap().read_to_string(&mut text).await.unwrap();
    let (mut stdout, mut stderr) = (channels.stdout.take().unwrap(), channels.stderr.take().unwrap());
    stdout.write_all(text.to_uppercase().as_bytes()).await.unwrap();
    stderr.write_all(b"oh no").await.unwrap();
    channels.exit.finish(Outcome::ExitCode(7)).await;
}
