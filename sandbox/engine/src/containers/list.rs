//! `docker ps`: which containers, and a line of facts about each.

use super::{
    Container, inspect, links, net,
    record::{Phase, Record},
};
use crate::{
    clock::{Timestamp, human},
    engine::Engine,
    error::{Error, Result},
    filters::Filters,
    http::{Json, ordered},
};
use std::{collections::BTreeMap, sync::Arc};

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
pub fn list(engine: &Engine, wanted: &Wanted) -> Result<Vec<Json>> {
    let filters = &wanted.filters;
    filters.validate(&KNOWN[..15])?;
    check(filters)?;
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
    let names = links::names(engine);
    let entry = |container: Arc<Container>| {
        let record = container.record().clone();
        line(engine, &record, names.get(&record.id), wanted.size)
    };
    Ok(chosen.map(entry).collect())
}

/// Refuses values that make no sense, in the order and the words of dockerd (`foldFilter`).
fn check(filters: &Filters) -> Result<()> {
    const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
    const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
    for code in filters.get("exited") {
        if let Err(why) = go_number(code, i64::from(i32::MIN), i64::from(i32::MAX)) {
            let text = format!("invalid filter 'exited={code}': strconv.Atoi: parsing {code:?}: {why}");
            return Err(Error::invalid(text));
        }
    }
    for (key, what, known) in [("status", "state", &STATES[..]), ("health", "health", &HEALTHS[..])] {
        if key == "health" {
            filters.truth("is-task")?;
        }
        if let Some(wrong) = filters.get(key).find(|value| !known.contains(value)) {
            return Err(Error::invalid(format!(
                "invalid filter '{key}={wrong}': invalid value for {what} ({wrong}): must be one of {}",
                known.join(", ")
            )));
        }
    }
    for key in ["publish", "expose"] {
        for value in filters.get(key) {
            if value.contains(':') {
                return Err(Error::internal(format!("filter for '{key}' should not contain ':': {value}")));
            }
            check_range(value)
                .map_err(|why| Error::internal(format!("error while looking up for {key} {value}: {why}")))?;
        }
    }
    Ok(())
}

/// `80`, `80-90`, each with `/tcp` or without (`nat.ParsePortRange`).
fn check_range(value: &str) -> Result<(), String> {
    let ports = value.split('/').next().unwrap_or_default();
    if ports.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let port = |text: &str| {
        go_number(text, 0, i64::from(u16::MAX))
            .map_err(|why| format!("strconv.ParseUint: parsing {text:?}: {why}"))
    };
    let (start, end) = ports.split_once('-').unwrap_or((ports, ports));
    if port(end.split('-').next().unwrap_or_default())? < port(start)? {
        return Err(format!("invalid range specified for port: {ports}"));
    }
    Ok(())
}

/// A number, or why it is none in Go's words.
fn go_number(text: &str, least: i64, most: i64) -> Result<i64, &'static str> {
    let digits = text.strip_prefix('-').filter(|_| least < 0).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("invalid syntax");
    }
    text.parse().ok().filter(|number| (least..=most).contains(number)).ok_or("value out of range")
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

/// One entry, in the recorded shape. `others`: what it is called in containers that are linked to it.
fn line(engine: &Engine, record: &Record, others: Option<&Vec<String>>, size: bool) -> Json {
    let mut names = others.cloned().unwrap_or_default();
    names.push(format!("/{}", record.name));
    names.sort();
    let networks: BTreeMap<&String, _> = record
        .networks
        .iter()
        .map(|(name, settings)| {
            let mut settings = settings.clone();
            settings.links = None;
            settings.aliases = None;
            settings.driver_opts = None;
            settings.dns_names = None;
            (name, settings)
        })
        .collect();
    let changed = size.then(|| engine.roots.changed_bytes(&record.id));
    ordered! {
        "Id": record.id,
        "Names": names,
        "Image": image(engine, record),
        "ImageID": record.image,
        "Command": command(record),
        "Created": record.created.seconds(),
        "Ports": ports(record),
        "SizeRw"?: changed.filter(|changed| *changed > 0),
        "SizeRootFs"?: changed.map(|changed| changed + record.image_size),
        "Labels": record.config.labels.clone().unwrap_or_default(),
        "State": record.state.phase.name(),
        "Status": status(record),
        "HostConfig": ordered! { "NetworkMode": record.host.network_mode, },
        "NetworkSettings": ordered! { "Networks": networks, },
        "Mounts": inspect::mounts(record),
    }
}

/// As the container was asked for; the id, once the name is another image's or nobody's.
fn image(engine: &Engine, record: &Record) -> String {
    let same =
        engine.images.find(&record.config.image).is_ok_and(|found| found.id.to_string() == record.image);
    if same { record.config.image.clone() } else { record.image.clone() }
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

fn ports(record: &Record) -> Vec<Json> {
    let mut ports = Vec::new();
    for (port, bindings) in net::port_map(record) {
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let number: u16 = number.parse().unwrap_or(0);
        match bindings {
            None => ports.push(ordered! { "PrivatePort": number, "Type": protocol, }),
            Some(bindings) => ports.extend(bindings.iter().map(|b| {
                ordered! {
                    "IP": b.host_ip,
                    "PrivatePort": number,
                    "PublicPort": b.host_port.parse::<u16>().unwrap_or(0),
                    "Type": protocol,
                }
            })),
        }
    }
    ports
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
    fn wrong_filters_are_refused_in_dockerds_words() {
        for (filter, words) in [
            (
                r#"{"status":["foo"]}"#,
                "invalid filter 'status=foo': invalid value for state (foo): must be one of created, running, paused, restarting, removing, exited, dead",
            ),
            (
                r#"{"health":["foo"]}"#,
                "invalid filter 'health=foo': invalid value for health (foo): must be one of none, starting, healthy, unhealthy",
            ),
            (r#"{"exited":["x"]}"#, "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"),
            (
                r#"{"publish":["foo"]}"#,
                "error while looking up for publish foo: strconv.ParseUint: parsing \"foo\": invalid syntax",
            ),
            (r#"{"expose":["1:2"]}"#, "filter for 'expose' should not contain ':': 1:2"),
            (
                r#"{"publish":["99999"]}"#,
                "error while looking up for publish 99999: strconv.ParseUint: parsing \"99999\": value out of range",
            ),
            (r#"{"is-task":["x"]}"#, "invalid filter 'is-task=[x]'"),
        ] {
            assert_eq!(check(&Filters::parse(filter).unwrap()).unwrap_err().message, words);
        }
        for good in
            [r#"{"publish":["80","80-90/udp"]}"#, r#"{"exited":["-1","137"]}"#, r#"{"is-task":["false"]}"#]
        {
            assert_eq!(check(&Filters::parse(good).unwrap()), Ok(()));
        }
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
