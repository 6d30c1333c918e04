//! exec, attach and port-forward: the client's connection is taken over and joined to the engine's, or to a port of the pod
//! (`pkg/kubelet/cri/streaming`).

use super::{Answer, Query, full, text};
use crate::{
    docker::{Docker, Frames, Source},
    kubelet::Kubelet,
    network,
    pods::{labels, observed::Observed, pod},
};
use drydock_streaming::{
    Channels, Forwarded, Negotiated, Options, Outcome, Purpose, TerminalSize, negotiate, port_forward, ports,
    remote_command,
};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::{fs::File, net::TcpStream as StdTcpStream, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional, split},
    net::TcpStream,
    sync::mpsc,
};

/// How often, and how long after a failure, the size of a terminal is set.
const RESIZE_ATTEMPTS: u32 = 20;
const RESIZE_RETRY: Duration = Duration::from_millis(50);
/// Time for a connection to a port of the pod.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// What is said of a container that does not run (`GetExec`, `GetAttach` of `pkg/kubelet/kubelet_pods.go`); clients put before it that
/// the connection was not upgraded.
fn not_running(verb: Verb, namespace: &str, name: &str, container: &str) -> String {
    match verb {
        Verb::Exec => format!("container not found (\"{container}\")"),
        Verb::Attach => format!("container {container} not found in pod {name}_{namespace}"),
    }
}

/// What somebody wants of a container.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Exec,
    Attach,
}

/// The pod and the id of its running container.
async fn find(
    kubelet: &Kubelet,
    verb: Verb,
    namespace: &str,
    name: &str,
    container: &str,
) -> Result<(Arc<Pod>, String), Answer> {
    let found = kubelet.pods.find(namespace, name);
    let found = found.ok_or_else(|| text(StatusCode::NOT_FOUND, "pod does not exist"))?;
    let observed = Observed::of(&kubelet.docker, pod::uid(&found)).await;
    let observed = observed.map_err(|e| text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    match observed.newest(container).filter(|c| c.state.running) {
        Some(running) => Ok((found, running.id.clone())),
        None => {
            let words = not_running(verb, namespace, name, container);
            Err(text(StatusCode::INTERNAL_SERVER_ERROR, words))
        }
    }
}

fn agree(purpose: Purpose, request: &Request<Incoming>) -> Result<Negotiated, Answer> {
    negotiate(purpose, request.headers()).map_err(|refusal| {
        let mut answer = text(refusal.status, refusal.message);
        answer.headers_mut().extend(refusal.headers);
        answer
    })
}

fn switch(negotiated: &Negotiated) -> Answer {
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().extend(negotiated.headers.clone());
    answer
}

/// Runs a command in a container.
pub async fn exec(
    kubelet: &Arc<Kubelet>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let options = match Options::from_query(query.pairs()) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    let id = match find(kubelet, Verb::Exec, namespace, name, container).await {
        Ok((_, id)) => id,
        Err(answer) => return answer,
    };
    let negotiated = match agree(Purpose::RemoteCommand, &request) {
        Ok(negotiated) => negotiated,
        Err(answer) => return answer,
    };
    let answer = switch(&negotiated);
    let kubelet = kubelet.clone();
    tokio::spawn(async move {
        let Ok(connection) = hyper::upgrade::on(request).await else { return };
        let channels = remote_command(TokioIo::new(connection), negotiated.protocol, options).await;
        let Ok(channels) = channels else { return };
        run(&kubelet.docker, &id, &command, options, channels).await;
    });
    answer
}

async fn run(docker: &Docker, id: &str, command: &[String], options: Options, channels: Channels) {
    let body = json!({
        "Cmd": command,
        "Tty": options.tty,
        "AttachStdin": options.stdin,
        "AttachStdout": options.stdout,
        "AttachStderr": options.stderr,
    });
    let started = async {
        let exec = docker.create_exec(id, &body).await?;
        let stream = docker.start_exec(&exec, options.tty).await?;
        Ok::<_, crate::docker::DockerError>((exec, stream))
    };
    match started.await {
        Ok((exec, stream)) => {
            let resized = (docker.clone(), exec.clone(), true);
            let exit = join(stream, channels, options.tty, resized).await;
            let outcome = match docker.inspect_exec(&exec).await {
                Ok(details) => match details.exit_code.unwrap_or(0) {
                    0 => Outcome::Success,
                    code => Outcome::ExitCode(code),
                },
                Err(e) => Outcome::Failure { message: e.to_string() },
            };
            exit.finish(outcome).await;
        }
        Err(e) => {
            let message = format!("error executing command in container: {e}");
            channels.exit.finish(Outcome::Failure { message }).await;
        }
    }
}

/// Joins a client to a running container.
pub async fn attach(
    kubelet: &Arc<Kubelet>,
    namespace: &str,
    name: &str,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let (found, id) = match find(kubelet, Verb::Attach, namespace, name, container).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let mut options = match Options::from_query(query.pairs()) {
        Ok(options) => options,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    // What the container has, not what the client thinks (`AttachContainer`).
    let tty = pod::container(&found, container).is_some_and(|c| c.tty == Some(true));
    options.stderr &= !tty;
    let negotiated = match agree(Purpose::RemoteCommand, &request) {
        Ok(negotiated) => negotiated,
        Err(answer) => return answer,
    };
    let answer = switch(&negotiated);
    let kubelet = kubelet.clone();
    tokio::spawn(async move {
        let Ok(connection) = hyper::upgrade::on(request).await else { return };
        let channels = remote_command(TokioIo::new(connection), negotiated.protocol, options).await;
        let Ok(channels) = channels else { return };
        let flag = |name: &str, wanted: bool| if wanted { format!("{name}=1&") } else { String::new() };
        let wanted =
            flag("stdin", options.stdin) + &flag("stdout", options.stdout) + &flag("stderr", options.stderr);
        match kubelet.docker.attach(&id, &wanted).await {
            Ok(stream) => {
                let resized = (kubelet.docker.clone(), id.clone(), false);
                join(stream, channels, tty, resized).await.finish(Outcome::Success).await;
            }
            Err(e) => channels.exit.finish(Outcome::Failure { message: e.to_string() }).await,
        }
    });
    answer
}

/// Passes everything both ways until the engine's side ends or the client is gone. `resized`: whose terminal follows the client's
/// (id, whether it is an exec's).
async fn join(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    channels: Channels,
    tty: bool,
    resized: (Docker, String, bool),
) -> drydock_streaming::Exit {
    let Channels { stdin, mut stdout, mut stderr, resize, mut exit } = channels;
    let (mut reader, mut writer) = split(stream);
    let input = tokio::spawn(async move {
        if let Some(mut stdin) = stdin {
            // Its end is the end of the command's input; the output goes on.
            if tokio::io::copy(&mut stdin, &mut writer).await.is_ok() {
                let _closed_already = writer.shutdown().await;
            }
        }
        // Kept, so that the connection stays open for the output.
        std::future::pending::<()>().await;
    });
    let sizes = tokio::spawn(async move {
        let (docker, id, exec) = resized;
        let Some(resize) = resize else { return };
        let set = |size: TerminalSize| {
            let (docker, id) = (docker.clone(), id.clone());
            async move { docker.resize(&id, exec, size.height, size.width).await }
        };
        follow(resize, set).await;
    });
    let output = copy_out(&mut reader, tty, &mut stdout, &mut stderr);
    tokio::select! {
        () = output => {}
        () = exit.disconnected() => {}
    }
    input.abort();
    sizes.abort();
    for output in [stdout, stderr].iter_mut().flatten() {
        let _client_gone = output.shutdown().await;
    }
    exit
}

/// Passes output on to its end. A stream that the client does not take any more is left out; the command goes on.
async fn copy_out<W: AsyncWrite + Unpin>(
    reader: &mut (impl AsyncRead + Unpin),
    tty: bool,
    stdout: &mut Option<W>,
    stderr: &mut Option<W>,
) {
    let (mut frames, mut buffer) = (Frames::new(tty), vec![0; 16 << 10]);
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        for (source, data) in frames.push(&buffer[..length]) {
            let to = if source == Source::Err { &mut *stderr } else { &mut *stdout };
            if let Some(open) = to
                && let Err(error) = open.write_all(&data).await
            {
                tracing::debug!(%error, ?source, "a client does not take the output of a command");
                *to = None;
            }
        }
    }
}

/// Has a terminal follow the client's sizes. The first one may come before the command has its terminal: the newest size is tried again.
async fn follow<E: std::fmt::Display, F: Future<Output = Result<(), E>>>(
    mut sizes: mpsc::Receiver<TerminalSize>,
    set: impl Fn(TerminalSize) -> F,
) {
    let mut due = None;
    loop {
        let (size, attempt) = match due {
            None => match sizes.recv().await {
                Some(size) => (size, 1),
                None => return,
            },
            Some((last, attempt)) => tokio::select! {
                Some(newer) = sizes.recv() => (newer, 1),
                () = tokio::time::sleep(RESIZE_RETRY) => (last, attempt),
            },
        };
        due = match set(size).await {
            Ok(()) => None,
            Err(_) if attempt < RESIZE_ATTEMPTS => Some((size, attempt + 1)),
            Err(error) => {
                tracing::warn!(%error, "a terminal could not be resized");
                None
            }
        };
    }
}

/// Connects a client to ports of a pod.
pub async fn forward(
    kubelet: &Arc<Kubelet>,
    namespace: &str,
    name: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let Some(found) = kubelet.pods.find(namespace, name) else {
        return text(StatusCode::NOT_FOUND, "pod does not exist");
    };
    let values: Vec<&str> = query.all("port").chain(query.all("ports")).collect();
    let wanted = match ports(values) {
        Ok(ports) => ports,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    let negotiated = match agree(Purpose::PortForward, &request) {
        Ok(negotiated) => negotiated,
        Err(answer) => return answer,
    };
    let answer = switch(&negotiated);
    let kubelet = kubelet.clone();
    tokio::spawn(async move {
        let Ok(connection) = hyper::upgrade::on(request).await else { return };
        let mut forwards = port_forward(TokioIo::new(connection), negotiated.protocol, &wanted).await;
        while let Some(forwarded) = forwards.accept().await {
            let (kubelet, found) = (kubelet.clone(), found.clone());
            tokio::spawn(async move { one(&kubelet, &found, forwarded).await });
        }
    });
    answer
}

async fn one(kubelet: &Kubelet, pod: &Pod, forwarded: Forwarded) {
    let Forwarded { port, mut data, error } = forwarded;
    let failure = match dial(kubelet, pod, port).await {
        Ok(mut stream) => {
            // How it ends both sides see for themselves.
            let _ended = copy_bidirectional(&mut data, &mut stream).await;
            None
        }
        Err(why) => {
            let sandbox = pod::uid(pod);
            Some(format!("error forwarding port {port} to pod {sandbox}, uid : {why}"))
        }
    };
    error.finish(failure).await;
}

/// Connects from inside the pod's network to its own address of the loopback.
async fn dial(kubelet: &Kubelet, pod: &Pod, port: u16) -> Result<TcpStream, String> {
    if pod::is_host_network(pod) {
        return TcpStream::connect(("127.0.0.1", port)).await.map_err(|e| e.to_string());
    }
    let listed = kubelet.docker.list(&format!("{}={}", labels::POD_UID, pod::uid(pod))).await;
    let listed = listed.map_err(|e| e.to_string())?;
    let sandbox = listed.iter().find(|c| {
        c.state == "running" && c.labels.get(labels::TYPE).map(String::as_str) == Some(labels::SANDBOX)
    });
    let id = sandbox.map(|s| s.id.clone()).ok_or("sandbox container is not running")?;
    let details = kubelet.docker.inspect(&id).await.map_err(|e| e.to_string())?;
    let path = format!("/proc/{}/ns/net", details.state.pid);
    let namespace = File::open(&path).map_err(|e| format!("{path}: {e}"))?;
    let connected = tokio::task::spawn_blocking(move || {
        network::inside(&namespace, || {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
            Ok(StdTcpStream::connect_timeout(&address, DIAL_TIMEOUT))
        })
    });
    let connected = connected.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let stream = connected.map_err(|e| {
        format!(
            "failed to execute portforward in network namespace \"{path}\": failed to connect to localhost:{port} inside namespace \"{id}\", IPv4: dial tcp4 127.0.0.1:{port}: connect: {}",
            crate::probes::words(&e)
        )
    })?;
    stream.set_nonblocking(true).map_err(|e| e.to_string())?;
    TcpStream::from_std(stream).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_does_not_run_is_told_in_upstreams_words() {
        assert_eq!(not_running(Verb::Exec, "default", "p", "c"), "container not found (\"c\")");
        assert_eq!(not_running(Verb::Attach, "default", "p", "c"), "container c not found in pod p_default");
    }

    #[tokio::test(start_paused = true)]
    async fn a_size_that_comes_too_early_is_set_again_and_the_newest_counts() {
        let (send, sizes) = mpsc::channel(4);
        let size = |width| TerminalSize { width, height: 24 };
        let (done, mut set) = mpsc::unbounded_channel();
        send.send(size(80)).await.unwrap();
        let attempts = std::cell::Cell::new(0);
        let following = follow(sizes, |size: TerminalSize| {
            attempts.set(attempts.get() + 1);
            let early = attempts.get() < 3 || size.width == 1;
            let answer = if early { Err("cannot resize a stopped exec process") } else { Ok(()) };
            if answer.is_ok() {
                done.send(size.width).unwrap();
            }
            async move { answer }
        });
        let asking = async {
            assert_eq!(set.recv().await, Some(80));
            // One that is never taken holds up no other.
            send.send(size(1)).await.unwrap();
            send.send(size(100)).await.unwrap();
            assert_eq!(set.recv().await, Some(100));
            drop(send);
        };
        tokio::join!(following, asking);
    }

    #[tokio::test]
    async fn a_client_that_takes_one_stream_gets_that_one() {
        let frame = |stream: u8, text: &str| {
            let mut frame = vec![stream, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()];
            frame.extend_from_slice(text.as_bytes());
            frame
        };
        let all = [frame(2, "lost"), frame(1, "one "), frame(2, "lost"), frame(1, "two")].concat();
        let (mut client, mut stdout) = {
            let (client, server) = tokio::io::duplex(64);
            (client, Some(server))
        };
        let mut stderr = Some(tokio::io::duplex(64).1);
        copy_out(&mut &all[..], false, &mut stdout, &mut stderr).await;
        drop(stdout);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), stderr.is_none()), ("one two", true));
    }
}
