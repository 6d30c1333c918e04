//! Which settings there are in `daemon.json`, of which type, and what a node makes of them: moby's `daemon/config/config.go`.

use drydock_go::json::{END, words, wrong_type};
use serde_json::{Map, Value};

/// Go's types.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bool,
    Int,
    Text,
    /// Of elements of this Go type.
    List(&'static str),
    /// Of values of this kind.
    Map(&'static [Kind]),
    /// Any value.
    Any,
}

/// What a node makes of a setting.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// What it says.
    Done,
    /// Nothing, which harms nobody.
    Idle,
    /// It can be this only (as JSON).
    Only(&'static [&'static str]),
}

use Kind::{Any, Bool, Int, List, Map as MapOf, Text};
use Use::{Done, Idle, Only};

const STRINGS: Kind = List("string");
const NOWHERE: Use = Only(&["\"\"", "[]", "{}", "false"]);

const KEYS: [(&str, Kind, Use); 83] = [
    ("allow-direct-routing", Bool, Idle),
    ("allow-nondistributable-artifacts", STRINGS, Idle),
    ("api-cors-header", Text, NOWHERE),
    ("authorization-plugins", STRINGS, NOWHERE),
    ("bip", Text, Done),
    ("bip6", Text, NOWHERE),
    ("bridge", Text, Only(&["\"\"", "\"docker0\""])),
    ("builder", Any, Idle),
    ("cdi-spec-dirs", STRINGS, Idle),
    ("cgroup-parent", Text, NOWHERE),
    ("containerd", Text, Idle),
    ("containerd-namespace", Text, Idle),
    ("containerd-plugin-namespace", Text, Idle),
    ("cpu-rt-period", Int, Only(&["0"])),
    ("cpu-rt-runtime", Int, Only(&["0"])),
    ("cri-containerd", Bool, Idle),
    ("data-root", Text, Only(&["\"\"", "\"/var/lib/docker\""])),
    ("debug", Bool, Done),
    ("default-address-pools", List("*ipamutils.NetworkToSplit"), Done),
    ("default-cgroupns-mode", Text, Done),
    ("default-gateway", Text, Done),
    ("default-gateway-v6", Text, NOWHERE),
    ("default-init", Text, Idle),
    ("default-ipc-mode", Text, Done),
    ("default-network-opts", Any, Done),
    ("default-runtime", Text, Only(&["\"\"", "\"runc\"", "\"io.containerd.runc.v2\""])),
    ("default-shm-size", Any, Done),
    ("default-ulimits", Any, Done),
    ("deprecated-key-path", Text, Idle),
    ("dns", List("net.IP"), Done),
    ("dns-opts", STRINGS, Done),
    ("dns-search", STRINGS, Done),
    ("exec-opts", STRINGS, Idle),
    ("exec-root", Text, Only(&["\"\"", "\"/var/run/docker\""])),
    ("experimental", Bool, Done),
    ("features", MapOf(&[Bool]), Done),
    ("fixed-cidr", Text, Done),
    ("fixed-cidr-v6", Text, Done),
    ("group", Text, Idle),
    ("host-gateway-ip", Text, NOWHERE),
    ("host-gateway-ips", STRINGS, NOWHERE),
    ("hosts", STRINGS, NOWHERE),
    ("icc", Bool, Done),
    ("init", Bool, Done),
    ("init-path", Text, Idle),
    ("insecure-registries", STRINGS, Done),
    ("ip", Text, Done),
    ("ip-forward", Bool, Only(&["true"])),
    ("ip-forward-no-drop", Bool, Idle),
    ("ip-masq", Bool, Done),
    ("ip6tables", Bool, Idle),
    ("iptables", Bool, Only(&["true"])),
    ("ipv6", Bool, Done),
    ("labels", STRINGS, Done),
    ("live-restore", Bool, Done),
    ("log-driver", Text, Done),
    ("log-format", Text, Idle),
    ("log-level", Text, Idle),
    ("log-opts", MapOf(&[Text]), Done),
    ("max-concurrent-downloads", Int, Idle),
    ("max-concurrent-uploads", Int, Idle),
    ("max-download-attempts", Int, Idle),
    ("metrics-addr", Text, NOWHERE),
    ("mtu", Int, Done),
    ("network-control-plane-mtu", Int, Idle),
    ("network-diagnostic-port", Int, Idle),
    ("no-new-privileges", Bool, Done),
    ("node-generic-resources", STRINGS, Idle),
    ("pidfile", Text, Only(&["\"\"", "\"/var/run/docker.pid\"", "\"/run/docker.pid\""])),
    ("proxies", MapOf(&[Text]), Done),
    ("raw-logs", Bool, Idle),
    ("registry-mirrors", STRINGS, Done),
    ("resolv-conf", Text, NOWHERE),
    ("rootless", Bool, NOWHERE),
    ("runtimes", Any, Only(&["{}"])),
    ("seccomp-profile", Text, Done),
    ("selinux-enabled", Bool, NOWHERE),
    ("shutdown-timeout", Int, Idle),
    ("storage-driver", Text, Only(&["\"\"", "\"overlay2\""])),
    ("storage-opts", STRINGS, NOWHERE),
    ("userland-proxy", Bool, Idle),
    ("userland-proxy-path", Text, Idle),
    ("userns-remap", Text, NOWHERE),
];

/// Settings that are known and that a node has no use for: of swarms, and of TLS.
const OTHERS: [(&str, Kind); 8] = [
    ("swarm-default-advertise-addr", Text),
    ("swarm-raft-election-tick", Int),
    ("swarm-raft-heartbeat-tick", Int),
    ("tls", Bool),
    ("tlscacert", Text),
    ("tlscert", Text),
    ("tlskey", Text),
    ("tlsverify", Bool),
];

/// What may stand inside of a setting that is written flat elsewhere.
const PROXIES: [&str; 3] = ["http-proxy", "https-proxy", "no-proxy"];

fn kind(name: &str) -> Option<Kind> {
    let known = KEYS.iter().find(|(key, ..)| *key == name).map(|(_, kind, _)| *kind);
    known.or_else(|| OTHERS.iter().find(|(key, _)| *key == name).map(|(_, kind)| *kind))
}

/// The file as Go reads it into a map.
pub(super) fn parse(text: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(other) => Err(wrong_type(&other, "Go value of type map[string]interface {}")),
        Err(error) => Err(words(text, &error, END)),
    }
}

/// Refuses names that there are not, and those that Debian's unit gives on the command line.
pub(super) fn check_names(fields: &Map<String, Value>) -> Result<(), String> {
    // Go looks at what is inside of an object, unless it is one of these.
    let flat = ["default-network-opts", "log-opts", "runtimes", "default-ulimits", "features", "builder"];
    let mut unknown = Vec::new();
    for (name, value) in fields {
        match value.as_object().filter(|_| !flat.contains(&name.as_str())) {
            Some(inner) => {
                let known = |inner: &str| kind(inner).is_some() || PROXIES.contains(&inner);
                unknown.extend(inner.keys().filter(|inner| !known(inner)).cloned());
            }
            None if kind(name).is_none() => unknown.push(name.clone()),
            None => {}
        }
    }
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        return Err(format!("the following directives don't match any configuration option: {unknown}"));
    }
    let Some(hosts) = fields.get("hosts").and_then(Value::as_array) else { return Ok(()) };
    let hosts: Vec<_> = hosts.iter().filter_map(Value::as_str).collect();
    Err(format!(
        "the following directives are specified both as a flag and in the configuration file: hosts: (from flag: [fd://], from file: [{}])",
        hosts.join(" ")
    ))
}

/// Refuses values of another type, as Go's `encoding/json` does.
pub(super) fn check_types(fields: &Map<String, Value>) -> Result<(), String> {
    for (name, value) in fields {
        let Some(kind) = kind(name) else { continue };
        let field = |kind: Kind| format!("Go struct field Config.{name} of type {}", go_type(kind));
        let fits = match (kind, value) {
            (_, Value::Null) | (Any, _) | (Bool, Value::Bool(_)) | (Text, Value::String(_)) => true,
            (Int, Value::Number(number)) => number.as_i64().is_some(),
            (List(element), Value::Array(values)) if element != "*ipamutils.NetworkToSplit" => {
                if let Some(wrong) = values.iter().find(|value| !value.is_string()) {
                    return Err(wrong_type(
                        wrong,
                        &format!("Go struct field Config.{name} of type {element}"),
                    ));
                }
                true
            }
            (List(_), Value::Array(_)) => true,
            (MapOf(kinds), Value::Object(values)) => {
                let fits = |value: &Value| {
                    kinds.iter().any(|kind| {
                        matches!((kind, value), (Bool, Value::Bool(_)) | (Text, Value::String(_)))
                    })
                };
                if let Some(wrong) = values.values().find(|value| !fits(value)) {
                    return Err(wrong_type(wrong, &field(kinds[0])));
                }
                true
            }
            _ => false,
        };
        if !fits {
            return Err(wrong_type(value, &field(kind)));
        }
    }
    Ok(())
}

fn go_type(kind: Kind) -> String {
    match kind {
        Bool => "bool".into(),
        Int => "int".into(),
        Text => "string".into(),
        List(element) => format!("[]{element}"),
        MapOf(kinds) => {
            format!("map[string]{}", kinds.first().map_or_else(String::new, |kind| go_type(*kind)))
        }
        Any => "object".into(),
    }
}

/// Refuses what an engine of a node can't be told.
pub(super) fn check_possible(fields: &Map<String, Value>) -> Result<(), String> {
    for (name, value) in fields {
        let usage = KEYS.iter().find(|(key, ..)| key == name).map(|(.., usage)| *usage);
        let Some(Only(values)) = usage.filter(|_| !value.is_null()) else { continue };
        if !values.contains(&value.to_string().as_str()) {
            return Err(format!("failed to start daemon: {name}: {value} is not available on this node"));
        }
    }
    match fields.get("features").and_then(|features| features.get("containerd-snapshotter")) {
        Some(Value::Bool(true)) => Err(
            "failed to start daemon: the containerd image store (containerd-snapshotter) is not available on this node"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// Whether a setting stands in the file.
pub(super) fn is_set(fields: &Map<String, Value>, name: &str) -> bool {
    fields.contains_key(name)
}

/// Settings that change nothing here.
pub(super) fn without_effect(fields: &Map<String, Value>) -> Vec<String> {
    let idle = |name: &&String| {
        KEYS.iter().any(|(key, _, usage)| key == *name && *usage == Idle)
            || OTHERS.iter().any(|(key, _)| key == *name)
    };
    fields.keys().filter(idle).cloned().collect()
}
