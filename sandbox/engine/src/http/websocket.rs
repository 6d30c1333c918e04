//! A client that speaks WebSocket to a process (`GET /containers/{id}/attach/ws`): messages one way are the process's input, those the
//! other way its output.

use super::Connection;
use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// Bytes on their way, and the largest message.
const BUFFER: usize = 32 << 10;

/// A connection as every other, and the work that carries its bytes. `binary`: output is not sent as text.
pub fn connection(socket: WebSocket, binary: bool) -> (Connection, impl Future<Output = ()> + Send) {
    let (mut input, theirs) = duplex(BUFFER);
    let (mut output, out) = duplex(BUFFER);
    let (mut to, mut from) = socket.split();
    let typing = async move {
        while let Some(Ok(message)) = from.next().await {
            // Nobody may read the input (any more), but the client's end is waited for all the same.
            let _nobody_reads = match &message {
                Message::Text(text) => input.write_all(text.as_bytes()).await,
                Message::Binary(bytes) => input.write_all(bytes).await,
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) => Ok(()),
            };
        }
    };
    let printing = async move {
        let mut buffer = vec![0; BUFFER];
        let mut kept = 0;
        while let Ok(length @ 1..) = output.read(&mut buffer[kept..]).await {
            let piece = &buffer[..kept + length];
            let whole = if binary { piece.len() } else { whole_characters(piece) };
            let message = if binary {
                Message::Binary(piece.to_vec().into())
            } else {
                Message::Text(String::from_utf8_lossy(&piece[..whole]).into_owned().into())
            };
            kept = piece.len() - whole;
            buffer.copy_within(whole..whole + kept, 0);
            if to.send(message).await.is_err() {
                return;
            }
        }
        let _client_gone = to.close().await;
    };
    let carrying = async move {
        // Whoever ends first ends it all: no client is left waiting for, and none waits.
        tokio::select! {
            () = typing => {}
            () = printing => {}
        }
    };
    (Connection::Bodies(Box::pin(theirs), out), carrying)
}

/// How many bytes are not the beginning of a character whose end is yet to come.
fn whole_characters(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(last) if std::str::from_utf8(last.invalid()).is_err_and(|e| e.error_len().is_none()) => {
            bytes.len() - last.invalid().len()
        }
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, extract::ws::WebSocketUpgrade, routing::get};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::{client_async, tungstenite::Message};

    async fn echo(connection: Connection) {
        let (mut from, mut to) = tokio::io::split(connection);
        let mut buffer = [0; 5];
        from.read_exact(&mut buffer).await.unwrap();
        to.write_all(&buffer).await.unwrap();
        to.shutdown().await.unwrap();
    }

    #[test]
    fn a_character_is_not_cut() {
        for (bytes, whole) in
            [(&b"ab"[..], 2), (b"a\xe2\x82", 1), ("a\u{20ac}".as_bytes(), 4), (b"a\xff", 2), (b"\xf0\x9f", 0)]
        {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn messages_are_input_and_output() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let upgrade = |upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|socket| async {
                let (connection, carrying) = connection(socket, true);
                tokio::join!(echo(connection), carrying);
            })
        };
        let routes = Router::new().route("/", get(upgrade));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut client, _) = client_async(format!("ws://{address}/"), stream).await.unwrap();
        client.send(Message::text("he")).await.unwrap();
        client.send(Message::binary(&b"llo"[..])).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(&b"hello"[..]));
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    }
}
