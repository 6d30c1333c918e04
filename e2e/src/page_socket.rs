//! A page without a browser: the WebSocket of a session as the page speaks it. It acknowledges what it gets at once
//! and checks of every terminal that its output comes without a gap and without a doubled byte.

use crate::{PATIENCE, Server};
use drydock_protocol::{
    SessionId, TerminalId,
    control::{FromPage, ToPage},
    frame::{ClientFrame, ServerFrame, Size},
    state::{Role, SessionState},
};
use futures_util::{SinkExt, StreamExt};
use std::{collections::BTreeMap, time::Duration};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, client::IntoClientRequest, handshake::client::Request, protocol::WebSocketConfig,
    },
};

/// The first terminal of every session.
pub const FIRST: TerminalId = TerminalId(1);

/// How many bytes are kept at most of a terminal whose output is only measured.
const ENOUGH: usize = 256;

/// What a page knows of a terminal.
#[derive(Debug, Default, Clone)]
pub struct Screen {
    /// Number of the next byte.
    pub offset: u64,
    /// All bytes since the last snapshot (that included).
    pub bytes: Vec<u8>,
    /// Snapshots that came.
    pub snapshots: u32,
    /// Its size.
    pub size: Option<Size>,
    /// How it ended.
    pub exited: Option<i32>,
}

impl Screen {
    /// The bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// What came.
#[derive(Debug)]
pub enum Event {
    /// A JSON message.
    Message(ToPage),
    /// Something about a terminal; [`PageSocket::screens`] has it.
    Terminal(TerminalId),
    /// The server closed the connection with this code and reason.
    Closed(u16, String),
}

/// A page's connection.
#[derive(Debug)]
pub struct PageSocket {
    socket: WebSocketStream<TcpStream>,
    /// Number of the last input frame.
    pub seq: u32,
    /// What this page may do, from Hello.
    pub role: Option<Role>,
    /// Highest number of input that the session had taken at Hello.
    pub input_seq: u32,
    /// The newest picture of the session.
    pub state: SessionState,
    /// The attached terminals.
    pub screens: BTreeMap<TerminalId, Screen>,
    /// False: keep only the last few bytes (for measurements).
    pub keep: bool,
    /// False: acknowledge nothing.
    pub acknowledge: bool,
}

impl Server {
    /// A WebSocket to any address with any headers.
    pub async fn websocket(
        &self,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
        let mut request: Request = url.into_client_request()?;
        for (name, value) in headers {
            let name: hyper::header::HeaderName = name.parse().expect("a header's name");
            request.headers_mut().insert(name, value.parse().expect("a header's value"));
        }
        let stream = TcpStream::connect(self.address()).await?;
        stream.set_nodelay(true)?;
        // Any size: what the product sends is for the test to judge.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .map(|(socket, _)| socket)
    }

    /// Opens a session as the page named `client` does, with a link's token.
    pub async fn page(&self, id: &SessionId, token: &str, client: &str) -> PageSocket {
        let url = format!("ws://{}/api/v1/sessions/{id}/ws?client={client}", self.address());
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("sec-websocket-protocol", "drydock.v1")];
        let socket =
            self.websocket(&url, &headers).await.unwrap_or_else(|e| panic!("{url}: {e}\n{}", self.log()));
        PageSocket {
            socket,
            seq: 0,
            role: None,
            input_seq: 0,
            state: SessionState::default(),
            screens: BTreeMap::new(),
            keep: true,
            acknowledge: true,
        }
    }

    /// The same, after Hello and attached to the first terminal, whose prompt is there.
    pub async fn page_at_prompt(&self, id: &SessionId, token: &str, client: &str) -> PageSocket {
        let mut page = self.page(id, token, client).await;
        page.attach(FIRST, None).await;
        page.until("a prompt", |p, _| p.screen(FIRST).text().contains("# ")).await;
        page
    }
}

impl PageSocket {
    /// Sends a JSON message.
    pub async fn say(&mut self, message: &FromPage) {
        let text = serde_json::to_string(message).expect("it has a JSON form");
        self.socket.send(Message::text(text)).await.expect("the connection is open");
    }

    /// Sends a terminal frame.
    pub async fn frame(&mut self, frame: &ClientFrame<'_>) {
        self.socket.send(Message::binary(frame.encode())).await.expect("the connection is open");
    }

    /// Shows a terminal, as a new page (`None`) or going on behind what this one has.
    pub async fn attach(&mut self, terminal: TerminalId, from: Option<u64>) {
        let screen = self.screens.entry(terminal).or_default();
        screen.offset = from.unwrap_or(0);
        self.say(&FromPage::Attach { terminal, from }).await;
    }

    /// Types.
    pub async fn input(&mut self, terminal: TerminalId, text: &str) {
        self.seq += 1;
        let seq = self.seq;
        self.frame(&ClientFrame::Input { terminal, seq, bytes: text.as_bytes() }).await;
    }

    /// What is known of a terminal.
    pub fn screen(&self, terminal: TerminalId) -> &Screen {
        static NONE: Screen = Screen { offset: 0, bytes: Vec::new(), snapshots: 0, size: None, exited: None };
        self.screens.get(&terminal).unwrap_or(&NONE)
    }

    /// The next thing that comes; panics after [`PATIENCE`].
    pub async fn next(&mut self) -> Event {
        self.next_within(PATIENCE).await.unwrap_or_else(|| panic!("nothing came within {PATIENCE:?}"))
    }

    /// The next thing that comes, unless nothing comes for so long.
    pub async fn next_within(&mut self, patience: Duration) -> Option<Event> {
        loop {
            let message = match tokio::time::timeout(patience, self.socket.next()).await {
                Err(_) => return None,
                Ok(Some(Ok(message))) => message,
                Ok(None) => return Some(Event::Closed(1006, "it broke off".into())),
                Ok(Some(Err(e))) => return Some(Event::Closed(1006, e.to_string())),
            };
            match message {
                Message::Text(text) => {
                    let message = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
                    self.heed(&message);
                    return Some(Event::Message(message));
                }
                Message::Binary(bytes) => return Some(Event::Terminal(self.take(&bytes).await)),
                Message::Close(frame) => {
                    let frame = frame.map(|f| (u16::from(f.code), f.reason.to_string()));
                    let (code, reason) = frame.unwrap_or((1005, String::new()));
                    return Some(Event::Closed(code, reason));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    fn heed(&mut self, message: &ToPage) {
        match message {
            ToPage::Hello { role, input_seq, .. } => {
                self.role = Some(*role);
                self.input_seq = *input_seq;
            }
            ToPage::State { state } => self.state = state.clone(),
            _ => {}
        }
    }

    async fn take(&mut self, bytes: &[u8]) -> TerminalId {
        let frame = ServerFrame::decode(bytes).expect("the server's frames are well formed");
        let (ServerFrame::Output { terminal, .. }
        | ServerFrame::Snapshot { terminal, .. }
        | ServerFrame::Size { terminal, .. }
        | ServerFrame::Exit { terminal, .. }) = frame;
        let screen = self.screens.entry(terminal).or_default();
        match frame {
            ServerFrame::Output { offset, bytes, .. } => {
                assert_eq!(
                    offset, screen.offset,
                    "output of {terminal:?} comes without a gap and without doubled bytes"
                );
                screen.offset += bytes.len() as u64;
                if !self.keep {
                    let spare = (screen.bytes.len() + bytes.len()).saturating_sub(ENOUGH);
                    screen.bytes.drain(..spare.min(screen.bytes.len()));
                }
                let kept = if self.keep { bytes } else { &bytes[bytes.len().saturating_sub(ENOUGH)..] };
                screen.bytes.extend_from_slice(kept);
            }
            ServerFrame::Snapshot { offset, size, bytes, .. } => {
                assert!(bytes.starts_with(b"\x1bc"), "a snapshot begins with a reset");
                screen.offset = offset;
                screen.size = Some(size);
                screen.bytes = bytes.to_vec();
                screen.snapshots += 1;
            }
            ServerFrame::Size { size, .. } => {
                screen.size = Some(size);
                return terminal;
            }
            ServerFrame::Exit { status, .. } => {
                screen.exited = Some(status);
                return terminal;
            }
        }
        if self.acknowledge {
            let offset = screen.offset;
            self.frame(&ClientFrame::Ack { terminal, offset }).await;
        }
        terminal
    }

    /// Goes on until something holds after an event; panics with its name and what was seen if it does not in time.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self, &Event) -> bool) -> Event {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let Some(event) = self.next_within(left).await else {
                panic!("not within {PATIENCE:?}: {what}\n{}", self.seen())
            };
            if holds(self, &event) {
                return event;
            }
            if let Event::Closed(code, reason) = &event {
                panic!("closed with {code} ({reason}) while waiting for {what}\n{}", self.seen());
            }
        }
    }

    /// Goes on until a terminal has shown this text.
    pub async fn until_seen(&mut self, terminal: TerminalId, text: &str) {
        if !self.screen(terminal).text().contains(text) {
            self.until(&format!("'{text}' in {terminal:?}"), |p, _| p.screen(terminal).text().contains(text))
                .await;
        }
    }

    /// Goes on until the server closes the connection; its code.
    pub async fn until_closed(&mut self) -> u16 {
        match self.until("the end of the connection", |_, e| matches!(e, Event::Closed(..))).await {
            Event::Closed(code, _) => code,
            other => panic!("{other:?}"),
        }
    }

    /// Makes sure that everything sent before has been taken.
    pub async fn ping(&mut self) {
        let sent = f64::from(self.seq) + 0.5;
        self.say(&FromPage::Ping { t: sent }).await;
        self.until("a pong", |_, e| matches!(e, Event::Message(ToPage::Pong { t }) if *t == sent)).await;
    }

    fn seen(&self) -> String {
        let tail = |s: &Screen| {
            s.text().chars().rev().take(500).collect::<Vec<_>>().into_iter().rev().collect::<String>()
        };
        self.screens.iter().map(|(id, s)| format!("{id:?} at {}: …{:?}\n", s.offset, tail(s))).collect()
    }
}
