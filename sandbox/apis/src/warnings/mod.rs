//! Texts for `Warning:` headers: what is allowed, but not what its writer will have meant (`WarningsOnCreate`, `WarningsOnUpdate` of
//! upstream's strategies). `kubectl` prints them; nothing is refused for them.

mod pod;

use crate::tree::{at, get, has, list, text};
use drydock_apimachinery::names;
use drydock_apimachinery::object;
use drydock_apimachinery::quantity::Quantity;
use serde_json::Value;

/// A pod, new or changed.
pub fn pod(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut all = pod::of("", get(new, "metadata"), get(new, "spec"));
    if old.is_none() {
        all.extend(name_for_hosts(new, "the Pod's hostname"));
    }
    all
}

/// Whatever has a pod template in its specification.
pub fn template(new: &Value, old: Option<&Value>) -> Vec<String> {
    let template = at(new, &["spec", "template"]);
    let mut all = pod::of("spec.template", get(template, "metadata"), get(template, "spec"));
    if old.is_none() {
        all.extend(name_for_hosts(new, "Pod names and hostnames"));
    }
    all
}

/// A pod template itself.
pub fn pod_template(new: &Value, _old: Option<&Value>) -> Vec<String> {
    let template = get(new, "template");
    pod::of("template", get(template, "metadata"), get(template, "spec"))
}

/// A cron job, whose template lies deeper.
pub fn cron_job(new: &Value, old: Option<&Value>) -> Vec<String> {
    let template = at(new, &["spec", "jobTemplate", "spec", "template"]);
    let mut all = pod::of("spec.jobTemplate.spec.template", get(template, "metadata"), get(template, "spec"));
    if old.is_none() {
        all.extend(name_for_hosts(new, "Pod names and hostnames"));
    }
    if text(get(new, "spec"), "schedule").contains("TZ") {
        all.push("CRON_TZ or TZ used in spec.schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".into());
    }
    all
}

/// A stateful set; its claims too.
pub fn stateful_set(new: &Value, _old: Option<&Value>) -> Vec<String> {
    let template = at(new, &["spec", "template"]);
    let mut all = pod::of("spec.template", get(template, "metadata"), get(template, "spec"));
    for (index, claim) in list(get(new, "spec"), "volumeClaimTemplates").iter().enumerate() {
        all.extend(claim_size(get(claim, "spec"), &format!("spec.volumeClaimTemplates[{index}].spec")));
    }
    all
}

fn name_for_hosts(object: &Value, used_in: &str) -> Option<String> {
    let why = names::is_dns1123_label(object::name(object));
    (!why.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            why.join(" ")
        )
    })
}

/// A service.
pub fn service(new: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut all = Vec::new();
    let spec = get(new, "spec");
    let (kind, external) = (text(spec, "type"), !list(spec, "externalIPs").is_empty());
    if text(spec, "clusterIP") == "None" {
        if !text(spec, "loadBalancerIP").is_empty() {
            all.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if external {
            all.push("spec.externalIPs is ignored for headless services".into());
        }
        if text(spec, "sessionAffinity") != "None" {
            all.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    if kind == "ExternalName" && external {
        all.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && !text(spec, "externalName").is_empty() {
        all.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    all
}

/// An ingress.
pub fn ingress(new: &Value, old: Option<&Value>) -> Vec<String> {
    const OLD: &str = "kubernetes.io/ingress.class";
    if old.is_none() && has(at(new, &["metadata", "annotations"]), OLD) {
        return vec![format!("annotation {OLD:?} is deprecated, please use 'spec.ingressClassName' instead")];
    }
    Vec::new()
}

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn beta_class(object: &Value) -> Option<String> {
    has(at(object, &["metadata", "annotations"]), BETA_CLASS).then(|| {
        format!(
            "metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        )
    })
}

fn claim_size(spec: &Value, path: &str) -> Option<String> {
    let size = Quantity::of(at(spec, &["resources", "requests", "storage"]))?;
    (!size.round_up_to_millis().is_whole()).then(|| {
        format!("{path}.resources.requests[storage]: fractional byte value \"{size}\" is invalid, must be an integer")
    })
}

/// A persistent volume claim.
pub fn claim(new: &Value, _old: Option<&Value>) -> Vec<String> {
    beta_class(new).into_iter().chain(claim_size(get(new, "spec"), "spec")).collect()
}

/// A persistent volume.
pub fn volume(new: &Value, _old: Option<&Value>) -> Vec<String> {
    let recycled = text(get(new, "spec"), "persistentVolumeReclaimPolicy") == "Recycle";
    let recycled = recycled.then(|| {
        "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is \
         to use dynamic provisioning."
            .to_string()
    });
    beta_class(new).into_iter().chain(recycled).collect()
}

/// The newer name of a node label that is deprecated, and since when.
fn deprecated_label(label: &str) -> Option<&'static str> {
    Some(match label {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_pods_are_warned_of() {
        let object = json!({"metadata": {"name": "my.pod"}, "spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "terminationGracePeriodSeconds": -1,
            "containers": [
                {"name": "a", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}],
                 "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                {"name": "b", "resources": {"limits": {"memory": "1500m"}}, "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
            "volumes": [{"name": "v", "gitRepo": {}}],
            "hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}],
            "topologySpreadConstraints": [{"topologyKey": "zone"}]}});
        assert_eq!(
            pod(&object, None),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                "spec.hostAliases[1].ip: duplicate ip \"1.1.1.1\"",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[1].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
                "spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            ]
        );
        let owner = json!({"metadata": {"name": "d"}, "spec": {"template": object}});
        let texts = template(&owner, None);
        assert_eq!(
            texts[0],
            "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead"
        );
        assert_eq!(texts.len(), 8);
    }

    #[test]
    fn what_others_are_warned_of() {
        assert_eq!(
            service(
                &json!({"spec": {"type": "ClusterIP", "externalName": "x", "sessionAffinity": "None"}}),
                None
            ),
            ["spec.externalName is ignored when spec.type is not \"ExternalName\""]
        );
        assert_eq!(
            ingress(&json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "nginx"}}}), None),
            [
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
            ]
        );
        assert!(claim(&json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}}), None).is_empty());
    }
}
