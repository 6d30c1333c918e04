//! The kubelet's life, from its birth to its end. Read [`start`] for what starts in which order.

use crate::{
    bootstrap,
    command_line::{CommandLine, CommandLineError},
    docker::Docker,
    early,
    host_ports::HostPorts,
    images::Images,
    kubelet::{Kubelet, Notes},
    network::Network,
    node::{self, Machine},
    objects::Objects,
    pods::{eviction, labels, manager::Pods, static_pods},
    probes::Probes,
    routes,
    server::{self, Figures},
    settings::{Settings, SettingsError},
    statuses::Statuses,
    volumes::Tokens,
};
use drydock_cluster::{Cluster, Paths};
use drydock_kubeclient::{Informer, Klog, Recorder, crash::panics_end_the_process, informer::Source};
use drydock_runtime::cluster::KubeletBoot;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// How long after a failure the engine is asked again.
const ENGINE_RETRY: Duration = Duration::from_millis(200);

/// From this one of klog's levels on everything is told.
const DEBUG: u64 = 4;

fn log(verbosity: u64) -> impl tracing::Subscriber + Send + Sync {
    let filter = if verbosity >= DEBUG { LevelFilter::DEBUG } else { LevelFilter::INFO };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(filter).event_format(Klog).finish()
}

/// Runs the kubelet of a node until it is told to stop. Returns the exit status for the process.
pub fn run(boot: KubeletBoot) -> i32 {
    // A client that goes away must not take the kubelet with it.
    let mut pipe = nix::sys::signal::SigSet::empty();
    pipe.add(nix::sys::signal::Signal::SIGPIPE);
    let _always_works = pipe.thread_block();
    let paths = Paths::default();
    let line = CommandLine::of_unit(&paths.kubelet_drop_in());
    let verbosity = line.as_ref().map_or(0, CommandLine::verbosity);
    let _log = tracing::subscriber::set_default(log(verbosity));
    // Its init starts it again; a pod whose task panicked would have nobody.
    panics_end_the_process(|| false);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime for the kubelet");
            return 1;
        }
    };
    let status = runtime.block_on(async {
        match start(boot, line, &paths).await {
            Ok(()) => 0,
            Err(error) => {
                tracing::error!(%error, "command failed");
                1
            }
        }
    });
    runtime.shutdown_background();
    status
}

/// Why the kubelet can't start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Cluster(#[from] drydock_cluster::Error),
    #[error(transparent)]
    Network(#[from] crate::network::NetworkError),
    #[error(transparent)]
    Config(#[from] drydock_kubeclient::ConfigError),
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

async fn start(
    boot: KubeletBoot,
    line: Result<CommandLine, CommandLineError>,
    paths: &Paths,
) -> Result<(), StartError> {
    let line = line?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let node = boot.node.to_string();
    let cluster = Cluster {
        seed: &boot.cluster.seed.0,
        created: boot.cluster.created,
        node: &node,
        address: boot.address,
        control_plane: boot.control_plane,
    };
    if cluster.is_control_plane()
        && let Some(held) = early::hold(paths)
    {
        tokio::spawn(early::hand_over(held));
    }
    drydock_cluster::set_up(&cluster, paths)?;
    for flag in &line.unused {
        tracing::warn!("Flag --{flag} has no effect here");
    }
    let settings = Settings::read(&line, paths)?;
    let _log = (settings.verbosity() != line.verbosity())
        .then(|| tracing::subscriber::set_default(log(settings.verbosity())));
    let server = cluster.server();
    let network = Network::new(boot.node.number());
    network.prepare()?;
    let config = line.kubeconfig.unwrap_or_else(|| paths.kubelet_config());
    let kubelet = assemble(boot, &config, settings, network).await?;
    if kubelet.boot.is_control_plane() {
        tokio::spawn(bootstrap::run(server, node.clone()));
    }
    let manifests = kubelet.settings.manifests();
    tokio::spawn({
        let kubelet = kubelet.clone();
        async move { static_pods::watch(kubelet, &manifests).await }
    });
    tokio::spawn(listen_to_engine(kubelet.clone()));
    tokio::spawn(node::keep(kubelet.clone()));
    tokio::spawn(eviction::watch(kubelet.clone()));
    tokio::spawn({
        let kubelet = kubelet.clone();
        async move { kubelet.statuses.run().await }
    });
    tokio::spawn({
        let kubelet = kubelet.clone();
        async move { kubelet.pods.keep_mirrors(&kubelet).await }
    });
    let network = drydock_kubeclient::connect(&paths.network_config(), "pod-network")?;
    let nodes = Informer::with_transform(network, Source::all::<Node>(), routes::strip);
    tokio::spawn(routes::keep(kubelet.clone(), nodes));
    tokio::spawn({
        let kubelet = kubelet.clone();
        async move { kubelet.network.allow().await }
    });
    tokio::spawn({
        let kubelet = kubelet.clone();
        let ((certificate, key), authority) = (paths.kubelet_serving(), kubelet.settings.client_ca());
        async move { server::serve(kubelet, &certificate, &key, &authority).await }
    });
    tokio::spawn(server::serve_health(kubelet.settings.healthz_port()));
    let told = kubelet.clone();
    kubelet.known.subscribe(move |event| told.pods.told(&told, event));
    kubelet.known.start();
    kubelet.services.start();
    tokio::spawn({
        let kubelet = kubelet.clone();
        async move {
            kubelet.known.synced().await;
            kubelet.pods.sweep(&kubelet).await;
        }
    });
    terminate.recv().await;
    Ok(())
}

async fn assemble(
    boot: KubeletBoot,
    config: &Path,
    settings: Settings,
    network: Network,
) -> Result<Arc<Kubelet>, StartError> {
    let docker = Docker::at(settings.engine_socket());
    let client = drydock_kubeclient::connect(config, "kubelet")?;
    let machine = loop {
        match Machine::of(&docker, &settings).await {
            Ok(machine) => break machine,
            Err(error) => {
                tracing::error!(%error, "Container runtime sanity check failed");
                tokio::time::sleep(ENGINE_RETRY).await;
            }
        }
    };
    let host_ports = HostPorts::default();
    // Addresses and ports of pods that ended while nobody looked.
    if let Ok(listed) = docker.list(&format!("{}={}", labels::TYPE, labels::SANDBOX)).await {
        let running: Vec<String> =
            listed.into_iter().filter(|c| c.state == "running").map(|c| c.id).collect();
        network.keep_only(&running);
        host_ports.keep_only(&running).await;
    }
    let node = boot.node.to_string();
    let mine = Source::all::<Pod>().fields(format!("spec.nodeName={node}"));
    let strip = |pod: &mut Pod| pod.metadata.managed_fields = None;
    let known = Informer::with_transform(client.clone(), mine, strip);
    let pods = Arc::new(Pods::default());
    let woken = pods.clone();
    Ok(Arc::new(Kubelet {
        host_ip: boot.address,
        recorder: Recorder::new(client.clone(), "kubelet", Some(&node)),
        services: Informer::with_transform(
            client.clone(),
            Source::all::<Service>(),
            |service: &mut Service| {
                service.metadata.managed_fields = None;
                service.metadata.annotations = None;
            },
        ),
        objects: Objects::new(client.clone(), Arc::new(move |uid| woken.wake(uid))),
        tokens: Tokens::default(),
        images: Images::default(),
        network,
        host_ports,
        probes: Probes::default(),
        statuses: Arc::new(Statuses::new(client.clone(), known.clone())),
        notes: Notes::default(),
        figures: Figures::new(),
        pods,
        known,
        client,
        docker,
        machine,
        settings,
        node,
        boot,
    }))
}

/// Wakes pods when something happens to their containers (upstream polls for this: PLEG).
async fn listen_to_engine(kubelet: Arc<Kubelet>) {
    loop {
        let told = kubelet.clone();
        let ended = kubelet.docker.events(labels::POD_UID, move |event| {
            if matches!(event.action.as_str(), "die" | "destroy" | "oom")
                && let Some(uid) = event.actor.attributes.get(labels::POD_UID)
            {
                told.wake(uid);
            }
        });
        let failure = ended.await.err();
        kubelet.set_engine_failure(failure.map(|e| e.to_string()));
        tokio::time::sleep(ENGINE_RETRY).await;
        if kubelet.docker.info().await.is_ok() {
            kubelet.set_engine_failure(None);
            // What happened meanwhile was not heard.
            kubelet.pods.wake_all();
        }
    }
}
