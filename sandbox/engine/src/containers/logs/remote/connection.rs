//! Addresses of log servers and connections to them. Failures are told as Go's net package tells them.

use super::tls::{self, Tls};
use std::{io, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket, UnixDatagram, UnixStream},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer.
const ANSWER: usize = 4096;

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A stream to host and port.
    Tcp(String, u16),
    /// A secure stream to host and port.
    Tls(String, u16, Tls),
    /// Datagrams to host and port.
    Udp(String, u16),
    /// A stream socket.
    Unix(PathBuf),
    /// A datagram socket.
    Unixgram(PathBuf),
    /// The node's own syslog, wherever it listens.
    System,
}

/// A connection.
#[derive(Debug)]
pub enum Connection {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Udp(UdpSocket),
    Unix(UnixStream),
    Unixgram(UnixDatagram),
}

impl Connection {
    /// Connects.
    pub async fn open(address: &Address) -> Result<Self, String> {
        let unix = |path: &PathBuf, kind: &str, error: &io::Error| {
            format!("dial {kind} {}: connect: {}", path.display(), words(error))
        };
        match address {
            Address::Tcp(host, port) => tcp(host, *port).await.map(Self::Tcp),
            Address::Tls(host, port, tls) => {
                let config = tls.config()?;
                let stream = tcp(host, *port).await?;
                tls::shake(config, host, stream).await.map(Self::Tls)
            }
            Address::Udp(host, port) => udp(host, *port).await,
            Address::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Self::Unix(stream)),
                Err(error) => Err(unix(path, "unix", &error)),
            },
            Address::Unixgram(path) => match datagram(path) {
                Ok(socket) => Ok(Self::Unixgram(socket)),
                Err(error) => Err(unix(path, "unixgram", &error)),
            },
            Address::System => system().await.ok_or_else(|| "Unix syslog delivery error".into()),
        }
    }

    /// Sends what belongs together, and waits for what must come back.
    pub async fn send(&mut self, pieces: &[Vec<u8>], awaited: Option<Vec<u8>>) -> io::Result<()> {
        for piece in pieces {
            match self {
                Self::Tcp(stream) => stream.write_all(piece).await?,
                Self::Tls(stream) => {
                    stream.write_all(piece).await?;
                    stream.flush().await?;
                }
                Self::Unix(stream) => stream.write_all(piece).await?,
                Self::Udp(socket) => drop(socket.send(piece).await?),
                Self::Unixgram(socket) => drop(socket.send(piece).await?),
            }
        }
        let Some(awaited) = awaited else { return Ok(()) };
        let (mut answer, mut have) = (vec![0; ANSWER], 0);
        while !answer[..have].windows(awaited.len()).any(|part| part == awaited) {
            let read = match self {
                Self::Tcp(stream) => stream.read(&mut answer[have..]).await?,
                Self::Tls(stream) => stream.read(&mut answer[have..]).await?,
                Self::Unix(stream) => stream.read(&mut answer[have..]).await?,
                Self::Udp(_) | Self::Unixgram(_) => return Ok(()),
            };
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            have += read;
        }
        Ok(())
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let mut last = format!("dial tcp: lookup {host}: no such host");
    for address in look_up(host, port, "tcp").await? {
        last = match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => format!("dial tcp {address}: connect: {}", words(&error)),
            Err(_) => format!("dial tcp {address}: i/o timeout"),
        };
    }
    Err(last)
}

async fn udp(host: &str, port: u16) -> Result<Connection, String> {
    let mut last = format!("dial udp: lookup {host}: no such host");
    let mut found = look_up(host, port, "udp").await?;
    // Nobody says that nobody is there: what is found on most machines first.
    found.sort_by_key(std::net::SocketAddr::is_ipv6);
    for address in found {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let connected = async {
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            io::Result::Ok(socket)
        };
        match connected.await {
            Ok(socket) => return Ok(Connection::Udp(socket)),
            Err(error) => last = format!("dial udp {address}: connect: {}", words(&error)),
        }
    }
    Err(last)
}

async fn look_up(host: &str, port: u16, kind: &str) -> Result<Vec<std::net::SocketAddr>, String> {
    // Go takes no host for this machine.
    let name = if host.is_empty() { "127.0.0.1" } else { host };
    match tokio::net::lookup_host((name, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(_) => Err(format!("dial {kind}: lookup {host}: no such host")),
    }
}

fn datagram(path: &PathBuf) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

async fn system() -> Option<Connection> {
    let paths = ["/dev/log", "/var/run/syslog", "/var/run/log"].map(PathBuf::from);
    for path in &paths {
        if let Ok(socket) = datagram(path) {
            return Some(Connection::Unixgram(socket));
        }
    }
    for path in &paths {
        if let Ok(stream) = UnixStream::connect(path).await {
            return Some(Connection::Unix(stream));
        }
    }
    None
}

/// The system's words in Go's spelling: lower case, without the number.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// `scheme://host:port/path`, in parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    pub scheme: &'a str,
    pub host: &'a str,
    /// Digits, or empty.
    pub port: &'a str,
    pub path: &'a str,
}

impl<'a> Url<'a> {
    /// What there is; the rest is empty.
    pub fn read(text: &'a str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text.split_once(':') {
                Some((first, _)) if first.parse::<std::net::IpAddr>().is_ok() => {
                    Err(format!("parse {text:?}: first path segment in URL cannot contain colon"))
                }
                Some((scheme, path)) => Ok(Self { scheme, host: "", port: "", path }),
                None => Ok(Self { scheme: "", host: "", port: "", path: text }),
            };
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, ""),
        };
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("parse {text:?}: invalid port \":{port}\" after host"));
        }
        Ok(Self { scheme, host: host.trim_start_matches('[').trim_end_matches(']'), port, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let url = |text| Url::read(text).unwrap();
        assert_eq!(url("udp://a.b:514"), Url { scheme: "udp", host: "a.b", port: "514", path: "" });
        assert_eq!(url("tcp://[::1]"), Url { scheme: "tcp", host: "::1", port: "", path: "" });
        assert_eq!(url("unix:///dev/log"), Url { scheme: "unix", host: "", port: "", path: "/dev/log" });
        assert_eq!(url("localhost:5"), Url { scheme: "localhost", host: "", port: "", path: "5" });
        assert!(Url::read("tcp://a:b").unwrap_err().contains("invalid port \":b\" after host"));
    }

    #[tokio::test]
    async fn nobody_there_is_told_as_go_tells_it() {
        let tcp = Connection::open(&Address::Tcp("127.0.0.1".into(), 1)).await.unwrap_err();
        assert_eq!(tcp, "dial tcp 127.0.0.1:1: connect: connection refused");
        let unix = Connection::open(&Address::Unix("/nowhere/at/all".into())).await.unwrap_err();
        assert_eq!(unix, "dial unix /nowhere/at/all: connect: no such file or directory");
    }
}
