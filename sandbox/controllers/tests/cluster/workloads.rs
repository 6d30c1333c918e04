//! Deployments, ReplicaSets, StatefulSets, DaemonSets.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ReplicationController};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, template};

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, image),
        },
    })
}

fn is_complete(deployment: &Deployment, replicas: i32) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas] == [Some(replicas); 3]
        && status
            .conditions
            .unwrap_or_default()
            .iter()
            .any(|one| one.reason.as_deref() == Some("NewReplicaSetAvailable"))
}

async fn sets(cluster: &Cluster) -> Vec<ReplicaSet> {
    cluster.api::<ReplicaSet>().list(&Default::default()).await.unwrap().items
}

#[tokio::test]
async fn a_deployment_comes_up_heals_and_scales() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("web", 3, "nginx:1")).await;
    cluster.when("web", |web: &Deployment| is_complete(web, 3)).await;
    let set = sets(&cluster).await.remove(0);
    let set_name = set.metadata.name.unwrap();
    let hash = set_name.strip_prefix("web-").unwrap();
    cluster.event("ScalingReplicaSet", &format!("Scaled up replica set {set_name} from 0 to 3")).await;
    let pods = cluster.pods();
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        let name = pod.metadata.name.as_deref().unwrap();
        assert!(name.starts_with(&format!("{set_name}-")) && name.len() == set_name.len() + 6, "{name}");
        assert_eq!(pod.metadata.labels.as_ref().unwrap()["pod-template-hash"], hash);
    }
    let victim = pods[0].metadata.name.clone().unwrap();
    cluster.api::<Pod>().delete(&victim, &DeleteParams::default()).await.unwrap();
    cluster
        .when_pods("another pod", |pods| {
            pods.len() == 3 && pods.iter().all(|pod| pod.metadata.name.as_ref() != Some(&victim))
        })
        .await;
    let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
    cluster.api::<Deployment>().patch_scale("web", &PatchParams::default(), &patch).await.unwrap();
    cluster.when("web", |web: &Deployment| is_complete(web, 5)).await;
    cluster.event("ScalingReplicaSet", &format!("Scaled up replica set {set_name} from 3 to 5")).await;
}

#[tokio::test]
async fn a_new_image_rolls_and_can_be_taken_back() {
    let cluster = Cluster::start().await;
    cluster.create::<Deployment>(deployment("web", 4, "nginx:1")).await;
    cluster.when("web", |web: &Deployment| is_complete(web, 4)).await;
    let api = cluster.api::<Deployment>();
    let image = |image: &str| {
        Patch::Strategic(
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}),
        )
    };
    for (to, revision) in [("nginx:2", "2"), ("nginx:1", "3")] {
        api.patch("web", &PatchParams::default(), &image(to)).await.unwrap();
        let done = |web: &Deployment| {
            is_complete(web, 4)
                && web.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"] == revision
        };
        cluster.when("web", done).await;
        cluster
            .when_pods("pods of the image only", |pods| {
                pods.len() == 4
                    && pods
                        .iter()
                        .all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(to))
            })
            .await;
    }
    let all = sets(&cluster).await;
    let mut sizes: Vec<_> = all.iter().map(|set| set.spec.as_ref().unwrap().replicas.unwrap()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 4], "the old ReplicaSet was used again");
}

#[tokio::test]
async fn recreate_waits_for_the_old_pods() {
    let cluster = Cluster::start().await;
    let mut object = deployment("web", 2, "nginx:1");
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    cluster.create::<Deployment>(object).await;
    cluster.when("web", |web: &Deployment| is_complete(web, 2)).await;
    let patch = Patch::Strategic(
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}}),
    );
    cluster.api::<Deployment>().patch("web", &PatchParams::default(), &patch).await.unwrap();
    cluster
        .when_pods("new pods only", |pods| {
            pods.len() == 2
                && pods
                    .iter()
                    .all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("nginx:2"))
        })
        .await;
    cluster.when("web", |web: &Deployment| is_complete(web, 2)).await;
}

#[tokio::test]
async fn pods_are_adopted_and_released_by_their_labels() {
    let cluster = Cluster::start().await;
    let mut pod = template("web", "nginx:1");
    pod["metadata"]["name"] = "mine".into();
    cluster.create::<Pod>(pod).await;
    cluster
        .create::<ReplicaSet>(json!({
            "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "nginx:1")},
        }))
        .await;
    cluster
        .when("mine", |pod: &Pod| {
            pod.metadata.owner_references.as_ref().is_some_and(|owners| owners[0].name == "web")
        })
        .await;
    cluster.when_pods("one more", |pods| pods.len() == 2).await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"app": "other"}}}));
    cluster.api::<Pod>().patch("mine", &PatchParams::default(), &patch).await.unwrap();
    cluster.when("mine", |pod: &Pod| pod.metadata.owner_references.as_ref().is_none_or(Vec::is_empty)).await;
    cluster.when_pods("one in its place", |pods| pods.len() == 3).await;
}

#[tokio::test]
async fn a_replication_controller_keeps_its_pods() {
    let cluster = Cluster::start().await;
    cluster
        .create::<ReplicationController>(json!({
            "metadata": {"name": "old"},
            "spec": {"replicas": 2, "selector": {"app": "old"}, "template": template("old", "nginx:1")},
        }))
        .await;
    let ready = |one: &ReplicationController| {
        one.status.as_ref().is_some_and(|status| status.available_replicas == Some(2))
    };
    cluster.when("old", ready).await;
}

#[tokio::test]
async fn a_stateful_set_is_made_in_order_with_claims_and_updated_from_the_end() {
    let cluster = Cluster::start().await;
    cluster.hold("db-1");
    cluster
        .create::<StatefulSet>(json!({
            "metadata": {"name": "db"},
            "spec": {
                "replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": template("db", "postgres:1"),
                "volumeClaimTemplates": [{
                    "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
                }],
            },
        }))
        .await;
    let names = |pods: &[std::sync::Arc<Pod>]| {
        pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect::<Vec<_>>()
    };
    let two = cluster.when_pods("two pods", |pods| pods.len() == 2).await;
    assert_eq!(names(&two), ["db-0", "db-1"], "the third waits for the second");
    cluster.hold("nothing");
    let poke = Patch::Merge(json!({"metadata": {"annotations": {"go": "on"}}}));
    cluster.api::<Pod>().patch("db-1", &PatchParams::default(), &poke).await.unwrap();
    let ready = |set: &StatefulSet| {
        let status = set.status.clone().unwrap_or_default();
        status.ready_replicas == Some(3)
            && status.observed_generation == set.metadata.generation
            && status.current_revision == status.update_revision
    };
    let first = cluster.when("db", ready).await;
    for ordinal in 0..3 {
        cluster.api::<PersistentVolumeClaim>().get(&format!("data-db-{ordinal}")).await.unwrap();
    }
    let patch = Patch::Strategic(
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "postgres:2"}]}}}}),
    );
    cluster.api::<StatefulSet>().patch("db", &PatchParams::default(), &patch).await.unwrap();
    let before = first.status.unwrap().update_revision;
    cluster
        .when("db", |set: &StatefulSet| ready(set) && set.status.as_ref().unwrap().update_revision != before)
        .await;
    let images = cluster.when_pods("three pods", |pods| pods.len() == 3).await;
    assert!(
        images
            .iter()
            .all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("postgres:2"))
    );
}

#[tokio::test]
async fn a_daemon_set_follows_the_nodes() {
    let cluster = Cluster::start().await;
    for name in ["n1", "n2"] {
        cluster.node(name, json!({"kubernetes.io/hostname": name})).await;
    }
    cluster
        .create::<DaemonSet>(json!({
            "metadata": {"name": "agent"},
            "spec": {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent", "agent:1")},
        }))
        .await;
    let scheduled = |count| {
        move |set: &DaemonSet| {
            set.status.as_ref().is_some_and(|status| {
                status.desired_number_scheduled == count && status.number_available == Some(count)
            })
        }
    };
    cluster.when("agent", scheduled(2)).await;
    cluster.node("n3", json!({})).await;
    cluster.when("agent", scheduled(3)).await;
    let patch = Patch::Strategic(
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "agent:2"}]}}}}),
    );
    cluster.api::<DaemonSet>().patch("agent", &PatchParams::default(), &patch).await.unwrap();
    cluster
        .when_pods("pods of the new image", |pods| {
            pods.len() == 3
                && pods
                    .iter()
                    .all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("agent:2"))
        })
        .await;
}
