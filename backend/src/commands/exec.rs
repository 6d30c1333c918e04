//! `drydock exec [-i] [-t] SESSION NODE -- CMD…`: runs a command in a node; its exit status is ours.

use super::{printed, session::plain};
use crate::{api::exec::ExecStart, client::Client};
use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use drydock_protocol::{
    NodeName,
    frame::Size,
    pipe::{Reply, exec},
};
use futures_util::{SinkExt, StreamExt, stream::SplitStream};
use rustix::termios::{self, OptionalActions, Termios};
use std::{convert::Infallible, ffi::OsString, io::IsTerminal, os::unix::ffi::OsStringExt, path::Path};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// Exit status when the command could not be run at all, as Docker has it.
pub const NOT_RUN: i32 = 125;

/// Options of `drydock exec`.
#[derive(Debug, Args)]
pub struct Options {
    /// Pass standard input on.
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable (NAME=VALUE).
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,
    /// Working directory.
    #[arg(short, long)]
    workdir: Option<String>,
    /// The session's id.
    session: String,
    /// The node, such as node1.
    node: NodeName,
    /// Command and arguments; none: the login shell.
    #[arg(last = true)]
    command: Vec<OsString>,
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("it has the form NAME=VALUE".into()),
    }
}

/// Runs the command; the exit status.
pub async fn run(state_dir: &Path, options: Options) -> anyhow::Result<i32> {
    let terminal = std::io::stdin();
    ensure!(
        !options.tty || !options.interactive || terminal.is_terminal(),
        "the standard input is no terminal: leave -t out"
    );
    let path = format!("/sessions/{}/nodes/{}/exec", plain(&options.session)?, options.node);
    let mut socket = Client::new(state_dir).websocket(&path).await?;
    let start = ExecStart {
        argv: options.command.into_iter().map(|argument| argument.into_vec().into()).collect(),
        env: options.env,
        cwd: options.workdir,
        tty: options.tty.then(|| window().unwrap_or(Size::DEFAULT)),
    };
    socket.send(Message::text(serde_json::to_string(&start)?)).await?;
    if !options.interactive {
        // The command may have ended already; then its result is on the way.
        let _ = socket.send(Message::binary(vec![exec::STDIN_END])).await;
    }
    let _raw = match options.tty && options.interactive {
        true => Some(RawMode::enter()?),
        false => None,
    };
    carry(socket, options.interactive, options.tty).await
}

/// Carries input, output, size and signals until the command has ended. Each way for itself: a command may print while it does not read.
async fn carry(socket: WebSocketStream<UnixStream>, interactive: bool, tty: bool) -> anyhow::Result<i32> {
    let (mut to_node, mut from_node) = socket.split();
    let (outgoing, mut waiting) = mpsc::channel(2);
    let feed = async move {
        while let Some(message) = waiting.recv().await {
            if to_node.send(message).await.is_err() {
                // A command that has ended takes no input; its result is on the way.
                break;
            }
        }
        // It ends with the command.
        std::future::pending::<Infallible>().await
    };
    let input = outgoing.clone();
    let input = async move {
        if interactive {
            read_input(&input).await?;
        }
        std::future::pending::<anyhow::Result<i32>>().await
    };
    let signals = pass_signals(&outgoing, tty);
    tokio::select! {
        never = feed => match never {},
        status = input => status,
        status = signals => status,
        status = print_output(&mut from_node) => status,
    }
}

async fn read_input(to_node: &mpsc::Sender<Message>) -> anyhow::Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let n = stdin.read(&mut buffer).await?;
        let kind = if n > 0 { exec::STDIN } else { exec::STDIN_END };
        if to_node.send(tagged(kind, &buffer[..n])).await.is_err() || n == 0 {
            return Ok(());
        }
    }
}

/// Returns if a signal that would end us can't be passed on, since the command takes nothing: the status of who dies of it.
async fn pass_signals(to_node: &mpsc::Sender<Message>, tty: bool) -> anyhow::Result<i32> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    loop {
        let number = tokio::select! {
            _ = resized.recv(), if tty => {
                if let Some(Size { cols, rows }) = window() {
                    let [a, b] = cols.to_be_bytes();
                    let [c, d] = rows.to_be_bytes();
                    // The next change tells the size anew.
                    let _full = to_node.try_send(tagged(exec::RESIZE, &[a, b, c, d]));
                }
                continue;
            }
            _ = interrupted.recv() => 2,
            _ = terminated.recv() => 15,
        };
        if to_node.try_send(tagged(exec::SIGNAL, &[number])).is_err() {
            return Ok(128 + i32::from(number));
        }
    }
}

async fn print_output(from_node: &mut SplitStream<WebSocketStream<UnixStream>>) -> anyhow::Result<i32> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        let message = from_node.next().await;
        match message
            .ok_or_else(|| anyhow!("the server closed the connection before the command ended"))??
        {
            Message::Binary(bytes) => match bytes.split_first() {
                Some((&exec::STDOUT, data)) => {
                    printed(stdout.write_all(data).await)?;
                    printed(stdout.flush().await)?;
                }
                Some((&exec::STDERR, data)) => {
                    stderr.write_all(data).await?;
                    stderr.flush().await?;
                }
                _ => {}
            },
            Message::Text(text) => return status(&text),
            Message::Close(frame) => {
                let why = frame.map(|f| super::harmless(&f.reason)).unwrap_or_default();
                bail!("the connection was closed before the command ended: {why}");
            }
            _ => {}
        }
    }
}

fn tagged(kind: u8, data: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(1 + data.len());
    bytes.push(kind);
    bytes.extend_from_slice(data);
    Message::binary(bytes)
}

fn status(text: &str) -> anyhow::Result<i32> {
    match serde_json::from_str(text).context("the session's answer makes no sense")? {
        Reply::Exit { status } => Ok(status),
        Reply::Error { message, .. } => bail!("{}", super::harmless(&message)),
        _ => bail!("the session's answer makes no sense"),
    }
}

fn window() -> Option<Size> {
    let size =
        termios::tcgetwinsize(std::io::stdin()).or_else(|_| termios::tcgetwinsize(std::io::stdout())).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(Size { cols: size.ws_col, rows: size.ws_row })
}

/// The terminal passes every key on as long as this lives.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> anyhow::Result<Self> {
        let before = termios::tcgetattr(std::io::stdin()).context("cannot read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)
            .context("cannot set the terminal's mode")?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Err(e) = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0) {
            eprintln!("cannot restore the terminal's mode ({e}): type `reset`");
        }
    }
}
