//! Carries WebSocket messages to a session process and back, message by message, for pages and for commands. Both
//! ways wait for the slower side, so nothing piles up here; nothing is delayed to be sent with more. Called by
//! `api::ws` and `api::exec`.

use crate::{
    auth::Right,
    pipe::{Frame, FrameReader, FrameWriter, PipeError},
    sessions::{Sessions, live::Active, live::Phase, now},
};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use drydock_protocol::{
    control::{ToPage, close},
    pipe::{BINARY, TEXT},
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// Ordinary end of a WebSocket.
const NORMAL: u16 = 1000;
/// A side that sends no message and answers no ping for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(75);
/// Who does not read its close frame for so long does not get it.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_secs(30);

/// A connection to be carried.
pub struct Relay {
    /// All sessions.
    pub sessions: Arc<Sessions>,
    /// The right by which it came; when that is lost it is closed.
    pub right: Right,
    /// Counts it.
    pub active: Active,
    /// From the session process.
    pub reader: FrameReader,
    /// To the session process.
    pub writer: FrameWriter,
    /// Whether it is a page, which is told about the session's life.
    pub is_page: bool,
}

impl Relay {
    /// Carries messages until one side closes or the right is lost.
    pub async fn run(mut self, socket: WebSocket) {
        let (mut sink, mut stream) = socket.split();
        let heard = Heard { began: Instant::now(), at: AtomicU64::new(0) };
        let why = tokio::select! {
            why = up(&mut stream, &mut self.writer, &heard) => why,
            why = down(&self.sessions, &self.right, &mut self.reader, &mut sink, self.is_page, &heard) => why,
            why = lost_right(&self.sessions, &self.right) => why,
        };
        // Count it out before the close frame arrives: whoever sees the close may look at the count.
        drop(self.active);
        if let Some((code, reason)) = why {
            say_goodbye(sink, stream, code, &reason).await;
        }
    }
}

/// Closes a WebSocket with a code and a reason, and waits until the other side has closed too: what it still sends would
/// otherwise reset the connection before it has read the reason.
pub async fn say_goodbye(
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
    code: u16,
    reason: &str,
) {
    // A close frame holds at most 123 bytes of text.
    let reason: String = reason.chars().take(60).collect();
    let reason = if reason.len() > 120 { String::new() } else { reason };
    let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    let handshake = async {
        if sink.send(frame).await.is_ok() {
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    if timeout(GOODBYE_WITHIN, handshake).await.is_err() {
        tracing::debug!(code, "the other side did not close");
    }
}

/// When the other side was last heard of, in milliseconds since the beginning.
struct Heard {
    began: Instant,
    at: AtomicU64,
}

impl Heard {
    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
    fn now(&self) {
        self.at.store(self.millis(), Ordering::Relaxed);
    }
    fn ago(&self) -> Duration {
        Duration::from_millis(self.millis().saturating_sub(self.at.load(Ordering::Relaxed)))
    }
}

/// Why a connection was closed, for its close frame; absent: it simply ended.
pub type Why = Option<(u16, String)>;

/// From the browser or program to the session process.
async fn up(stream: &mut SplitStream<WebSocket>, writer: &mut FrameWriter, heard: &Heard) -> Why {
    while let Some(Ok(message)) = stream.next().await {
        heard.now();
        let sent = match message {
            Message::Text(text) => writer.frame(TEXT, text.as_bytes()).await,
            Message::Binary(bytes) => writer.frame(BINARY, &bytes).await,
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => return None,
        };
        if sent.is_err() {
            // The session process hung up; `down` sees it too and knows what to say.
            return pending().await;
        }
    }
    None
}

/// From the session process to the browser or program.
async fn down(
    sessions: &Sessions,
    right: &Right,
    reader: &mut FrameReader,
    sink: &mut SplitSink<WebSocket, Message>,
    is_page: bool,
    heard: &Heard,
) -> Why {
    let mut life = right.live.life.subscribe();
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut said_hello = false;
    loop {
        let frame = tokio::select! {
            frame = reader.next() => frame,
            changed = life.changed(), if is_page && said_hello => {
                changed.ok()?;
                sink.send(life_message(sessions, right)).await.ok()?;
                continue;
            }
            _ = ping.tick() => {
                if heard.ago() > GONE_AFTER { return None }
                sink.send(Message::Ping(Default::default())).await.ok()?;
                continue;
            }
        };
        let mut next = match frame {
            Ok(Some(frame)) => Some(frame),
            Ok(None) => {
                return Some(if is_page { hung_up(&mut life).await } else { (NORMAL, String::new()) });
            }
            Err(PipeError::Malformed(what)) => return nonsense(what),
            Err(_) => return Some(hung_up(&mut life).await),
        };
        // What has arrived together is written together; nobody waits for more.
        while let Some(frame) = next {
            sink.feed(to_message(frame)?).await.ok()?;
            if !said_hello {
                said_hello = true;
                if is_page {
                    sink.feed(life_message(sessions, right)).await.ok()?;
                }
            }
            next = match reader.buffered() {
                Ok(next) => next,
                Err(PipeError::Malformed(what)) => return nonsense(what),
                Err(_) => return Some(hung_up(&mut life).await),
            };
        }
        sink.flush().await.ok()?;
    }
}

fn nonsense(what: &str) -> Why {
    Some((close::GONE, format!("The session sent {what}.")))
}

/// The session process closed the connection: either it ended, which the warden is about to tell, or the page should
/// try again.
async fn hung_up(life: &mut tokio::sync::watch::Receiver<crate::sessions::live::Life>) -> (u16, String) {
    let ended = life.wait_for(|life| matches!(life.phase, Phase::Ended(_)));
    if let Ok(Ok(life)) = timeout(Duration::from_secs(2), ended).await
        && let Phase::Ended(end) = &life.phase
    {
        return (end.kind.close_code(), end.because.clone());
    }
    (close::RESTART, "The session closed the connection.".into())
}

fn to_message(frame: Frame) -> Option<Message> {
    Some(match frame {
        Frame::Text(text) => Message::Text(Utf8Bytes::try_from(text).ok()?),
        Frame::Binary(bytes) => Message::Binary(bytes),
    })
}

fn life_message(sessions: &Sessions, right: &Right) -> Message {
    let life = right.live.now();
    let message = ToPage::Life {
        seconds_left: life.expires_at.saturating_sub(now()),
        can_extend: sessions.can_extend(right.live.created_at, life.expires_at),
        asleep: life.phase == Phase::Asleep,
    };
    // A struct of numbers always has a JSON form.
    Message::Text(serde_json::to_string(&message).unwrap_or_default().into())
}

/// Waits until the connection must be closed: the session ended, the link was revoked or expired, the server ends.
pub async fn lost_right(sessions: &Sessions, right: &Right) -> Why {
    let mut life = right.live.life.subscribe();
    let mut links = right.live.links_changed.subscribe();
    let mut closing = sessions.closing.subscribe();
    loop {
        if let Phase::Ended(end) = &right.live.now().phase {
            return Some((end.kind.close_code(), end.because.clone()));
        }
        if *closing.borrow_and_update() {
            return Some((close::RESTART, "The server restarts.".into()));
        }
        if right.link.is_some_and(|link| !sessions.link_holds(&right.live.id, link)) {
            return Some((close::FORBIDDEN, "This link was revoked or has expired.".into()));
        }
        let expiry = async {
            match right.link_expires_at {
                // A second more, as both are cut to whole seconds.
                Some(at) => sleep(Duration::from_secs((at + 1).saturating_sub(now()).min(86_400))).await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = life.changed() => {}
            _ = links.changed() => {}
            _ = closing.changed() => {}
            () = expiry => {}
        }
    }
}
