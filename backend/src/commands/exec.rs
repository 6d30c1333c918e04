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
use futures_util::{SinkExt, StreamExt};
use rustix::termios::{self, OptionalActions, Termios};
use std::{io::IsTerminal, path::Path};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    signal::unix::{SignalKind, signal},
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
    command: Vec<String>,
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
        argv: options.command,
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

/// Carries input, output, size and signals until the command has ended.
async fn carry(mut socket: WebSocketStream<UnixStream>, interactive: bool, tty: bool) -> anyhow::Result<i32> {
    let mut stdin = tokio::io::stdin();
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    let mut resized = signal(SignalKind::window_change())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut input_open = interactive;
    let mut buffer = vec![0; 32 * 1024];
    loop {
        tokio::select! {
            n = stdin.read(&mut buffer), if input_open => {
                let n = n?;
                input_open = n > 0;
                let message = if n > 0 { tagged(exec::STDIN, &buffer[..n]) } else { tagged(exec::STDIN_END, &[]) };
                // A command that has ended takes no input; its result is on the way.
                input_open &= socket.send(message).await.is_ok();
            }
            message = socket.next() => {
                match message.ok_or_else(|| anyhow!("the server closed the connection before the command ended"))?? {
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
            _ = resized.recv(), if tty => {
                if let Some(Size { cols, rows }) = window() {
                    let [a, b] = cols.to_be_bytes();
                    let [c, d] = rows.to_be_bytes();
                    socket.send(tagged(exec::RESIZE, &[a, b, c, d])).await?;
                }
            }
            _ = interrupted.recv() => socket.send(tagged(exec::SIGNAL, &[2])).await?,
            _ = terminated.recv() => socket.send(tagged(exec::SIGNAL, &[15])).await?,
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
