//! The server's internal types as Go's JSON encoder prints them: fields in the order of their declaration, under their Go names, also
//! those that are empty (`pkg/apis/core/types.go`). Refusals show them.

use crate::quantity;
use crate::tree::{get, is_zero};
use drydock_apimachinery::field::{Shown, go_json};
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
        "LabelSelector*LabelSelector Namespaces? TopologyKey NamespaceSelector*LabelSelector MatchLabelKeys? MismatchLabelKeys?",
    ),
    ("WeightedPodAffinityTerm", "Weight# PodAffinityTerm:PodAffinityTerm"),
    ("Toleration", "Key Operator Value Effect TolerationSeconds?"),
    ("HostAlias", "IP Hostnames?"),
    ("PodDNSConfig", "Nameservers? Searches? Options[PodDNSConfigOption"),
    ("PodDNSConfigOption", "Name Value?"),
    ("PodReadinessGate", "ConditionType"),
    (
        "TopologySpreadConstraint",
        "MaxSkew# TopologyKey WhenUnsatisfiable LabelSelector*LabelSelector MinDomains? NodeAffinityPolicy? NodeTaintsPolicy? MatchLabelKeys?",
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
    ("TrustBundle", "Name? SignerName? LabelSelector*LabelSelector Optional? Path"),
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
        "AccessModes? Selector*LabelSelector Resources:VolumeResources VolumeName StorageClassName? VolumeMode? DataSource*TypedReference \
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
    ("PodTemplateSpec", "+ObjectMeta Spec:PodSpec"),
    ("VolumeNodeAffinity", "Required*NodeSelector"),
    ("Taint", "Key Value Effect TimeAdded?"),
    ("ServicePort", "Name Protocol AppProtocol? Port# TargetPort# NodePort#"),
    ("NodeAddress", "Type Address"),
    ("DeploymentStrategy", "Type RollingUpdate*RollingUpdate"),
    ("RollingUpdate", "MaxUnavailable# MaxSurge#"),
    ("StatefulSetUpdateStrategy", "Type RollingUpdate*RollingUpdateStatefulSet"),
    ("RollingUpdateStatefulSet", "Partition# MaxUnavailable?"),
    ("PodFailurePolicy", "Rules[PodFailurePolicyRule"),
    ("PodFailurePolicyRule", "Action OnExitCodes*OnExitCodes OnPodConditions[OnPodCondition"),
    ("OnExitCodes", "ContainerName? Operator Values?"),
    ("OnPodCondition", "Type Status"),
    ("SuccessPolicy", "Rules[SuccessPolicyRule"),
    ("SuccessPolicyRule", "SucceededIndexes? SucceededCount?"),
    ("RoleRef", "APIGroup Kind Name"),
    ("ResourceClaimTemplateSpec", "+ObjectMeta Spec:ResourceClaimSpec"),
    ("ResourceClaimSpec", "Devices:DeviceClaim"),
    ("DeviceClaim", "Requests[DeviceRequest Constraints[DeviceConstraint Config[DeviceClaimConfiguration"),
    ("DeviceRequest", "Name Exactly*ExactDeviceRequest FirstAvailable[DeviceSubRequest"),
    (
        "ExactDeviceRequest",
        "DeviceClassName Selectors[DeviceSelector AllocationMode Count# AdminAccess? Tolerations[DeviceToleration \
         Capacity*CapacityRequirements",
    ),
    (
        "DeviceSubRequest",
        "Name DeviceClassName Selectors[DeviceSelector AllocationMode Count# Tolerations[DeviceToleration \
         Capacity*CapacityRequirements",
    ),
    ("DeviceSelector", "CEL*CELDeviceSelector"),
    ("CELDeviceSelector", "Expression"),
    ("DeviceToleration", "Key Operator Value Effect TolerationSeconds?"),
    ("CapacityRequirements", "Requests%"),
    ("DeviceConstraint", "Requests? MatchAttribute? DistinctAttribute?"),
    ("DeviceClaimConfiguration", "Requests? Opaque*OpaqueDeviceConfiguration"),
    ("OpaqueDeviceConfiguration", "Driver Parameters?"),
    ("AllocationResult", "Devices:DeviceAllocationResult NodeSelector*NodeSelector AllocationTimestamp?"),
    ("DeviceAllocationResult", "Results[DeviceRequestAllocationResult Config[DeviceAllocationConfiguration"),
    (
        "DeviceRequestAllocationResult",
        "Request Driver Pool Device AdminAccess? Tolerations[DeviceToleration BindingConditions? BindingFailureConditions? ShareID? \
         ConsumedCapacity%",
    ),
    ("DeviceAllocationConfiguration", "Source Requests? Opaque*OpaqueDeviceConfiguration"),
    (
        "PodDisruptionBudgetSpec",
        "MinAvailable? Selector*LabelSelector MaxUnavailable? UnhealthyPodEvictionPolicy?",
    ),
];

/// Types that internal ones share with the API: fields in the order of their declaration, left out if they are empty.
const SHARED: &[(&str, &str)] = &[
    ("LabelSelector", "matchLabels matchExpressions"),
    (
        "ObjectMeta",
        "name generateName namespace selfLink uid resourceVersion generation creationTimestamp deletionTimestamp          deletionGracePeriodSeconds labels annotations ownerReferences finalizers managedFields",
    ),
];

/// What is printed.
#[derive(Debug)]
enum Node {
    Leaf(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// An object of one of the types as a message shows it.
pub fn shown(kind: &str, object: &Value) -> Shown {
    if object.is_null() {
        return Shown::Value(Value::Null);
    }
    let mut out = String::new();
    compact(&mut out, &of_type(kind, object));
    Shown::Struct(out)
}

/// The lines of an object of one of the types.
pub fn lines(kind: &str, object: &Value) -> Vec<String> {
    let node = of_type(kind, object);
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
    match kind {
        "PodSpec" => of_fields(kind, &moved(object)),
        // Where it is embedded.
        "ObjectMeta" => of_shared(kind, get(object, "metadata")),
        "LabelSelector" => of_shared(kind, object),
        _ => of_fields(kind, object),
    }
}

fn of_shared(kind: &str, object: &Value) -> Node {
    let fields = SHARED.iter().find(|(name, _)| *name == kind).map_or("", |(_, fields)| fields);
    let there = fields.split_whitespace().filter(|field| !is_zero(get(object, field)));
    Node::Map(there.map(|field| (field.into(), raw(get(object, field), &str::to_string))).collect())
}

fn of_fields(kind: &str, object: &Value) -> Node {
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

fn compact(out: &mut String, node: &Node) {
    match node {
        Node::Leaf(text) => out.push_str(text),
        Node::List(list) => {
            out.push('[');
            for (index, node) in list.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                compact(out, node);
            }
            out.push(']');
        }
        Node::Map(map) => {
            out.push('{');
            for (index, (name, node)) in map.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(&go_json(&name.as_str().into()));
                out.push(':');
                compact(out, node);
            }
            out.push('}');
        }
    }
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
                    assert!(TYPES.iter().chain(SHARED).any(|(name, _)| *name == of), "{of}");
                }
            }
        }
    }

    #[test]
    fn structs_are_shown_in_one_line_in_the_order_of_their_fields() {
        for (kind, object, expected) in [
            (
                "RoleRef",
                json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}),
                r#"{"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"r"}"#,
            ),
            (
                "LabelSelector",
                json!({"matchExpressions": [{"key": "a", "operator": "Exists"}], "matchLabels": {"app": "<w>"}}),
                r#"{"matchLabels":{"app":"\u003cw\u003e"},"matchExpressions":[{"key":"a","operator":"Exists"}]}"#,
            ),
            (
                "PodDisruptionBudgetSpec",
                json!({"maxUnavailable": "50%", "minAvailable": 1, "selector": {"matchLabels": {"app": "w"}}}),
                r#"{"MinAvailable":1,"Selector":{"matchLabels":{"app":"w"}},"MaxUnavailable":"50%","UnhealthyPodEvictionPolicy":null}"#,
            ),
            (
                "ServicePort",
                json!({"protocol": "TCP", "port": 80}),
                r#"{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#,
            ),
            (
                "DeploymentStrategy",
                json!({"type": "Rolling", "rollingUpdate": {"maxSurge": 1}}),
                r#"{"Type":"Rolling","RollingUpdate":{"MaxUnavailable":0,"MaxSurge":1}}"#,
            ),
        ] {
            assert_eq!(shown(kind, &object).to_string(), expected);
        }
        let template =
            json!({"metadata": {"labels": {"a": "b"}, "annotations": {}}, "spec": {"hostNetwork": true}});
        let shown_template = shown("PodTemplateSpec", &template).to_string();
        assert!(
            shown_template.starts_with(r#"{"labels":{"a":"b"},"Spec":{"Volumes":null,"#),
            "{shown_template}"
        );
        assert!(shown_template.contains(r#""SecurityContext":{"HostNetwork":true,"#), "{shown_template}");
        assert_eq!(shown("LabelSelector", &Value::Null).to_string(), "null");
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
