//! port-forward: pairs of streams, one for data and one for an error, each pair a connection to a port. Called by a kubelet with the
//! upgraded connection (kubelet `pkg/kubelet/cri/streaming/portforward/{httpstream,websocket}.go`). Who listens at the port is the
//! caller's matter.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::negotiate::{Protocol, Wire};
use crate::pipe::{self, Duplex, Outgoing, Output};
use crate::spdy::{self, Stream};
use crate::tunnel::Tunnel;
use crate::websocket::{self, Connection, Served};

/// Half pairs that wait for their other half, and for how long (`DefaultStreamCreationTimeout`).
const MAX_HALF_PAIRS: usize = 128;
const PAIR_TIMEOUT: Duration = Duration::from_secs(30);
/// WebSocket channels are numbered by a byte, two for a port.
const MAX_PORTS: usize = 100;

/// A connection to a port of the pod.
#[derive(Debug)]
pub struct Forwarded {
    /// The port.
    pub port: u16,
    /// The connection's bytes, both ways.
    pub data: Duplex,
    /// Where to say that it failed.
    pub error: ForwardError,
}

/// The error stream of a forwarded connection.
#[derive(Debug)]
pub struct ForwardError {
    stream: u32,
    /// The data stream, which ends with it.
    data: u32,
    queue: mpsc::Sender<Outgoing>,
}

impl ForwardError {
    /// Ends the forwarded connection; `failure` is what the client prints.
    pub async fn finish(self, failure: Option<String>) {
        let text = failure.map(|text| Outgoing::Data(self.stream, Bytes::from(text)));
        for item in text.into_iter().chain([Outgoing::End(self.data), Outgoing::End(self.stream)]) {
            // The client is gone: there is nobody to tell.
            if self.queue.send(item).await.is_err() {
                return;
            }
        }
    }
}

/// A port-forward that is being served. It ends when the client closes it.
pub struct PortForward {
    kind: Kind,
}

enum Kind {
    Spdy { connection: spdy::Connection, halves: HashMap<String, Half> },
    Channels { pending: VecDeque<Forwarded>, connection: watch::Receiver<()> },
}

struct Half {
    data: Option<Stream>,
    error: Option<Stream>,
    since: Instant,
}

/// Reads the `ports` of a query; the error is what the client gets with 400 (`NewV4Options`).
pub fn ports<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Vec<u16>, String> {
    let mut ports = Vec::new();
    for value in values {
        if value.is_empty() {
            return Err("query parameter \"port\" cannot be empty".into());
        }
        for text in value.split(',') {
            ports.push(port(text).map_err(|reason| {
                reason.unwrap_or_else(|| format!("unable to parse \"{value}\" as a port"))
            })?);
        }
    }
    if ports.len() > MAX_PORTS { Err(format!("more than {MAX_PORTS} ports")) } else { Ok(ports) }
}

fn port(text: &str) -> Result<u16, Option<String>> {
    match text.parse() {
        Ok(0) => Err(Some(format!("port \"{text}\" must be > 0"))),
        Ok(port) => Ok(port),
        Err(_) => Err(None),
    }
}

/// Serves port-forwarding on an upgraded connection. `ports` are the query's: only WebSocket channels need them.
pub async fn port_forward<S: Connection>(stream: S, protocol: Protocol, ports: &[u16]) -> PortForward {
    let spdy = |connection| Kind::Spdy { connection, halves: HashMap::new() };
    let kind = match protocol.0 {
        Wire::Spdy { .. } => spdy(spdy::serve(stream)),
        Wire::Tunnel => spdy(spdy::serve(Tunnel::accept(stream).await)),
        Wire::Channels { encoding, version } => {
            let (queue, outgoing) = pipe::outgoing();
            let (alive, connection) = watch::channel(());
            let (mut inlets, mut pending) = (Vec::new(), VecDeque::new());
            let mut greetings = Vec::new();
            for (number, port) in (0u32..).zip(ports.iter().take(MAX_PORTS)) {
                let (data, error) = (number * 2, number * 2 + 1);
                let (inlet, input) = pipe::input();
                inlets.extend([Some(inlet), None]);
                // Each channel begins with its port, little-endian.
                greetings.extend(
                    [data, error]
                        .map(|channel| Outgoing::Data(channel, Bytes::copy_from_slice(&port.to_le_bytes()))),
                );
                pending.push_back(Forwarded {
                    port: *port,
                    data: Duplex { input, output: Output::new(data, queue.clone()) },
                    error: ForwardError { stream: error, data, queue: queue.clone() },
                });
            }
            tokio::spawn(websocket::serve(stream, Served { encoding, version, inlets, outgoing, alive }));
            for greeting in greetings {
                // A client that is gone already is noticed by whoever reads its data.
                let _ = queue.send(greeting).await;
            }
            Kind::Channels { pending, connection }
        }
    };
    PortForward { kind }
}

impl PortForward {
    /// The next connection that the client wants; none: the client is gone.
    pub async fn accept(&mut self) -> Option<Forwarded> {
        match &mut self.kind {
            Kind::Channels { pending, connection } => {
                if let Some(forwarded) = pending.pop_front() {
                    return Some(forwarded);
                }
                while connection.changed().await.is_ok() {}
                None
            }
            Kind::Spdy { connection, halves } => loop {
                let stream = connection.accept().await?;
                if let Some(forwarded) = pair(connection, halves, stream).await {
                    return Some(forwarded);
                }
            },
        }
    }
}

/// Takes a stream; a connection if it is the second of its pair.
async fn pair(
    connection: &spdy::Connection,
    halves: &mut HashMap<String, Half>,
    stream: Stream,
) -> Option<Forwarded> {
    let now = Instant::now();
    halves.retain(|_, half| now.saturating_duration_since(half.since) < PAIR_TIMEOUT);
    let is_data = match stream.header("streamtype") {
        "data" => true,
        "error" => false,
        _ => {
            stream.refuse(&connection.queue).await;
            return None;
        }
    };
    let valid = port(stream.header("port")).is_ok();
    let id = request_id(&stream, is_data);
    if !valid || (halves.len() >= MAX_HALF_PAIRS && !halves.contains_key(&id)) {
        stream.refuse(&connection.queue).await;
        return None;
    }
    let half = halves.entry(id.clone()).or_insert(Half { data: None, error: None, since: now });
    let place = if is_data { &mut half.data } else { &mut half.error };
    if place.is_some() {
        stream.refuse(&connection.queue).await;
        return None;
    }
    stream.take(&connection.queue).await;
    *place = Some(stream);
    if half.data.is_none() || half.error.is_none() {
        return None;
    }
    let half = halves.remove(&id)?;
    let (data, error) = (half.data?, half.error?);
    let error = ForwardError { stream: error.id, data: data.id, queue: connection.queue.clone() };
    Some(Forwarded { port: port(data.header("port")).ok()?, data: data.data, error })
}

/// Old clients send no request id: their error stream comes first and the data stream has the next number.
fn request_id(stream: &Stream, is_data: bool) -> String {
    match stream.header("requestid") {
        "" if is_data => stream.id.wrapping_sub(2).to_string(),
        "" => stream.id.to_string(),
        id => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::ports;

    #[test]
    fn ports_of_a_query() {
        assert_eq!(ports(["80", "443,8080"]), Ok(vec![80, 443, 8080]));
        assert_eq!(ports([""]), Err("query parameter \"port\" cannot be empty".into()));
        assert_eq!(ports(["0"]), Err("port \"0\" must be > 0".into()));
        assert_eq!(ports(["65536"]), Err("unable to parse \"65536\" as a port".into()));
    }
}
