//! Logs that go to somebody else: `syslog`, `gelf` and `fluentd`, each with its own form and patience ([`Sink`]), and one connection
//! that is made anew when it breaks. A task a run sends the lines, so that the program waits for the other side only when many are
//! under way, as it does with dockerd; `mode=non-blocking` leaves lines out instead. What is wrong with options is told in moby's words.

mod connection;
mod fluentd;
mod gelf;
mod syslog;
mod tls;

use super::{super::streams::Stream, info::Info};
use crate::clock::Timestamp;
use connection::{Address, Connection};
use std::{collections::BTreeMap, time::Duration};
use tokio::sync::{mpsc, watch};

/// Lines that are under way before the program waits.
const UNDER_WAY: usize = 128;
/// How long the last lines of a run may take whose other side does not answer.
const LAST: Duration = Duration::from_secs(5);

/// A line of output, or a piece of one that is too long.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where it came from.
    pub stream: Stream,
    /// When.
    pub time: Timestamp,
    /// Without its end.
    pub text: Vec<u8>,
    /// It goes on in the next one.
    pub partial: bool,
}

/// How often and how fast a driver tries again.
#[derive(Debug, Clone, Copy)]
struct Patience {
    tries: u64,
    pause: Duration,
    growth: f64,
}

/// What a driver makes of a line.
trait Sink: Send + Sync {
    /// As it is sent; each is a datagram of its own where there are such. Nothing: it is left out.
    fn encode(&self, line: &Line) -> Vec<Vec<u8>>;
    /// What must come back after it.
    fn awaited(&self) -> Option<Vec<u8>> {
        None
    }
}

/// A driver that knows where to send what.
struct Driver {
    sink: Box<dyn Sink>,
    address: Address,
    patience: Patience,
    /// It need not be reached at the start.
    lazy: bool,
}

/// Whether it is one of these.
pub fn is_remote(driver: &str) -> bool {
    matches!(driver, "syslog" | "gelf" | "fluentd")
}

/// What is wrong with a driver's options, before there is a container.
pub fn check(driver: &str, options: &BTreeMap<String, String>) -> Result<(), String> {
    match driver {
        "syslog" => syslog::check(options),
        "gelf" => gelf::check(options),
        _ => fluentd::check(options),
    }
}

fn driver(info: &Info<'_>) -> Result<Driver, String> {
    match info.0.host.log_config.driver.as_str() {
        "syslog" => syslog::driver(info),
        "gelf" => gelf::driver(info),
        _ => fluentd::driver(info),
    }
}

/// The way of a run's lines.
#[derive(Debug, Clone)]
pub struct Remote {
    to: mpsc::Sender<Line>,
    waits: bool,
    /// Its end is the run's.
    _run: watch::Sender<()>,
}

impl Remote {
    /// Connects; without `now` with the first line.
    pub async fn open(info: &Info<'_>, now: bool) -> Result<Self, String> {
        let driver = driver(info)?;
        let mode = info.0.host.log_config.config.get("mode").map(String::as_str);
        let connection =
            if now && !driver.lazy { Some(Connection::open(&driver.address).await?) } else { None };
        let (to, lines) = mpsc::channel(UNDER_WAY);
        let (run, over) = watch::channel(());
        tokio::spawn(forward(driver, connection, lines, over));
        Ok(Self { to, waits: mode != Some("non-blocking"), _run: run })
    }

    /// Sends lines on.
    pub async fn deliver(&self, lines: Vec<Line>) {
        for line in lines {
            // The task is gone only when the engine goes.
            let _sent =
                if self.waits { self.to.send(line).await.is_ok() } else { self.to.try_send(line).is_ok() };
        }
    }
}

async fn forward(
    driver: Driver,
    mut connection: Option<Connection>,
    mut lines: mpsc::Receiver<Line>,
    mut over: watch::Receiver<()>,
) {
    while let Some(line) = lines.recv().await {
        let pieces = driver.sink.encode(&line);
        if pieces.is_empty() {
            continue;
        }
        let sending = send(&driver, &mut connection, &pieces);
        tokio::pin!(sending);
        let ended = async {
            // Nothing is ever sent: an error is the end.
            while over.changed().await.is_ok() {}
            tokio::time::sleep(LAST).await;
        };
        tokio::select! {
            sent = &mut sending => if let Err(error) = sent {
                tracing::warn!("Failed to log message: {error}");
            },
            // The run is over and nobody listens.
            () = ended => return,
        }
    }
}

/// Sends a line, over a new connection if the old one is broken.
async fn send(
    driver: &Driver,
    connection: &mut Option<Connection>,
    pieces: &[Vec<u8>],
) -> Result<(), String> {
    let Patience { tries, mut pause, growth } = driver.patience;
    let mut last = String::new();
    for attempt in 0..=tries {
        if attempt > 1 {
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(growth).min(Duration::from_secs(60));
        }
        if connection.is_none() {
            match Connection::open(&driver.address).await {
                Ok(made) => *connection = Some(made),
                Err(error) => {
                    last = error;
                    continue;
                }
            }
        }
        let Some(open) = connection.as_mut() else { continue };
        match open.send(pieces, driver.sink.awaited()).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
        *connection = None;
    }
    Err(last)
}

/// Options that all of these drivers take.
fn is_common(option: &str) -> bool {
    matches!(option, "env" | "env-regex" | "labels" | "labels-regex" | "tag")
        || matches!(option, "mode" | "max-buffer-size")
        || option.starts_with("cache-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::Record;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    fn record(driver: &str, options: &[(&str, &str)]) -> Record {
        let mut record = Record { id: "0123456789abcdef".into(), name: "web".into(), ..Record::default() };
        record.host.log_config.driver = driver.into();
        record.host.log_config.config =
            options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        record
    }

    fn line(text: &str) -> Line {
        Line { stream: Stream::Out, time: Timestamp::now(), text: text.into(), partial: false }
    }

    /// A log server that is restarted gets what comes afterwards.
    #[tokio::test]
    async fn a_broken_connection_is_made_anew() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", server.local_addr().unwrap());
        let record = record("fluentd", &[("fluentd-address", &address), ("fluentd-retry-wait", "10ms")]);
        let remote = Remote::open(&Info(&record), true).await.unwrap();
        let (mut first, _) = server.accept().await.unwrap();
        remote.deliver(vec![line("first")]).await;
        let mut got = vec![0; 1000];
        let len = first.read(&mut got).await.unwrap();
        assert!(got[..len].windows(5).any(|part| part == b"first"));
        drop(first);
        let again = server.accept();
        tokio::pin!(again);
        let mut second = loop {
            // What the kernel takes before it knows that nobody is there is lost, with dockerd, too.
            remote.deliver(vec![line("later")]).await;
            tokio::select! {
                made = &mut again => break made.unwrap().0,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        };
        let len = second.read(&mut got).await.unwrap();
        assert!(got[..len].windows(5).any(|part| part == b"later"));
    }

    #[tokio::test]
    async fn who_is_not_there_is_told_at_the_start_unless_it_may_come_later() {
        let gone = record("fluentd", &[("fluentd-address", "127.0.0.1:1")]);
        let why = Remote::open(&Info(&gone), true).await.unwrap_err();
        assert_eq!(why, "dial tcp 127.0.0.1:1: connect: connection refused");
        let later = record("fluentd", &[("fluentd-address", "127.0.0.1:1"), ("fluentd-async", "true")]);
        Remote::open(&Info(&later), true).await.unwrap();
    }
}
