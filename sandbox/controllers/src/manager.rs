//! Puts the controllers together: which of them are on, leader election, and the start of all in one go. Called by `drydock-kube`.

use futures_util::future::BoxFuture;
use std::time::Duration;

use drydock_kubeclient::Elector;
use drydock_kubeclient::events::Recorder;
use drydock_kubeclient::leader::Times;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use kube::Client;

use crate::context::{Context, Running};
use crate::error::Error;
use crate::{
    admission_policy, autoscaler, certificates, cluster_roles, credentials, cronjob, daemonset, deployment,
    disruption, endpoints, garbage, job, namespace, node, quota, replicaset, resource_claim, service_account,
    service_cidr, service_lb, statefulset, tokens, volumes,
};

/// What the command line of kube-controller-manager says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--controllers`: names, `*` for those that are on by default, `-NAME` for off.
    pub controllers: Vec<String>,
    /// `--use-service-account-credentials`: whether controllers have service accounts.
    pub service_accounts: bool,
    /// `--leader-elect`: the name of this candidate; absent: no election.
    pub leader_identity: Option<String>,
    /// `--cluster-cidr`: addresses of pods of the whole cluster.
    pub cluster_cidr: Option<String>,
    /// `--allocate-node-cidrs`: whether nodes get a part of them each.
    pub allocate_node_cidrs: bool,
    /// `--node-cidr-mask-size`: how large a part, as the length of its prefix.
    pub node_cidr_mask_size: u32,
    /// `--root-ca-file`: the certificate authority of the API server, as PEM.
    pub root_ca: Option<String>,
    /// `--service-account-private-key-file`: signs tokens in secrets, as PEM.
    pub service_account_key: Option<String>,
    /// `--cluster-signing-cert-file`: signs certificates, as PEM.
    pub signing_certificate: Option<String>,
    /// `--cluster-signing-key-file`: its key, as PEM.
    pub signing_key: Option<String>,
    /// `--cluster-signing-duration`: for how long certificates hold at most.
    pub signing_duration: Duration,
    /// `--node-monitor-period`: how often nodes are looked at.
    pub node_monitor_period: Duration,
    /// `--node-monitor-grace-period`: how long a node may be silent.
    pub node_monitor_grace_period: Duration,
    /// `--node-startup-grace-period`: and how long before its first word.
    pub node_startup_grace_period: Duration,
    /// `--terminated-pod-gc-threshold`: so many ended pods are kept; 0: all.
    pub terminated_pod_gc_threshold: usize,
    /// `--horizontal-pod-autoscaler-sync-period`.
    pub autoscaler_period: Duration,
    /// `--horizontal-pod-autoscaler-tolerance`.
    pub autoscaler_tolerance: f64,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`.
    pub autoscaler_stabilization: Duration,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`.
    pub autoscaler_readiness_delay: Duration,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`.
    pub autoscaler_cpu_initialization: Duration,
}

impl Default for Settings {
    /// The defaults of upstream's flags.
    fn default() -> Self {
        Self {
            controllers: vec!["*".into()],
            service_accounts: false,
            leader_identity: None,
            cluster_cidr: None,
            allocate_node_cidrs: false,
            node_cidr_mask_size: 24,
            root_ca: None,
            service_account_key: None,
            signing_certificate: None,
            signing_key: None,
            signing_duration: Duration::from_secs(365 * 24 * 3600),
            node_monitor_period: Duration::from_secs(5),
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            terminated_pod_gc_threshold: 12500,
            autoscaler_period: Duration::from_secs(15),
            autoscaler_tolerance: 0.1,
            autoscaler_stabilization: Duration::from_secs(300),
            autoscaler_readiness_delay: Duration::from_secs(30),
            autoscaler_cpu_initialization: Duration::from_secs(300),
        }
    }
}

/// A controller of the table.
struct Entry {
    /// Its name for `--controllers`.
    name: &'static str,
    /// The name that it had before 1.28, which is still understood.
    alias: &'static str,
    /// Whether `*` means it too.
    by_default: bool,
    /// Sets it up; `None`: the command line gives it nothing to do.
    start: fn(&Context) -> Option<Running>,
}

const fn entry(name: &'static str, alias: &'static str, start: fn(&Context) -> Option<Running>) -> Entry {
    Entry { name, alias, by_default: true, start }
}

/// All controllers, by upstream's names (cmd/kube-controller-manager/names).
static CONTROLLERS: &[Entry] = &[
    entry("endpoints-controller", "endpoint", |context| Some(endpoints::legacy::start(context))),
    entry("endpointslice-controller", "endpointslice", |context| {
        Some(endpoints::slice_control::start(context))
    }),
    entry("endpointslice-mirroring-controller", "endpointslicemirroring", |context| {
        Some(endpoints::mirror::start(context))
    }),
    entry("replicationcontroller-controller", "replicationcontroller", |context| {
        Some(replicaset::control::start::<ReplicationController>(context, "replication-controller"))
    }),
    entry("pod-garbage-collector-controller", "podgc", |context| Some(node::pod_gc::start(context))),
    entry("namespace-controller", "namespace", |context| Some(namespace::control::start(context))),
    entry("serviceaccount-token-controller", "serviceaccount-token", tokens::service_accounts::start),
    Entry {
        name: "bootstrap-signer-controller",
        alias: "bootstrapsigner",
        by_default: false,
        start: |context| Some(tokens::bootstrap::start_signer(context)),
    },
    Entry {
        name: "token-cleaner-controller",
        alias: "tokencleaner",
        by_default: false,
        start: |context| Some(tokens::bootstrap::start_cleaner(context)),
    },
    entry("serviceaccount-controller", "serviceaccount", |context| {
        Some(service_account::start_accounts(context))
    }),
    entry("garbage-collector-controller", "garbagecollector", |context| {
        Some(garbage::control::start(context))
    }),
    entry("daemonset-controller", "daemonset", |context| Some(daemonset::control::start(context))),
    entry("statefulset-controller", "statefulset", |context| Some(statefulset::control::start(context))),
    entry("job-controller", "job", |context| Some(job::control::start(context))),
    entry("cronjob-controller", "cronjob", |context| Some(cronjob::control::start(context))),
    entry("ttl-after-finished-controller", "ttl-after-finished", |context| Some(job::ttl::start(context))),
    entry("deployment-controller", "deployment", |context| Some(deployment::control::start(context))),
    entry("replicaset-controller", "replicaset", |context| {
        Some(replicaset::control::start::<ReplicaSet>(context, "replicaset-controller"))
    }),
    entry("resourcequota-controller", "resourcequota", |context| Some(quota::control::start(context))),
    entry("horizontal-pod-autoscaler-controller", "horizontalpodautoscaling", |context| {
        Some(autoscaler::control::start(context))
    }),
    entry("disruption-controller", "disruption", |context| Some(disruption::start(context))),
    entry("certificatesigningrequest-signing-controller", "csrsigning", certificates::sign::start),
    entry("certificatesigningrequest-approving-controller", "csrapproving", |context| {
        Some(certificates::approve::start(context))
    }),
    entry("certificatesigningrequest-cleaner-controller", "csrcleaner", |context| {
        Some(certificates::clean::start(context))
    }),
    entry("clusterrole-aggregation-controller", "clusterrole-aggregation", |context| {
        Some(cluster_roles::start(context))
    }),
    entry("persistentvolume-binder-controller", "persistentvolume-binder", |context| {
        Some(volumes::binder::start(context))
    }),
    entry("persistentvolume-expander-controller", "persistentvolume-expander", |context| {
        Some(volumes::expand::start(context))
    }),
    entry("persistentvolumeclaim-protection-controller", "pvc-protection", |context| {
        Some(volumes::protection::start_claims(context))
    }),
    entry("persistentvolume-protection-controller", "pv-protection", |context| {
        Some(volumes::protection::start_volumes(context))
    }),
    entry("ephemeral-volume-controller", "ephemeral-volume", |context| {
        Some(volumes::ephemeral::start(context))
    }),
    entry("validatingadmissionpolicy-status-controller", "", |context| {
        Some(admission_policy::start(context))
    }),
    entry("resourceclaim-controller", "resource-claim-controller", |context| {
        Some(resource_claim::start(context))
    }),
    entry("service-cidr-controller", "", |context| Some(service_cidr::start(context))),
    entry("service-lb-controller", "service", |context| Some(service_lb::start(context))),
    entry("node-ipam-controller", "nodeipam", node::ipam::start),
    entry("node-lifecycle-controller", "nodelifecycle", |context| Some(node::lifecycle::start(context))),
    entry("taint-eviction-controller", "", |context| Some(node::eviction::start(context))),
    entry("root-ca-certificate-publisher-controller", "root-ca-cert-publisher", |context| {
        context.settings.root_ca.as_ref()?;
        Some(service_account::start_root_ca(context))
    }),
];

/// Whether `--controllers` means this one (`IsControllerEnabled`): what is said of it by name counts, else `*`.
fn is_enabled(entry: &Entry, controllers: &[String]) -> bool {
    let is = |text: &str| text == entry.name || (!entry.alias.is_empty() && text == entry.alias);
    for text in controllers {
        if is(text) {
            return true;
        }
        if text.strip_prefix('-').is_some_and(is) {
            return false;
        }
    }
    entry.by_default && controllers.iter().any(|text| text == "*")
}

/// The same of a controller that may be none of ours: then only what is said of all counts.
pub(crate) fn is_on(name: &str, controllers: &[String]) -> bool {
    match CONTROLLERS.iter().find(|entry| entry.name == name) {
        Some(entry) => is_enabled(entry, controllers),
        None => controllers.iter().any(|text| text == "*"),
    }
}

/// Checks `--controllers`.
pub fn check_controllers(controllers: &[String]) -> Result<(), Error> {
    let known =
        |text: &str| text == "*" || CONTROLLERS.iter().any(|entry| entry.name == text || entry.alias == text);
    match controllers.iter().find(|text| !known(text.strip_prefix('-').unwrap_or(text))) {
        Some(unknown) => Err(Error::Usage(format!("{unknown:?} is not in the list of known controllers"))),
        None => Ok(()),
    }
}

/// Runs the controllers until leadership is lost, which is an error: another may be working already. Boxed, so that it is compiled here
/// and not once more in whatever runs it.
pub fn run(client: Client, settings: Settings) -> BoxFuture<'static, Result<(), Error>> {
    Box::pin(control(client, settings))
}

async fn control(client: Client, settings: Settings) -> Result<(), Error> {
    check_controllers(&settings.controllers)?;
    let Some(identity) = settings.leader_identity.clone() else {
        start(&Context::new(client, settings)).await;
        return std::future::pending().await;
    };
    let name = "kube-controller-manager";
    let recorder = Recorder::new(client.clone(), name, None);
    let mut elector = Elector::new(client.clone(), recorder, "kube-system", name, identity, Times::default());
    elector.acquire().await;
    let context = Context::new(client, settings);
    let controllers = async {
        start(&context).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = elector.hold() => Err(Error::NotYet("leaderelection lost".into())),
        () = controllers => Ok(()),
    }
}

/// Starts all controllers that are on; returns when they work. One that panics must end the process
/// ([`drydock_kubeclient::crash`]): nobody waits for it.
pub async fn start(context: &Context) {
    let mut running = Vec::new();
    for entry in CONTROLLERS {
        if !is_enabled(entry, &context.settings.controllers) {
            tracing::warn!(controller = entry.name, "Controller is disabled");
            continue;
        }
        match (entry.start)(context) {
            Some(controller) => running.push((entry.name, controller)),
            None => tracing::info!(controller = entry.name, "Skipping a controller that has nothing to do"),
        }
    }
    context.informers.start();
    context.informers.synced().await;
    tracing::info!("Caches are synced");
    for (name, controller) in running {
        tracing::info!(controller = name, "Started controller");
        tokio::spawn(controller);
    }
    if context.settings.service_accounts {
        let (client, settings) = (context.client.clone(), context.settings.clone());
        tokio::spawn(async move { credentials::make(client, &settings.controllers).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_controllers_are_on() {
        let deployment = CONTROLLERS.iter().find(|entry| entry.alias == "deployment").unwrap();
        for (text, expected) in [
            ("*", true),
            ("", false),
            ("*,-deployment-controller", false),
            ("*,-deployment", false),
            ("deployment-controller", true),
            ("deployment", true),
            ("-deployment,deployment", false),
            ("namespace", false),
        ] {
            let list: Vec<_> = text.split(',').map(ToOwned::to_owned).collect();
            assert_eq!(is_enabled(deployment, &list), expected, "{text}");
        }
        assert!(check_controllers(&["*".into(), "-podgc".into()]).is_ok());
        assert!(check_controllers(&["poodle".into()]).is_err());
    }
}
