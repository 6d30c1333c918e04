//! Figures of the node, its pods and their containers, read from their control groups as cAdvisor reads them: `/stats/summary`,
//! `/metrics/resource`, `/metrics/cadvisor`. Rates come from two readings; whoever asks makes the next one.

use crate::{kubelet::Kubelet, pods::pod};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fmt::Write,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

const GROUPS: &str = "/sys/fs/cgroup";
/// Readings closer than this make no rate (nanoseconds).
const LEAST_SPAN: i128 = 1_000_000_000;

/// One reading of a control group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reading {
    /// Nanoseconds since 1970.
    at: i128,
    /// Nanoseconds of processor time.
    cpu: u64,
    /// Bytes of memory.
    usage: u64,
    /// Bytes of memory that can't be given back.
    working_set: u64,
    /// Bytes of memory that is of no file.
    rss: u64,
    /// How often a page was not there, and how often it had to be read.
    faults: [u64; 2],
}

/// The readings before, for rates, and the rate that they made.
#[derive(Debug)]
pub struct Figures {
    last: Mutex<HashMap<String, (Reading, Option<u64>)>>,
}

impl Figures {
    /// Begins with what the node has used by now.
    pub fn new() -> Self {
        let node = read("").map(|reading| (String::new(), (reading, None)));
        Self { last: Mutex::new(node.into_iter().collect()) }
    }

    /// Processors in use, in billionths, since the last reading of this name; at first since `start`, when nothing was used yet. Nothing
    /// while too little time has passed to say.
    fn rate(&self, name: &str, now: Reading, start: Option<i128>) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || start.map(|at| (Reading { at, ..Reading::default() }, None));
        let Some((before, rate)) = last.get(name).copied().or_else(begin) else {
            last.insert(name.into(), (now, None));
            return None;
        };
        let span = now.at - before.at;
        if span < LEAST_SPAN {
            return rate;
        }
        let used = i128::from(now.cpu.saturating_sub(before.cpu));
        let rate = u64::try_from(used * 1_000_000_000 / span).ok();
        last.insert(name.into(), (now, rate));
        rate
    }

    fn keep_only(&self, names: &[String]) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name));
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A number after a name in a file of such lines.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Reads a group: `docker/ID`, or "" for the node's.
fn read(group: &str) -> Option<Reading> {
    let at = Timestamp::now().as_nanosecond();
    let v2 = Path::new(GROUPS).join(group);
    if v2.join("cpu.stat").exists() && v2.join("memory.stat").exists() {
        let usage = number(&v2.join("memory.current")).or_else(|| {
            // The root of the tree has no such file: what is mapped and cached is in use.
            Some(field(&v2.join("memory.stat"), "anon ")? + field(&v2.join("memory.stat"), "file ")?)
        })?;
        let cpu = field(&v2.join("cpu.stat"), "usage_usec ")? * 1000;
        let stat = |name: &str| field(&v2.join("memory.stat"), name).unwrap_or(0);
        return Some(Reading {
            at,
            cpu,
            usage,
            working_set: usage.saturating_sub(stat("inactive_file ")),
            rss: stat("anon "),
            faults: [stat("pgfault "), stat("pgmajfault ")],
        });
    }
    let of = |controller: &str| {
        let all = fs::read_dir(GROUPS).into_iter().flatten().flatten();
        let mut dirs = all.filter(|e| e.file_name().to_string_lossy().split(',').any(|c| c == controller));
        dirs.next().map(|e| e.path().join(group))
    };
    let (memory, account) = (of("memory")?, of("cpuacct")?);
    let usage = number(&memory.join("memory.usage_in_bytes"))?;
    let cpu = number(&account.join("cpuacct.usage"))?;
    let stat = |name: &str| field(&memory.join("memory.stat"), name).unwrap_or(0);
    Some(Reading {
        at,
        cpu,
        usage,
        working_set: usage.saturating_sub(stat("total_inactive_file ")),
        rss: stat("total_rss "),
        faults: [stat("total_pgfault "), stat("total_pgmajfault ")],
    })
}

struct Container {
    name: String,
    id: String,
    reading: Reading,
    rate: Option<u64>,
    started: Option<String>,
}

struct PodFigures {
    name: String,
    namespace: String,
    uid: String,
    started: Option<String>,
    containers: Vec<Container>,
}

impl PodFigures {
    /// What all of its containers use together.
    fn total(&self) -> Reading {
        let readings = || self.containers.iter().map(|container| container.reading);
        let sum = |of: fn(Reading) -> u64| readings().map(of).sum();
        Reading {
            at: readings().map(|reading| reading.at).max().unwrap_or_default(),
            cpu: sum(|reading| reading.cpu),
            usage: sum(|reading| reading.usage),
            working_set: sum(|reading| reading.working_set),
            rss: sum(|reading| reading.rss),
            faults: [sum(|reading| reading.faults[0]), sum(|reading| reading.faults[1])],
        }
    }
}

struct All {
    node: Reading,
    rate: Option<u64>,
    pods: Vec<PodFigures>,
}

fn gather(kubelet: &Kubelet) -> All {
    let mut names = vec![String::new()];
    let node = read("").unwrap_or_default();
    let rate = kubelet.figures.rate("", node, None);
    let mut pods = Vec::new();
    for pod in kubelet.pods.all() {
        let Some(status) = kubelet.status_of(pod::uid(&pod)) else { continue };
        let lists = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        let mut containers = Vec::new();
        for container in lists.into_iter().flatten().flatten() {
            let Some(running) = container.state.as_ref().and_then(|s| s.running.as_ref()) else { continue };
            let id = container
                .container_id
                .as_deref()
                .unwrap_or_default()
                .trim_start_matches("docker://")
                .to_owned();
            let Some(reading) = read(&format!("docker/{id}")) else { continue };
            let start = running.started_at.as_ref().map(|time| time.0.as_nanosecond());
            let rate = kubelet.figures.rate(&id, reading, start);
            names.push(id.clone());
            let started = running.started_at.as_ref().map(|t| t.0.to_string());
            containers.push(Container { name: container.name.clone(), id, reading, rate, started });
        }
        if containers.is_empty() {
            continue;
        }
        let mirror = if pod::is_static(&pod) { kubelet.mirror_uid(&pod) } else { None };
        pods.push(PodFigures {
            name: pod::name(&pod).into(),
            namespace: pod::namespace(&pod).into(),
            uid: mirror.unwrap_or_else(|| pod::uid(&pod).into()),
            started: status.start_time.as_ref().map(|t| t.0.to_string()),
            containers,
        });
    }
    kubelet.figures.keep_only(&names);
    All { node, rate, pods }
}

fn time(at: i128) -> String {
    Timestamp::from_nanosecond(at).map(|t| t.to_string()).unwrap_or_default()
}

fn cpu(reading: Reading, rate: Option<u64>) -> Value {
    let mut cpu = json!({ "time": time(reading.at), "usageCoreNanoSeconds": reading.cpu });
    if let Some(rate) = rate {
        cpu["usageNanoCores"] = rate.into();
    }
    cpu
}

fn memory(reading: Reading) -> Value {
    json!({
        "time": time(reading.at),
        "usageBytes": reading.usage,
        "workingSetBytes": reading.working_set,
        "rssBytes": reading.rss,
        "pageFaults": reading.faults[0],
        "majorPageFaults": reading.faults[1],
    })
}

/// `/stats/summary`.
pub fn summary(kubelet: &Kubelet) -> Value {
    let created = i128::from(kubelet.boot.cluster.created) * 1_000_000_000;
    summary_of(&gather(kubelet), &kubelet.node, created)
}

fn summary_of(all: &All, node: &str, created: i128) -> Value {
    let pods: Vec<Value> = all
        .pods
        .iter()
        .map(|pod| {
            let containers: Vec<Value> = pod
                .containers
                .iter()
                .map(|c| {
                    json!({
                        "name": c.name,
                        "startTime": c.started,
                        "cpu": cpu(c.reading, c.rate),
                        "memory": memory(c.reading),
                    })
                })
                .collect();
            let total = pod.total();
            json!({
                "podRef": { "name": pod.name, "namespace": pod.namespace, "uid": pod.uid },
                "startTime": pod.started,
                "containers": containers,
                "cpu": cpu(total, pod.containers.iter().map(|c| c.rate).sum()),
                "memory": memory(total),
            })
        })
        .collect();
    json!({
        "node": {
            "nodeName": node,
            "startTime": time(created),
            "cpu": cpu(all.node, all.rate),
            "memory": memory(all.node),
        },
        "pods": pods,
    })
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _always_works = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// What is measured of containers, the node and pods alike.
struct Measured {
    /// The end of the metric's name.
    name: &'static str,
    kind: &'static str,
    help: fn(of: &str) -> String,
    value: fn(&Reading) -> String,
}

const MEASURED: [Measured; 2] = [
    Measured {
        name: "cpu_usage_seconds_total",
        kind: "counter",
        help: |of| format!("[STABLE] Cumulative cpu time consumed by the {of} in core-seconds"),
        value: |reading| seconds(reading.cpu).to_string(),
    },
    Measured {
        name: "memory_working_set_bytes",
        kind: "gauge",
        help: |of| format!("[STABLE] Current working set of the {of} in bytes"),
        value: |reading| reading.working_set.to_string(),
    },
];

/// `/metrics/resource`.
pub fn resource(kubelet: &Kubelet) -> String {
    resource_of(&gather(kubelet))
}

fn resource_of(all: &All) -> String {
    let (mut containers, mut pods) = (Vec::new(), Vec::new());
    for pod in &all.pods {
        let of = format!("namespace=\"{}\",pod=\"{}\"", pod.namespace, pod.name);
        for c in &pod.containers {
            containers.push((format!("{{container=\"{}\",{of}}}", c.name), c.reading));
        }
        pods.push((format!("{{{of}}}"), Reading { at: all.node.at, ..pod.total() }));
    }
    let node = vec![(String::new(), all.node)];
    let mut out = String::new();
    for (of, samples) in [("container", containers), ("node", node), ("pod", pods)] {
        for Measured { name, kind, help, value } in MEASURED {
            head(&mut out, &format!("{of}_{name}"), kind, &help(of));
            for (labels, reading) in &samples {
                let (value, at) = (value(reading), reading.at / 1_000_000);
                let _always_works = writeln!(out, "{of}_{name}{labels} {value} {at}");
            }
        }
    }
    head(
        &mut out,
        "scrape_error",
        "gauge",
        "[ALPHA] 1 if there was an error while getting container metrics, 0 otherwise",
    );
    out.push_str("scrape_error 0\n");
    out
}

/// `/metrics/cadvisor`.
pub fn cadvisor(kubelet: &Kubelet) -> String {
    let all = gather(kubelet);
    let mut out = String::new();
    type Value<'a> = &'a dyn Fn(&Reading) -> String;
    let series: [(&str, &str, &str, Value<'_>); 4] = [
        ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", &|r| {
            seconds(r.cpu).to_string()
        }),
        (
            "container_memory_usage_bytes",
            "gauge",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            &|r| r.usage.to_string(),
        ),
        ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", &|r| {
            r.working_set.to_string()
        }),
        ("container_memory_rss", "gauge", "Size of RSS in bytes.", &|r| r.rss.to_string()),
    ];
    for (name, kind, help, value) in series {
        head(&mut out, name, kind, help);
        let _always_works = writeln!(
            out,
            "{name}{{container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"}} {}",
            value(&all.node)
        );
        for pod in &all.pods {
            for c in &pod.containers {
                let _always_works = writeln!(
                    out,
                    "{name}{{container=\"{}\",id=\"/docker/{}\",image=\"\",name=\"k8s_{}_{}_{}\",namespace=\"{}\",pod=\"{}\"}} {}",
                    c.name,
                    c.id,
                    c.name,
                    pod.name,
                    pod.namespace,
                    pod.namespace,
                    pod.name,
                    value(&c.reading)
                );
            }
        }
    }
    out
}

/// `/metrics`: of the kubelet itself.
pub fn own(kubelet: &Kubelet) -> String {
    let pods = kubelet.pods.all();
    let statuses = pods.iter().filter_map(|p| kubelet.status_of(pod::uid(p)));
    let running = statuses.flat_map(|s| s.container_statuses.clone().unwrap_or_default());
    let running = running.filter(|c| c.state.as_ref().is_some_and(|s| s.running.is_some())).count();
    let mut out = String::new();
    head(&mut out, "kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.");
    let _always_works = writeln!(out, "kubelet_node_name{{node=\"{}\"}} 1", kubelet.node);
    head(&mut out, "kubelet_running_pods", "gauge", "[BETA] Number of pods that have a running pod sandbox");
    let _always_works = writeln!(out, "kubelet_running_pods {}", pods.len());
    head(&mut out, "kubelet_running_containers", "gauge", "[BETA] Number of containers currently running");
    let _always_works = writeln!(out, "kubelet_running_containers{{container_state=\"running\"}} {running}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(seconds: i128, cpu_millis: u64) -> Reading {
        Reading { at: seconds * 1_000_000_000, cpu: cpu_millis * 1_000_000, ..Reading::default() }
    }

    fn container(name: &str, rate: Option<u64>, reading: Reading) -> Container {
        Container { name: name.into(), id: name.into(), reading, rate, started: None }
    }

    fn pod(containers: Vec<Container>) -> PodFigures {
        let (name, namespace, uid) = ("web".into(), "default".into(), "u".into());
        PodFigures { name, namespace, uid, started: None, containers }
    }

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let using = |rss| Reading { rss, faults: [3, 1], usage: 2 * rss, ..reading(5, 100) };
        let pod = pod(vec![container("a", Some(7), using(10)), container("b", Some(7), using(20))]);
        let all = All { node: reading(6, 900), rate: None, pods: vec![pod] };
        let told = summary_of(&all, "node1", 0);
        assert_eq!(told["node"]["nodeName"], "node1");
        let pod = &told["pods"][0];
        assert_eq!(pod["containers"][1]["memory"]["rssBytes"], 20);
        assert_eq!(pod["cpu"]["usageNanoCores"], 14);
        assert_eq!(pod["cpu"]["usageCoreNanoSeconds"], 200_000_000);
        let memory = json!({
            "time": time(5_000_000_000),
            "usageBytes": 60,
            "workingSetBytes": 0,
            "rssBytes": 30,
            "pageFaults": 6,
            "majorPageFaults": 2,
        });
        assert_eq!(pod["memory"], memory);
    }

    #[test]
    fn metrics_of_resources() {
        let using = |cpu_millis, working_set| Reading { working_set, ..reading(5, cpu_millis) };
        let pod = pod(vec![container("a", None, using(1500, 10)), container("b", None, using(500, 20))]);
        let all = All { node: Reading { working_set: 99, ..reading(6, 3000) }, rate: None, pods: vec![pod] };
        let told = resource_of(&all);
        let samples: Vec<&str> = told.lines().filter(|line| !line.starts_with('#')).collect();
        let of = "namespace=\"default\",pod=\"web\"";
        let expected = [
            format!("container_cpu_usage_seconds_total{{container=\"a\",{of}}} 1.5 5000"),
            format!("container_cpu_usage_seconds_total{{container=\"b\",{of}}} 0.5 5000"),
            format!("container_memory_working_set_bytes{{container=\"a\",{of}}} 10 5000"),
            format!("container_memory_working_set_bytes{{container=\"b\",{of}}} 20 5000"),
            "node_cpu_usage_seconds_total 3 6000".into(),
            "node_memory_working_set_bytes 99 6000".into(),
            format!("pod_cpu_usage_seconds_total{{{of}}} 2 6000"),
            format!("pod_memory_working_set_bytes{{{of}}} 30 6000"),
            "scrape_error 0".into(),
        ];
        assert_eq!(samples, expected);
        assert!(told.starts_with(
            "# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds\n\
             # TYPE container_cpu_usage_seconds_total counter\n"
        ));
    }

    #[test]
    fn rates_come_from_two_readings_that_are_far_enough_apart() {
        let figures = Figures { last: Mutex::default() };
        assert_eq!(figures.rate("a", reading(10, 100), None), None);
        assert_eq!(figures.rate("a", reading(12, 1100), None), Some(500_000_000));
        let soon = Reading { at: 12_500_000_000, ..reading(12, 9000) };
        assert_eq!(figures.rate("a", soon, None), Some(500_000_000));
        figures.keep_only(&[]);
        assert_eq!(figures.rate("a", reading(20, 2000), None), None);
    }

    #[test]
    fn the_first_rate_is_that_since_the_start_and_nothing_is_said_before() {
        let figures = Figures { last: Mutex::default() };
        let start = Some(reading(10, 0).at);
        assert_eq!(figures.rate("a", reading(10, 50), start), None);
        let first = figures.rate("a", reading(14, 1000), start);
        assert_eq!(first, Some(250_000_000));
        assert_eq!(figures.rate("a", reading(16, 1000), start), Some(0));
        assert!(cpu(reading(10, 50), None).get("usageNanoCores").is_none());
        assert_eq!(cpu(reading(14, 1000), first)["usageNanoCores"], 250_000_000);
    }
}
