//! Rows of what makes pods: controllers of `apps`, `batch` and `autoscaling`, disruption budgets.

use super::{
    NONE, UNKNOWN, UNSET, age, containers, int_or_string, is_deleting, labels, name, parse, seconds, since,
};
use crate::kind::{Cell, Column};
use crate::tree::{at, flag, get, has, int, list, text};
use drydock_apimachinery::duration;
use drydock_apimachinery::quantity::Quantity;
use jiff::Timestamp;
use serde_json::{Value, json};

const CONTAINERS: Column = Column::text("Containers", "Names of each container in the template.").wide();
const IMAGES: Column = Column::text("Images", "Images referenced by each container in the template.").wide();
const SELECTOR: Column = Column::text("Selector", "Label query over pods that are managed by it.").wide();

/// Columns of replica sets and replication controllers.
pub const REPLICAS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "Number of desired pods."),
    Column::integer("Current", "The most recently observed number of replicas."),
    Column::integer("Ready", "The number of ready replicas."),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn template(object: &Value) -> &Value {
    at(object, &["spec", "template", "spec"])
}

fn replicas(object: &Value, now: Timestamp, selector: String) -> Vec<Cell> {
    let status = get(object, "status");
    let [names, images] = containers(template(object));
    vec![
        name(object),
        json!(int(get(object, "spec"), "replicas")),
        json!(int(status, "replicas")),
        json!(int(status, "readyReplicas")),
        age(object, now),
        names,
        images,
        json!(selector),
    ]
}

/// A replica set.
pub fn replica_set(object: &Value, now: Timestamp) -> Vec<Cell> {
    replicas(object, now, labels::of_spec(object))
}

/// A replication controller, whose selector is a plain map.
pub fn replication_controller(object: &Value, now: Timestamp) -> Vec<Cell> {
    replicas(object, now, labels::format(at(object, &["spec", "selector"])))
}

/// Columns of deployments.
pub const DEPLOYMENT: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Number of the pod with ready state"),
    Column::text(
        "Up-to-date",
        "Total number of non-terminating pods targeted by this deployment that have the desired template spec.",
    ),
    Column::text(
        "Available",
        "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this deployment.",
    ),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// A deployment.
pub fn deployment(object: &Value, now: Timestamp) -> Vec<Cell> {
    let status = get(object, "status");
    let [names, images] = containers(template(object));
    let selector =
        labels::selector_text(at(object, &["spec", "selector"])).unwrap_or_else(|| "<invalid>".into());
    vec![
        name(object),
        json!(format!("{}/{}", int(status, "readyReplicas"), int(get(object, "spec"), "replicas"))),
        json!(int(status, "updatedReplicas")),
        json!(int(status, "availableReplicas")),
        age(object, now),
        names,
        images,
        json!(selector),
    ]
}

/// Columns of daemon sets.
pub const DAEMON_SET: &[Column] = &[
    Column::NAME,
    Column::integer(
        "Desired",
        "The total number of nodes that should be running the daemon pod (including nodes correctly running the daemon pod).",
    ),
    Column::integer(
        "Current",
        "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod.",
    ),
    Column::integer(
        "Ready",
        "numberReady is the number of nodes that should be running the daemon pod and have one or more of the daemon pod running with a Ready Condition.",
    ),
    Column::integer("Up-to-date", "The total number of nodes that are running updated daemon pod"),
    Column::integer(
        "Available",
        "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running and available (ready for at least spec.minReadySeconds)",
    ),
    Column::text(
        "Node Selector",
        "NodeSelector is a selector which must be true for the pod to fit on a node.",
    ),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// A daemon set.
pub fn daemon_set(object: &Value, now: Timestamp) -> Vec<Cell> {
    let status = get(object, "status");
    let [names, images] = containers(template(object));
    let mut cells = vec![name(object)];
    for field in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ] {
        cells.push(json!(int(status, field)));
    }
    cells.push(json!(labels::format(get(template(object), "nodeSelector"))));
    cells.extend([age(object, now), names, images, json!(labels::of_spec(object))]);
    cells
}

/// Columns of stateful sets.
pub const STATEFUL_SET: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Number of the pod with ready state"),
    Column::AGE,
    CONTAINERS,
    IMAGES,
];

/// A stateful set.
pub fn stateful_set(object: &Value, now: Timestamp) -> Vec<Cell> {
    let [names, images] = containers(template(object));
    let ready = int(get(object, "status"), "readyReplicas");
    vec![
        name(object),
        json!(format!("{ready}/{}", int(get(object, "spec"), "replicas"))),
        age(object, now),
        names,
        images,
    ]
}

/// Columns of controller revisions.
pub const CONTROLLER_REVISION: &[Column] = &[
    Column::NAME,
    Column::text("Controller", "Controller of the object"),
    Column::text("Revision", "revision indicates the revision of the state represented by Data."),
    Column::AGE,
];

/// A controller revision.
pub fn controller_revision(object: &Value, now: Timestamp) -> Vec<Cell> {
    let owner = list(get(object, "metadata"), "ownerReferences").iter().find(|one| flag(one, "controller"));
    let controller = owner.map_or_else(
        || NONE.to_string(),
        |owner| {
            let kind = text(owner, "kind").to_lowercase();
            match text(owner, "apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "name")),
                None => format!("{kind}/{}", text(owner, "name")),
            }
        },
    );
    vec![name(object), json!(controller), json!(int(object, "revision")), age(object, now)]
}

/// Columns of jobs.
pub const JOB: &[Column] = &[
    Column::NAME,
    Column::text("Status", "Status of the job."),
    Column::text("Completions", "The number of pods which reached phase Succeeded."),
    Column::text("Duration", "Time required to complete the job."),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// A job.
pub fn job(object: &Value, now: Timestamp) -> Vec<Cell> {
    let (spec, status) = (get(object, "spec"), get(object, "status"));
    let succeeded = int(status, "succeeded");
    let completions = match get(spec, "completions").as_i64() {
        Some(all) => format!("{succeeded}/{all}"),
        None if int(spec, "parallelism") > 1 => format!("{succeeded}/1 of {}", int(spec, "parallelism")),
        None => format!("{succeeded}/1"),
    };
    let took = parse(get(status, "startTime")).map_or_else(String::new, |start| {
        duration::human_duration(seconds(parse(get(status, "completionTime")).unwrap_or(now), start))
    });
    let [names, images] = containers(template(object));
    vec![
        name(object),
        json!(job_status(object)),
        json!(completions),
        json!(took),
        age(object, now),
        names,
        images,
        json!(labels::of_spec(object)),
    ]
}

fn job_status(object: &Value) -> &'static str {
    let holds = |kind: &str| {
        list(get(object, "status"), "conditions")
            .iter()
            .any(|one| text(one, "type") == kind && text(one, "status") == "True")
    };
    for kind in ["Complete", "Failed"] {
        if holds(kind) {
            return kind;
        }
    }
    if is_deleting(object) {
        return "Terminating";
    }
    ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|kind| holds(kind))
        .unwrap_or("Running")
}

/// Columns of cron jobs.
pub const CRON_JOB: &[Column] = &[
    Column::NAME,
    Column::text("Schedule", "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron."),
    Column::text(
        "Timezone",
        "The time zone name for the given schedule, see https://en.wikipedia.org/wiki/List_of_tz_database_time_zones. If not specified, this will default to the time zone of the kube-controller-manager process.",
    ),
    Column {
        type_: "boolean",
        ..Column::text(
            "Suspend",
            "This flag tells the controller to suspend subsequent executions, it does not apply to already started executions. Defaults to false.",
        )
    },
    Column::integer("Active", "A list of pointers to currently running jobs."),
    Column::text("Last Schedule", "Information when was the last time the job was successfully scheduled."),
    Column::AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// A cron job.
pub fn cron_job(object: &Value, now: Timestamp) -> Vec<Cell> {
    let (spec, status) = (get(object, "spec"), get(object, "status"));
    let job = at(spec, &["jobTemplate", "spec"]);
    let last = get(status, "lastScheduleTime");
    let suspend = get(spec, "suspend").as_bool().map_or(UNSET, |flag| if flag { "True" } else { "False" });
    let [names, images] = containers(at(job, &["template", "spec"]));
    vec![
        name(object),
        json!(text(spec, "schedule")),
        json!(get(spec, "timeZone").as_str().unwrap_or(NONE)),
        json!(suspend),
        json!(list(status, "active").len()),
        json!(if last.is_null() { NONE.to_string() } else { since(last, now) }),
        age(object, now),
        names,
        images,
        json!(labels::format_selector(get(job, "selector"))),
    ]
}

/// Columns of horizontal pod autoscalers.
pub const AUTOSCALER: &[Column] = &[
    Column::NAME,
    Column::text(
        "Reference",
        "scaleTargetRef points to the target resource to scale, and is used to the pods for which metrics should be collected, as well as to actually change the replica count.",
    ),
    Column::text(
        "Targets",
        "metrics contains the specifications for which to use to calculate the desired replica count.",
    ),
    Column::text(
        "MinPods",
        "minReplicas is the lower limit for the number of replicas to which the autoscaler can scale down.",
    ),
    Column::text(
        "MaxPods",
        "maxReplicas is the upper limit for the number of replicas to which the autoscaler can scale up.",
    ),
    Column::text(
        "Replicas",
        "currentReplicas is current number of replicas of pods managed by this autoscaler, as last seen by the autoscaler.",
    ),
    Column::AGE,
];

/// A horizontal pod autoscaler.
pub fn autoscaler(object: &Value, now: Timestamp) -> Vec<Cell> {
    let (spec, status) = (get(object, "spec"), get(object, "status"));
    let target = get(spec, "scaleTargetRef");
    let least =
        get(spec, "minReplicas").as_i64().map_or_else(|| UNSET.to_string(), |least| least.to_string());
    vec![
        name(object),
        json!(format!("{}/{}", text(target, "kind"), text(target, "name"))),
        json!(metrics(list(spec, "metrics"), list(status, "currentMetrics"))),
        json!(least),
        json!(int(spec, "maxReplicas")),
        json!(int(status, "currentReplicas")),
        age(object, now),
    ]
}

/// Columns of `scale`, whatever it is the scale of.
pub const SCALE: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "replicas is the desired number of instances for the scaled object."),
    Column::integer("Available", "replicas is the actual number of observed instances of the scaled object."),
    Column::AGE,
];

/// A scale.
pub fn scale(object: &Value, now: Timestamp) -> Vec<Cell> {
    vec![
        name(object),
        json!(int(get(object, "spec"), "replicas")),
        json!(int(get(object, "status"), "replicas")),
        age(object, now),
    ]
}

fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    const MOST: usize = 2;
    if specs.is_empty() {
        return NONE.into();
    }
    let shown: Vec<_> = specs
        .iter()
        .enumerate()
        .take(MOST)
        .map(|(index, spec)| metric(spec, statuses.get(index).unwrap_or(&Value::Null)))
        .collect();
    let shown = shown.join(", ");
    match specs.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let (field, by_resource) = match text(spec, "type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".into(),
    };
    let (target, current) = (at(spec, &[field, "target"]), at(status, &[field, "current"]));
    let quantity = |value: &Value| Quantity::of(value).map(|quantity| quantity.to_string());
    let measured = |name: &str| quantity(get(current, name)).unwrap_or_else(|| UNKNOWN.into());
    let wanted = |name: &str| quantity(get(target, name)).unwrap_or_else(|| "0".into());
    if by_resource {
        let resource = text(get(spec, field), "name");
        if has(target, "averageValue") {
            return format!("{resource}: {}/{}", measured("averageValue"), wanted("averageValue"));
        }
        let percent = |value: &Value| value.as_i64().map(|percent| format!("{percent}%"));
        let now = percent(get(current, "averageUtilization")).unwrap_or_else(|| UNKNOWN.into());
        let goal = percent(get(target, "averageUtilization")).unwrap_or_else(|| "<auto>".into());
        return format!("{resource}: {now}/{goal}");
    }
    match (field, has(target, "averageValue")) {
        ("pods", _) => format!("{}/{}", measured("averageValue"), wanted("averageValue")),
        (_, true) => format!("{}/{} (avg)", measured("averageValue"), wanted("averageValue")),
        _ => format!("{}/{}", measured("value"), wanted("value")),
    }
}

/// Columns of pod disruption budgets.
pub const BUDGET: &[Column] = &[
    Column::NAME,
    Column::text("Min Available", "The minimum number of pods that must be available."),
    Column::text("Max Unavailable", "The maximum number of pods that may be unavailable."),
    Column::integer("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
    Column::AGE,
];

/// A pod disruption budget.
pub fn budget(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let shown = |field: &str| if has(spec, field) { int_or_string(get(spec, field)) } else { "N/A".into() };
    vec![
        name(object),
        json!(shown("minAvailable")),
        json!(shown("maxUnavailable")),
        json!(int(get(object, "status"), "disruptionsAllowed")),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(row: fn(&Value, Timestamp) -> Vec<Cell>, mut object: Value) -> Value {
        object["metadata"] = json!({"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"});
        row(&object, "2026-01-01T00:05:30Z".parse().unwrap()).into()
    }

    #[test]
    fn deployments_and_sets() {
        let spec = json!({"replicas": 5, "selector": {"matchLabels": {"foo": "bar"}}, "template": {"spec": {
            "nodeSelector": {"disk": "ssd"}, "containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}}});
        let status = json!({"replicas": 10, "updatedReplicas": 2, "availableReplicas": 1, "readyReplicas": 4,
            "desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberReady": 1});
        let object = json!({"spec": spec, "status": status});
        assert_eq!(
            cells(deployment, object.clone()),
            json!(["x", "4/5", 2, 1, "5m30s", "a,b", "1,2", "foo=bar"])
        );
        assert_eq!(
            cells(replica_set, object.clone()),
            json!(["x", 5, 10, 4, "5m30s", "a,b", "1,2", "foo=bar"])
        );
        assert_eq!(cells(stateful_set, object.clone()), json!(["x", "4/5", "5m30s", "a,b", "1,2"]));
        assert_eq!(
            cells(daemon_set, object),
            json!(["x", 3, 2, 1, 0, 0, "disk=ssd", "5m30s", "a,b", "1,2", "foo=bar"])
        );
    }

    #[test]
    fn jobs() {
        let job_cells = |spec: Value, status: Value| {
            let cells = cells(job, json!({"spec": spec, "status": status}));
            cells.as_array().unwrap()[1..4]
                .iter()
                .map(|one| one.as_str().unwrap().to_string())
                .collect::<Vec<_>>()
        };
        let start = "2026-01-01T00:00:30Z";
        assert_eq!(job_cells(json!({"completions": 2}), json!({"succeeded": 1})), ["Running", "1/2", ""]);
        assert_eq!(
            job_cells(json!({"parallelism": 3}), json!({"startTime": start})),
            ["Running", "0/1 of 3", "5m"]
        );
        assert_eq!(
            job_cells(
                json!({}),
                json!({"startTime": start, "completionTime": "2026-01-01T00:02:01Z", "succeeded": 1,
                "conditions": [{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]})
            ),
            ["Complete", "1/1", "91s"]
        );
        assert_eq!(
            cells(
                cron_job,
                json!({"spec": {"schedule": "0/5 * * * ?", "suspend": false, "timeZone": "Europe/Berlin"},
                "status": {"active": [{}], "lastScheduleTime": "2026-01-01T00:05:00Z"}})
            ),
            json!(["x", "0/5 * * * ?", "Europe/Berlin", "False", 1, "30s", "5m30s", "", "", "<none>"])
        );
    }

    #[test]
    fn autoscalers() {
        let utilization = |name: &str, percent: i64| json!({"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": percent}}});
        let spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 10,
            "metrics": [utilization("cpu", 50), utilization("memory", 70), {"type": "Pods"}]});
        let status = json!({"currentReplicas": 4, "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": 10, "averageValue": "10m"}}}]});
        assert_eq!(
            cells(autoscaler, json!({"spec": spec, "status": status})),
            json!([
                "x",
                "Deployment/web",
                "cpu: 10%/50%, memory: <unknown>/70% + 1 more...",
                "1",
                10,
                4,
                "5m30s"
            ])
        );
        assert_eq!(
            cells(budget, json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 2}})),
            json!(["x", "50%", "N/A", 2, "5m30s"])
        );
        assert_eq!(cells(controller_revision, json!({"revision": 2}))[1], "<none>");
    }
}
