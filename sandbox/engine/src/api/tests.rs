//! The endpoints over a real socket, in an engine of its own: namespaces of its own for what is made in the kernel, a directory of
//! its own for the rest. Answers are compared with what dockerd 28.5 answered (`tests/golden`). Needs root.

use crate::cgroup::Groups;
use crate::containers::{Containers, spare::Spare};
use crate::engine::Engine;
use crate::events::Events;
use crate::exec::Execs;
use crate::http;
use crate::images::Registries;
use crate::init::Init;
use crate::rootfs::Roots;
use crate::volumes::Volumes;
use drydock_images::local::LocalStore;
use drydock_network::{Config, Networks};
use drydock_protocol::NodeName;
use drydock_runtime::channel::Channel;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

/// A client of the engine under test.
#[derive(Clone)]
struct Client(PathBuf);

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn refused(&self, status: u16, message: &str) {
        assert_eq!((self.status, self.json()), (status, json!({ "message": message })));
    }
}

impl Client {
    async fn open(&self, head: &str, body: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(&self.0).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream
    }

    async fn send(&self, line: &str, content_type: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = self.open(&head, body).await;
        let mut bytes = vec![];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes));
        read.await.unwrap_or_else(|_| panic!("no end of the answer to {line}")).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        let body = bytes.split_off(end + 4);
        let mut answer = Answer { status, head, body };
        if answer.header("transfer-encoding").is_some() {
            answer.body = dechunk(&answer.body);
        }
        answer
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), "text/plain", b"").await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(&format!("POST {path}"), "application/json", body.as_bytes()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(&format!("DELETE {path}"), "text/plain", b"").await
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = vec![];
    loop {
        let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else { return whole };
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
}

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The same keys and kinds of values, all the way down; what is named in `but` may differ.
fn same_shape(ours: &Value, golden: &Value, but: &[&str], at: &str) {
    match (ours, golden) {
        (Value::Object(ours), Value::Object(golden)) => {
            let keys = |map: &serde_json::Map<String, Value>| {
                map.keys()
                    .filter(|key| !but.contains(&key.as_str()))
                    .cloned()
                    .collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(keys(ours), keys(golden), "{at}");
            for key in keys(ours) {
                same_shape(&ours[&key], &golden[&key], but, &format!("{at}.{key}"));
            }
        }
        (Value::Array(ours), Value::Array(golden)) => {
            for (ours, golden) in ours.iter().zip(golden) {
                same_shape(ours, golden, but, &format!("{at}[]"));
            }
        }
        (ours, golden) => {
            assert_eq!(std::mem::discriminant(ours), std::mem::discriminant(golden), "{at}: {ours} {golden}");
        }
    }
}

fn engine(root: &Path) -> (Arc<Engine>, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    let (gone, _) = oneshot::channel();
    let (init, _) = Init::connect(ours, gone);
    let networks = Config {
        directory: root.join("network"),
        iptables_restore: "/bin/true".into(),
        iptables_save: "/bin/true".into(),
        ..Config::default()
    };
    let images = LocalStore::open(root).unwrap();
    let engine = Engine {
        node: NodeName::new(1).unwrap(),
        init,
        containers: Containers::new(root.join("containers"), Spare::new(root.join("unsaved"))),
        execs: Execs::default(),
        build_cache: crate::build::Cache::new(images.clone()),
        images,
        roots: Roots::new(root),
        registries: Registries::new(root, &Default::default()),
        config: Default::default(),
        networks: Networks::open(networks).unwrap(),
        ready: crate::ready::Ready::default(),
        volumes: Volumes::open(root),
        events: Events::default(),
        activities: crate::picture::Activities::default(),
        groups: Arc::new(Groups::detect()),
        buildkit: std::sync::OnceLock::new(),
        wasm: None,
        root: root.to_owned(),
    };
    (Arc::new(engine), theirs)
}

/// Runs a test against an engine in a thread with network and mounts of its own, which the engine's threads inherit.
fn with_engine<F: Future<Output = ()>>(test: impl FnOnce(Client) -> F + Send + 'static) {
    let ran = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("these tests need root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        // No control groups of the machine are touched.
        mount(none, "/sys/fs/cgroup", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (engine, _init) = engine(dir.path());
            let socket = dir.path().join("docker.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            tokio::spawn(http::accept(listener, super::routes().with_state(engine)));
            test(Client(socket)).await;
        });
    });
    if let Err(panic) = ran.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn every_client_begins_with_a_ping() {
    with_engine(|client| async move {
        let answer = client.send("HEAD /_ping", "text/plain", b"").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, ""));
        for (name, value) in [
            ("Api-Version", "1.51"),
            ("Docker-Experimental", "false"),
            ("Ostype", "linux"),
            ("Server", "Docker/28.5.2 (linux)"),
            ("Swarm", "inactive"),
            ("Content-Length", "0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Cache-Control", "no-cache, no-store, must-revalidate"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        assert_eq!(client.get("/v1.24/_ping").await.text(), "OK");
    });
}

#[test]
fn versions_are_negotiated() {
    with_engine(|client| async move {
        let new = client.get("/v1.99/info").await;
        new.refused(400, "client version 1.99 is too new. Maximum supported API version is 1.51");
        assert_eq!(new.header("Api-Version"), Some("1.51"));
        let old = client.get("/v1.10/info").await;
        assert_eq!(old.status, 400);
        assert_eq!(
            old.text(),
            "client version 1.10 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"
        );
        client.get("/v1.99/nothing").await.refused(404, "page not found");
        client.get("/nothing").await.refused(404, "page not found");
        let limited = client.get("/containers/json?limit=foo").await;
        limited.refused(500, "strconv.Atoi: parsing \"foo\": invalid syntax");
        client.post("/version", Value::Null).await.refused(404, "page not found");
        assert_eq!(client.get("/v1.30/version").await.status, 200);
    });
}

#[test]
fn the_engine_tells_what_it_is() {
    with_engine(|client| async move {
        let version = client.get("/version").await.json();
        same_shape(&version, &golden("version.json"), &[], "version");
        assert_eq!((&version["Version"], &version["MinAPIVersion"]), (&json!("28.5.2"), &json!("1.24")));
        let info = client.get("/v1.51/info").await.json();
        // No containerd is there, warnings are this machine's, and the site has a registry.
        let but = ["Containerd", "Warnings", "KernelMemoryTCP", "registry:5000"];
        same_shape(&info, &golden("info.json"), &but, "info");
        assert_eq!((&info["Containers"], &info["Images"]), (&json!(0), &json!(0)));
        assert!(info["NCPU"].as_u64().unwrap() > 0 && info["MemTotal"].as_u64().unwrap() > 1 << 20);
        assert!(client.get("/v1.44/info").await.json()["RuncCommit"]["Expected"].is_string());
        let df = client.get("/system/df").await.json();
        same_shape(&df, &golden("system_df.json"), &["Images", "Volumes"], "df");
        client.get("/system/df?type=x").await.refused(400, "unknown object type: x");
        assert_eq!(client.get("/plugins").await.json(), json!([]));
        client.get("/plugins/a/b/json").await.refused(404, "plugin \"a/b\" not found");
        let no_manager = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
        for path in ["/services?status=true", "/nodes", "/nodes/x", "/swarm", "/secrets/x"] {
            client.get(path).await.refused(503, no_manager);
        }
    });
}

#[test]
fn volumes_live_and_die() {
    with_engine(|client| async move {
        let made = client.post("/volumes/create", json!({"Driver": "local", "Name": "v2"})).await;
        assert_eq!(made.status, 201);
        let inspected = client.get("/volumes/v2").await.json();
        assert_eq!(made.json(), inspected);
        same_shape(&inspected, &golden("volume_inspect.json"), &[], "volume");
        client.post("/volumes/create", json!({"Name": "other", "Labels": {"a": "b"}})).await;
        let anonymous = client.post("/volumes/create", json!({})).await.json();
        assert_eq!(anonymous["Name"].as_str().unwrap().len(), 64);
        assert_eq!(anonymous["Labels"], json!({"com.docker.volume.anonymous": ""}));
        let names = async |filters: &str| {
            let list = client.get(&format!("/volumes?filters={filters}")).await.json();
            assert_eq!(list["Warnings"], Value::Null);
            let names = list["Volumes"].as_array().unwrap().iter().map(|volume| volume["Name"].clone());
            names.filter(|name| *name != anonymous["Name"]).collect::<Vec<_>>()
        };
        assert_eq!(names("").await, ["other", "v2"]);
        assert_eq!(names("%7B%22label%22:%7B%22a=b%22:true%7D%7D").await, ["other"]);
        assert_eq!(names("%7B%22name%22:%5B%22v%22%5D%7D").await, ["v2"]);
        assert_eq!(names("%7B%22dangling%22:%5B%22false%22%5D%7D").await, Vec::<Value>::new());
        client
            .get("/volumes?filters=%7B%22foo%22:%5B%22x%22%5D%7D")
            .await
            .refused(400, "invalid filter 'foo'");
        client.get("/volumes/nosuch").await.refused(404, "get nosuch: no such volume");
        client.delete("/volumes/nosuch").await.refused(404, "get nosuch: no such volume");
        assert_eq!(client.delete("/volumes/nosuch?force=1").await.status, 204);
        assert_eq!(client.delete("/volumes/v2").await.status, 204);
        let pruned = client.post("/volumes/prune", Value::Null).await.json();
        assert_eq!(pruned, json!({"VolumesDeleted": [anonymous["Name"]], "SpaceReclaimed": 0}));
        let all = client.post("/volumes/prune?filters=%7B%22all%22:%5B%22true%22%5D%7D", Value::Null).await;
        assert_eq!(all.json()["VolumesDeleted"], json!(["other"]));
        let wrong = client.send("POST /volumes/create", "text/plain", b"{}").await;
        wrong.refused(400, "unsupported Content-Type header (text/plain): must be 'application/json'");
    });
}

#[test]
fn events_stream_and_are_remembered() {
    with_engine(|client| async move {
        let head =
            "GET /events?filters=%7B%22type%22:%7B%22volume%22:true%7D%7D HTTP/1.1\r\nHost: docker\r\n\r\n";
        let mut stream = client.open(head, b"").await;
        let mut buffer = vec![0; 4096];
        // The head comes at once, while nothing happens.
        let read =
            tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200 OK\r\n"));
        client.post("/networks/create", json!({"Name": "n1"})).await;
        client.post("/volumes/create", json!({"Name": "v1"})).await;
        let read =
            tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
        let line = text.lines().nth(1).unwrap();
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&event["Type"], &event["Action"], &event["Actor"]["ID"]),
            (&json!("volume"), &json!("create"), &json!("v1"))
        );
        let past = client.get("/events?since=1&until=9999999999.5&filters=%7B%22event%22:%5B%22x%22%5D%7D");
        assert!(tokio::time::timeout(Duration::from_millis(200), past).await.is_err(), "it waits for more");
        let now = crate::clock::Timestamp::now().seconds() + 1;
        let past = client.get(&format!("/events?since=1&until={now}")).await.text();
        let actions: Vec<Value> =
            past.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["Type"].clone()).collect();
        assert_eq!(actions, ["network", "volume"]);
        let wrong = client.get("/events?since=5&until=4").await;
        wrong.refused(400, "`since` time (5) cannot be after `until` time (4)");
    });
}

#[test]
fn networks_are_listed_made_and_removed() {
    with_engine(|client| async move {
        let list = client.get("/networks").await.json();
        let named = |list: &Value, name: &str| {
            list.as_array().unwrap().iter().find(|network| network["Name"] == name).cloned().unwrap()
        };
        for name in ["none", "host", "bridge"] {
            same_shape(&named(&list, name), &named(&golden("networks.json"), name), &[], name);
        }
        let request = json!({
            "Driver": "bridge", "Scope": "", "IPAM": {"Driver": "default", "Options": {}, "Config": []}, "Name": "n1",
            "Options": {}, "Labels": {}, "ConfigFrom": null,
        });
        let made = client.post("/networks/create", request.clone()).await;
        assert_eq!((made.status, &made.json()["Warning"]), (201, &json!("")));
        let inspected = client.get("/networks/n1").await.json();
        assert_eq!(inspected["Id"], made.json()["Id"]);
        same_shape(&inspected, &named(&golden("networks.json"), "gnet"), &[], "n1");
        client.post("/networks/create", request).await.refused(409, "network with name n1 already exists");
        client.get("/networks/nosuch").await.refused(404, "network nosuch not found");
        client
            .delete("/networks/bridge")
            .await
            .refused(403, "bridge is a pre-defined network and cannot be removed");
        let custom = client.get("/networks?filters=%7B%22type%22:%5B%22custom%22%5D%7D").await.json();
        assert_eq!(custom.as_array().unwrap().len(), 1);
        let none = client.post("/networks/n1/connect", json!({"Container": "nosuch"})).await;
        none.refused(404, "No such container: nosuch");
        assert_eq!(client.delete("/networks/n1").await.status, 204);
        assert_eq!(
            client.post("/networks/prune", Value::Null).await.json(),
            json!({"NetworksDeleted": null})
        );
    });
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// A tar with one file, as `docker import` gets it.
fn tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    let mut header = header(5);
    tar.append_data(&mut header, "etc/motd", &b"hello"[..]).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn images_are_imported_shown_named_saved_and_removed() {
    with_engine(|client| async move {
        let path = "/images/create?fromSrc=-&repo=team%2Fapp&tag=1&changes=CMD+%5B%22sh%22%5D";
        let imported = client.send(&format!("POST {path}"), "text/plain", &tar()).await;
        assert_eq!(imported.status, 200, "{}", imported.text());
        let id = imported.json()["status"].as_str().unwrap().to_owned();
        let list = client.get("/v1.50/images/json").await.json();
        same_shape(&list, &golden("images.json"), &[], "images");
        assert_eq!((&list[0]["RepoTags"], &list[0]["Size"]), (&json!(["team/app:1"]), &json!(5)));
        let inspected = client.get("/images/team/app:1/json").await.json();
        same_shape(&inspected, &golden("image_inspect.json"), &[], "image");
        assert_eq!(inspected["Config"]["Cmd"], json!(["sh"]));
        let history = client.get("/images/team/app:1/history").await.json();
        same_shape(&history, &golden("image_history.json"), &["Tags"], "history");
        assert_eq!((&history[0]["Id"], &history[0]["Comment"]), (&json!(id), &json!("Imported from -")));

        assert_eq!(
            client.post("/images/team%2Fapp:1/tag?repo=registry:5000/a/b&tag=2", Value::Null).await.status,
            201
        );
        client.get("/images/nosuch/json").await.refused(404, "No such image: nosuch:latest");
        client
            .post("/images/nosuch/tag?repo=x", Value::Null)
            .await
            .refused(404, "No such image: nosuch:latest");
        let filtered = async |filters: &str| {
            client.get(&format!("/images/json?filters={filters}")).await.json().as_array().unwrap().len()
        };
        assert_eq!(filtered("%7B%22reference%22:%5B%22team/*%22%5D%7D").await, 1);
        assert_eq!(filtered("%7B%22reference%22:%5B%22x*%22%5D%7D").await, 0);
        assert_eq!(filtered("%7B%22dangling%22:%5B%22true%22%5D%7D").await, 0);

        let saved = client.get("/images/get?names=team/app:1").await;
        assert_eq!((saved.status, saved.header("Content-Type")), (200, Some("application/x-tar")));
        client.get("/images/get?names=nosuch").await.refused(404, "No such image: nosuch:latest");
        let removed = client.delete("/images/team/app:1").await.json();
        assert_eq!(removed, json!([{"Untagged": "team/app:1"}]));
        let removed = client.delete("/images/registry:5000/a/b:2").await.json();
        assert_eq!(removed[0], json!({"Untagged": "registry:5000/a/b:2"}));
        assert_eq!(removed[1], json!({"Deleted": id}));
        assert_eq!(client.get("/images/json").await.json(), json!([]));

        let loaded = client.send("POST /images/load?quiet=1", "application/x-tar", &saved.body).await;
        assert_eq!(loaded.text(), "{\"stream\":\"Loaded image: team/app:1\\n\"}\r\n");
        let pruned = client
            .post("/images/prune?filters=%7B%22dangling%22:%7B%22false%22:true%7D%7D", Value::Null)
            .await;
        assert_eq!(pruned.json()["ImagesDeleted"][1], json!({"Deleted": id}));
        let now = crate::clock::Timestamp::now().seconds() + 1;
        let filters = "%7B%22event%22:%5B%22save%22,%22load%22%5D%7D";
        let past = client.get(&format!("/events?since=1&until={now}&filters={filters}")).await.text();
        let events: Vec<Value> = past.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let actor = json!({"ID": id, "Attributes": {"name": id}});
        let told: Vec<_> = events.iter().map(|event| (&event["Action"], &event["Actor"])).collect();
        assert_eq!(told, [(&json!("save"), &actor), (&json!("load"), &actor)]);
        let half = client.send("POST /images/load", "application/x-tar", &saved.body[..700]).await;
        assert!(half.json()["errorDetail"]["message"].is_string(), "{}", half.text());
        assert_eq!(client.get("/images/json?all=1").await.json(), json!([]));
    });
}

#[test]
fn an_address_that_is_not_reached_is_told_as_go_tells_it() {
    with_engine(|client| async move {
        let answer = client.post("/images/create?fromSrc=http://127.0.0.1:1/x", Value::Null).await;
        // There is no network at all in here.
        let why = "Get \"http://127.0.0.1:1/x\": dial tcp 127.0.0.1:1: connect: network is unreachable";
        answer.refused(500, why);
    });
}

#[test]
fn the_catalogue_answers_for_its_registry() {
    with_engine(|client| async move {
        let host = drydock_images::Store::open(client.0.with_file_name("catalogue")).unwrap();
        let config = drydock_images::config::ImageConfig {
            os: "linux".into(),
            architecture: "amd64".into(),
            ..Default::default()
        };
        let content = tar();
        let layer = drydock_images::NewLayer::Tar(Box::new(&content[..]));
        host.add_image("docker.io/library/box:latest", config, vec![layer], &mut |_| {}).unwrap();
        let found = client.get("/distribution/box/json").await.json();
        let descriptor = &found["Descriptor"];
        assert_eq!(descriptor["mediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert!(descriptor["digest"].is_string() && descriptor["size"].as_u64() > Some(100), "{descriptor}");
        assert_eq!(found["Platforms"], json!([{"architecture": "amd64", "os": "linux"}]));
        let all = client.get("/images/search?term=box&limit=200").await;
        all.refused(400, "limit 200 is outside the range of [1, 100]");
    });
}

/// A build context with this Dockerfile and a file.
fn context(dockerfile: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    for (name, text) in [("Dockerfile", dockerfile), ("f.txt", "abc")] {
        let mut header = header(text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn images_are_built_of_what_needs_no_command() {
    with_engine(|client| async move {
        let file = "FROM scratch\nLABEL a=b\nENV X=1\nCMD [\"/x\"]\n";
        let build = async |query: &str, file: &str| {
            client.send(&format!("POST /build?{query}"), "application/x-tar", &context(file)).await
        };
        let built = build("t=b1&version=1&dockerfile=Dockerfile", file).await;
        let lines = built.text();
        assert_eq!(built.status, 200, "{lines}");
        assert!(lines.starts_with("{\"stream\":\"Step 1/4 : FROM scratch\\n\"}\r\n"), "{lines}");
        assert!(lines.ends_with("{\"stream\":\"Successfully tagged b1:latest\\n\"}\r\n"), "{lines}");
        let inspected = client.get("/images/b1/json").await.json();
        assert_eq!(inspected["Config"]["Labels"], json!({"a": "b"}));
        assert_eq!(inspected["Config"]["Cmd"], json!(["/x"]));
        let again = build("t=b2", file).await.text();
        assert_eq!(again.matches("Using cache").count(), 3, "{again}");
        let quiet = build("t=b3&q=1", file).await.text();
        assert_eq!(quiet, format!("{{\"stream\":\"{}\\n\"}}\r\n", inspected["Id"].as_str().unwrap()));
        let wrong = build("", "FROM scratch\nNONSENSE x\n").await;
        wrong.refused(400, "dockerfile parse error on line 2: unknown instruction: NONSENSE");
        build("t=A", file)
            .await
            .refused(400, "invalid reference format: repository name (library/A) must be lowercase");
        let missing = build("dockerfile=Other", file).await;
        missing.refused(500, "Cannot locate specified Dockerfile: Other");
    });
}

/// A client that still sends when the answer is known must be able to send the rest, or it never hears the answer.
#[test]
fn what_is_refused_early_is_still_heard() {
    with_engine(|client| async move {
        let large = vec![0_u8; 4 << 20];
        for line in [
            "PUT /containers/nope/archive?path=/",
            "POST /images/create?fromSrc=-&platform=foo",
            "POST /build?t=A",
        ] {
            let answer = client.send(line, "application/x-tar", &large).await;
            assert!(answer.status >= 400, "{line}");
        }
    });
}

/// As people and scripts see them: fields in dockerd's order.
#[test]
fn answers_keep_the_order_of_dockerds_fields() {
    with_engine(|client| async move {
        let volume = client.post("/volumes/create", json!({ "Name": "vol" })).await.text();
        assert!(volume.starts_with(r#"{"CreatedAt":"#), "{volume}");
        let info = client.get("/info").await.text();
        assert!(
            info.starts_with(r#"{"ID":""#) && info.contains(r#"","Containers":0,"ContainersRunning":0,"#),
            "{info}"
        );
        let network = client.get("/networks/bridge").await.text();
        assert!(network.starts_with(r#"{"Name":"bridge","Id":"#), "{network}");
        let version = client.get("/version").await.text();
        assert!(
            version.starts_with(r#"{"Platform":{"Name":"Drydock"},"Components":[{"Name":"Engine","#),
            "{version}"
        );
    });
}

#[test]
fn no_connection_stalls_another() {
    with_engine(|client| async move {
        let mut stalled = vec![];
        for _ in 0..50 {
            stalled.push(client.open("POST /volumes/create HTTP/1.1\r\nContent-Le", b"").await);
            let head = "POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n";
            stalled.push(client.open(head, b"{").await);
        }
        let answer = tokio::time::timeout(Duration::from_secs(5), client.get("/_ping")).await;
        assert_eq!(answer.expect("nobody waits").text(), "OK");
        drop(stalled);
    });
}
