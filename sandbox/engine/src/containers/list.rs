//! `docker ps`: which containers, and a line of facts about each.

use super::{
    Container, inspect, net,
    record::{Phase, Record},
};
use crate::{
    clock::{Timestamp, human},
    engine::Engine,
    error::{Error, Result},
    filters::Filters,
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Filters that are known.
const KNOWN: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "id",
    "isolation",
    "label",
    "name",
    "status",
    "health",
    "since",
    "volume",
    "network",
    "is-task",
    "publish",
    "expose",
    "isolated",
];

/// What a client wants to see.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Also those that do not run.
    pub all: bool,
    /// With sizes.
    pub size: bool,
    /// The newest ones only, running or not.
    pub limit: Option<usize>,
    /// Conditions.
    pub filters: Filters,
}

/// `GET /containers/json`
pub fn list(engine: &Engine, wanted: &Wanted) -> Result<Vec<Value>> {
    let filters = &wanted.filters;
    filters.validate(&KNOWN[..15])?;
    for status in filters.get("status") {
        if !["created", "running", "paused", "restarting", "removing", "exited", "dead"].contains(&status) {
            return Err(Error::invalid(format!("invalid filter 'status={status}'")));
        }
    }
    for health in filters.get("health") {
        if !["none", "starting", "healthy", "unhealthy"].contains(&health) {
            return Err(Error::invalid(format!("invalid filter 'health={health}'")));
        }
    }
    for code in filters.get("exited") {
        if code.parse::<i32>().is_err() {
            return Err(Error::invalid(format!("invalid filter 'exited={code}'")));
        }
    }
    let mut all = engine.containers.all();
    all.retain(|container| !container.record().step);
    all.reverse();
    let edge = |key: &str| -> Result<Option<Timestamp>> {
        let found = filters.get(key).map(|name| engine.containers.get(name).map(|c| c.record().created));
        found.last().transpose()
    };
    let (before, since) = (edge("before")?, edge("since")?);
    let images: Vec<String> = filters
        .get("ancestor")
        .filter_map(|name| engine.images.find(name).ok())
        .map(|image| image.id.to_string())
        .collect();
    let only_running =
        !wanted.all && wanted.limit.is_none() && !filters.has("status") && !filters.has("exited");
    let fits = |container: &Arc<Container>| {
        let record = container.record();
        let time = before.is_none_or(|t| record.created < t) && since.is_none_or(|t| record.created > t);
        let ancestor = !filters.has("ancestor") || images.contains(&record.image);
        // `docker ps` shows what runs; so it is as soon as one of these filters asks for something else.
        time && ancestor
            && (!only_running || record.state.phase.running())
            && passes(engine, &record, filters)
    };
    let chosen = all.into_iter().filter(fits).take(wanted.limit.unwrap_or(usize::MAX));
    Ok(chosen.map(|container| line(engine, &container.record(), wanted.size)).collect())
}

fn passes(engine: &Engine, record: &Record, filters: &Filters) -> bool {
    let labels = record.config.labels.clone().unwrap_or_default();
    let health = record.state.health.as_ref().map_or("none", |h| h.status.as_str());
    let exited = record.state.exit_code.to_string();
    let named =
        filters.matches("name", &record.name) || filters.matches("name", &format!("/{}", record.name));
    let has_ended = !record.state.phase.alive() && record.has_been_started_before;
    let volume = |wanted: &str| {
        record
            .mount_points
            .iter()
            .any(|m| m.point.name == wanted || m.point.destination == wanted || m.point.source == wanted)
    };
    let network = |wanted: &str| {
        let id = engine.networks.find(wanted).map(|n| n.id).unwrap_or_default();
        record
            .networks
            .iter()
            .any(|(name, s)| name == wanted || (!id.is_empty() && (s.network_id == id || *name == id)))
    };
    let port = |wanted: &str, published: bool| {
        let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (Ok(from), Ok(to)) = (from.parse::<u16>(), to.parse::<u16>()) else { return false };
        if published {
            return record
                .published
                .iter()
                .any(|b| (from..=to).contains(&b.host_port) && b.protocol.to_string() == protocol);
        }
        record.config.exposed_ports.iter().flatten().any(|(port, _)| {
            let (number, of) = port.split_once('/').unwrap_or((port, "tcp"));
            number.parse::<u16>().is_ok_and(|n| (from..=to).contains(&n)) && of == protocol
        })
    };
    let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.has(key) || filters.get(key).any(test);
    filters.prefix("id", &record.id)
        && named
        && filters.exact("status", record.state.phase.name())
        && filters.exact("health", health)
        && (!filters.has("exited") || (has_ended && filters.exact("exited", &exited)))
        && filters.labels("label", &labels)
        && any("volume", &volume)
        && any("network", &network)
        && any("publish", &|p| port(p, true))
        && any("expose", &|p| port(p, false))
        && filters.truth("is-task").ok().flatten() != Some(true)
}

/// One entry, in the recorded shape.
fn line(engine: &Engine, record: &Record, size: bool) -> Value {
    let networks: Map<String, Value> = record
        .networks
        .iter()
        .map(|(name, settings)| {
            let mut settings = settings.clone();
            settings.links = None;
            settings.aliases = None;
            settings.driver_opts = None;
            settings.dns_names = None;
            (name.clone(), json!(settings))
        })
        .collect();
    let mut answer = json!({
        "Id": record.id,
        "Names": [format!("/{}", record.name)],
        "Image": record.config.image,
        "ImageID": record.image,
        "Command": command(record),
        "Created": record.created.seconds(),
        "Ports": ports(record),
        "Labels": record.config.labels.clone().unwrap_or_default(),
        "State": record.state.phase.name(),
        "Status": status(record),
        "HostConfig": {"NetworkMode": record.host.network_mode},
        "NetworkSettings": {"Networks": networks},
        "Mounts": inspect::mounts(record),
    });
    if size {
        let changed = engine.roots.changed_bytes(&record.id);
        if changed > 0 {
            answer["SizeRw"] = json!(changed);
        }
        answer["SizeRootFs"] = json!(changed + record.image_size);
    }
    answer
}

/// The command as one could type it.
fn command(record: &Record) -> String {
    let quoted = |word: &String| {
        let plain = !word.is_empty()
            && !word.contains([
                ' ', '\t', '\n', '"', '\'', '$', '\\', '`', ';', '&', '|', '<', '>', '(', ')', '*', '?',
            ]);
        if plain { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let args: Vec<String> = record.args.iter().map(quoted).collect();
    if args.is_empty() { record.path.clone() } else { format!("{} {}", record.path, args.join(" ")) }
}

fn ports(record: &Record) -> Value {
    let mut ports = Vec::new();
    for (port, bindings) in net::port_map(record) {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let number: u16 = number.parse().unwrap_or(0);
        match bindings {
            None => ports.push(json!({"PrivatePort": number, "Type": protocol})),
            Some(bindings) => ports.extend(bindings.iter().map(|b| {
                json!({
                    "IP": b.host_ip,
                    "PrivatePort": number,
                    "PublicPort": b.host_port.parse::<u16>().unwrap_or(0),
                    "Type": protocol,
                })
            })),
        }
    }
    json!(ports)
}

/// `Up 3 minutes (healthy)`, `Exited (0) 5 seconds ago` (`State.String`).
pub fn status(record: &Record) -> String {
    let state = &record.state;
    let now = Timestamp::now();
    let up = || human(now.since(state.started_at));
    match state.phase {
        Phase::Created => "Created".into(),
        Phase::Running => match state.health.as_ref().map(|h| h.status.as_str()) {
            None | Some("none") => format!("Up {}", up()),
            Some("starting") => format!("Up {} (health: starting)", up()),
            Some(health) => format!("Up {} ({health})", up()),
        },
        Phase::Paused => format!("Up {} (Paused)", up()),
        Phase::Restarting => {
            format!("Restarting ({}) {} ago", state.exit_code, human(now.since(state.finished_at)))
        }
        Phase::Removing => "Removal In Progress".into(),
        Phase::Dead => "Dead".into(),
        Phase::Exited => format!("Exited ({}) {} ago", state.exit_code, human(now.since(state.finished_at))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_as_recorded() {
        let record = Record {
            path: "sh".into(),
            args: vec!["-c".into(), "echo out; echo err >&2; sleep 1000".into()],
            ..Record::default()
        };
        assert_eq!(command(&record), "sh -c 'echo out; echo err >&2; sleep 1000'");
    }

    #[test]
    fn states_in_words() {
        let mut record = Record::default();
        assert_eq!(status(&record), "Created");
        record.state.phase = Phase::Running;
        record.state.started_at = Timestamp::from_query("3s").unwrap();
        record.state.health =
            Some(super::super::record::Health { status: "healthy".into(), ..Default::default() });
        assert_eq!(status(&record), "Up 3 seconds (healthy)");
        record.state.phase = Phase::Exited;
        record.state.exit_code = 137;
        record.state.finished_at = Timestamp::from_query("6m").unwrap();
        assert_eq!(status(&record), "Exited (137) 6 minutes ago");
    }
}
