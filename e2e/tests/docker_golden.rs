//! Answers of the engine beside those of a real one (Docker Engine 28.5, API 1.51, in `golden/docker/`), asked for the same after
//! the same commands: the same keys, the same types, null where it has null. Values are free, except where they come from what
//! was asked. What differs and may is in [`DIFFERENCES`].

use drydock_e2e::Lab;
use serde_json::Value;
use std::fmt::Write as _;

/// Recording, path in it (`*`: any element; what is below counts too) and why ours is otherwise.
const DIFFERENCES: [(&str, &str, &str); 5] = [
    (
        "container_inspect",
        "/HostConfig/CgroupnsMode",
        "private is the default with either version of control groups",
    ),
    ("info", "/Containerd", "there is no containerd"),
    ("info", "/Runtimes/*/status", "there is no runc that could tell what it can do"),
    ("info", "/Warnings", "depends on the control groups of the host"),
    ("system_df", "/Images/*/RepoDigests", "the recorded engine had not pulled any image"),
];

/// Objects whose keys are data: every value has the shape of a recorded one.
const MAPS: [&str; 10] = [
    "IndexConfigs",
    "Labels",
    "Networks",
    "Ports",
    "PortBindings",
    "ExposedPorts",
    "Options",
    "Runtimes",
    "Containers",
    "networks",
];

/// Recording, and paths in it below which values must be equal: they come from what was asked.
const EQUAL: [(&str, &str); 17] = [
    ("container_changes", ""),
    ("container_inspect", "/Path"),
    ("container_inspect", "/Args"),
    ("container_inspect", "/Name"),
    ("container_inspect", "/Driver"),
    ("container_inspect", "/Platform"),
    ("container_inspect", "/State/Status"),
    ("container_inspect", "/HostConfig"),
    ("container_inspect", "/Config/Healthcheck"),
    ("container_inspect", "/Config/ExposedPorts"),
    ("container_inspect", "/NetworkSettings/Ports"),
    ("container_top", "/Titles"),
    ("image_inspect_built", "/Config/Cmd"),
    ("image_inspect_built", "/Config/Env"),
    ("image_inspect_built", "/Config/Healthcheck"),
    ("volume_inspect", "/Mountpoint"),
    ("version", "/MinAPIVersion"),
];

/// The commands before the recordings.
const COMMANDS: &str = r#"
docker pull -q busybox
docker volume create vol1
docker volume create --label com.dockerpy.test=true vol2
docker network create gnet
docker run -d --name g1 -v gvol:/data -p 8081:80 -l k=v -m 64m --health-cmd true --health-interval 1s busybox \
    sh -c 'echo out; echo err >&2; sleep 1000'
docker network connect gnet g1
docker create --name g2 busybox top
docker network create --subnet 10.42.0.0/16 --gateway 10.42.0.1 subnet-range
docker run --name g3 --network subnet-range --ip 10.42.1.3 busybox sh -c 'ip -4 -oneline addr show eth0'
docker export g2 | docker import -c 'CMD ["sh"]' - imported
docker commit g2 some-tag
mkdir -p /tmp/b3 && cd /tmp/b3 && echo hi > f.txt && printf '%s\n' 'FROM busybox' 'ARG X=1' 'ENV FOO=bar' 'WORKDIR /app' \
    'COPY f.txt .' 'RUN echo building $X > out' 'HEALTHCHECK CMD true' 'EXPOSE 80/tcp' 'CMD ["cat", "out"]' > Dockerfile
docker build -q -t b3 .
until [ "$(docker inspect -f '{{len .State.Health.Log}}' g1)" -gt 1 ]; do sleep 0.1; done
"#;

/// Recordings and what was asked.
const REQUESTS: [(&str, &str); 16] = [
    ("container_changes", "/containers/g1/changes"),
    ("container_inspect", "/containers/g1/json?size=1"),
    ("container_stats", "/containers/g1/stats?stream=false"),
    ("container_top", "/containers/g1/top"),
    ("containers_json", "/containers/json?all=1&size=1"),
    ("image_history", "/images/b3/history"),
    ("image_inspect", "/images/imported/json"),
    ("image_inspect_built", "/images/b3/json"),
    ("images_json", "/images/json"),
    ("info", "/info"),
    ("network_inspect", "/networks/gnet"),
    ("networks", "/networks"),
    ("system_df", "/system/df"),
    ("version", "/version"),
    ("volume_inspect", "/volumes/gvol"),
    ("volumes", "/volumes"),
];

fn recording(name: &str) -> String {
    let path = format!("{}/tests/golden/docker/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A path fits a pattern: word by word, `*` for any, the rest of the path free.
fn fits(path: &str, pattern: &str) -> bool {
    let mut words = path.split('/');
    pattern.split('/').all(|wanted| words.next().is_some_and(|word| wanted == "*" || wanted == word))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// How `ours` differs in shape, one line each.
fn differences(name: &str, path: &str, recorded: &Value, ours: &Value) -> Vec<String> {
    if DIFFERENCES.iter().any(|(file, pattern, _)| *file == name && fits(path, pattern)) {
        return vec![];
    }
    let equal = EQUAL.iter().any(|(file, pattern)| *file == name && fits(path, pattern));
    if equal && !ours.is_object() && recorded != ours {
        return vec![format!("{path} is {ours}, recorded {recorded}")];
    }
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours))
            if MAPS.contains(&path.rsplit('/').next().unwrap_or_default()) =>
        {
            let of_one = |(key, value): (&String, &Value)| {
                closest(name, &format!("{path}/{key}"), recorded.values(), value)
            };
            ours.iter().flat_map(of_one).collect()
        }
        (Value::Object(recorded), Value::Object(ours)) => {
            let missing =
                recorded.keys().filter(|key| !ours.contains_key(*key)).map(|key| (key, "is missing"));
            let more =
                ours.keys().filter(|key| !recorded.contains_key(*key)).map(|key| (key, "is not recorded"));
            let told = |(key, what): (&String, &str)| (format!("{path}/{key}"), what.to_owned());
            let keys = missing.chain(more).map(told).filter(|(path, _)| {
                !DIFFERENCES.iter().any(|(file, pattern, _)| *file == name && fits(path, pattern))
            });
            let both = recorded.iter().filter_map(|(key, value)| Some((key, value, ours.get(key)?)));
            let below = both.flat_map(|(key, recorded, ours)| {
                differences(name, &format!("{path}/{key}"), recorded, ours)
            });
            keys.map(|(path, what)| format!("{path} {what}")).chain(below).collect()
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            let of_one =
                |(n, value): (usize, &Value)| closest(name, &format!("{path}/{n}"), recorded.iter(), value);
            ours.iter().enumerate().flat_map(of_one).collect()
        }
        _ if kind(recorded) == kind(ours) => vec![],
        _ => vec![format!("{path} is {}, recorded {}", kind(ours), kind(recorded))],
    }
}

/// The differences to that one of several recorded values which is most like it.
fn closest<'a>(
    name: &str,
    path: &str,
    recorded: impl Iterator<Item = &'a Value>,
    ours: &Value,
) -> Vec<String> {
    recorded.map(|one| differences(name, path, one, ours)).min_by_key(Vec::len).unwrap_or_default()
}

#[test]
fn differences_are_found() {
    let found =
        |recorded: &str, ours: &str| differences("container_inspect", "", &parse(recorded), &parse(ours));
    assert_eq!(found(r#"{"a": null, "b": [1]}"#, r#"{"a": null, "b": [2, 3]}"#), [""; 0]);
    assert_eq!(found(r#"{"a": 1, "b": 1}"#, r#"{"b": 1, "c": 1}"#), ["/a is missing", "/c is not recorded"]);
    assert_eq!(found(r#"{"a": null}"#, r#"{"a": []}"#), ["/a is a list, recorded null"]);
    assert_eq!(found(r#"{"a": [{"b": ""}]}"#, r#"{"a": [{"b": 1}]}"#), ["/a/0/b is a number, recorded text"]);
    assert_eq!(
        found(r#"{"Labels": {"x": ""}}"#, r#"{"Labels": {"y": 1}}"#),
        ["/Labels/y is a number, recorded text"]
    );
    assert_eq!(found(r#"{"Args": ["a"]}"#, r#"{"Args": ["b"]}"#), [r#"/Args is ["b"], recorded ["a"]"#]);
}

#[tokio::test]
async fn answers_have_the_recorded_shape() {
    let lab = Lab::docker(1).await;
    lab.sh(&format!("set -e\n{COMMANDS}")).await;
    let mut report = String::new();
    for (name, request) in REQUESTS {
        let ours =
            lab.sh(&format!("curl -sS --unix-socket /run/docker.sock 'http://d/v1.51{request}'")).await;
        for line in differences(name, "", &parse(&recording(&format!("{name}.json"))), &parse(&ours)) {
            writeln!(report, "{name}: {line}").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
    lab.end().await;
}

/// Kind and action without what comes after a colon; checks of health come when they like.
fn what(event: &Value) -> Option<String> {
    let (kind, action) = (event["Type"].as_str()?, event["Action"].as_str()?);
    let action = action.split(':').next().unwrap_or_default();
    let from_health = action.starts_with("exec_") || action.starts_with("health_status");
    (!from_health).then(|| format!("{kind} {action}"))
}

#[tokio::test]
async fn events_come_as_recorded() {
    let lab = Lab::docker(1).await;
    let script = "set -e
        docker pull -q busybox
        # Labels of an image are told with each event; the recorded one had none.
        docker export $(docker create busybox) | docker import - plain; docker rm $(docker ps -aq); docker network create gnet
        docker run -d --name g1 -v gvol:/data -l k=v --health-cmd true --health-interval 1s plain sleep 1000
        docker network connect gnet g1; sleep 1.2
        since=$(date +%s.%N)
        docker run --rm --name ev plain true
        docker exec g1 true
        docker rm -f g1; docker volume rm gvol; docker network rm gnet
        curl -sS --unix-socket /run/docker.sock \"http://d/v1.51/events?since=$since&until=$(date +%s.%N)\" > /tmp/events";
    lab.sh(script).await;
    let (recorded, ours) = (recording("events.ndjson"), lab.sh("cat /tmp/events").await);
    let lines = |text: &str| text.lines().map(parse).collect::<Vec<_>>();
    let (recorded, ours) = (lines(&recorded), lines(&ours));
    let order = |events: &[Value]| events.iter().filter_map(what).collect::<Vec<_>>();
    assert_eq!(order(&ours), order(&recorded));
    let mut report = String::new();
    for event in &ours {
        for line in closest("events", "", recorded.iter().filter(|one| what(one) == what(event)), event) {
            writeln!(report, "{event}: {line}").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
    lab.end().await;
}
