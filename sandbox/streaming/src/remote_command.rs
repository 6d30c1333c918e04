//! exec and attach: the streams of one command. Called by a kubelet with the upgraded connection (kubelet
//! `pkg/kubelet/cri/streaming/remotecommand`). The command itself is the caller's.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::exit::Exit;
use crate::negotiate::{Encoding, Protocol, Wire};
use crate::pipe::{self, Input, Outgoing, Output};
use crate::spdy::{self, Stream};
use crate::websocket::{self, Connection, Served};

const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;
const ERROR: u32 = 3;
const RESIZE: u32 = 4;
/// `DefaultStreamCreationTimeout`.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);
/// A size is some forty bytes of JSON.
const MAX_SIZE: usize = 1024;

/// Which streams a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The client sends input.
    pub stdin: bool,
    /// The client takes output.
    pub stdout: bool,
    /// The client takes error output; a terminal has none of its own.
    pub stderr: bool,
    /// The command runs on a terminal.
    pub tty: bool,
}

impl Options {
    /// Reads `stdin`, `stdout`, `stderr` and `tty` of a query; the error is what the client gets with 400 (`NewOptions`).
    pub fn from_query<'a>(query: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, &'static str> {
        let mut options = Self::default();
        for (name, value) in query {
            let yes = value == "1" || value == "true";
            match name {
                "stdin" | "input" => options.stdin |= yes,
                "stdout" | "output" => options.stdout |= yes,
                "stderr" | "error" => options.stderr |= yes,
                "tty" => options.tty |= yes,
                _ => {}
            }
        }
        options.stderr &= !options.tty;
        if options.stdin || options.stdout || options.stderr {
            Ok(options)
        } else {
            Err("you must specify at least 1 of stdin, stdout, stderr")
        }
    }
}

/// Size of the client's terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    #[serde(default)]
    pub width: u16,
    /// Rows.
    #[serde(default)]
    pub height: u16,
}

/// The streams of a command; those that were not asked for are not there.
#[derive(Debug)]
pub struct Channels {
    /// What the client types; ends when it has no more.
    pub stdin: Option<Input>,
    /// The command's output.
    pub stdout: Option<Output>,
    /// The command's error output.
    pub stderr: Option<Output>,
    /// Sizes of the client's terminal, the first one soon after the start.
    pub resize: Option<mpsc::Receiver<TerminalSize>>,
    /// How it ended.
    pub exit: Exit,
}

/// Serves one command on an upgraded connection: gives its streams as soon as the client has opened them.
pub async fn remote_command<S: Connection>(
    stream: S,
    protocol: Protocol,
    options: Options,
) -> Result<Channels, Error> {
    match protocol.0 {
        Wire::Channels { encoding, version } => Ok(over_websocket(stream, encoding, version, options)),
        Wire::Spdy { version } => over_spdy(stream, version, options).await,
        Wire::Tunnel => over_spdy(crate::tunnel::Tunnel::accept(stream).await, 4, options).await,
    }
}

fn over_websocket<S: Connection>(stream: S, encoding: Encoding, version: u8, options: Options) -> Channels {
    let (queue, outgoing) = pipe::outgoing();
    let (alive, connection) = watch::channel(());
    let mut inlets = Vec::from_iter((0..=RESIZE).map(|_| None));
    let mut input = |channel: u32, wanted: bool| {
        let (inlet, input) = pipe::input();
        wanted.then(|| {
            inlets[channel as usize] = Some(inlet);
            input
        })
    };
    let stdin = input(STDIN, options.stdin);
    let resize = input(RESIZE, options.tty).map(sizes);
    let output = |channel: u32, wanted: bool| wanted.then(|| Output::new(channel, queue.clone()));
    let (stdout, stderr) = (output(STDOUT, options.stdout), output(STDERR, options.stderr));
    // An empty message on the first channel that we write to tells the client that the command is reached.
    let first = if options.stdout {
        STDOUT
    } else if options.stderr {
        STDERR
    } else {
        ERROR
    };
    // The queue was made above and has room.
    let _ = queue.try_send(Outgoing::Data(first, Bytes::new()));
    tokio::spawn(websocket::serve(stream, Served { encoding, version, inlets, outgoing, alive }));
    Channels { stdin, stdout, stderr, resize, exit: Exit { stream: ERROR, version, queue, connection } }
}

async fn over_spdy<S: Connection>(stream: S, version: u8, options: Options) -> Result<Channels, Error> {
    let mut connection = spdy::serve(stream);
    let expected = 1
        + usize::from(options.stdin)
        + usize::from(options.stdout)
        + usize::from(options.stderr)
        + usize::from(options.tty && version >= 3);
    let opened = tokio::time::timeout(STREAM_TIMEOUT, open_streams(&mut connection, expected)).await;
    let mut opened = opened.map_err(|_| Error::StreamTimeout)??;
    let error = opened.error.take().ok_or(Error::StreamTimeout)?;
    let exit = Exit {
        stream: error.id,
        version,
        queue: connection.queue.clone(),
        connection: connection.alive.clone(),
    };
    Ok(Channels {
        stdin: opened.stdin.map(|stream| stream.data.input),
        stdout: opened.stdout.map(|stream| stream.data.output),
        stderr: opened.stderr.map(|stream| stream.data.output),
        resize: opened.resize.map(|stream| sizes(stream.data.input)),
        exit,
    })
}

#[derive(Default)]
struct Opened {
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    error: Option<Stream>,
    resize: Option<Stream>,
}

async fn open_streams(connection: &mut spdy::Connection, expected: usize) -> Result<Opened, Error> {
    let mut opened = Opened::default();
    let mut count = 0;
    while count < expected {
        let stream = connection.accept().await.ok_or(Error::Gone)?;
        let place = match stream.header("streamtype") {
            "stdin" => &mut opened.stdin,
            "stdout" => &mut opened.stdout,
            "stderr" => &mut opened.stderr,
            "error" => &mut opened.error,
            "resize" => &mut opened.resize,
            other => {
                tracing::debug!(stream_type = other, "unexpected stream type");
                stream.refuse(&connection.queue).await;
                continue;
            }
        };
        stream.take(&connection.queue).await;
        if place.replace(stream).is_none() {
            count += 1;
        }
    }
    Ok(opened)
}

/// The sizes that a resize stream tells: JSON values one after the other. It ends at the first that is none.
fn sizes(input: Input) -> mpsc::Receiver<TerminalSize> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Err(error) = read_sizes(input, sender).await {
            tracing::debug!(%error, "resize stream");
        }
    });
    receiver
}

async fn read_sizes(mut input: Input, sender: mpsc::Sender<TerminalSize>) -> io::Result<()> {
    let mut text = Vec::new();
    let mut buffer = [0; MAX_SIZE];
    loop {
        let length = input.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        text.extend_from_slice(&buffer[..length]);
        let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<TerminalSize>();
        let mut found = Vec::new();
        let unfinished = loop {
            match values.next() {
                Some(Ok(size)) => found.push(size),
                Some(Err(error)) if error.is_eof() => break values.byte_offset(),
                Some(Err(error)) => return Err(error.into()),
                None => break text.len(),
            }
        };
        text.drain(..unfinished);
        if text.len() > MAX_SIZE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        for size in found {
            if sender.send(size).await.is_err() {
                return Ok(());
            }
        }
    }
}
