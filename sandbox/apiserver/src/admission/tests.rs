//! What plug-ins make of writes in a cluster that has just begun.

use super::*;
use crate::storage::{decode, encode};
use drydock_etcd::{Op, Store, Txn};
use serde_json::json;
use std::sync::Arc;

struct Cluster {
    server: Arc<Server>,
    admin: User,
}

impl Cluster {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With plug-ins that are off by themselves.
    async fn with(plugins: &[&str]) -> Self {
        let enable_admission = plugins.iter().map(|name| (*name).to_owned()).collect();
        let options = crate::Options { enable_admission, ..crate::Options::default() };
        let server = Server::new(Store::memory(), options).expect("a server");
        crate::bootstrap::run(&server).await.expect("a store in memory takes all");
        let cluster = Self { server, admin: User { name: "admin".into(), ..User::default() } };
        for name in ["default", "robot"] {
            cluster.put("serviceaccounts/default", "ServiceAccount", name, json!({})).await;
        }
        cluster
    }

    async fn put(&self, place: &str, kind: &str, name: &str, rest: Value) {
        let mut tree = rest;
        tree["kind"] = kind.into();
        tree["apiVersion"] = "v1".into();
        tree["metadata"]["name"] = name.into();
        let key = format!("/registry/{place}/{name}");
        let txn = Txn { then: vec![Op::put(key, encode(&tree))], ..Txn::default() };
        self.server.store.txn(txn).await.expect("a write");
    }

    /// Gives an object to all plug-ins as one that comes to be.
    async fn create(&self, group: &str, plural: &str, tree: Value) -> Result<(Value, Vec<String>), Status> {
        self.write(Operation::Create, group, plural, tree, None).await
    }

    async fn write(
        &self,
        operation: Operation,
        group: &str,
        plural: &str,
        mut tree: Value,
        old: Option<&Value>,
    ) -> Result<(Value, Vec<String>), Status> {
        let namespace = match object::namespace(&tree) {
            "" => "default".to_string(),
            namespace => namespace.to_string(),
        };
        let snapshot = self.server.registry.snapshot();
        let resource = snapshot.find(group, "v1", plural).expect("it is served").clone();
        let name = object::name(&tree).to_string();
        let context = Context {
            operation,
            resource: &resource,
            requested: None,
            subresource: "",
            namespace: if resource.namespaced { &namespace } else { "" },
            name: &name,
            user: &self.admin,
            dry_run: false,
            kind: None,
            options: Options::None,
        };
        let mut warnings = Vec::new();
        let admission = &self.server.admission;
        admission.mutate(&self.server, &context, &mut tree, old, &mut warnings).await?;
        admission.validate(&self.server, &context, &tree, old, &mut warnings).await?;
        Ok((tree, warnings))
    }
}

fn pod(spec: Value) -> Value {
    let mut tree = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    if tree["spec"]["containers"].is_null() {
        tree["spec"]["containers"] = json!([{"name": "c", "image": "i"}]);
    }
    tree
}

#[tokio::test]
async fn a_pod_gets_what_it_does_not_say() {
    let cluster = Cluster::new().await;
    let (made, _) = cluster.create("", "pods", pod(json!({}))).await.expect("it is admitted");
    let spec = &made["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!((&spec["priority"], &spec["preemptionPolicy"]), (&json!(0), &json!("PreemptLowerPriority")));
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    let volume = &spec["volumes"][0];
    let name = volume["name"].as_str().expect("a name");
    assert!(name.starts_with("kube-api-access-") && name.len() == "kube-api-access-".len() + 5);
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["name"], volume["name"]);
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");

    let (quiet, _) = cluster
        .create("", "pods", pod(json!({"automountServiceAccountToken": false})))
        .await
        .expect("it is admitted");
    assert!(quiet["spec"]["volumes"].is_null());
    let unknown = cluster.create("", "pods", pod(json!({"serviceAccountName": "x"}))).await;
    assert_eq!(
        unknown.expect_err("no such account").message,
        "pods \"p\" is forbidden: error looking up service account default/x: serviceaccount \"x\" not found"
    );
    let unknown = cluster.create("", "pods", pod(json!({"priorityClassName": "x"}))).await;
    let why = "pods \"p\" is forbidden: no PriorityClass with name x was found";
    assert_eq!(unknown.expect_err("no such class").message, why);
    let (critical, _) = cluster
        .create("", "pods", pod(json!({"priorityClassName": "system-node-critical"})))
        .await
        .expect("it is admitted");
    assert_eq!(critical["spec"]["priority"], 2_000_001_000);
}

#[tokio::test]
async fn nothing_comes_to_be_in_a_namespace_that_goes() {
    let cluster = Cluster::new().await;
    cluster.put("namespaces", "Namespace", "default", json!({"status": {"phase": "Terminating"}})).await;
    let refusal = cluster.create("", "configmaps", json!({"metadata": {"name": "m"}})).await;
    let refusal = refusal.expect_err("it goes");
    assert_eq!(
        refusal.message,
        "configmaps \"m\" is forbidden: unable to create new content in namespace default because it is being terminated"
    );
    assert_eq!(refusal.details.expect("details").causes[0].reason, "NamespaceTerminating");
}

#[tokio::test]
async fn limit_ranges_fill_in_and_refuse() {
    let cluster = Cluster::new().await;
    let limit = json!({
        "type": "Container",
        "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}, "min": {"cpu": "50m"},
    });
    cluster.put("limitranges/default", "LimitRange", "l", json!({"spec": {"limits": [limit]}})).await;
    let (made, _) = cluster.create("", "pods", pod(json!({}))).await.expect("it is admitted");
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(*resources, json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}));
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let greedy = json!([{"name": "c", "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "10m"}}}]);
    let refusal = cluster.create("", "pods", pod(json!({"containers": greedy}))).await;
    assert_eq!(
        refusal.expect_err("too much").message,
        "pods \"p\" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, maximum cpu usage per Container is 1, \
         but limit is 2]"
    );
}

#[tokio::test]
async fn quotas_are_charged_and_hold() {
    let cluster = Cluster::new().await;
    let hard = json!({"pods": "2", "requests.cpu": "1"});
    let used = json!({"pods": "0", "requests.cpu": "0"});
    let quota = json!({"spec": {"hard": hard}, "status": {"hard": hard, "used": used}});
    cluster.put("resourcequotas/default", "ResourceQuota", "q", quota).await;
    let refusal = cluster.create("", "pods", pod(json!({}))).await.expect_err("it must say");
    assert_eq!(refusal.message, "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c");
    let asking =
        |cpu: &str| pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}));
    cluster.create("", "pods", asking("600m")).await.expect("it fits");
    let refusal = cluster.create("", "pods", asking("500m")).await.expect_err("it does not fit");
    assert_eq!(
        refusal.message,
        "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1"
    );
    cluster.create("", "pods", asking("400m")).await.expect("it fits just so");
    let record = cluster.server.store.get(b"/registry/resourcequotas/default/q", None);
    let quota = decode(&record.expect("readable").expect("a quota")).expect("an object");
    assert_eq!(quota["status"]["used"], json!({"pods": "2", "requests.cpu": "1"}));
    assert!(cluster.create("", "pods", asking("0")).await.is_err(), "two pods are enough");
}

#[tokio::test]
async fn pod_security_refuses_and_warns_in_upstreams_words() {
    let cluster = Cluster::new().await;
    let labels = |enforce: &str, warn: &str| {
        json!({"metadata": {"labels": {
            "pod-security.kubernetes.io/enforce": enforce, "pod-security.kubernetes.io/warn": warn,
        }}})
    };
    cluster.put("namespaces", "Namespace", "default", labels("baseline", "restricted")).await;
    let (_, warnings) = cluster.create("", "pods", pod(json!({}))).await.expect("it is not unsafe");
    let restricted = "allowPrivilegeEscalation != false (container \"c\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(warnings, [format!("would violate PodSecurity \"restricted:latest\": {restricted}")]);
    let container = json!({"name": "c", "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}},
        "ports": [{"containerPort": 80, "hostPort": 80}]});
    let unsafe_pod = pod(json!({
        "hostNetwork": true, "containers": [container],
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
    }));
    let refusal = cluster.create("", "pods", unsafe_pod).await.expect_err("it is unsafe");
    assert_eq!(
        refusal.message,
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": non-default capabilities (container \"c\" must not \
         include \"SYS_ADMIN\" in securityContext.capabilities.add), host namespaces (hostNetwork=true), hostPath volumes \
         (volume \"v\"), hostPort (container \"c\" uses hostPort 80), privileged (container \"c\" must not set \
         securityContext.privileged=true)"
    );
    let template = json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": pod(json!({}))["spec"]}}});
    let (_, warnings) = cluster.create("apps", "deployments", template).await.expect("only a warning");
    assert_eq!(warnings.len(), 1);
    let wrong = json!({"metadata": {"name": "n", "labels": {"pod-security.kubernetes.io/enforce": "x"}}});
    let refusal = cluster.create("", "namespaces", wrong).await.expect_err("no such level");
    assert_eq!(
        refusal.message,
        "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of \
         privileged, baseline, restricted"
    );
}

#[tokio::test]
async fn a_stricter_namespace_counts_its_pods() {
    let cluster = Cluster::new().await;
    let unsafe_pod = |owner: Value| {
        let mut tree = pod(json!({"hostPID": true}));
        tree["metadata"]["ownerReferences"] = owner;
        tree
    };
    let owner = json!([{"controller": true, "uid": "set"}]);
    for (name, owner) in [("a", &owner), ("b", &owner), ("c", &json!([])), ("d", &owner)] {
        cluster.put("pods/default", "Pod", name, unsafe_pod(owner.clone())).await;
    }
    let old = json!({"metadata": {"name": "default"}});
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let new = json!({"metadata": {"name": "default", "labels": labels}});
    let (_, warnings) =
        cluster.write(Operation::Update, "", "namespaces", new, Some(&old)).await.expect("it may");
    assert_eq!(warnings[1..], ["a (and 3 other pods): host namespaces"]);
}

#[tokio::test]
async fn storage_gets_its_class_and_is_protected() {
    let cluster = Cluster::new().await;
    let claim =
        || json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}});
    let (made, _) = cluster.create("", "persistentvolumeclaims", claim()).await.expect("it is admitted");
    assert!(made["spec"]["storageClassName"].is_null());
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let class = json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
    cluster.put("storageclasses", "StorageClass", "standard", class).await;
    let (made, _) = cluster.create("", "persistentvolumeclaims", claim()).await.expect("it is admitted");
    assert_eq!(made["spec"]["storageClassName"], "standard");
    let mut larger = made.clone();
    larger["spec"]["resources"]["requests"]["storage"] = "2Gi".into();
    let refusal = cluster
        .write(Operation::Update, "", "persistentvolumeclaims", larger.clone(), Some(&made))
        .await
        .expect_err("it is not bound");
    assert_eq!(
        refusal.message,
        "persistentvolumeclaims \"c\" is forbidden: Only bound persistent volume claims can be expanded"
    );
}

#[tokio::test]
async fn a_kubelet_writes_only_what_is_its_own() {
    let mut cluster = Cluster::new().await;
    if let Some(server) = Arc::get_mut(&mut cluster.server) {
        server.admission = Admission::new(&crate::Options {
            enable_admission: vec!["NodeRestriction".into()],
            ..crate::Options::default()
        });
    }
    cluster.admin =
        User { name: "system:node:node2".into(), groups: vec!["system:nodes".into()], ..User::default() };
    let node = |name: &str| json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
    let (made, _) = cluster.create("", "nodes", node("node2")).await.expect("itself");
    assert_eq!(made["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    let refusal = cluster.create("", "nodes", node("node3")).await.expect_err("another one");
    assert_eq!(
        refusal.message,
        "nodes \"node3\" is forbidden: node \"node2\" is not allowed to modify node \"node3\""
    );
    let mirror = |node: &str| {
        let mut pod = pod(json!({"nodeName": node}));
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
        pod
    };
    assert!(cluster.create("", "pods", mirror("node2")).await.is_ok());
    assert!(cluster.create("", "pods", mirror("node3")).await.is_err());
    assert!(cluster.create("", "pods", pod(json!({"nodeName": "node2"}))).await.is_err());
}

#[tokio::test]
async fn a_policy_refuses_what_its_expressions_do_not_hold_for() {
    let cluster = Cluster::new().await;
    let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]);
    let policy = json!({"spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": rules},
        "matchConditions": [{"name": "people", "expression": "!request.userInfo.username.startsWith('system:')"}],
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
        "validations": [
            {"expression": "variables.replicas <= 5"},
            {"expression": "object.metadata.name != 'bad'", "messageExpression": "'not ' + object.metadata.name", "reason": "Forbidden"},
        ],
    }});
    cluster.put("validatingadmissionpolicies", "ValidatingAdmissionPolicy", "few", policy).await;
    let deployment =
        |name: &str, replicas: u32| json!({"metadata": {"name": name}, "spec": {"replicas": replicas}});
    // Nothing binds it yet.
    cluster.create("apps", "deployments", deployment("a", 9)).await.expect("it is admitted");
    let binding = |actions: Value| json!({"spec": {"policyName": "few", "validationActions": actions}});
    let bindings = "validatingadmissionpolicybindings";
    cluster.put(bindings, "ValidatingAdmissionPolicyBinding", "all", binding(json!(["Deny"]))).await;
    let refused = cluster.create("apps", "deployments", deployment("a", 9)).await.expect_err("too many");
    assert_eq!(
        refused.message,
        "deployments.apps \"a\" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'all' denied request: \
         failed expression: variables.replicas <= 5"
    );
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    let refused = cluster.create("apps", "deployments", deployment("bad", 1)).await.expect_err("a bad name");
    assert!(refused.message.ends_with("denied request: not bad"), "{}", refused.message);
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    cluster.create("apps", "deployments", deployment("a", 5)).await.expect("it is admitted");
    cluster.create("apps", "replicasets", deployment("a", 9)).await.expect("it is another kind");
    let broken = json!({"metadata": {"name": "a"}, "spec": {}});
    let refused = cluster.create("apps", "deployments", broken).await.expect_err("no replicas");
    assert!(
        refused.message.contains("expression 'variables.replicas <= 5' resulted in error: no such key"),
        "{}",
        refused.message
    );
    cluster.put(bindings, "ValidatingAdmissionPolicyBinding", "all", binding(json!(["Warn"]))).await;
    let (_, warnings) =
        cluster.create("apps", "deployments", deployment("a", 9)).await.expect("a warning only");
    assert_eq!(
        warnings,
        [
            "Validation failed for ValidatingAdmissionPolicy 'few' with binding 'all': failed expression: variables.replicas <= 5"
        ]
    );
}

#[tokio::test]
async fn a_binding_chooses_namespaces_and_gives_parameters() {
    let cluster = Cluster::new().await;
    let rules =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}]);
    let policy = json!({"spec": {
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": "object == null || object.data.size() <= int(params.data.most)", "message": "too much"}],
    }});
    cluster.put("validatingadmissionpolicies", "ValidatingAdmissionPolicy", "small", policy).await;
    let binding = |labels: Value| {
        json!({"spec": {
            "policyName": "small",
            "validationActions": ["Deny"],
            "paramRef": {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"},
            "matchResources": {"namespaceSelector": {"matchLabels": labels}},
        }})
    };
    let bindings = "validatingadmissionpolicybindings";
    let map = |data: Value| json!({"metadata": {"name": "m"}, "data": data});
    let two = || map(json!({"a": "1", "b": "2"}));
    cluster.put(bindings, "ValidatingAdmissionPolicyBinding", "b", binding(json!({"env": "test"}))).await;
    cluster.create("", "configmaps", two()).await.expect("another namespace is meant");
    let own = json!({"kubernetes.io/metadata.name": "default"});
    cluster.put(bindings, "ValidatingAdmissionPolicyBinding", "b", binding(own)).await;
    let refused = cluster.create("", "configmaps", two()).await.expect_err("no parameters");
    assert!(refused.message.contains("failed to configure binding: no params found"), "{}", refused.message);
    cluster.put("configmaps/default", "ConfigMap", "limits", json!({"data": {"most": "1"}})).await;
    let refused = cluster.create("", "configmaps", two()).await.expect_err("too much");
    assert!(refused.message.ends_with("denied request: too much"), "{}", refused.message);
    cluster.create("", "configmaps", map(json!({"a": "1"}))).await.expect("it is admitted");
}

#[tokio::test]
async fn what_is_off_by_itself_works_when_it_is_on() {
    let cluster = Cluster::with(&[
        "AlwaysPullImages",
        "DenyServiceExternalIPs",
        "ExtendedResourceToleration",
        "LimitPodHardAntiAffinityTopology",
        "PodNodeSelector",
    ])
    .await;
    let selector = json!({"scheduler.alpha.kubernetes.io/node-selector": "disk=ssd, zone=a"});
    cluster.put("namespaces", "Namespace", "default", json!({"metadata": {"annotations": selector}})).await;
    let device = json!({"requests": {"example.com/dongle": "1", "cpu": "1"}});
    let spec =
        json!({"containers": [{"name": "c", "image": "i", "imagePullPolicy": "Never", "resources": device}]});
    let (made, _) = cluster.create("", "pods", pod(spec)).await.expect("it is admitted");
    let spec = &made["spec"];
    assert_eq!(spec["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(spec["nodeSelector"], json!({"disk": "ssd", "zone": "a"}));
    let tolerated = json!({"key": "example.com/dongle", "operator": "Exists"});
    assert!(spec["tolerations"].as_array().is_some_and(|all| all.contains(&tolerated)), "{spec}");

    let refused =
        async |tree| cluster.create("", "pods", pod(tree)).await.expect_err("it is refused").message;
    let elsewhere = refused(json!({"nodeSelector": {"disk": "hdd"}})).await;
    let why =
        "pods \"p\" is forbidden: pod node label selector conflicts with its namespace node label selector";
    assert_eq!(elsewhere, why);
    let term = json!({"topologyKey": "zone", "labelSelector": {}});
    let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let why = "has TopologyKey zone but only key kubernetes.io/hostname is allowed";
    assert!(refused(json!({"affinity": affinity})).await.ends_with(why));
    let service =
        json!({"metadata": {"name": "s", "namespace": "default"}, "spec": {"externalIPs": ["1.2.3.4"]}});
    let why = "services \"s\" is forbidden: Use of external IPs is denied by admission control.";
    let said = cluster.create("", "services", service.clone()).await.expect_err("it is refused").message;
    assert_eq!(said, why);
    let same = cluster.write(Operation::Update, "", "services", service.clone(), Some(&service)).await;
    same.expect("what it has it keeps");
}

#[tokio::test]
async fn a_namespace_comes_with_what_is_made_in_it_and_nothing_at_all_may_be_made() {
    let cluster = Cluster::with(&["NamespaceAutoProvision"]).await;
    let key = b"/registry/namespaces/default";
    let txn = Txn {
        then: vec![Op::Delete(drydock_etcd::KeyRange::key("/registry/namespaces/default"))],
        ..Txn::default()
    };
    cluster.server.store.txn(txn).await.expect("a write");
    let map = json!({"metadata": {"name": "m", "namespace": "default"}});
    cluster.create("", "configmaps", map.clone()).await.expect("it is admitted");
    assert!(cluster.server.store.get(key, None).expect("readable").is_some());
    let nowhere = json!({"metadata": {"name": "m", "namespace": "Bad_Name"}});
    let said =
        cluster.create("", "configmaps", nowhere).await.expect_err("no namespace has such a name").message;
    assert_eq!(said, "namespaces \"Bad_Name\" not found");
    let denied = Cluster::with(&["AlwaysDeny"]).await.create("", "configmaps", map).await;
    let why = "configmaps \"m\" is forbidden: admission control is denying all modifications";
    assert_eq!(denied.expect_err("all is denied").message, why);
}

#[tokio::test]
async fn pods_tolerate_what_their_namespace_says() {
    let cluster = Cluster::with(&["PodTolerationRestriction"]).await;
    let given =
        json!([{"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}]).to_string();
    let allowed = json!([{"key": "team", "operator": "Exists"}, {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists"}, {"key": "node.kubernetes.io/unreachable", "operator": "Exists"}]);
    let annotations = json!({
        "scheduler.alpha.kubernetes.io/defaultTolerations": given,
        "scheduler.alpha.kubernetes.io/tolerationsWhitelist": allowed.to_string(),
    });
    cluster
        .put("namespaces", "Namespace", "default", json!({"metadata": {"annotations": annotations}}))
        .await;
    let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}});
    let (made, _) =
        cluster.create("", "pods", pod(json!({"containers": [container]}))).await.expect("it is admitted");
    let keys = made["spec"]["tolerations"].as_array().expect("a list").iter();
    let keys: Vec<_> = keys.filter_map(|one| one["key"].as_str()).collect();
    assert_eq!(keys[0], "team");
    assert_eq!(keys.last(), Some(&"node.kubernetes.io/memory-pressure"));
    let other =
        pod(json!({"containers": [container], "tolerations": [{"key": "gpu", "operator": "Exists"}]}));
    let said = cluster.create("", "pods", other).await.expect_err("it is not allowed").message;
    let why = "pods \"p\" is forbidden: pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist";
    assert_eq!(said, why);
}
