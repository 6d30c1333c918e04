//! What is changed or refused in a write after it was authorised and before it is stored: kube-apiserver's plug-ins, in its order
//! (`pkg/kubeapiserver/options/plugins.go`). Each file is a plug-in or a few that belong together; each is on or off by its name.

mod certificates;
mod limit_ranger;
mod matching;
mod namespace;
mod node_restriction;
mod opt_in;
mod owners;
mod pod_security;
mod pods;
mod policy;
mod quota;
pub mod reader;
mod service_account;
mod storage;
mod toleration_restriction;
mod webhook;

use crate::authn::User;
use crate::authz::escalation;
use crate::codec::Expected;
use crate::resource::Resource;
use crate::rest::options::Options;
use crate::server::Server;
use drydock_apimachinery::Status;
use drydock_apimachinery::object;
use serde_json::Value;

/// What is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An object comes to be.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// Somebody connects to it: `exec`, `proxy` and the like.
    Connect,
}

/// What is known of it beside the object.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What is about to happen.
    pub operation: Operation,
    /// To what.
    pub resource: &'a Resource,
    /// The version that was asked for, where who is asked about it wants another one.
    pub requested: Option<&'a Resource>,
    /// Such as `status`; empty: the object itself.
    pub subresource: &'a str,
    /// Empty: none.
    pub namespace: &'a str,
    /// Empty: not known yet.
    pub name: &'a str,
    /// By whom.
    pub user: &'a User,
    /// Nothing may have an effect.
    pub dry_run: bool,
    /// What is given to admission, if it is none of the resource's objects: a `Binding`, an `Eviction`, a `Scale`,
    /// `PodExecOptions`.
    pub kind: Option<Expected<'a>>,
    /// How it was asked for.
    pub options: Options<'a>,
}

impl Context<'_> {
    /// Whether it is about an object of this resource (or about what is below one).
    fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.is(group, plural)
    }

    /// The kind of the object.
    fn kind(&self) -> Expected<'_> {
        self.kind.unwrap_or_else(|| Expected::of(self.resource))
    }
}

/// A refusal by a plug-in (`admission.NewForbidden`).
fn forbidden(context: &Context<'_>, object: &Value, why: &str) -> Status {
    let name = match (context.name, object::name(object)) {
        ("", "") => match object::text(object, &["metadata", "generateName"]) {
            "" => "Unknown",
            generate => generate,
        },
        ("", name) | (name, _) => name,
    };
    Status::forbidden(context.resource.group_resource(), name, why)
}

/// Several errors as one text (`utilerrors.Aggregate`).
fn aggregated(errors: &[String]) -> String {
    let mut once: Vec<&str> = Vec::new();
    for error in errors {
        if !once.contains(&error.as_str()) {
            once.push(error);
        }
    }
    if let [one] = &once[..] { (*one).into() } else { format!("[{}]", once.join(", ")) }
}

/// A plug-in, by its name. Those that are not named here have no switch, or nothing to do.
#[derive(Debug, Clone, Copy)]
enum Plugin {
    AlwaysDeny,
    AlwaysPullImages,
    CertificateApproval,
    DefaultIngressClass,
    DefaultStorageClass,
    DefaultTolerationSeconds,
    DenyServiceExternalIPs,
    ExtendedResourceToleration,
    LimitPodHardAntiAffinityTopology,
    LimitRanger,
    MutatingAdmissionWebhook,
    NamespaceAutoProvision,
    NamespaceLifecycle,
    NodeRestriction,
    OwnerReferencesPermissionEnforcement,
    PersistentVolumeClaimResize,
    PodNodeSelector,
    PodSecurity,
    PodTolerationRestriction,
    Priority,
    ResourceQuota,
    RuntimeClass,
    ServiceAccount,
    StorageObjectInUseProtection,
    TaintNodesByCondition,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionWebhook,
}

/// All of them, and whether they are on by themselves.
const PLUGINS: &[(&str, Plugin, bool)] = &[
    ("AlwaysDeny", Plugin::AlwaysDeny, false),
    ("AlwaysPullImages", Plugin::AlwaysPullImages, false),
    ("CertificateApproval", Plugin::CertificateApproval, true),
    ("DefaultIngressClass", Plugin::DefaultIngressClass, true),
    ("DefaultStorageClass", Plugin::DefaultStorageClass, true),
    ("DefaultTolerationSeconds", Plugin::DefaultTolerationSeconds, true),
    ("DenyServiceExternalIPs", Plugin::DenyServiceExternalIPs, false),
    ("ExtendedResourceToleration", Plugin::ExtendedResourceToleration, false),
    ("LimitPodHardAntiAffinityTopology", Plugin::LimitPodHardAntiAffinityTopology, false),
    ("LimitRanger", Plugin::LimitRanger, true),
    ("MutatingAdmissionWebhook", Plugin::MutatingAdmissionWebhook, true),
    ("NamespaceAutoProvision", Plugin::NamespaceAutoProvision, false),
    ("NamespaceLifecycle", Plugin::NamespaceLifecycle, true),
    ("NodeRestriction", Plugin::NodeRestriction, false),
    ("OwnerReferencesPermissionEnforcement", Plugin::OwnerReferencesPermissionEnforcement, false),
    ("PersistentVolumeClaimResize", Plugin::PersistentVolumeClaimResize, true),
    ("PodNodeSelector", Plugin::PodNodeSelector, false),
    ("PodSecurity", Plugin::PodSecurity, true),
    ("PodTolerationRestriction", Plugin::PodTolerationRestriction, false),
    ("Priority", Plugin::Priority, true),
    ("ResourceQuota", Plugin::ResourceQuota, true),
    ("RuntimeClass", Plugin::RuntimeClass, true),
    ("ServiceAccount", Plugin::ServiceAccount, true),
    ("StorageObjectInUseProtection", Plugin::StorageObjectInUseProtection, true),
    ("TaintNodesByCondition", Plugin::TaintNodesByCondition, true),
    ("ValidatingAdmissionPolicy", Plugin::ValidatingAdmissionPolicy, true),
    ("ValidatingAdmissionWebhook", Plugin::ValidatingAdmissionWebhook, true),
];

/// Those that refuse and change nothing that the ones above do not.
const VOID: [&str; 2] = ["AlwaysAdmit", "NamespaceExists"];

/// What upstream has beside them (`pkg/kubeapiserver/options/plugins.go`): to name one is no mistake, and without effect.
const OTHERS: &[&str] = &[
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "ClusterTrustBundleAttest",
    "EventRateLimit",
    "ImagePolicyWebhook",
    "MutatingAdmissionPolicy",
    "NodeDeclaredFeatureValidator",
    "PodTopologyLabels",
];

/// Whether there is a plug-in of this name.
pub fn is_plugin(name: &str) -> bool {
    if OTHERS.contains(&name) {
        tracing::warn!("the admission plugin {name} has no effect here");
        return true;
    }
    VOID.contains(&name) || PLUGINS.iter().any(|(known, ..)| *known == name)
}

/// All plug-ins.
#[derive(Debug)]
pub struct Admission {
    /// A bit for each that is on.
    on: u32,
    quota: quota::Quotas,
}

impl Admission {
    /// Those that the options leave on.
    pub fn new(options: &crate::Options) -> Self {
        let names = |list: &[String], name: &str| list.iter().any(|one| one == name);
        let on = PLUGINS.iter().filter(|(name, _, by_itself)| {
            (*by_itself || names(&options.enable_admission, name)) && !names(&options.disable_admission, name)
        });
        let on = on.fold(0, |bits, (_, plugin, _)| bits | 1 << *plugin as u32);
        Self { on, quota: quota::Quotas::default() }
    }

    fn is_on(&self, plugin: Plugin) -> bool {
        self.on & 1 << plugin as u32 != 0
    }

    /// Changes the new object (null if it goes), or refuses it.
    pub async fn mutate(
        &self,
        server: &Server,
        context: &Context<'_>,
        object: &mut Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let mut rounds = webhook::Rounds::default();
        loop {
            if matches!(context.operation, Operation::Create | Operation::Update) {
                self.fill_in(server, context, object, old).await?;
            }
            if self.is_on(Plugin::MutatingAdmissionWebhook) {
                webhook::mutate(server, context, object, old, warnings, &mut rounds).await?;
            }
            if !rounds.again() {
                return Ok(());
            }
        }
    }

    /// What the cluster itself adds to an object.
    async fn fill_in(
        &self,
        server: &Server,
        context: &Context<'_>,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let store = &server.store;
        certificates::requester(context, object);
        if self.is_on(Plugin::NamespaceAutoProvision) {
            opt_in::provide_namespace(server, context).await?;
        }
        if self.is_on(Plugin::NamespaceLifecycle) {
            namespace::check(store, context, object)?;
        }
        if self.is_on(Plugin::LimitRanger) {
            limit_ranger::mutate(store, context, object)?;
        }
        if self.is_on(Plugin::ServiceAccount) {
            service_account::mutate(store, context, object).await?;
        }
        if self.is_on(Plugin::TaintNodesByCondition) {
            pods::taint_node(context, object);
        }
        if self.is_on(Plugin::AlwaysPullImages) {
            opt_in::pull_always(context, object, old);
        }
        if self.is_on(Plugin::PodNodeSelector) {
            opt_in::select_nodes(store, context, object)?;
        }
        if self.is_on(Plugin::Priority) {
            pods::priority(store, context, object)?;
        }
        if self.is_on(Plugin::DefaultTolerationSeconds) {
            pods::tolerations(context, object);
        }
        if self.is_on(Plugin::PodTolerationRestriction) {
            toleration_restriction::mutate(store, context, object)?;
        }
        if self.is_on(Plugin::ExtendedResourceToleration) {
            opt_in::tolerate_devices(context, object);
        }
        if self.is_on(Plugin::DefaultStorageClass) {
            storage::default_class(store, context, object)?;
        }
        if self.is_on(Plugin::StorageObjectInUseProtection) {
            storage::protect(context, object);
        }
        if self.is_on(Plugin::RuntimeClass) {
            pods::runtime_class(store, context, object)?;
        }
        if self.is_on(Plugin::DefaultIngressClass) {
            storage::default_ingress(store, context, object)?;
        }
        Ok(())
    }

    /// Refuses the new object (null if it goes), or not.
    pub async fn validate(
        &self,
        server: &Server,
        context: &Context<'_>,
        object: &Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let store = &server.store;
        if self.is_on(Plugin::AlwaysDeny) {
            return Err(opt_in::deny(context, object));
        }
        if self.is_on(Plugin::NodeRestriction) {
            node_restriction::check(store, context, object, old)?;
        }
        if context.operation == Operation::Delete && self.is_on(Plugin::NamespaceLifecycle) {
            namespace::check_deletion(context)?;
        }
        if matches!(context.operation, Operation::Delete | Operation::Connect) {
            return self.ask_owner(server, context, object, old, warnings).await;
        }
        escalation::check(&server.authorizer, context, object, old)?;
        if self.is_on(Plugin::LimitPodHardAntiAffinityTopology) {
            opt_in::limit_anti_affinity(context, object)?;
        }
        if self.is_on(Plugin::PodTolerationRestriction) {
            toleration_restriction::check(store, context, object)?;
        }
        if self.is_on(Plugin::DenyServiceExternalIPs) {
            opt_in::deny_external_addresses(context, object, old)?;
        }
        if self.is_on(Plugin::LimitRanger) {
            limit_ranger::validate(store, context, object)?;
        }
        if self.is_on(Plugin::ServiceAccount) {
            service_account::validate(store, context, object)?;
        }
        if self.is_on(Plugin::PodSecurity) {
            pod_security::check(store, context, object, old, warnings)?;
        }
        if self.is_on(Plugin::Priority) {
            pods::priority_class(store, context, object, old)?;
        }
        if self.is_on(Plugin::OwnerReferencesPermissionEnforcement) {
            owners::check(server, context, object, old)?;
        }
        if self.is_on(Plugin::PersistentVolumeClaimResize) {
            storage::resize(store, context, object, old)?;
        }
        if self.is_on(Plugin::CertificateApproval) {
            certificates::check(&server.authorizer, context, object, old)?;
        }
        self.ask_owner(server, context, object, old, warnings).await?;
        // What was charged is not given back, so this is the last.
        if self.is_on(Plugin::ResourceQuota) {
            self.quota.charge(store, context, object, old).await?;
        }
        Ok(())
    }

    /// What the cluster's owner has against it.
    async fn ask_owner(
        &self,
        server: &Server,
        context: &Context<'_>,
        object: &Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        if self.is_on(Plugin::ValidatingAdmissionPolicy) {
            policy::check(server, context, object, old, warnings).await?;
        }
        if self.is_on(Plugin::ValidatingAdmissionWebhook) {
            webhook::validate(server, context, object, old, warnings).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
