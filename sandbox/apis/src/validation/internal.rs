//! The server's internal types as Go's JSON encoder prints them: fields in the order of their declaration, under their Go names, also
//! those that are empty (`pkg/apis/core/types.go`). Refusals of updates show them.

use crate::quantity;
use crate::tree::get;
use drydock_apimachinery::field::go_json;
use serde_json::{Map, Value};

/// The types: name, then fields. After a field's name: nothing, a string; `#`, a number; `!`, a boolean; `?`, whatever it is, nothing if
/// it is absent; `~`, the same with Go names; `@`, an amount, `%`, several by name; `[T`, `*T`, `:T`, a list of, a pointer to, a value of another
/// type; and `=name` where JSON's name does not follow from Go's. A type alone is embedded.
const TYPES: &[(&str, &str)] = &[
    (
        "PodSpec",
        "Volumes[Volume InitContainers[Container Containers[Container EphemeralContainers[EphemeralContainer RestartPolicy \
         TerminationGracePeriodSeconds? ActiveDeadlineSeconds? DNSPolicy NodeSelector? ServiceAccountName \
         AutomountServiceAccountToken? NodeName SecurityContext*PodSecurityContext ImagePullSecrets[LocalObjectReference Hostname \
         Subdomain SetHostnameAsFQDN? Affinity*Affinity SchedulerName Tolerations[Toleration HostAliases[HostAlias \
         PriorityClassName Priority? PreemptionPolicy? DNSConfig*PodDNSConfig ReadinessGates[PodReadinessGate RuntimeClassName? \
         Overhead% EnableServiceLinks? TopologySpreadConstraints[TopologySpreadConstraint OS*PodOS \
         SchedulingGates[PodSchedulingGate ResourceClaims[PodResourceClaim Resources*ResourceRequirements HostnameOverride? \
         WorkloadRef*WorkloadReference",
    ),
    (
        "Container",
        "Name Image Command? Args? WorkingDir Ports[ContainerPort EnvFrom[EnvFromSource Env[EnvVar Resources:ResourceRequirements \
         ResizePolicy[ContainerResizePolicy RestartPolicy? RestartPolicyRules[ContainerRestartRule VolumeMounts[VolumeMount \
         VolumeDevices[VolumeDevice LivenessProbe*Probe ReadinessProbe*Probe StartupProbe*Probe Lifecycle*Lifecycle \
         TerminationMessagePath TerminationMessagePolicy ImagePullPolicy SecurityContext*SecurityContext Stdin! StdinOnce! TTY!",
    ),
    ("EphemeralContainer", "+Container TargetContainerName"),
    ("ContainerPort", "Name HostPort# ContainerPort# Protocol HostIP"),
    ("EnvFromSource", "Prefix ConfigMapRef*OptionalReference SecretRef*OptionalReference"),
    ("OptionalReference", "Name Optional?"),
    ("EnvVar", "Name Value ValueFrom*EnvVarSource"),
    (
        "EnvVarSource",
        "FieldRef*ObjectFieldSelector ResourceFieldRef*ResourceFieldSelector ConfigMapKeyRef*KeySelector SecretKeyRef*KeySelector \
         FileKeyRef*FileKeySelector",
    ),
    ("ObjectFieldSelector", "APIVersion FieldPath"),
    ("ResourceFieldSelector", "ContainerName Resource Divisor@"),
    ("KeySelector", "Name Key Optional?"),
    ("FileKeySelector", "VolumeName Path Key Optional?"),
    ("ResourceRequirements", "Limits% Requests% Claims[ResourceClaim"),
    ("ResourceClaim", "Name Request"),
    ("ContainerResizePolicy", "ResourceName RestartPolicy"),
    ("ContainerRestartRule", "Action ExitCodes*ExitCodes"),
    ("ExitCodes", "Operator Values?"),
    ("VolumeMount", "Name ReadOnly! RecursiveReadOnly? MountPath SubPath MountPropagation? SubPathExpr"),
    ("VolumeDevice", "Name DevicePath"),
    (
        "Probe",
        "Exec*ExecAction HTTPGet*HTTPGetAction TCPSocket*TCPSocketAction GRPC*GRPCAction InitialDelaySeconds# TimeoutSeconds# \
         PeriodSeconds# SuccessThreshold# FailureThreshold# TerminationGracePeriodSeconds?",
    ),
    ("Lifecycle", "PostStart*LifecycleHandler PreStop*LifecycleHandler StopSignal?"),
    ("LifecycleHandler", "Exec*ExecAction HTTPGet*HTTPGetAction TCPSocket*TCPSocketAction Sleep*SleepAction"),
    ("ExecAction", "Command?"),
    ("HTTPGetAction", "Path Port? Host Scheme HTTPHeaders[HTTPHeader"),
    ("HTTPHeader", "Name Value"),
    ("TCPSocketAction", "Port? Host"),
    ("GRPCAction", "Port# Service?"),
    ("SleepAction", "Seconds#"),
    (
        "SecurityContext",
        "Capabilities*Capabilities Privileged? SELinuxOptions*SELinuxOptions WindowsOptions*WindowsOptions RunAsUser? RunAsGroup? \
         RunAsNonRoot? ReadOnlyRootFilesystem? AllowPrivilegeEscalation? ProcMount? SeccompProfile*Profile AppArmorProfile*Profile",
    ),
    ("Capabilities", "Add? Drop?"),
    ("SELinuxOptions", "User Role Type Level"),
    ("WindowsOptions", "GMSACredentialSpecName? GMSACredentialSpec? RunAsUserName? HostProcess?"),
    ("Profile", "Type LocalhostProfile?"),
    (
        "PodSecurityContext",
        "HostNetwork! HostPID! HostIPC! ShareProcessNamespace? HostUsers? SELinuxOptions*SELinuxOptions \
         WindowsOptions*WindowsOptions RunAsUser? RunAsGroup? RunAsNonRoot? SupplementalGroups? SupplementalGroupsPolicy? FSGroup? \
         FSGroupChangePolicy? Sysctls[Sysctl SeccompProfile*Profile AppArmorProfile*Profile SELinuxChangePolicy?",
    ),
    ("Sysctl", "Name Value"),
    ("LocalObjectReference", "Name"),
    ("Affinity", "NodeAffinity*NodeAffinity PodAffinity*PodAffinity PodAntiAffinity*PodAffinity"),
    (
        "NodeAffinity",
        "RequiredDuringSchedulingIgnoredDuringExecution*NodeSelector \
         PreferredDuringSchedulingIgnoredDuringExecution[PreferredSchedulingTerm",
    ),
    ("NodeSelector", "NodeSelectorTerms[NodeSelectorTerm"),
    ("NodeSelectorTerm", "MatchExpressions[NodeSelectorRequirement MatchFields[NodeSelectorRequirement"),
    ("NodeSelectorRequirement", "Key Operator Values?"),
    ("PreferredSchedulingTerm", "Weight# Preference:NodeSelectorTerm"),
    (
        "PodAffinity",
        "RequiredDuringSchedulingIgnoredDuringExecution[PodAffinityTerm \
         PreferredDuringSchedulingIgnoredDuringExecution[WeightedPodAffinityTerm",
    ),
    (
        "PodAffinityTerm",
        "LabelSelector? Namespaces? TopologyKey NamespaceSelector? MatchLabelKeys? MismatchLabelKeys?",
    ),
    ("WeightedPodAffinityTerm", "Weight# PodAffinityTerm:PodAffinityTerm"),
    ("Toleration", "Key Operator Value Effect TolerationSeconds?"),
    ("HostAlias", "IP Hostnames?"),
    ("PodDNSConfig", "Nameservers? Searches? Options[PodDNSConfigOption"),
    ("PodDNSConfigOption", "Name Value?"),
    ("PodReadinessGate", "ConditionType"),
    (
        "TopologySpreadConstraint",
        "MaxSkew# TopologyKey WhenUnsatisfiable LabelSelector? MinDomains? NodeAffinityPolicy? NodeTaintsPolicy? MatchLabelKeys?",
    ),
    ("PodOS", "Name"),
    ("PodSchedulingGate", "Name"),
    ("PodResourceClaim", "Name ResourceClaimName? ResourceClaimTemplateName?"),
    ("WorkloadReference", "Name PodGroup PodGroupReplicaKey"),
    (
        "Volume",
        "Name HostPath*HostPath EmptyDir*EmptyDir GCEPersistentDisk~ AWSElasticBlockStore~ GitRepo~ Secret*SecretVolume NFS*NFS \
         ISCSI~ Glusterfs~ PersistentVolumeClaim*ClaimVolume RBD~ Quobyte~ FlexVolume~ Cinder~ CephFS~=cephfs Flocker~ \
         DownwardAPI*Downward FC~ AzureFile~ ConfigMap*ConfigMapVolume VsphereVolume~ AzureDisk~ PhotonPersistentDisk~ \
         Projected*Projected PortworxVolume~ ScaleIO~ StorageOS~=storageos CSI*CSI Ephemeral*Ephemeral Image*Image",
    ),
    ("HostPath", "Path Type?"),
    ("EmptyDir", "Medium SizeLimit?"),
    ("SecretVolume", "SecretName Items[KeyToPath DefaultMode? Optional?"),
    ("ConfigMapVolume", "Name Items[KeyToPath DefaultMode? Optional?"),
    ("KeyToPath", "Key Path Mode?"),
    ("NFS", "Server Path ReadOnly!"),
    ("ClaimVolume", "ClaimName ReadOnly!"),
    ("Downward", "Items[DownwardFile DefaultMode?"),
    ("DownwardFile", "Path FieldRef*ObjectFieldSelector ResourceFieldRef*ResourceFieldSelector Mode?"),
    ("Projected", "Sources[Projection DefaultMode?"),
    (
        "Projection",
        "Secret*KeysProjection DownwardAPI*DownwardProjection ConfigMap*KeysProjection ServiceAccountToken*TokenProjection \
         ClusterTrustBundle*TrustBundle PodCertificate*PodCertificate",
    ),
    ("KeysProjection", "Name Items[KeyToPath Optional?"),
    ("DownwardProjection", "Items[DownwardFile"),
    ("TokenProjection", "Audience ExpirationSeconds# Path"),
    ("TrustBundle", "Name? SignerName? LabelSelector? Optional? Path"),
    (
        "PodCertificate",
        "SignerName KeyType MaxExpirationSeconds? CredentialBundlePath KeyPath CertificateChainPath UserAnnotations?",
    ),
    ("CSI", "Driver ReadOnly? FSType? VolumeAttributes? NodePublishSecretRef*LocalObjectReference"),
    ("Ephemeral", "VolumeClaimTemplate*ClaimTemplate"),
    ("ClaimTemplate", "Spec:PersistentVolumeClaimSpec"),
    ("Image", "Reference PullPolicy"),
    (
        "PersistentVolumeClaimSpec",
        "AccessModes? Selector? Resources:VolumeResources VolumeName StorageClassName? VolumeMode? DataSource*TypedReference \
         DataSourceRef*NamespacedReference VolumeAttributesClassName?",
    ),
    ("VolumeResources", "Limits% Requests%"),
    ("TypedReference", "APIGroup? Kind Name"),
    ("NamespacedReference", "APIGroup? Kind Name Namespace?"),
    (
        "PersistentVolumeSource",
        "GCEPersistentDisk~ AWSElasticBlockStore~ HostPath*HostPath Glusterfs~ NFS*NFS RBD~ Quobyte~ ISCSI~ FlexVolume~ Cinder~ \
         CephFS~=cephfs FC~ Flocker~ AzureFile~ VsphereVolume~ AzureDisk~ PhotonPersistentDisk~ PortworxVolume~ ScaleIO~ \
         Local*Local StorageOS~=storageos CSI*PersistentCSI",
    ),
    ("Local", "Path FSType?"),
    (
        "PersistentCSI",
        "Driver VolumeHandle ReadOnly! FSType VolumeAttributes? ControllerPublishSecretRef*SecretReference \
         NodeStageSecretRef*SecretReference NodePublishSecretRef*SecretReference ControllerExpandSecretRef*SecretReference \
         NodeExpandSecretRef*SecretReference",
    ),
    ("SecretReference", "Name Namespace"),
];

/// What is printed.
#[derive(Debug)]
enum Node {
    Leaf(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// The lines of an object of one of the types.
pub fn lines(kind: &str, object: &Value) -> Vec<String> {
    let node = if kind == "PodSpec" { of_type(kind, &moved(object)) } else { of_type(kind, object) };
    let mut out = vec![String::new()];
    print(&mut out, &node, 0);
    out
}

/// Internally, what a pod shares with its host is part of its security context, which is always there.
fn moved(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let Some(map) = spec.as_object_mut() else { return spec };
    let shared: Map<_, _> = ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"]
        .into_iter()
        .filter_map(|field| map.remove_entry(field))
        .collect();
    let context = map.entry("securityContext").or_insert(Value::Null);
    match context {
        Value::Object(context) => context.extend(shared),
        other => *other = shared.into(),
    }
    spec
}

fn of_type(kind: &str, object: &Value) -> Node {
    let fields = TYPES.iter().find(|(name, _)| *name == kind).map_or("", |(_, fields)| fields);
    let mut all = Vec::new();
    for field in fields.split_whitespace() {
        match field.strip_prefix('+') {
            Some(embedded) => match of_type(embedded, object) {
                Node::Map(inner) => all.extend(inner),
                other => all.push((embedded.into(), other)),
            },
            None => all.push(of_field(field, object)),
        }
    }
    Node::Map(all)
}

fn of_field(field: &str, object: &Value) -> (String, Node) {
    let end = field.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(field.len());
    let (name, form) = field.split_at(end);
    let (form, json_name) = match form.split_once('=') {
        Some((form, json_name)) => (form, json_name.into()),
        None => (form, json_name(name)),
    };
    let value = get(object, &json_name);
    let null = || Node::Leaf("null".into());
    let node = match (form.chars().next(), value) {
        (Some(':'), _) => of_type(&form[1..], value),
        (None, Value::Null) => Node::Leaf("\"\"".into()),
        (Some('#'), Value::Null) => Node::Leaf("0".into()),
        (Some('!'), Value::Null) => Node::Leaf("false".into()),
        (Some('@'), Value::Null) => amount(value),
        (_, Value::Null) => null(),
        (Some('[' | '?' | '~'), Value::Array(list)) if list.is_empty() => null(),
        (Some('['), Value::Array(list)) => {
            Node::List(list.iter().map(|one| of_type(&form[1..], one)).collect())
        }
        (Some('*'), _) => of_type(&form[1..], value),
        (Some('%'), Value::Object(map)) if map.is_empty() => null(),
        (Some('%'), Value::Object(map)) => {
            Node::Map(map.iter().map(|(key, one)| (key.clone(), amount(one))).collect())
        }
        (Some('@'), _) => amount(value),
        (Some('~'), _) => raw(value, &go_name),
        _ => raw(value, &str::to_string),
    };
    (name.into(), node)
}

fn amount(value: &Value) -> Node {
    Node::Leaf(go_json(&quantity::shown(value).into()))
}

fn raw(value: &Value, named: &dyn Fn(&str) -> String) -> Node {
    match value {
        Value::Object(map) => {
            Node::Map(map.iter().map(|(key, value)| (named(key), raw(value, named))).collect())
        }
        Value::Array(list) => Node::List(list.iter().map(|one| raw(one, named)).collect()),
        leaf => Node::Leaf(go_json(leaf)),
    }
}

/// `DNSPolicy` → `dnsPolicy`, `OS` → `os`.
fn json_name(name: &str) -> String {
    let run = name.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(name.len());
    // The last capital of several begins the next word, unless that was all.
    let end = if run > 1 && run < name.len() { run - 1 } else { run };
    name[..end].to_ascii_lowercase() + &name[end..]
}

fn go_name(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Goes on at the end of the last line.
fn print(out: &mut Vec<String>, node: &Node, depth: usize) {
    let (opening, closing) = match node {
        Node::Leaf(text) => return add(out, text),
        Node::List(list) if list.is_empty() => return add(out, "[]"),
        Node::Map(map) if map.is_empty() => return add(out, "{}"),
        Node::List(_) => ("[", "]"),
        Node::Map(_) => ("{", "}"),
    };
    add(out, opening);
    let indent = " ".repeat(depth + 1);
    let mut item = |name: Option<&str>, node: &Node, is_first: bool| {
        if !is_first {
            add(out, ",");
        }
        out.push(indent.clone());
        if let Some(name) = name {
            add(out, &format!("{}: ", go_json(&name.into())));
        }
        print(out, node, depth + 1);
    };
    match node {
        Node::List(list) => {
            for (index, node) in list.iter().enumerate() {
                item(None, node, index == 0);
            }
        }
        Node::Map(map) => {
            for (index, (name, node)) in map.iter().enumerate() {
                item(Some(name), node, index == 0);
            }
        }
        Node::Leaf(_) => {}
    }
    out.push(format!("{}{closing}", " ".repeat(depth)));
}

fn add(out: &mut [String], text: &str) {
    if let Some(last) = out.last_mut() {
        last.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::diff;
    use super::*;
    use serde_json::json;

    #[test]
    fn names() {
        for (go, expected) in [
            ("DNSPolicy", "dnsPolicy"),
            ("OS", "os"),
            ("TTY", "tty"),
            ("HostPID", "hostPID"),
            ("SELinuxOptions", "seLinuxOptions"),
            ("GCEPersistentDisk", "gcePersistentDisk"),
            ("GMSACredentialSpec", "gmsaCredentialSpec"),
            ("SetHostnameAsFQDN", "setHostnameAsFQDN"),
            ("IP", "ip"),
            ("APIVersion", "apiVersion"),
        ] {
            assert_eq!(json_name(go), expected);
        }
    }

    #[test]
    fn types_are_all_there() {
        for (_, fields) in TYPES {
            for field in fields.split_whitespace() {
                if let Some((_, of)) = field.split_once(['*', '[', ':', '+']) {
                    assert!(TYPES.iter().any(|(name, _)| *name == of), "{of}");
                }
            }
        }
    }

    #[test]
    fn a_pod_that_shares() {
        let old = json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}}], "restartPolicy": "Always"});
        let mut new = old.clone();
        new["hostNetwork"] = true.into();
        new["containers"][0]["env"] = json!([{"name": "A", "value": "<b>"}]);
        assert_eq!(
            diff::of("PodSpec", &old, &new),
            r#"@@ -10,7 +10,13 @@
    "WorkingDir": "",
    "Ports": null,
    "EnvFrom": null,
-   "Env": null,
+   "Env": [
+    {
+     "Name": "A",
+     "Value": "\u003cb\u003e",
+     "ValueFrom": null
+    }
+   ],
    "Resources": {
     "Limits": {
      "cpu": "1"
@@ -46,7 +52,7 @@
  "AutomountServiceAccountToken": null,
  "NodeName": "",
  "SecurityContext": {
-  "HostNetwork": false,
+  "HostNetwork": true,
   "HostPID": false,
   "HostIPC": false,
   "ShareProcessNamespace": null,
"#
        );
    }
}
