//! A client that is attached to a container's input and output, or to those of an exec: bytes both ways, half-close, and the keys
//! that detach.

use super::streams::{Input, Io, Stream, frame};
use crate::error::{Error, Result};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, watch},
};

/// Most bytes that are read from a client at once.
const PIECE: usize = 32 * 1024;

/// How long a client may take to read its last words.
const LINGER: Duration = Duration::from_secs(10);

/// Keys that detach, if nothing else was asked for: ctrl-p, ctrl-q.
const DEFAULT_KEYS: [u8; 2] = [16, 17];

/// How a client takes part.
#[derive(Debug, Default)]
pub struct Session {
    /// There is a terminal: keys detach.
    pub tty: bool,
    /// Bytes as they are, not in frames.
    pub raw: bool,
    /// What the client types goes here.
    pub input: Option<watch::Receiver<Input>>,
    /// The end of the client's input is that of the program's.
    pub close_input: bool,
    /// Keys that detach; none: nothing does.
    pub keys: Vec<u8>,
}

/// How a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The program or the client has.
    Over,
    /// By the detach keys.
    Detached,
    /// The client's input has ended where Docker then ends all.
    InputOver,
}

/// `ctrl-p,ctrl-q`, `ctrl-a,x`: the bytes of these keys.
pub fn keys(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DEFAULT_KEYS.to_vec());
    }
    let key = |key: &str| -> Option<u8> {
        if let [one] = key.as_bytes() {
            return Some(*one);
        }
        match key.strip_prefix("ctrl-")?.as_bytes() {
            [c @ b'a'..=b'z'] => Some(c - b'a' + 1),
            [b'@'] => Some(0),
            [b'['] => Some(27),
            [b'\\'] => Some(28),
            [b']'] => Some(29),
            [b'^'] => Some(30),
            [b'_'] => Some(31),
            _ => None,
        }
    };
    let all: Option<Vec<u8>> = text.split(',').map(key).collect();
    all.ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided")))
}

/// Finds a sequence of keys in what a client types.
#[derive(Debug)]
pub struct Finder {
    keys: Vec<u8>,
    held: usize,
}

impl Finder {
    /// For these keys.
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, held: 0 }
    }

    /// What goes on to the program, and whether the keys have come. Keys of an incomplete sequence are held back.
    pub fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (bytes.to_vec(), false);
        }
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte != self.keys[self.held] {
                out.extend_from_slice(&self.keys[..self.held]);
                self.held = 0;
            }
            if byte == self.keys[self.held] {
                self.held += 1;
                if self.held == self.keys.len() {
                    return (out, true);
                }
            } else {
                out.push(byte);
            }
        }
        (out, false)
    }
}

/// Serves one client until the program ends, the client goes or it detaches. `first`: what it gets before anything else.
/// `closed` is called when the client's input has ended and that is to close the program's.
pub async fn serve(
    connection: crate::http::Connection,
    session: Session,
    mut first: mpsc::Receiver<Bytes>,
    mut output: Option<mpsc::Receiver<(Stream, Bytes)>>,
    closed: impl FnOnce() + Send,
) -> Ended {
    let (mut from, mut to) = tokio::io::split(connection);
    let Session { tty, raw, input, close_input, keys } = session;
    let wants_input = input.is_some();
    let typing = async {
        let Some(mut input) = input else { return watch_client(&mut from).await };
        let typed = type_in(&mut from, &mut input, if tty { keys } else { vec![] }).await;
        if matches!(typed, Typed::End) && close_input && !tty {
            // Before the start there is nothing to close yet: the program shall find the end when it looks.
            opened(&mut input).await;
        }
        typed
    };
    let write = &mut to;
    let printing = async move {
        while let Some(piece) = first.recv().await {
            write.write_all(&piece).await?;
        }
        if let Some(output) = &mut output {
            while let Some((stream, piece)) = output.recv().await {
                if raw {
                    write.write_all(&piece).await?;
                } else {
                    write.write_all(&frame(stream, &piece)).await?;
                }
                write.flush().await?;
            }
        }
        std::io::Result::Ok(())
    };
    let mut typing = Box::pin(typing);
    let mut printing = Box::pin(printing);
    let ended = tokio::select! {
        _ = &mut printing => Ended::Over,
        typed = &mut typing => match typed {
            Typed::Detached => Ended::Detached,
            Typed::Gone => Ended::Over,
            Typed::End if !wants_input || (close_input && !tty) => {
                if wants_input {
                    closed();
                }
                let _client_gone = (&mut printing).await;
                Ended::Over
            }
            Typed::End => Ended::InputOver,
        },
    };
    drop((printing, typing));
    let _client_gone = to.shutdown().await;
    // A connection that is closed with input unread is reset, and the client loses the end of what it was told.
    tokio::spawn(tokio::time::timeout(LINGER, async move {
        watch_client(&mut from).await;
    }));
    ended
}

enum Typed {
    End,
    Gone,
    Detached,
}

/// From the client to the program. What is typed before the program is there waits for it.
async fn type_in(
    from: &mut (impl AsyncReadExt + Unpin),
    input: &mut watch::Receiver<Input>,
    keys: Vec<u8>,
) -> Typed {
    let mut finder = Finder::new(keys);
    let mut buffer = vec![0; PIECE];
    let mut open = true;
    loop {
        let len = match from.read(&mut buffer).await {
            Ok(0) => return Typed::End,
            Ok(len) => len,
            Err(_) => return Typed::Gone,
        };
        let (bytes, detached) = finder.feed(&buffer[..len]);
        if open {
            open = match opened(input).await {
                Some(io) => io.write_all(&bytes).await.is_ok(),
                None => false,
            };
        }
        if detached {
            return Typed::Detached;
        }
    }
}

/// The program's input, when it is there; nothing if it has none.
async fn opened(input: &mut watch::Receiver<Input>) -> Option<Arc<Io>> {
    match input.wait_for(|i| !matches!(i, Input::NotYet)).await.as_deref() {
        Ok(Input::Open(io)) => Some(io.clone()),
        _ => None,
    }
}

/// A client that only listens: its end of input means nothing, its going away does.
async fn watch_client(from: &mut (impl AsyncReadExt + Unpin)) -> Typed {
    let mut buffer = vec![0; 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return Typed::End,
            Ok(_) => {}
            Err(_) => return Typed::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_that_ends_before_the_start_is_closed_after_it() {
        let (to_input, input) = watch::channel(Input::NotYet);
        let (_client, ours) = tokio::io::duplex(64);
        let connection = crate::http::Connection::Bodies(Box::pin(tokio::io::empty()), ours);
        let session = Session { input: Some(input), close_input: true, ..Session::default() };
        let (_, past) = mpsc::channel(1);
        let (output, printed) = mpsc::channel(1);
        let (tell, mut told) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(serve(connection, session, past, Some(printed), move || {
            let _nobody_asks = tell.send(());
        }));
        tokio::task::yield_now().await;
        assert!(told.try_recv().is_err(), "closed before there is anything to close");
        let (_program, end) = nix::unistd::pipe().unwrap();
        to_input.send_replace(Input::Open(Arc::new(Io::new(end).unwrap())));
        told.await.unwrap();
        drop(output);
        assert_eq!(serving.await.unwrap(), Ended::Over);
    }

    #[test]
    fn detach_keys_are_read() {
        assert_eq!(keys("").unwrap(), [16, 17]);
        assert_eq!(keys("ctrl-a,x,ctrl-\\").unwrap(), [1, b'x', 28]);
        assert_eq!(keys("ctrl-1").unwrap_err().message, "Invalid detach keys (ctrl-1) provided");
    }

    #[test]
    fn keys_are_found_over_several_pieces_and_false_starts_go_through() {
        let mut finder = Finder::new(vec![16, 17]);
        assert_eq!(finder.feed(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(finder.feed(b"b"), (b"\x10b".to_vec(), false));
        assert_eq!(finder.feed(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(finder.feed(b"\x11rest"), (b"".to_vec(), true));
        assert_eq!(Finder::new(vec![]).feed(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
