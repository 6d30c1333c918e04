//! A server that answers `docker run --rm` at once and does nothing: what the official client needs for itself.

use std::path::Path;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// Listens on a socket, on a thread of its own, for as long as this process lives.
pub fn serve(socket: &Path) {
    let listener = std::os::unix::net::UnixListener::bind(socket).expect("a socket");
    listener.set_nonblocking(true).expect("a socket that does not block");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (listener, started) =
                (UnixListener::from_std(listener).expect("a socket"), watch::Sender::new(false));
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, started.clone()));
            }
        });
    });
}

/// Answers one connection's requests; those that wait for the container wait for `started`.
async fn converse(stream: UnixStream, started: watch::Sender<bool>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let path = request(&mut stream).await?;
        let mut run = started.subscribe();
        let answer = match path.rsplit('/').next()?.split('?').next()? {
            "_ping" => "200 OK\r\nApi-Version: 1.51\r\nOstype: linux\r\nContent-Length: 0".to_owned(),
            "create" => {
                started.send_replace(false);
                let body = r#"{"Id":"0123456789ab","Warnings":[]}"#;
                format!(
                    "201 Created\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            "start" => {
                started.send_replace(true);
                "204 No Content".to_owned()
            }
            "attach" => {
                let head = "101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/vnd.docker.multiplexed-stream";
                say(&mut stream, head).await?;
                run.wait_for(|started| *started).await.ok()?;
                return None;
            }
            "wait" => {
                let head = "200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
                say(&mut stream, head).await?;
                run.wait_for(|started| *started).await.ok()?;
                stream.write_all(b"10\r\n{\"StatusCode\":0}\r\n0\r\n\r\n").await.ok()?;
                continue;
            }
            _ => "404 Not Found\r\nContent-Length: 0".to_owned(),
        };
        say(&mut stream, &answer).await?;
    }
}

/// Reads a request whole; its path.
async fn request(stream: &mut BufReader<UnixStream>) -> Option<String> {
    let (mut path, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        match (&path, line.split_once(": ")) {
            (None, _) => path = Some(line.split(' ').nth(1)?.to_owned()),
            (_, Some(("Content-Length", value))) => length = value.parse().ok()?,
            _ if line.is_empty() => break,
            _ => {}
        }
    }
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    path
}

/// A head without its end, or with its end and a body.
async fn say(stream: &mut BufReader<UnixStream>, answer: &str) -> Option<()> {
    let end = if answer.contains("\r\n\r\n") { "" } else { "\r\n\r\n" };
    stream.write_all(format!("HTTP/1.1 {answer}{end}").as_bytes()).await.ok()
}
