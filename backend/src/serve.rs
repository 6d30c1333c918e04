//! `drydock serve`: the root steps, then the web process. [`Server`] is the web process without the root steps, so
//! that tests can run it. Sessions outlive it; it says so when it ends.

use crate::{
    api::{App, router},
    config::Config,
    net,
    page::Page,
    root,
    sessions::Sessions,
};
use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

/// Time for pages to hear that the server restarts.
const GOODBYE_WITHIN: Duration = Duration::from_secs(3);

/// The whole life of `drydock serve`, whose options have been checked. Must be called before any thread exists.
pub fn run(state_dir: &Path, config: Config) -> anyhow::Result<()> {
    let root::Prepared { state_dir, listener, warden } = root::prepare(state_dir, &config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let server = Server::start(config, &state_dir, listener).await?;
        drop(warden);
        let app = server.app.clone();
        let url = app.sessions.config.public_url.clone().unwrap_or(format!("http://{}", app.listen));
        let (fit, run) = (app.sessions.capacity, app.sessions.running());
        tell(&format!("Drydock is at {url}\n{fit} sessions fit, {run} run. State: {}", state_dir.display()));
        let mut stop = app.stop.subscribe();
        loop {
            tokio::select! {
                // A terminal that goes, or an operator who thinks that options are read again.
                _ = hangup.recv() => {
                    tracing::warn!("SIGHUP: options are read at the start only; start this server again, sessions go on");
                    continue;
                }
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = stop.wait_for(|s| *s) => {}
            }
            break;
        }
        server.finish().await;
        if *app.stop.borrow() {
            tell("Stopped; no session is left.");
        } else {
            let run = app.sessions.running();
            tell(&format!("The server ends; {run} sessions go on. `drydock stop` ends them too."));
        }
        anyhow::Ok(())
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// Tells who has started the server, as long as somebody listens.
fn tell(text: &str) {
    if let Err(e) = writeln!(io::stdout(), "{text}") {
        tracing::debug!(error = %e, text, "nobody reads the output");
    }
}

/// The web process.
#[derive(Debug)]
pub struct Server {
    /// What its handlers use.
    pub app: App,
    tasks: [JoinHandle<()>; 2],
    socket: std::path::PathBuf,
    _only_one: Flock<File>,
}

impl Server {
    /// Takes up what runs and begins to serve. `state_dir` must have its layout.
    pub async fn start(config: Config, state_dir: &Path, listener: TcpListener) -> anyhow::Result<Self> {
        let web = state_dir.join("web");
        let lock = File::create(web.join("lock")).context("cannot open web/lock in the state directory")?;
        let only_one = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| {
            anyhow::anyhow!(
                "another drydock serve uses {}: stop it, or choose another --state-dir ({e})",
                state_dir.display()
            )
        })?;
        let listen: SocketAddr = listener.local_addr()?;
        let (most, shared) = (config.max_connections as usize, config.behind_proxy);
        let capacity =
            config.capacity(host_memory(), std::thread::available_parallelism().map_or(1, |n| n.get()));
        let page = Arc::new(Page::new(config.wildcard_domain.as_deref()));
        let sessions = Sessions::start(config, capacity, state_dir).await?;
        let app = App { sessions, page, listen, stop: watch::Sender::new(false) };

        let socket = web.join("api.sock");
        // Left by a server that was killed; the lock says that none uses it.
        if let Err(e) = fs::remove_file(&socket)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(e).context("cannot remove the old web/api.sock");
        }
        let operator = UnixListener::bind(&socket).context("cannot make web/api.sock")?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;

        let router = router(app.clone());
        let closing = || app.sessions.closing.subscribe();
        let web_listener = tokio::net::TcpListener::from_std(listener)?;
        let tasks = [
            tokio::spawn(net::serve_web(web_listener, router.clone(), most, shared, closing())),
            tokio::spawn(net::serve_operator(operator, router, closing())),
        ];
        Ok(Self { app, tasks, socket, _only_one: only_one })
    }

    /// Tells every page to come back, finishes what is under way, and ends. Sessions go on.
    pub async fn finish(self) {
        self.app.sessions.closing.send_replace(true);
        for task in self.tasks {
            if let Err(e) = task.await {
                tracing::error!(error = %e, "a listener failed");
            }
        }
        // Resolved when the last connection has let go of its receiver.
        if tokio::time::timeout(GOODBYE_WITHIN, self.app.sessions.closing.closed()).await.is_err() {
            tracing::info!("some pages did not hear the goodbye");
        }
        if let Err(e) = fs::remove_file(&self.socket) {
            tracing::debug!(error = %e, "api.sock");
        }
    }
}

/// The host's memory in bytes.
fn host_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
