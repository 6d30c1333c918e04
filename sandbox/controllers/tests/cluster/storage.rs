//! Claims and volumes.

use drydock_controllers::manager::Settings;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, template};

fn claim(name: &str, class: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "10Mi"}},
        },
    })
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

#[tokio::test]
async fn a_claim_takes_a_volume_that_is_there_and_gives_it_back() {
    let cluster = Cluster::start().await;
    let volumes = cluster.all::<PersistentVolume>();
    let volume = json!({
        "metadata": {"name": "disk"},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/data"},
        },
    });
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    cluster.create::<PersistentVolumeClaim>(claim("mine", "")).await;
    let bound = cluster.when("mine", is_bound).await;
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("disk"));
    assert_eq!(bound.status.unwrap().capacity.unwrap()["storage"].0, "1Gi");
    let phase = |wanted: &'static str| {
        let volumes = volumes.clone();
        move || {
            let volumes = volumes.clone();
            async move {
                let phase = volumes.get("disk").await.unwrap().status.and_then(|status| status.phase);
                (phase.as_deref() == Some(wanted)).then_some(())
            }
        }
    };
    cluster.until("the volume bound", phase("Bound")).await;
    cluster.api::<PersistentVolumeClaim>().delete("mine", &DeleteParams::default()).await.unwrap();
    cluster.until("the volume released", phase("Released")).await;
}

#[tokio::test]
async fn a_volume_is_made_on_the_node_of_its_pod_and_goes_with_its_claim() {
    let removes = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        labels.is_some_and(|labels| labels.contains_key("drydock.dev/reclaims")).then_some(0)
    };
    let cluster = Cluster::with(Settings::default(), removes).await;
    cluster.node("n1", json!({"kubernetes.io/hostname": "n1"})).await;
    let classes = cluster.all::<StorageClass>();
    cluster.until("the class", || async { classes.get_opt("standard").await.unwrap() }).await;
    cluster.create::<PersistentVolumeClaim>(claim("data", "standard")).await;
    cluster.event("WaitForFirstConsumer", "waiting for first consumer to be created before binding").await;
    let chosen =
        Patch::Merge(json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}));
    cluster.api::<PersistentVolumeClaim>().patch("data", &PatchParams::default(), &chosen).await.unwrap();
    let bound = cluster.when("data", is_bound).await;
    let name = bound.spec.unwrap().volume_name.unwrap();
    assert_eq!(name, format!("pvc-{}", bound.metadata.uid.unwrap()));
    cluster.event("ProvisioningSucceeded", &format!("Successfully provisioned volume {name}")).await;
    let volumes = cluster.all::<PersistentVolume>();
    let volume = volumes.get(&name).await.unwrap();
    let path = volume.spec.unwrap().host_path.unwrap().path;
    assert_eq!(path, format!("/var/lib/kubernetes/volumes/{name}_default_data"));
    cluster.api::<PersistentVolumeClaim>().delete("data", &DeleteParams::default()).await.unwrap();
    cluster
        .until("the volume gone", || async { volumes.get_opt(&name).await.unwrap().is_none().then_some(()) })
        .await;
}

#[tokio::test]
async fn a_class_that_waits_for_no_pod_makes_volumes_where_pods_may_go_and_refuses_devices_and_copies() {
    let cluster = Cluster::start().await;
    cluster.node("n1", json!({"kubernetes.io/hostname": "n1"})).await;
    let taint = json!({"spec": {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}});
    let nodes = cluster.all::<Node>();
    nodes.patch("n1", &PatchParams::default(), &Patch::Merge(taint)).await.unwrap();
    cluster.node("n2", json!({"kubernetes.io/hostname": "n2"})).await;
    let class = json!({"metadata": {"name": "now"}, "provisioner": "drydock.dev/hostpath", "volumeBindingMode": "Immediate"});
    let class = serde_json::from_value(class).unwrap();
    cluster.all::<StorageClass>().create(&PostParams::default(), &class).await.unwrap();
    cluster.create::<PersistentVolumeClaim>(claim("data", "now")).await;
    let name = cluster.when("data", is_bound).await.spec.unwrap().volume_name.unwrap();
    let volume = cluster.all::<PersistentVolume>().get(&name).await.unwrap();
    let affinity = serde_json::to_value(volume.spec.unwrap().node_affinity).unwrap();
    let host = &affinity["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"];
    assert_eq!(*host, json!(["n2"]));

    // A claim that grows, and one whose volume is somebody else's.
    let grow = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": "80Mi"}}}}));
    let claims = cluster.api::<PersistentVolumeClaim>();
    let larger = Patch::Merge(json!({"allowVolumeExpansion": true}));
    cluster.all::<StorageClass>().patch("now", &PatchParams::default(), &larger).await.unwrap();
    claims.patch("data", &PatchParams::default(), &grow).await.unwrap();
    let has = |claim: &PersistentVolumeClaim| {
        let capacity =
            claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage").cloned());
        capacity.is_some_and(|capacity| capacity.0 == "80Mi")
    };
    cluster.when("data", has).await;
    cluster.event("VolumeResizeSuccessful", "Resize volume succeeded").await;
    let volume = cluster.all::<PersistentVolume>().get(&name).await.unwrap();
    assert_eq!(volume.spec.unwrap().capacity.unwrap()["storage"].0, "80Mi");

    let mut device = claim("device", "now");
    device["spec"]["volumeMode"] = "Block".into();
    cluster.create::<PersistentVolumeClaim>(device).await;
    let words = "drydock.dev/hostpath does not support block volume provisioning";
    cluster.event("ProvisioningFailed", words).await;
    let mut copy = claim("copy", "now");
    copy["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "data"});
    cluster.create::<PersistentVolumeClaim>(copy).await;
    cluster.event("ProvisioningFailed", "data source PersistentVolumeClaim \"data\" is not supported").await;
    for name in ["device", "copy"] {
        let pending = cluster.api::<PersistentVolumeClaim>().get(name).await.unwrap();
        assert_eq!(pending.status.unwrap().phase.as_deref(), Some("Pending"));
    }
}

#[tokio::test]
async fn a_claim_that_names_no_class_gets_the_default_one_that_is_set_later() {
    let cluster = Cluster::start().await;
    let classes = cluster.all::<StorageClass>();
    cluster.until("the class", || async { classes.get_opt("standard").await.unwrap() }).await;
    let mark = |is: &str| {
        let annotations = json!({"storageclass.kubernetes.io/is-default-class": is});
        Patch::Merge(json!({"metadata": {"annotations": annotations}}))
    };
    classes.patch("standard", &PatchParams::default(), &mark("false")).await.unwrap();
    let mut unnamed = claim("unnamed", "");
    unnamed["spec"].as_object_mut().unwrap().remove("storageClassName");
    cluster.create::<PersistentVolumeClaim>(unnamed).await;
    cluster.create::<PersistentVolumeClaim>(claim("none", "")).await;
    let words = "no persistent volumes available for this claim and no storage class is set";
    cluster.event("FailedBinding", words).await;
    classes.patch("standard", &PatchParams::default(), &mark("true")).await.unwrap();
    let class = |claim: &PersistentVolumeClaim| claim.spec.as_ref().unwrap().storage_class_name.clone();
    cluster.when("unnamed", |claim| class(claim).as_deref() == Some("standard")).await;
    let none = cluster.api::<PersistentVolumeClaim>().get("none").await.unwrap();
    assert_eq!(class(&none).as_deref(), Some(""), "it wants none");
}

/// A volume whose claim was there and is gone.
async fn released(cluster: &Cluster, name: &str, policy: &str, source: Value) {
    let mut volume = json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name,
            "persistentVolumeReclaimPolicy": policy,
        },
    });
    let spec = volume["spec"].as_object_mut().unwrap();
    spec.extend(source.as_object().unwrap().clone());
    let volume = serde_json::from_value(volume).unwrap();
    cluster.all::<PersistentVolume>().create(&PostParams::default(), &volume).await.unwrap();
    cluster.create::<PersistentVolumeClaim>(claim(name, name)).await;
    cluster.when(name, is_bound).await;
    cluster.api::<PersistentVolumeClaim>().delete(name, &DeleteParams::default()).await.unwrap();
}

/// Waits until a volume is in a phase.
async fn when_volume(cluster: &Cluster, name: &str, phase: &str) -> PersistentVolume {
    let volumes = cluster.all::<PersistentVolume>();
    let is = |volume: &PersistentVolume| volume.status.as_ref().unwrap().phase.as_deref() == Some(phase);
    cluster
        .until(&format!("{name} {phase}"), || async { volumes.get_opt(name).await.unwrap().filter(is) })
        .await
}

#[tokio::test]
async fn a_volume_that_cannot_be_deleted_has_failed_and_says_why() {
    let cluster = Cluster::start().await;
    let local = json!({"local": {"path": "/mnt/disk"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]},
    ]}}});
    let host = json!({"hostPath": {"path": "/mnt/data"}});
    let cases = [
        ("host", host, "host_path deleter only supports /tmp/.+ but received provided /mnt/data"),
        (
            "loc",
            local.clone(),
            "error getting deleter volume plugin for volume \"loc\": no deletable volume plugin matched",
        ),
    ];
    for (name, source, why) in cases {
        released(&cluster, name, "Delete", source).await;
        let failed = when_volume(&cluster, name, "Failed").await;
        assert_eq!(failed.status.unwrap().message.as_deref(), Some(why));
        cluster.event("VolumeFailedDelete", why).await;
    }
    released(&cluster, "again", "Recycle", local).await;
    let why = "No recycler plugin found for the volume!";
    let failed = when_volume(&cluster, "again", "Failed").await;
    assert_eq!(failed.status.unwrap().message.as_deref(), Some(why));
    cluster.event("VolumeFailedRecycle", why).await;
    released(&cluster, "tmp", "Delete", json!({"hostPath": {"path": "/tmp/data"}})).await;
    let volumes = cluster.all::<PersistentVolume>();
    cluster
        .until("the volume gone", || async { volumes.get_opt("tmp").await.unwrap().is_none().then_some(()) })
        .await;
}

#[tokio::test]
async fn a_volume_is_emptied_for_the_next_claim() {
    // One of an earlier claim has done its work, one of this claim of the volume `worn` cannot.
    let empties = |pod: &Pod| {
        let annotations = pod.metadata.annotations.as_ref();
        let now = annotations.is_some_and(|all| all.contains_key("drydock.dev/recycles-after"));
        match pod.metadata.name.as_deref() {
            Some("recycler-for-worn") => Some(now.into()),
            name => (name == Some("recycler-for-disk")).then_some(0),
        }
    };
    let cluster = Cluster::with(Settings::default(), empties).await;
    let mut old = template("web", "nginx");
    old["metadata"]["name"] = "recycler-for-worn".into();
    old["spec"]["restartPolicy"] = "Never".into();
    cluster.create::<Pod>(old).await;
    let ended = |pod: &Pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Succeeded");
    cluster.when("recycler-for-worn", ended).await;
    released(&cluster, "worn", "Recycle", json!({"hostPath": {"path": "/data"}})).await;
    let why = "Recycle failed: pod failed, pod.Status.Message unknown";
    let failed = when_volume(&cluster, "worn", "Failed").await;
    assert_eq!(failed.status.unwrap().message.as_deref(), Some(why));
    cluster.event("VolumeFailedRecycle", why).await;

    released(&cluster, "disk", "Recycle", json!({"hostPath": {"path": "/data"}})).await;
    cluster.event("VolumeRecycled", "Volume recycled").await;
    let free = when_volume(&cluster, "disk", "Available").await;
    assert_eq!(free.spec.unwrap().claim_ref, None);
    let pods = cluster.api::<Pod>();
    let gone = || async { pods.get_opt("recycler-for-disk").await.unwrap().is_none().then_some(()) };
    cluster.until("its pod gone", gone).await;
    cluster.create::<PersistentVolumeClaim>(claim("next", "disk")).await;
    cluster.when("next", is_bound).await;
}

#[tokio::test]
async fn a_claim_that_a_pod_uses_waits_for_it() {
    let cluster = Cluster::start().await;
    cluster.create::<PersistentVolumeClaim>(claim("used", "")).await;
    let mut pod = template("web", "nginx");
    pod["metadata"]["name"] = "web".into();
    pod["spec"]["nodeName"] = "n1".into();
    pod["spec"]["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "used"}}]);
    cluster.create::<Pod>(pod).await;
    let held =
        |claim: &PersistentVolumeClaim| claim.metadata.finalizers.as_ref().is_some_and(|all| !all.is_empty());
    cluster.when("used", held).await;
    let claims = cluster.api::<PersistentVolumeClaim>();
    claims.delete("used", &DeleteParams::default()).await.unwrap();
    cluster.when("used", |claim: &PersistentVolumeClaim| claim.metadata.deletion_timestamp.is_some()).await;
    cluster.api::<Pod>().delete("web", &DeleteParams::default()).await.unwrap();
    cluster
        .until("the claim gone", || async { claims.get_opt("used").await.unwrap().is_none().then_some(()) })
        .await;
}

#[tokio::test]
async fn a_pod_has_claims_of_devices_from_templates() {
    let cluster = Cluster::start().await;
    let requests = json!({"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "gpu.example.com"}}]}});
    let template =
        json!({"metadata": {"name": "gpu"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": requests}});
    cluster.create::<ResourceClaimTemplate>(template).await;
    let mut pod = crate::harness::template("web", "nginx");
    pod["metadata"]["name"] = "web".into();
    pod["spec"]["resourceClaims"] = json!([{"name": "g", "resourceClaimTemplateName": "gpu"}]);
    cluster.create::<Pod>(pod).await;
    let claims = cluster.api::<ResourceClaim>();
    let claim = cluster
        .until("its claim", || async { claims.list(&Default::default()).await.unwrap().items.pop() })
        .await;
    let (metadata, name) = (claim.metadata, |text: &Option<String>| text.clone().unwrap_or_default());
    assert!(name(&metadata.name).starts_with("web-g-"), "{metadata:?}");
    assert_eq!(metadata.labels.unwrap()["a"], "b");
    assert_eq!(metadata.annotations.unwrap()["resource.kubernetes.io/pod-claim-name"], "g");
    assert_eq!(metadata.owner_references.unwrap()[0].kind, "Pod");
    let made = metadata.name.clone();
    cluster
        .when("web", move |pod: &Pod| {
            let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
            statuses.unwrap_or_default().iter().any(|one| one.name == "g" && one.resource_claim_name == made)
        })
        .await;
}
