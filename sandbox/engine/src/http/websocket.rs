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
            let written = match &message {
                Message::Text(text) => input.write_all(text.as_bytes()).await,
                Message::Binary(bytes) => input.write_all(bytes).await,
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) => Ok(()),
            };
            if written.is_err() {
                return;
            }
        }
    };
    let printing = async move {
        let mut buffer = vec![0; BUFFER];
        while let Ok(length @ 1..) = output.read(&mut buffer).await {
            let piece = &buffer[..length];
            let message = if binary {
                Message::Binary(piece.to_vec().into())
            } else {
                Message::Text(String::from_utf8_lossy(piece).into_owned().into())
            };
            if to.send(message).await.is_err() {
                return;
            }
        }
        let _client_gone = to.close().await;
    };
    let carrying = async move {
        // The end of the client's input is no end of the output; when that ends, so does all.
        let typing = async {
            typing.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = typing => {}
            () = printing => {}
        }
    };
    (Connection::Bodies(Box::pin(theirs), out), carrying)
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
