//! The contract's types from JSON. `serde` could do it, but its code for these types was a sixth of the page's program:
//! it is compiled once for each type and again for each way to a type. Here one JSON tree is read and the types are
//! taken out of it. A field that the contract gains or loses does not compile here, and the tests below compare with what
//! `serde` reads.

use drydock_protocol::{
    NodeName, SessionId, TerminalId,
    api::{
        ApiError, Created, Host, Link, Listing, NodeAddress, Playground, PortLink, Queued, Session,
        SessionLimits, Status,
    },
    control::ToPage,
    docker::{Activity, Container, Docker, Image},
    frame::Size,
    pipe::{Entry, EntryKind, Step},
    state::{Node, Port, Power, Role, SessionState, Terminal, Usage, Viewer},
};
use serde_json::Value;

/// What can be taken out of JSON.
pub trait Read: Sized {
    /// `None` if the JSON holds something else.
    fn read(value: &Value) -> Option<Self>;

    /// What an object's field that is missing stands for; `None` if it may not be missing.
    fn missing() -> Option<Self> {
        None
    }
}

/// Reads a text.
pub fn from_text<T: Read>(text: &str) -> Option<T> {
    T::read(&tree(text)?)
}

/// The JSON tree of a text: the one place that parses.
fn tree(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// A field of an object.
pub fn field<T: Read>(object: &Value, name: &str) -> Option<T> {
    match object.get(name) {
        Some(value) => T::read(value),
        None => T::missing(),
    }
}

// === Plain values

impl Read for String {
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Read for bool {
    fn read(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Read for f64 {
    fn read(value: &Value) -> Option<Self> {
        value.as_f64()
    }
}

impl Read for i64 {
    fn read(value: &Value) -> Option<Self> {
        value.as_i64()
    }
}

impl Read for u64 {
    fn read(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

macro_rules! smaller {
    ($($large:ty => $small:ty),*) => {$(
        impl Read for $small {
            fn read(value: &Value) -> Option<Self> {
                <$large>::read(value)?.try_into().ok()
            }
        }
    )*};
}
smaller!(u64 => u8, u64 => u16, u64 => u32, i64 => i32, String => NodeName, String => SessionId);

impl<T: Read> Read for Option<T> {
    fn read(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::read(value).map(Some) }
    }

    fn missing() -> Option<Self> {
        Some(None)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(T::read).collect()
    }
}

impl Read for TerminalId {
    fn read(value: &Value) -> Option<Self> {
        u32::read(value).map(TerminalId)
    }
}

// === The contract

macro_rules! objects {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl Read for $name {
            fn read(value: &Value) -> Option<Self> {
                Some(Self { $($field: field(value, stringify!($field))?),* })
            }
        }
    )*};
}
pub(crate) use objects;

objects! {
    ApiError { code, message }
    Activity { title, detail, done, total }
    Container { id, name, image, state, health, exit_code, ports }
    Created { id, url, token, nodes, ready_ms, expires_at }
    Docker { containers, container_count, images, image_count, activities }
    Entry { name, kind, size, mode, modified_micros, target }
    Host { version, running, capacity, queued, default_ttl_seconds, max_ttl_seconds }
    Image { id, names, size }
    Link { id, role, expires_at, revoked, yours, url, qr_svg }
    Listing { path, entries, cut }
    Node { name, address, power, usage, ports, docker }
    NodeAddress { name, address }
    Playground { name, title, description, nodes, max_nodes }
    Port { port, loopback_only }
    PortLink { url }
    Queued { ticket, place, estimate_seconds }
    Session { id, playground, status, ended_because, role, created_at, expires_at, can_extend, max_nodes, limits, state, trace }
    SessionLimits { cpu_millis, memory, disk, processes }
    SessionState { nodes, terminals, viewers }
    Size { cols, rows }
    Step { name, start_micros, micros }
    Terminal { id, node, title, size, exited }
    Usage { cpu_millis, memory, processes }
    Viewer { id, role, focus }
}

macro_rules! names {
    ($($kind:ident { $($name:literal => $variant:ident),* })*) => {$(
        impl Read for $kind {
            fn read(value: &Value) -> Option<Self> {
                match value.as_str()? {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}
pub(crate) use names;

names! {
    EntryKind { "file" => File, "directory" => Directory, "link" => Link, "other" => Other }
    Power { "starting" => Starting, "on" => On, "off" => Off }
    Role { "view" => View, "type" => Type, "own" => Own }
    Status { "starting" => Starting, "running" => Running, "asleep" => Asleep, "ended" => Ended }
}

impl Read for ToPage {
    fn read(v: &Value) -> Option<Self> {
        Some(match v.get("type")?.as_str()? {
            "hello" => Self::Hello {
                you: field(v, "you")?,
                role: field(v, "role")?,
                input_seq: field(v, "input_seq")?,
            },
            "state" => Self::State { state: field(v, "state")? },
            "opened" => Self::Opened { request: field(v, "request")?, terminal: field(v, "terminal")? },
            "answers" => Self::Answers { terminal: field(v, "terminal")?, yes: field(v, "yes")? },
            "notice" => Self::Notice { text: field(v, "text")?, request: field(v, "request")? },
            "busy" => Self::Busy { terminal: field(v, "terminal")?, program: field(v, "program")? },
            "pong" => Self::Pong { t: field(v, "t")? },
            "life" => Self::Life {
                seconds_left: field(v, "seconds_left")?,
                can_extend: field(v, "can_extend")?,
                asleep: field(v, "asleep")?,
            },
            _ => Self::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Serialize, de::DeserializeOwned};
    use std::fmt::Debug;

    /// A message that is new does not compile here: it wants a line above, and one below.
    const fn _is_read(message: &ToPage) {
        match message {
            ToPage::Hello { .. }
            | ToPage::State { .. }
            | ToPage::Opened { .. }
            | ToPage::Answers { .. }
            | ToPage::Notice { .. }
            | ToPage::Busy { .. }
            | ToPage::Pong { .. }
            | ToPage::Life { .. }
            | ToPage::Unknown => {}
        }
    }

    /// What is read here is what `serde` reads, and what was written.
    fn same<T: Read + Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(from_text::<T>(&text), serde_json::from_str(&text).ok(), "{text}");
        assert_eq!(from_text::<T>(&text), Some(value), "{text}");
    }

    fn state() -> SessionState {
        let name = NodeName::new(1).unwrap();
        let usage = Some(Usage { cpu_millis: 7, memory: 1 << 40, processes: 3 });
        let ports = vec![Port { port: 80, loopback_only: true }];
        let docker = Docker {
            containers: vec![Container {
                id: "0123456789ab".into(),
                name: "web".into(),
                image: "nginx".into(),
                state: "running".into(),
                health: Some("healthy".into()),
                exit_code: None,
                ports: vec![80, 8080],
            }],
            container_count: 1,
            images: vec![Image { id: "ba9876543210".into(), names: vec!["nginx:latest".into()], size: 5 }],
            image_count: 2,
            activities: vec![Activity {
                title: "pull nginx".into(),
                detail: "layer 1 of 2".into(),
                done: Some(1),
                total: None,
            }],
        };
        let node = |power, usage| Node {
            name,
            address: "192.168.0.11".into(),
            power,
            usage,
            ports: ports.clone(),
            docker: (power == Power::On).then(|| docker.clone()),
        };
        let terminal = |exited| Terminal {
            id: TerminalId(4),
            node: name,
            title: "vim \"x\"".into(),
            size: Size { cols: 80, rows: 24 },
            exited,
        };
        let viewer = |role, focus| Viewer { id: 9, role, focus };
        SessionState {
            nodes: vec![node(Power::On, usage), node(Power::Off, None), node(Power::Starting, None)],
            terminals: vec![terminal(None), terminal(Some(-1))],
            viewers: vec![
                viewer(Role::View, None),
                viewer(Role::Type, Some(TerminalId(4))),
                viewer(Role::Own, None),
            ],
        }
    }

    #[test]
    fn messages_are_read_as_serde_reads_them() {
        same(ToPage::Hello { you: 1, role: Role::Own, input_seq: 7 });
        same(ToPage::State { state: state() });
        same(ToPage::Opened { request: 1, terminal: TerminalId(2) });
        same(ToPage::Answers { terminal: TerminalId(2), yes: true });
        same(ToPage::Notice { text: "no".into(), request: None });
        same(ToPage::Notice { text: "no".into(), request: Some(1) });
        same(ToPage::Busy { terminal: TerminalId(2), program: "vim".into() });
        same(ToPage::Pong { t: 1.5 });
        same(ToPage::Life { seconds_left: 1, can_extend: 2, asleep: false });
        same(ToPage::Unknown);
    }

    #[test]
    fn bodies_are_read_as_serde_reads_them() {
        let id: SessionId = "abcdef0123".parse().unwrap();
        let address = NodeAddress { name: NodeName::new(2).unwrap(), address: "192.168.0.12".into() };
        same(ApiError { code: "x".into(), message: "é".into() });
        same(Host {
            version: "1".into(),
            running: 1,
            capacity: 2,
            queued: 3,
            default_ttl_seconds: 4,
            max_ttl_seconds: 5,
        });
        same(Queued { ticket: "t".into(), place: 1, estimate_seconds: 60 });
        same(PortLink { url: "http://x".into() });
        same(vec![Playground {
            name: "linux".into(),
            title: "Linux".into(),
            description: "…".into(),
            nodes: 1,
            max_nodes: 5,
        }]);
        let link = |url: Option<String>| Link {
            id: 3,
            role: Role::View,
            expires_at: 9,
            revoked: true,
            yours: false,
            qr_svg: url.clone(),
            url,
        };
        same(vec![link(None), link(Some("u".into()))]);
        same(Created {
            id: id.clone(),
            url: "u".into(),
            token: "t".into(),
            nodes: vec![address],
            ready_ms: 12.25,
            expires_at: 99,
        });
        let kinds = [EntryKind::File, EntryKind::Directory, EntryKind::Link, EntryKind::Other];
        let entries = kinds.map(|kind| Entry {
            name: "n".into(),
            kind,
            size: 1,
            mode: 0o644,
            modified_micros: -5,
            target: (kind == EntryKind::Link).then_some(EntryKind::Directory),
        });
        same(Listing { path: "/".into(), entries: entries.to_vec(), cut: false });
        for status in [Status::Starting, Status::Running, Status::Asleep, Status::Ended] {
            let (because, state) =
                if status == Status::Ended { (Some("over".into()), None) } else { (None, Some(state())) };
            same(Session {
                id: id.clone(),
                playground: "linux".into(),
                status,
                ended_because: because,
                role: Role::Type,
                created_at: 1,
                expires_at: 2,
                can_extend: 3,
                max_nodes: 5,
                limits: SessionLimits { cpu_millis: 2000, memory: 1 << 30, disk: 1 << 31, processes: 1000 },
                state,
                trace: vec![Step { name: "clone".into(), start_micros: 1, micros: 2 }],
            });
        }
    }

    #[test]
    fn what_is_wrong_is_refused_as_serde_refuses_it() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"type":1}"#,
            r#"{"type":"opened","request":1}"#,
            r#"{"type":"pong","t":"x"}"#,
            r#"{"type":"opened","request":-1,"terminal":2}"#,
            r#"{"type":"hello","you":1,"role":"god","input_seq":1}"#,
            r#"{"type":"opened","request":4294967296,"terminal":2}"#,
        ] {
            assert_eq!(from_text::<ToPage>(text), None, "{text}");
            assert!(serde_json::from_str::<ToPage>(text).is_err(), "{text}");
        }
        assert_eq!(from_text::<ToPage>(r#"{"type":"dance","x":[1]}"#), Some(ToPage::Unknown));
        assert_eq!(from_text::<NodeAddress>(r#"{"name":"node0","address":"x"}"#), None);
    }
}
