//! A session within the control connection (`Control/Session`): messages of bytes as a connection. buildx opens the sessions so that
//! several builds of one `bake` share.

use crate::proto::control::BytesMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tonic::{Status, Streaming};

/// Bytes on their way.
const BUFFER: usize = 64 << 10;

/// The connection, and what goes back to the client.
pub fn open(
    mut from: Streaming<BytesMessage>,
) -> (DuplexStream, impl futures_util::Stream<Item = Result<BytesMessage, Status>> + Send + 'static) {
    let (near, far) = tokio::io::duplex(BUFFER);
    let (read, mut write) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Ok(Some(message)) = from.message().await {
            if write.write_all(&message.data).await.is_err() {
                return;
            }
        }
        // The other end sees the end of the connection.
        _ = write.shutdown().await;
    });
    let out = futures_util::stream::unfold(read, |mut read| async move {
        let mut data = vec![0; BUFFER];
        match read.read(&mut data).await {
            Ok(0) | Err(_) => None,
            Ok(count) => {
                data.truncate(count);
                Some((Ok(BytesMessage { data }), read))
            }
        }
    });
    (near, out)
}
