//! `docker inspect`: a container as clients see it, in the recorded shape (`tests/`).

use super::{Container, links, logs, net, record::Record};
use crate::engine::Engine;
use crate::http::{ApiVersion, Json, ordered};

/// `GET /containers/{id}/json`. `size`: with the sizes of its files, which takes a walk through them.
pub fn inspect(engine: &Engine, container: &Container, size: bool, version: ApiVersion) -> Json {
    let mut record = container.record().clone();
    record.host.links = links::shown(engine, &record);
    record.config.mac_address = net::wished_mac(&record);
    if !version.at_least(45) {
        name_by_id(&mut record);
    }
    let dir = engine.containers.dir(&record.id);
    let file = |name: &str| {
        if record.has_been_started_before {
            dir.join(name).to_string_lossy().into_owned()
        } else {
            String::new()
        }
    };
    let execs = engine.execs.running_in(&record.id);
    let log = match record.host.log_config.driver.as_str() {
        "json-file" if record.has_been_started_before => {
            logs::json_path(&dir, &record.id).to_string_lossy().into_owned()
        }
        _ => String::new(),
    };
    let changed = size.then(|| engine.roots.changed_bytes(&record.id));
    ordered! {
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": record.args,
        "State": state(&record),
        "Image": record.image,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log,
        "Name": format!("/{}", record.name),
        "RestartCount": record.restart_count,
        "Driver": "overlay2",
        "Platform": record.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": Some(execs).filter(|execs| !execs.is_empty()),
        "HostConfig": record.host,
        "GraphDriver": graph_driver(engine, &record),
        "SizeRw"?: changed,
        "SizeRootFs"?: changed.map(|changed| changed + record.image_size),
        "Mounts": mounts(&record),
        "Config": record.config,
        "NetworkSettings": network_settings(&record),
    }
}

/// Before API 1.45 the short id of a container was among its aliases.
fn name_by_id(record: &mut Record) {
    let more = [record.short().to_owned(), record.config.hostname.clone()];
    for (_, settings) in record.networks.iter_mut().filter(|(name, _)| !drydock_network::is_predefined(name))
    {
        let aliases = settings.aliases.get_or_insert_default();
        for name in &more {
            if !name.is_empty() && !aliases.contains(name) {
                aliases.push(name.clone());
            }
        }
    }
}

/// What is mounted, for inspection and lists.
pub fn mounts(record: &Record) -> Json {
    let mut points: Vec<_> = record.mount_points.iter().map(|m| &m.point).collect();
    points.sort_by_key(|p| p.destination.as_str());
    Json::of(&points)
}

fn state(record: &Record) -> Json {
    let state = &record.state;
    ordered! {
        "Status": state.phase.name(),
        "Running": state.phase.running(),
        "Paused": state.phase == super::record::Phase::Paused,
        "Restarting": state.phase == super::record::Phase::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.phase == super::record::Phase::Dead,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
        "Health"?: state.health.as_ref(),
    }
}

fn graph_driver(engine: &Engine, record: &Record) -> Json {
    let parts = engine.roots.parts(&record.id);
    let lower = engine.images.held(&record.id).ok().flatten().map(|layers| engine.roots.lower(&layers));
    let lower: Vec<String> = lower.into_iter().flatten().map(|p| p.to_string_lossy().into_owned()).collect();
    let data = ordered! {
        "ID": record.id,
        "LowerDir": lower.join(":"),
        "MergedDir": parts.merged,
        "UpperDir": parts.upper,
        "WorkDir": parts.work,
    };
    ordered! { "Data": data, "Name": "overlay2", }
}

fn network_settings(record: &Record) -> Json {
    // The old fields are those of the default bridge.
    let bridge = record.networks.get("bridge").cloned().unwrap_or_default();
    let alive = record.state.phase.alive();
    let sandbox = if alive { record.id.chars().rev().collect::<String>() } else { String::new() };
    let key = match (alive, record.host.network_mode.as_str()) {
        (true, "host") => "/var/run/docker/netns/default".to_string(),
        (true, _) => format!("/proc/{}/ns/net", record.state.pid),
        (false, _) => String::new(),
    };
    ordered! {
        "Bridge": "",
        "SandboxID": sandbox,
        "SandboxKey": key,
        "Ports": net::port_map(record),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": (),
        "SecondaryIPv6Addresses": (),
        "EndpointID": bridge.endpoint_id,
        "Gateway": bridge.gateway,
        "GlobalIPv6Address": bridge.global_ipv6_address,
        "GlobalIPv6PrefixLen": bridge.global_ipv6_prefix_len,
        "IPAddress": bridge.ip_address,
        "IPPrefixLen": bridge.ip_prefix_len,
        "IPv6Gateway": bridge.ipv6_gateway,
        "MacAddress": bridge.mac_address,
        "Networks": record.networks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    const RECORDED: &str = include_str!("../../tests/recorded/container_inspect.json");

    fn keys(value: &Value) -> BTreeSet<&str> {
        value.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn record() -> (Record, Value) {
        let recorded: Value = serde_json::from_str(RECORDED).unwrap();
        let record = Record {
            config: serde_json::from_value(recorded["Config"].clone()).unwrap(),
            host: serde_json::from_value(recorded["HostConfig"].clone()).unwrap(),
            networks: serde_json::from_value(recorded["NetworkSettings"]["Networks"].clone()).unwrap(),
            ..Record::default()
        };
        (record, recorded)
    }

    #[test]
    fn config_and_host_config_come_back_as_recorded() {
        let (record, recorded) = record();
        assert_eq!(json!(record.config), recorded["Config"]);
        assert_eq!(json!(record.host), recorded["HostConfig"]);
    }

    #[test]
    fn networks_have_the_recorded_shape() {
        let (record, recorded) = record();
        let ours = json!(network_settings(&record));
        let theirs = &recorded["NetworkSettings"];
        assert_eq!(keys(&ours), keys(theirs));
        assert_eq!(ours["Networks"], theirs["Networks"]);
    }

    #[test]
    fn the_state_has_the_recorded_shape() {
        let (mut record, recorded) = record();
        record.state.health = Some(serde_json::from_value(recorded["State"]["Health"].clone()).unwrap());
        let ours = json!(state(&record));
        assert_eq!(keys(&ours), keys(&recorded["State"]));
        assert_eq!(ours["Health"], recorded["State"]["Health"]);
        assert_eq!(ours["FinishedAt"], recorded["State"]["FinishedAt"]);
    }

    /// The recorded answer is dockerd's own, with its fields in its order.
    #[test]
    fn fields_stand_in_dockerds_order() {
        fn names(json: &Json) -> Vec<&str> {
            let Json::Object(fields) = json else { return vec![] };
            fields.iter().map(|(name, _)| name.as_str()).collect()
        }
        let recorded: Json = serde_json::from_str(RECORDED).unwrap();
        let Json::Object(fields) = &recorded else { panic!("no object") };
        let of = |key: &str| &fields.iter().find(|(name, _)| name == key).unwrap().1;
        let (mut record, whole) = record();
        record.state.health = Some(serde_json::from_value(whole["State"]["Health"].clone()).unwrap());
        assert_eq!(names(&state(&record)), names(of("State")));
        assert_eq!(names(&network_settings(&record)), names(of("NetworkSettings")));
        assert_eq!(names(&Json::of(&record.host)), names(of("HostConfig")));
        assert_eq!(names(&Json::of(&record.config)), names(of("Config")));
    }

    #[test]
    fn mounts_have_the_recorded_shape() {
        let (mut record, recorded) = record();
        let point: super::super::model::MountPoint =
            serde_json::from_value(recorded["Mounts"][0].clone()).unwrap();
        record.mount_points.push(super::super::record::Mounted { point, ..Default::default() });
        assert_eq!(json!(mounts(&record)), recorded["Mounts"]);
    }
}
