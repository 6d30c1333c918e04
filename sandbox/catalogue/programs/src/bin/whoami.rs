//! What the image `whoami` runs: a web server that answers with its host name, its addresses and the request, so that a learner
//! sees which container answered. The port is 80, or `WHOAMI_PORT_NUMBER`; `WHOAMI_NAME` is told if it is set.

use nix::{
    ifaddrs::getifaddrs,
    sys::signal::{SigSet, Signal},
    unistd::gethostname,
};
use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// Longest head of a request, in bytes.
const MAX_HEAD: u64 = 16 * 1024;
/// Most connections at a time; more are closed at once.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may say nothing.
const PATIENCE: Duration = Duration::from_secs(30);

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

fn main() -> io::Result<()> {
    // Process 1 of a container has no default action for signals.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    ends.thread_block()?;
    thread::spawn(move || {
        let _which = ends.wait();
        std::process::exit(0);
    });
    let port = std::env::var("WHOAMI_PORT_NUMBER").ok().and_then(|p| p.parse().ok()).unwrap_or(80);
    // Both families where IPv6 is there, else IPv4 alone.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))))?;
    println!("Starting up on port {port}");
    for connection in listener.incoming().flatten() {
        if CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        thread::spawn(move || {
            let _client_gone = serve(&connection);
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

/// Answers requests until the client closes or asks for it.
fn serve(connection: &TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(connection);
    loop {
        let Some(request) = read_request(&mut reader)? else { return Ok(()) };
        let body = answer(connection, &request);
        let close = request.close;
        let mut response = String::from("HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n");
        let _infallible = write!(response, "Content-Length: {}\r\n", body.len());
        if close {
            response.push_str("Connection: close\r\n");
        }
        response.push_str("\r\n");
        if !request.head_only {
            response.push_str(&body);
        }
        (&mut &*connection).write_all(response.as_bytes())?;
        if close {
            return Ok(());
        }
    }
}

struct Request {
    lines: Vec<String>,
    close: bool,
    head_only: bool,
}

/// Reads a head and throws the body away; `None` at the end of the connection.
fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut lines = Vec::new();
    let mut head = reader.take(MAX_HEAD);
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" if lines.is_empty() => {}
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let mut fields = lines[1..].iter().filter_map(|l| l.split_once(':'));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let old = lines[0].ends_with("HTTP/1.0");
    let close = old || header("Connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
    let head_only = lines[0].starts_with("HEAD ");
    let length: u64 = header("Content-Length").and_then(|v| v.parse().ok()).unwrap_or(0);
    // A body of unknown length ends the connection: what follows could not be told from it.
    let close = close || header("Transfer-Encoding").is_some() || length > (1 << 20);
    io::copy(&mut reader.take(length.min(1 << 20)), &mut io::sink())?;
    Ok(Some(Request { lines, close, head_only }))
}

fn answer(connection: &TcpStream, request: &Request) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _infallible = writeln!(text, "{name}: {value}");
    };
    if let Ok(name) = std::env::var("WHOAMI_NAME") {
        line("Name", &name);
    }
    line("Hostname", &gethostname().unwrap_or_default().to_string_lossy());
    for address in getifaddrs().into_iter().flatten().filter_map(|i| i.address) {
        if let Some(v4) = address.as_sockaddr_in() {
            line("IP", &v4.ip().to_string());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            line("IP", &v6.ip().to_string());
        }
    }
    if let Ok(peer) = connection.peer_addr() {
        line("RemoteAddr", &SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string());
    }
    for line in &request.lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}
