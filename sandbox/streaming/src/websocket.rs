//! WebSocket channels: messages whose first byte names a channel (apiserver `pkg/util/wsstream/conn.go`). Serves remote commands and the
//! older form of port forwarding; the meaning of the channels is its callers' matter.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::negotiate::Encoding;
use crate::pipe::{Inlet, Outgoing};

/// Clients send pieces of 32 KiB; nobody needs more than this.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Version 5: the channel on which a client closes another.
const CLOSE_CHANNEL: u8 = 255;
/// How long the first message waits at most for one of the client's: client-go reads before it has made its streams (until 1.33) and drops
/// what comes too early, and with it how the command ended. It writes only when it has made them; but a client without a terminal and
/// without input writes nothing. Where containers are started by another process nothing comes so soon.
const OPENING: Duration = Duration::from_millis(10);
/// How long a client that was told of the end may take to confirm it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Any connection that HTTP has handed over.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for S {}

pub(crate) async fn accept<S: Connection>(stream: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0);
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// The channels of a connection while it is served.
pub(crate) struct Served {
    pub(crate) encoding: Encoding,
    pub(crate) version: u8,
    /// By channel: where the client's bytes go.
    pub(crate) inlets: Vec<Option<Inlet>>,
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    /// Dropped when the connection ends.
    pub(crate) alive: watch::Sender<()>,
}

/// Carries messages until one side ends. Reading and writing never wait for each other: a command may write without reading.
pub(crate) async fn serve<S: Connection>(stream: S, served: Served) {
    let (sink, source) = accept(stream).await.split();
    let Served { encoding, version, inlets, outgoing, alive } = served;
    let written = Notify::new();
    let reader = read(source, encoding, version, inlets, &written);
    let writer = async {
        // The version that only client-go speaks.
        if version >= 5 {
            let _written_or_silent = tokio::time::timeout(OPENING, written.notified()).await;
        }
        write(sink, encoding, outgoing).await;
    };
    tokio::pin!(reader, writer);
    tokio::select! {
        () = &mut reader => {}
        () = &mut writer => {
            let _ = tokio::time::timeout(FAREWELL, reader).await;
        }
    }
    drop(alive);
}

async fn read<S: Connection>(
    mut source: SplitStream<WebSocketStream<S>>,
    encoding: Encoding,
    version: u8,
    mut inlets: Vec<Option<Inlet>>,
    written: &Notify,
) {
    while let Some(Ok(message)) = source.next().await {
        let message = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        written.notify_one();
        let Some((channel, bytes)) = decode(encoding, &message) else { continue };
        if version >= 5 && channel == CLOSE_CHANNEL {
            if let Some(inlet) = bytes.first().and_then(|channel| inlets.get_mut(usize::from(*channel))) {
                *inlet = None;
            }
        } else if let Some(Some(inlet)) = inlets.get(usize::from(channel)) {
            inlet.push(bytes).await;
        }
    }
}

async fn write<S: Connection>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    encoding: Encoding,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    while let Some(item) = outgoing.recv().await {
        match item {
            Outgoing::Data(channel, bytes) => {
                let channel = u8::try_from(channel).unwrap_or(CLOSE_CHANNEL);
                if sink.send(encode(encoding, channel, &bytes)).await.is_err() {
                    return;
                }
            }
            Outgoing::Close => break,
            // A server has no way to end one channel.
            Outgoing::End(_) | Outgoing::Reply(_) | Outgoing::Reset(..) | Outgoing::Pong(_) => {}
        }
    }
    // client-go takes any other end, also one without a code, for a failure (`wsStreamCreator.readDemuxLoop`).
    let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    let _ = sink.send(Message::Close(Some(normal))).await;
    let _ = sink.close().await;
}

/// Channel and bytes of a message. Base64 protocols write the channel as a digit.
fn decode(encoding: Encoding, message: &Bytes) -> Option<(u8, Bytes)> {
    let channel = *message.first()?;
    match encoding {
        Encoding::Binary => Some((channel, message.slice(1..))),
        Encoding::Base64 => {
            let channel = channel.checked_sub(b'0')?;
            Some((channel, Bytes::from(STANDARD.decode(&message[1..]).ok()?)))
        }
    }
}

fn encode(encoding: Encoding, channel: u8, bytes: &[u8]) -> Message {
    match encoding {
        Encoding::Binary => {
            let mut message = BytesMut::with_capacity(1 + bytes.len());
            message.put_u8(channel);
            message.put_slice(bytes);
            Message::Binary(message.freeze())
        }
        Encoding::Base64 => {
            let mut text = String::from(char::from(b'0' + channel.min(9)));
            STANDARD.encode_string(bytes, &mut text);
            Message::text(text)
        }
    }
}
