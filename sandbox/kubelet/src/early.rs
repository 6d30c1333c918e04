//! Who calls the API server while it is about to start is not refused, but waits for it: until it listens, the kubelet of the control plane
//! holds its port, and then the kernel hands the connections that wait over to it (both share the port, socket(7), `SO_REUSEPORT`;
//! `tcp_migrate_req`, Linux 5.14). That is so when the kubelet starts with an API server to start; later nobody holds
//! the port, and a server that was stopped refuses.

use drydock_cluster::{API_PORT, Paths};
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::net::{TcpListener, TcpSocket};

/// How often to look whether the server listens: the kernel tells nobody.
const PAUSE: Duration = Duration::from_millis(5);
/// No longer than this is the port held: a server that does not start is to be seen.
const MOST: Duration = Duration::from_secs(3);
/// Whether waiting connections go to another socket of the same port when theirs is closed.
const MIGRATE: &str = "/proc/sys/net/ipv4/tcp_migrate_req";
/// Connections that wait.
const BACKLOG: u32 = 256;
/// `TCP_LISTEN` (linux/tcp_states.h).
const LISTEN: &str = "0A";

/// Holds the API server's port, if one is to be started and none is there.
pub fn hold(paths: &Paths) -> Option<TcpListener> {
    let new = !paths.pki().exists();
    let to_start = new || paths.manifests().join("kube-apiserver.yaml").exists();
    if !to_start || listeners() > 0 {
        return None;
    }
    match listen() {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::debug!(%error, "who calls the API server early is refused");
            None
        }
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), API_PORT))?;
    socket.listen(BACKLOG)
}

/// Lets go of the port when the API server listens.
pub async fn hand_over(held: TcpListener) {
    let looks = async {
        while listeners() < 2 {
            tokio::time::sleep(PAUSE).await;
        }
    };
    if tokio::time::timeout(MOST, looks).await.is_err() {
        tracing::warn!("the API server does not listen yet: from now on its port refuses");
    }
    if let Err(error) = fs::write(MIGRATE, "1") {
        tracing::debug!(%error, "who called the API server early is refused");
    }
    drop(held);
    let _stays_on = fs::write(MIGRATE, "0");
}

/// How many sockets listen at the API server's port.
fn listeners() -> usize {
    count(&fs::read_to_string("/proc/net/tcp").unwrap_or_default())
}

/// The same from the text of `/proc/net/tcp` (proc_net_tcp(5)): number, local address, remote address, state.
fn count(table: &str) -> usize {
    let port = format!(":{API_PORT:04X}");
    let listens = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some(LISTEN)
    };
    table.lines().filter(listens).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_at_the_port_is_counted() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             \x20  0: 00000000:192B 00000000:0000 0A 00000000:00000000\n\
             \x20  1: 0100007F:192B 00000000:0000 0A 00000000:00000000\n\
             \x20  2: 0100007F:192B 0100007F:D431 01 00000000:00000000\n\
             \x20  3: 0100007F:0016 0100007F:192B 0A 00000000:00000000\n";
        assert_eq!(count(table), 2);
        assert_eq!(count(""), 0);
    }
}
