//! `docker stats`: figures from the container's control group and network namespace, in the recorded shape.

use super::{Container, record::Record};
use crate::{cgroup::field, clock::Timestamp, engine::Engine};
use serde_json::{Map, Value, json};
use std::fs;

/// Nanoseconds of a tick of `/proc/stat`.
const TICK: u64 = 10_000_000;

/// One sample: (processor, everything else).
#[derive(Debug, Clone, Default)]
pub struct Sample {
    at: Timestamp,
    cpu: Value,
    rest: Map<String, Value>,
}

/// Reads a container's figures now. All zero if it does not run.
pub fn sample(engine: &Engine, container: &Container) -> Sample {
    let Some(live) = container.live() else {
        return Sample { cpu: no_cpu(), rest: nothing(), ..Sample::default() };
    };
    let groups = &engine.groups;
    let id = &container.id;
    let mut rest = Map::new();
    let pids = groups.read("pids", id, "pids.current").trim().parse::<u64>().unwrap_or(0);
    let mut pids_stats = json!({"current": pids});
    if let Ok(limit) = groups.read("pids", id, "pids.max").trim().parse::<u64>() {
        pids_stats["limit"] = json!(limit);
    }
    rest.insert("pids_stats".into(), pids_stats);
    rest.insert("blkio_stats".into(), blkio(engine, id));
    rest.insert("num_procs".into(), json!(0));
    rest.insert("storage_stats".into(), json!({}));
    rest.insert(
        "memory_stats".into(),
        if groups.v2() { memory_v2(engine, id) } else { memory_v1(engine, id) },
    );
    if !matches!(container.record().host.network_mode.as_str(), "host") {
        rest.insert("networks".into(), networks(live.pid));
    }
    Sample { at: Timestamp::now(), cpu: cpu(engine, id), rest }
}

/// The answer of two samples; the first may be that of nothing.
pub fn answer(record: &Record, before: &Sample, now: &Sample) -> Value {
    let mut answer = json!({
        "name": format!("/{}", record.name),
        "id": record.id,
        "read": now.at,
        "preread": before.at,
        "cpu_stats": now.cpu,
        "precpu_stats": if before.cpu.is_null() { no_cpu() } else { before.cpu.clone() },
    });
    if let Some(answer) = answer.as_object_mut() {
        answer.extend(now.rest.clone());
    }
    answer
}

fn no_cpu() -> Value {
    json!({
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    })
}

fn nothing() -> Map<String, Value> {
    let blkio: Map<String, Value> = BLKIO.iter().map(|name| ((*name).to_string(), Value::Null)).collect();
    [
        ("pids_stats", json!({})),
        ("blkio_stats", Value::Object(blkio)),
        ("num_procs", json!(0)),
        ("storage_stats", json!({})),
        ("memory_stats", json!({})),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .into_iter()
    .collect()
}

const BLKIO: [&str; 8] = [
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
];

fn cpu(engine: &Engine, id: &str) -> Value {
    let groups = &engine.groups;
    let stat = groups.read("cpu", id, "cpu.stat");
    let (system, cpus) = machine();
    let (usage, throttled) = if groups.v2() {
        let micros = |key: &str| field(&stat, key) * 1000;
        let usage = json!({
            "total_usage": micros("usage_usec"),
            "usage_in_kernelmode": micros("system_usec"),
            "usage_in_usermode": micros("user_usec"),
        });
        (usage, micros("throttled_usec"))
    } else {
        let ticks = groups.read("cpuacct", id, "cpuacct.stat");
        let each = groups.read("cpuacct", id, "cpuacct.usage_percpu");
        let each: Vec<u64> = each.split_whitespace().filter_map(|n| n.parse().ok()).take(cpus).collect();
        let usage = json!({
            "total_usage": groups.read("cpuacct", id, "cpuacct.usage").trim().parse::<u64>().unwrap_or(0),
            "percpu_usage": each,
            "usage_in_kernelmode": field(&ticks, "system") * TICK,
            "usage_in_usermode": field(&ticks, "user") * TICK,
        });
        (usage, field(&stat, "throttled_time"))
    };
    json!({
        "cpu_usage": usage,
        "system_cpu_usage": system,
        "online_cpus": cpus,
        "throttling_data": {
            "periods": field(&stat, "nr_periods"),
            "throttled_periods": field(&stat, "nr_throttled"),
            "throttled_time": throttled,
        },
    })
}

/// Processor time of the whole machine in nanoseconds, and how many processors it has.
fn machine() -> (u64, usize) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let total = text.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let ticks: u64 = total.filter_map(|n| n.parse::<u64>().ok()).sum();
    let cpus = text.lines().filter(|l| l.starts_with("cpu") && !l.starts_with("cpu ")).count();
    (ticks * TICK, cpus.max(1))
}

/// What Docker tells of `memory.stat` of version 1, of a group and (`total_`) of all below it.
const MEMORY_V1: [&str; 15] = [
    "active_anon",
    "active_file",
    "cache",
    "dirty",
    "inactive_anon",
    "inactive_file",
    "mapped_file",
    "pgfault",
    "pgmajfault",
    "pgpgin",
    "pgpgout",
    "rss",
    "rss_huge",
    "unevictable",
    "writeback",
];

fn memory_v1(engine: &Engine, id: &str) -> Value {
    let read = |file: &str| engine.groups.read("memory", id, file);
    let number = |file: &str| read(file).trim().parse::<u64>().unwrap_or(0);
    let stats: Map<String, Value> = read("memory.stat")
        .lines()
        .filter_map(|l| l.split_once(' '))
        .filter(|(name, _)| {
            name.starts_with("hierarchical_")
                || MEMORY_V1.contains(&name.strip_prefix("total_").unwrap_or(name))
        })
        .filter_map(|(name, value)| Some((name.to_string(), json!(value.parse::<u64>().ok()?))))
        .collect();
    let mut answer = json!({
        "usage": number("memory.usage_in_bytes"),
        "max_usage": number("memory.max_usage_in_bytes"),
        "stats": stats,
        "limit": memory_limit(number("memory.limit_in_bytes")),
    });
    let failures = number("memory.failcnt");
    if failures > 0 {
        answer["failcnt"] = json!(failures);
    }
    answer
}

/// The same for version 2, where Docker tells all of these, 0 if the kernel has none.
const MEMORY_V2: [&str; 31] = [
    "active_anon",
    "active_file",
    "anon",
    "anon_thp",
    "file",
    "file_dirty",
    "file_mapped",
    "file_writeback",
    "inactive_anon",
    "inactive_file",
    "kernel_stack",
    "pgactivate",
    "pgdeactivate",
    "pgfault",
    "pglazyfree",
    "pglazyfreed",
    "pgmajfault",
    "pgrefill",
    "pgscan",
    "pgsteal",
    "shmem",
    "slab",
    "slab_reclaimable",
    "slab_unreclaimable",
    "sock",
    "thp_collapse_alloc",
    "thp_fault_alloc",
    "unevictable",
    "workingset_activate",
    "workingset_nodereclaim",
    "workingset_refault",
];

fn memory_v2(engine: &Engine, id: &str) -> Value {
    let read = |file: &str| engine.groups.read("memory", id, file);
    let text = read("memory.stat");
    let stats: Map<String, Value> =
        MEMORY_V2.iter().map(|name| ((*name).to_owned(), json!(field(&text, name)))).collect();
    json!({
        "usage": read("memory.current").trim().parse::<u64>().unwrap_or(0),
        "stats": stats,
        "limit": memory_limit(read("memory.max").trim().parse().unwrap_or(u64::MAX)),
    })
}

/// A limit above what the node may use is none.
fn memory_limit(limit: u64) -> u64 {
    limit.min(crate::api::system::memory())
}

fn blkio(engine: &Engine, id: &str) -> Value {
    let groups = &engine.groups;
    if groups.v2() {
        let mut bytes = Vec::new();
        for line in groups.read("blkio", id, "io.stat").lines() {
            let mut parts = line.split(' ');
            let Some((major, minor)) = parts.next().and_then(|d| d.split_once(':')) else { continue };
            let (major, minor) = (major.parse::<u64>().unwrap_or(0), minor.parse::<u64>().unwrap_or(0));
            for pair in parts {
                let Some((key, value)) = pair.split_once('=') else { continue };
                let op = match key {
                    "rbytes" => "read",
                    "wbytes" => "write",
                    _ => continue,
                };
                bytes.push(json!({"major": major, "minor": minor, "op": op, "value": value.parse::<u64>().unwrap_or(0)}));
            }
        }
        let mut answer: Map<String, Value> = BLKIO.iter().map(|n| ((*n).to_string(), Value::Null)).collect();
        answer.insert(BLKIO[0].into(), json!(bytes));
        return Value::Object(answer);
    }
    let entries = |file: &str| -> Vec<Value> {
        let text = groups.read("blkio", id, file);
        let entry = |line: &str| {
            let mut parts = line.split(' ');
            let (major, minor) = parts.next()?.split_once(':')?;
            let (op, value) = (parts.next()?, parts.next()?);
            Some(json!({
                "major": major.parse::<u64>().ok()?,
                "minor": minor.parse::<u64>().ok()?,
                "op": op.to_lowercase(),
                "value": value.parse::<u64>().ok()?,
            }))
        };
        text.lines().filter_map(entry).collect()
    };
    let mut answer: Map<String, Value> = BLKIO.iter().map(|n| ((*n).to_string(), json!([]))).collect();
    answer.insert(BLKIO[0].into(), json!(entries("blkio.throttle.io_service_bytes_recursive")));
    answer.insert(BLKIO[1].into(), json!(entries("blkio.throttle.io_serviced_recursive")));
    Value::Object(answer)
}

/// Interfaces of a process's network namespace.
fn networks(pid: i32) -> Value {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut networks = Map::new();
    for line in text.lines().skip(2) {
        let Some((name, figures)) = line.split_once(':') else { continue };
        let figures: Vec<u64> = figures.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let name = name.trim();
        if name == "lo" || figures.len() < 12 {
            continue;
        }
        networks.insert(
            name.into(),
            json!({
                "rx_bytes": figures[0], "rx_packets": figures[1], "rx_errors": figures[2], "rx_dropped": figures[3],
                "tx_bytes": figures[8], "tx_packets": figures[9], "tx_errors": figures[10], "tx_dropped": figures[11],
            }),
        );
    }
    Value::Object(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_recorded_shape() {
        let recorded: Value =
            serde_json::from_str(include_str!("../../tests/recorded/container_stats.json")).unwrap();
        let before = Sample { cpu: recorded["precpu_stats"].clone(), ..Sample::default() };
        let mut rest = nothing();
        rest.insert("networks".into(), json!({}));
        let ours = answer(
            &Record::default(),
            &before,
            &Sample { cpu: recorded["cpu_stats"].clone(), rest, ..before.clone() },
        );
        let keys =
            |v: &Value| v.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(keys(&ours), keys(&recorded));
        assert_eq!(keys(&ours["blkio_stats"]), keys(&recorded["blkio_stats"]));
        let (system, cpus) = machine();
        assert!(system > 0 && cpus > 0);
    }
}
