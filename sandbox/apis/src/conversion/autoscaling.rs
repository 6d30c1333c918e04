//! `autoscaling/v1` and `v2` (`pkg/apis/autoscaling/v1/conversion.go`): v1 has the CPU target only; what else a v2 object holds travels in
//! annotations, so that an old client that reads and writes an object loses nothing of it.

use drydock_apimachinery::object;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const STATUSES: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn annotation(object: &mut Value, key: &str) -> Option<Value> {
    let text = object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?.remove(key)?;
    // Text that is no JSON is dropped, as upstream drops it.
    serde_json::from_str(text.as_str()?).ok()
}

fn annotate(object: &mut Value, key: &str, value: &Value) {
    object::map_mut(object, &["metadata", "annotations"]).insert(key.into(), value.to_string().into());
}

fn drop_empty_annotations(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && metadata.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        metadata.remove("annotations");
    }
}

fn set_version(object: &mut Value, version: &str) {
    if object.get("apiVersion").is_some() {
        object["apiVersion"] = version.into();
    }
}

fn take(object: &mut Value, part: &str, field: &str) -> Option<Value> {
    object.get_mut(part)?.as_object_mut()?.remove(field)
}

/// To the stored form.
pub fn v1_to_v2(mut object: Value) -> Value {
    if !object.is_object() {
        return object;
    }
    set_version(&mut object, "autoscaling/v2");
    let mut metrics = match annotation(&mut object, METRICS) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    if let Some(percent) =
        take(&mut object, "spec", "targetCPUUtilizationPercentage").filter(|one| !one.is_null())
    {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        metrics.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    let behavior = annotation(&mut object, BEHAVIOR);
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        if !metrics.is_empty() {
            spec.insert("metrics".into(), metrics.into());
        }
        if let Some(behavior) = behavior.filter(Value::is_object) {
            spec.insert("behavior".into(), behavior);
        }
    }
    let mut statuses = match annotation(&mut object, STATUSES) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    if let Some(percent) =
        take(&mut object, "status", "currentCPUUtilizationPercentage").filter(|one| !one.is_null())
    {
        let current = json!({"averageUtilization": percent, "averageValue": "0"});
        match statuses.iter_mut().find(|one| is_cpu(one)) {
            Some(status) => {
                object::map_mut(status, &["resource", "current"])
                    .insert("averageUtilization".into(), percent);
            }
            None => statuses
                .insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "current": current}})),
        }
    }
    let conditions = annotation(&mut object, CONDITIONS);
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        if !statuses.is_empty() {
            status.insert("currentMetrics".into(), statuses.into());
        }
        if let Some(conditions) = conditions.filter(Value::is_array) {
            status.insert("conditions".into(), conditions);
        }
        // What Go writes of either version though it be empty.
        status.entry("currentMetrics").or_insert(Value::Null);
        if status.get("currentReplicas") == Some(&0.into()) {
            status.remove("currentReplicas");
        }
    }
    drop_empty_annotations(&mut object);
    object
}

/// From the stored form.
pub fn v2_to_v1(mut object: Value) -> Value {
    if !object.is_object() {
        return object;
    }
    set_version(&mut object, "autoscaling/v1");
    if let Some(Value::Array(metrics)) = take(&mut object, "spec", "metrics") {
        let mut others = Vec::new();
        let mut percent = None;
        for metric in metrics {
            let value = metric["resource"]["target"]["averageUtilization"].clone();
            if percent.is_none() && is_cpu(&metric) && value.is_number() {
                percent = Some(value);
            } else {
                others.push(metric);
            }
        }
        if let Some(percent) = percent {
            object["spec"]["targetCPUUtilizationPercentage"] = percent;
        }
        if !others.is_empty() {
            annotate(&mut object, METRICS, &others.into());
        }
    }
    if let Some(behavior) = take(&mut object, "spec", "behavior") {
        annotate(&mut object, BEHAVIOR, &behavior);
    }
    if let Some(statuses) = take(&mut object, "status", "currentMetrics") {
        let cpu = statuses.as_array().and_then(|all| all.iter().find(|one| is_cpu(one)));
        if let Some(percent) =
            cpu.map(|one| &one["resource"]["current"]["averageUtilization"]).filter(|one| one.is_number())
        {
            object["status"]["currentCPUUtilizationPercentage"] = percent.clone();
        }
        if statuses.as_array().is_some_and(|all| !all.is_empty()) {
            annotate(&mut object, STATUSES, &statuses);
        }
    }
    if let Some(conditions) = take(&mut object, "status", "conditions") {
        annotate(&mut object, CONDITIONS, &conditions);
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        for field in ["currentReplicas", "desiredReplicas"] {
            status.entry(field).or_insert_with(|| 0.into());
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_target_is_a_field_and_the_rest_travels_in_annotations() {
        let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 70}}}],
              "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}},
            "status": {"desiredReplicas": 1, "conditions": [{"type": "AbleToScale", "status": "True"}],
              "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 10, "averageValue": "5m"}}}]}});
        let v1 = v2_to_v1(v2.clone());
        assert_eq!(v1["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
        assert_eq!(
            v1["status"],
            json!({"desiredReplicas": 1, "currentReplicas": 0, "currentCPUUtilizationPercentage": 10})
        );
        assert_eq!(v1["metadata"]["annotations"].as_object().unwrap().len(), 4);
        assert_eq!(v1_to_v2(v1), v2);
    }

    #[test]
    fn a_plain_v1_object_gets_one_metric() {
        let v1 = json!({"apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}});
        let v2 = v1_to_v2(v1.clone());
        assert_eq!(
            v2["spec"]["metrics"][0]["resource"]["target"],
            json!({"type": "Utilization", "averageUtilization": 80})
        );
        assert_eq!(v2_to_v1(v2), v1);
        assert_eq!(v1_to_v2(json!([1])), json!([1]));
    }
}
