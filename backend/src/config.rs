//! What the operator may set. One struct; flags, the environment (`DRYDOCK_…`) and a TOML file fill it, in this
//! order of precedence. `--help` is generated from it. Called by `main` and by tests; it never reads secrets.

use clap::{Args, CommandFactory, FromArgMatches, error::ErrorKind};
use drydock_protocol::api::Logins;
use drydock_runtime::{
    egress::{Egress, Rule},
    limits::Limits,
    spawner::{GATEWAY, PREFIX},
};
use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

/// Most times over that limits may add up to what the host has.
const MOST_OVERCOMMIT: f64 = 10_000.0;

/// Options of `drydock serve`. The same names, without the dashes, are keys of the file given by `--config`.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address and port that browsers connect to.
    #[arg(long, env = "DRYDOCK_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT", value_parser = parse_listen)]
    pub listen: SocketAddr,

    /// Read options from this TOML file. Flags and environment variables win over it.
    #[arg(long, env = "DRYDOCK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The address that people type, such as https://play.example.org. Needed behind a TLS proxy. Without it links
    /// begin with the host name that the browser asked for.
    #[arg(long, env = "DRYDOCK_PUBLIC_URL", value_name = "URL", value_parser = parse_public_url)]
    pub public_url: Option<String>,

    /// Domain whose subdomains all lead here (wildcard DNS). Ports of nodes then get an origin of their own.
    /// Without it that is so on localhost only; elsewhere ports are opened below /p/.
    #[arg(long, env = "DRYDOCK_WILDCARD_DOMAIN", value_name = "DOMAIN", value_parser = parse_domain)]
    pub wildcard_domain: Option<String>,

    /// A proxy in front of this server sets X-Forwarded-For: take the client's address from its last entry.
    #[arg(long, env = "DRYDOCK_BEHIND_PROXY", num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    pub behind_proxy: bool,

    /// Life of a session whose maker does not say (such as 90m or 2h).
    #[arg(long, env = "DRYDOCK_DEFAULT_TTL", default_value = "2h")]
    pub default_ttl: Span,

    /// Longest life of a session, extensions included.
    #[arg(long, env = "DRYDOCK_MAX_TTL", default_value = "8h")]
    pub max_ttl: Span,

    /// Freeze a session that nobody has open and nobody used for so long; the next visitor wakes it. 0: never.
    #[arg(long, env = "DRYDOCK_SLEEP_AFTER", default_value = "10m")]
    pub sleep_after: Span,

    /// End a session that nobody used for so long. 0: never before its time.
    #[arg(long, env = "DRYDOCK_END_IDLE_AFTER", default_value = "0")]
    pub end_idle_after: Span,

    /// Sessions at once. Without it: computed from memory, CPUs and the limits below.
    #[arg(long, env = "DRYDOCK_MAX_SESSIONS", value_name = "N")]
    pub max_sessions: Option<u32>,

    /// Keep one session ready, without nodes, for whoever comes next: it starts sooner, and holds some megabytes of memory.
    #[arg(long, env = "DRYDOCK_KEEP_READY", num_args = 0..=1, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    pub keep_ready: bool,

    /// How many times over the sessions' memory limits may add up to the host's memory (most sessions use little).
    #[arg(long, env = "DRYDOCK_MEMORY_OVERCOMMIT", default_value = "2")]
    pub memory_overcommit: f64,

    /// How many times over the sessions' CPU limits may add up to the host's CPUs.
    #[arg(long, env = "DRYDOCK_CPU_OVERCOMMIT", default_value = "40")]
    pub cpu_overcommit: f64,

    /// Memory kept for the host itself.
    #[arg(long, env = "DRYDOCK_RESERVED_MEMORY", default_value = "1GiB")]
    pub reserved_memory: Bytes,

    /// CPU time of a session, in thousandths of one CPU.
    #[arg(long, env = "DRYDOCK_SESSION_CPU", default_value = "2000", value_name = "MILLIS")]
    pub session_cpu: u32,

    /// Memory of a session, all nodes together.
    #[arg(long, env = "DRYDOCK_SESSION_MEMORY", default_value = "1GiB")]
    pub session_memory: Bytes,

    /// Processes and threads of a session.
    #[arg(long, env = "DRYDOCK_SESSION_PIDS", default_value = "1000", value_name = "N")]
    pub session_pids: u32,

    /// Disk space of a session, all nodes together.
    #[arg(long, env = "DRYDOCK_SESSION_DISK", default_value = "2GiB")]
    pub session_disk: Bytes,

    /// Open files of one process in a session.
    #[arg(long, env = "DRYDOCK_SESSION_OPEN_FILES", default_value = "16384", value_name = "N")]
    pub session_open_files: u64,

    /// inotify watches of a session.
    #[arg(long, env = "DRYDOCK_SESSION_INOTIFY_WATCHES", default_value = "16384", value_name = "N")]
    pub session_inotify_watches: u32,

    /// Nodes of a session.
    #[arg(long, env = "DRYDOCK_SESSION_NODES", default_value = "5", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=Limits::MAX_NODES as i64))]
    pub session_nodes: u8,

    /// Newcomers who may wait when the host is full.
    #[arg(long, env = "DRYDOCK_QUEUE_LENGTH", default_value = "200", value_name = "N")]
    pub queue_length: u32,

    /// Sessions (and places in the queue) of one client address. A classroom behind one address needs more.
    #[arg(long, env = "DRYDOCK_SESSIONS_PER_CLIENT", default_value = "20", value_name = "N")]
    pub sessions_per_client: u32,

    /// Pages, commands and port connections of one session at once.
    #[arg(long, env = "DRYDOCK_CONNECTIONS_PER_SESSION", default_value = "200", value_name = "N")]
    pub connections_per_session: u32,

    /// Connections to this server at once.
    #[arg(long, env = "DRYDOCK_MAX_CONNECTIONS", default_value = "10000", value_name = "N")]
    pub max_connections: u32,

    /// What sessions may reach outside: `NETWORK [PROTOCOL [PORT[-PORT]]]`, such as `any tcp 443` or `198.51.100.0/24`; repeat it,
    /// or separate rules by `;`. Without rules there is no route out. Private, link-local and this host's own networks stay closed.
    #[arg(long, env = "DRYDOCK_EGRESS", value_delimiter = ';', value_name = "RULE")]
    pub egress: Vec<Rule>,

    /// Name servers outside that nodes may ask when there are egress rules, in private networks too, but not on this host.
    #[arg(long, env = "DRYDOCK_RESOLVERS", value_delimiter = ',', value_parser = resolver, value_name = "ADDRESS")]
    pub resolvers: Vec<Ipv4Addr>,

    /// Space in the site's image registry (`registry:5000` from a node) for the images of one session, those that it shares among
    /// them, and for what ended sessions have left there for others.
    #[arg(long, env = "DRYDOCK_REGISTRY_BYTES", default_value = "2GiB", value_name = "BYTES")]
    pub registry_bytes: Bytes,

    /// Who may log in at the site's image registry: `open` (the first login of a name makes the account), `list` (the accounts of
    /// --registry-accounts and those of the session's own rules) or `closed`. `drydock registry` sets it for single sessions.
    #[arg(long, env = "DRYDOCK_REGISTRY_LOGINS", default_value = "open", value_name = "RULE", value_parser = parse_logins)]
    pub registry_logins: Logins,

    /// Accounts that every session has at the site's image registry: lines NAME:HASH, as `htpasswd -nB NAME` makes them.
    #[arg(long, env = "DRYDOCK_REGISTRY_ACCOUNTS", value_name = "FILE", value_parser = read_accounts)]
    pub registry_accounts: Option<Accounts>,

    /// Where sessions have a way out: registries whose images are fetched once for all sessions and kept on this host.
    #[arg(
        long,
        env = "DRYDOCK_REGISTRY_CACHE",
        value_delimiter = ',',
        default_value = "docker.io,ghcr.io,quay.io,registry.k8s.io,mcr.microsoft.com,public.ecr.aws,gcr.io",
        value_name = "REGISTRY"
    )]
    pub registry_cache: Vec<String>,

    /// Space for those images; what was not used for the longest goes first. 0: every session fetches for itself.
    #[arg(long, env = "DRYDOCK_REGISTRY_CACHE_BYTES", default_value = "10GiB", value_name = "BYTES")]
    pub registry_cache_bytes: Bytes,

    /// Largest file that may be uploaded into a node.
    #[arg(long, env = "DRYDOCK_MAX_UPLOAD", default_value = "1GiB")]
    pub max_upload: Bytes,
}

/// Accounts from a file, read while the server is still root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts(pub String);

impl Config {
    /// Whether a server can work with this; the error names the option.
    pub fn check(&self) -> Result<(), String> {
        if let Err(e) = self.limits().check() {
            let option = match e.name {
                "cpu_millis" => "session-cpu",
                "memory" => "session-memory",
                "pids" => "session-pids",
                "disk" => "session-disk",
                "open_files" => "session-open-files",
                "inotify_watches" => "session-inotify-watches",
                name => name,
            };
            return Err(format!("--{option} is {}; it must be {} to {}", e.value, e.least, e.most));
        }
        let not_zero = [
            ("default-ttl", self.default_ttl.seconds()),
            ("max-ttl", self.max_ttl.seconds()),
            ("max-sessions", self.max_sessions.map_or(1, u64::from)),
            ("sessions-per-client", self.sessions_per_client.into()),
            ("connections-per-session", self.connections_per_session.into()),
            ("max-connections", self.max_connections.into()),
        ];
        if let Some((option, _)) = not_zero.into_iter().find(|(_, value)| *value == 0) {
            return Err(format!("--{option} must not be 0"));
        }
        for (option, times) in
            [("memory-overcommit", self.memory_overcommit), ("cpu-overcommit", self.cpu_overcommit)]
        {
            if !(times > 0.0 && times <= MOST_OVERCOMMIT) {
                return Err(format!(
                    "--{option} is {times}; it must be more than 0 and at most {MOST_OVERCOMMIT}"
                ));
            }
        }
        Ok(())
    }

    /// What every session may reach outside.
    pub fn egress(&self) -> Egress {
        Egress { allow: self.egress.clone(), resolvers: self.resolvers.clone() }
    }

    /// What every session may use.
    pub fn limits(&self) -> Limits {
        Limits {
            cpu_millis: self.session_cpu,
            memory: self.session_memory.0,
            pids: self.session_pids,
            disk: self.session_disk.0,
            open_files: self.session_open_files,
            inotify_watches: self.session_inotify_watches,
            nodes: self.session_nodes,
            ..Limits::default()
        }
    }

    /// Sessions that fit: the operator's number, else what memory and CPUs allow, at least one.
    pub fn capacity(&self, host_memory: u64, host_cpus: usize) -> u32 {
        if let Some(n) = self.max_sessions {
            return n;
        }
        let memory = host_memory.saturating_sub(self.reserved_memory.0) as f64 * self.memory_overcommit;
        let by_memory = memory / self.session_memory.0.max(1) as f64;
        let by_cpu = host_cpus as f64 * 1000.0 * self.cpu_overcommit / f64::from(self.session_cpu.max(1));
        (by_memory.min(by_cpu).floor() as u32).max(1)
    }

    /// Builds a command's arguments in two passes: the values in the file named by `--config` become the defaults.
    /// `command` is the whole command line; `path` names the subcommand that holds this struct.
    pub fn parse_with_file<T: CommandFactory + FromArgMatches>(
        path: &str,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<T, clap::Error> {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut command = T::command();
        let first = command.clone().try_get_matches_from(&args)?;
        let file = first.subcommand_matches(path).and_then(|m| m.get_one::<PathBuf>("config").cloned());
        let Some(file) = file else { return T::from_arg_matches(&first) };
        let table = read_table(&file).map_err(|e| command.error(ErrorKind::Io, e))?;
        let known: Vec<String> = command
            .find_subcommand(path)
            .map(|c| c.get_arguments().map(|a| a.get_id().to_string()).collect())
            .unwrap_or_default();
        for (key, value) in table {
            let id = key.replace('-', "_");
            if id == "config" || !known.contains(&id) {
                let message =
                    format!("{}: there is no option '{key}'; see drydock {path} --help", file.display());
                return Err(command.error(ErrorKind::UnknownArgument, message));
            }
            let texts: Option<Vec<String>> = match value {
                toml::Value::Array(values) => values.into_iter().map(scalar).collect(),
                value => scalar(value).map(|text| vec![text]),
            };
            let Some(texts) = texts else {
                let message = format!(
                    "{}: '{key}' must be a string, number or true/false, or a list of them",
                    file.display()
                );
                return Err(command.error(ErrorKind::InvalidValue, message));
            };
            command = command.mut_subcommand(path, |c| c.mut_arg(&id, |a| a.default_values(texts)));
        }
        T::from_arg_matches(&command.try_get_matches_from(&args)?)
    }
}

fn scalar(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(s) => Some(s),
        toml::Value::Integer(n) => Some(n.to_string()),
        toml::Value::Float(n) => Some(n.to_string()),
        toml::Value::Boolean(b) => Some(b.to_string()),
        _ => None,
    }
}

fn read_table(file: &std::path::Path) -> Result<toml::Table, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    text.parse().map_err(|e| format!("{}: {e}", file.display()))
}

/// An address, or a name of this host.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let form = "it has the form 127.0.0.1:8080, [::1]:8080 or localhost:8080";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) {
        return Err(form.into());
    }
    let mut found =
        text.to_socket_addrs().map_err(|e| format!("{form}; this name cannot be resolved: {e}"))?;
    found.next().ok_or_else(|| "this name has no address".into())
}

/// What `htpasswd -B` writes. Other files have lines with colons, too.
fn read_accounts(text: &str) -> Result<Accounts, String> {
    let file = std::fs::read_to_string(text).map_err(|e| format!("the file cannot be read: {e}"))?;
    let lines = file.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'));
    for (n, line) in lines {
        let bcrypt = ["$2y$", "$2b$", "$2a$"];
        let good = line
            .split_once(':')
            .is_some_and(|(name, hash)| !name.is_empty() && bcrypt.iter().any(|b| hash.starts_with(b)));
        if !good {
            return Err(format!(
                "line {} is not NAME:HASH with a hash as `htpasswd -nB NAME` makes it",
                n + 1
            ));
        }
    }
    Ok(Accounts(file))
}

fn parse_public_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(h) if !h.is_empty() && !h.contains(['/', '?', '#', '@', ' ']) => Ok(text.to_owned()),
        _ => Err("it has the form https://play.example.org, without a path".into()),
    }
}

/// A name server that a node can reach: not the node itself, nor the network of its session.
fn resolver(text: &str) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text.parse().map_err(|_| "it is not an IPv4 address")?;
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err("no node can reach a name server of this host; name the one that this host asks".into());
    }
    let network = |address: Ipv4Addr| address.to_bits() >> (32 - PREFIX);
    if network(address) == network(GATEWAY) {
        return Err(format!(
            "it is in the nodes' own network ({GATEWAY}/{PREFIX}) in every session; name another"
        ));
    }
    Ok(address)
}

/// As the option and the command line have it.
pub fn parse_logins(text: &str) -> Result<Logins, String> {
    match text {
        "open" => Ok(Logins::Open),
        "list" => Ok(Logins::List),
        "closed" => Ok(Logins::Closed),
        _ => Err("it is open, list or closed".into()),
    }
}

fn parse_domain(text: &str) -> Result<String, String> {
    let text = text.trim_start_matches("*.").to_ascii_lowercase();
    let label =
        |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if text.split('.').all(label) { Ok(text) } else { Err("it has the form play.example.org".into()) }
}

/// A length of time, written as `90`, `90s`, `15m`, `2h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Whole seconds.
    pub fn seconds(self) -> u64 {
        self.0.as_secs()
    }
    /// The duration, unless it is zero, which means "never".
    pub fn unless_never(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let factor = match unit {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err("a length of time is a number with s, m, h or d, such as 90m or 2h".into()),
        };
        let n: u64 = number
            .parse()
            .map_err(|_| "a length of time begins with a whole number, such as 2h".to_owned())?;
        // A hundred years is longer than any session; the bound keeps later sums of times from overflowing.
        match n.checked_mul(factor) {
            Some(s) if s <= 100 * 366 * 86_400 => Ok(Self(Duration::from_secs(s))),
            _ => Err("that is more than a hundred years".into()),
        }
    }
}

/// A number of bytes, written as `1048576`, `512MiB`, `2GiB` or `500MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "ki" | "kib" => 1 << 10,
            "m" | "mi" | "mib" => 1 << 20,
            "g" | "gi" | "gib" => 1 << 30,
            "t" | "ti" | "tib" => 1 << 40,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err("a size is a number with KiB, MiB, GiB or TiB, such as 512MiB".into()),
        };
        let n: u64 =
            number.parse().map_err(|_| "a size begins with a whole number, such as 512MiB".to_owned())?;
        n.checked_mul(factor).map(Self).ok_or_else(|| "that is too large".into())
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Parser, Subcommand};

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Sub,
    }
    #[derive(Subcommand)]
    enum Sub {
        Serve(Box<Config>),
    }

    fn parse(args: &[&str]) -> Result<Config, clap::Error> {
        let args = ["drydock", "serve"].iter().chain(args).map(OsString::from);
        Config::parse_with_file::<Line>("serve", args).map(|Line { command: Sub::Serve(c) }| *c)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "default-ttl = \"30m\"\nmax_sessions = 7\nbehind-proxy = true\nresolvers = [\"192.0.2.1\", \"192.0.2.2\"]\n")
            .unwrap();
        let path = file.path().to_str().unwrap();
        let config = parse(&["--config", path, "--default-ttl", "1h"]).unwrap();
        assert_eq!(config.default_ttl.seconds(), 3600);
        assert_eq!(config.max_sessions, Some(7));
        assert!(config.behind_proxy);
        assert_eq!(config.resolvers.len(), 2);
        assert_eq!(config.max_ttl.seconds(), 8 * 3600);
    }

    #[test]
    fn an_unknown_key_in_the_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "tll = 3\n").unwrap();
        let error = parse(&["--config", file.path().to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("no option 'tll'"), "{error}");
    }

    #[test]
    fn a_name_server_that_no_node_can_reach_is_refused() {
        for bad in ["127.0.0.53", "0.0.0.0", "192.168.0.1", "dns.example"] {
            assert!(parse(&["--resolvers", bad]).is_err(), "{bad}");
        }
        assert_eq!(parse(&["--resolvers", "10.0.0.2,192.168.1.1"]).unwrap().resolvers.len(), 2);
    }

    #[test]
    fn what_no_session_can_have_is_refused_at_the_start() {
        assert_eq!(parse(&[]).unwrap().check(), Ok(()));
        for (option, values) in [
            ("--session-disk", &["1KiB", "100TiB"][..]),
            ("--session-open-files", &["99999999999", "0"]),
            ("--session-memory", &["0", "1MiB"]),
            ("--session-pids", &["0", "3"]),
            ("--session-cpu", &["0"]),
            ("--session-inotify-watches", &["0"]),
            ("--memory-overcommit", &["0", "nan", "inf", "-1"]),
            ("--cpu-overcommit", &["0", "nan"]),
            ("--max-sessions", &["0"]),
            ("--default-ttl", &["0"]),
            ("--max-ttl", &["0"]),
            ("--max-connections", &["0"]),
            ("--sessions-per-client", &["0"]),
            ("--connections-per-session", &["0"]),
        ] {
            for value in values {
                let config = parse(&[&format!("{option}={value}")]).unwrap();
                let error = config.check().expect_err(option);
                assert!(error.starts_with(option), "{error}");
            }
        }
        assert!(parse(&["--session-nodes", "51"]).is_err());
    }

    #[test]
    fn names_of_this_host_can_be_listened_at() {
        let listen = |text| parse(&["--listen", text]).map(|c| c.listen);
        assert_eq!(listen("[::1]:80").unwrap(), "[::1]:80".parse().unwrap());
        let found = listen("localhost:9114").unwrap();
        assert!(found.ip().is_loopback() && found.port() == 9114);
        for bad in ["localhost", "8080", ":8080", "localhost:http", "no.such.name.invalid:80"] {
            assert!(listen(bad).unwrap_err().to_string().contains("form"), "{bad}");
        }
    }

    #[test]
    fn only_a_file_of_accounts_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("accounts");
        let read = || parse(&["--registry-accounts", file.to_str().unwrap()]);
        assert!(read().unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(&file, "# ours\nann:$2y$05$abc\n\n").unwrap();
        assert!(read().unwrap().registry_accounts.unwrap().0.contains("ann:"));
        std::fs::write(&file, "ann:$2y$05$abc\nroot:x:0:0:root:/root:/bin/bash\n").unwrap();
        assert!(read().unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn capacity_is_the_scarcer_of_memory_and_cpu() {
        let config = parse(&["--memory-overcommit", "1", "--cpu-overcommit", "10"]).unwrap();
        assert_eq!(config.capacity(9 << 30, 64), 8);
        assert_eq!(config.capacity(900 << 30, 2), 10);
        assert_eq!(config.capacity(0, 1), 1);
        assert_eq!(parse(&["--max-sessions", "3"]).unwrap().capacity(900 << 30, 64), 3);
    }

    #[test]
    fn lengths_and_sizes_have_units() {
        assert_eq!("90m".parse::<Span>().unwrap().seconds(), 5400);
        assert_eq!("45".parse::<Span>().unwrap().seconds(), 45);
        assert_eq!("2 GiB".parse::<Bytes>().unwrap().0, 2 << 30);
        for bad in ["", "h", "-1h", "2y", "99999999999999999999s", "9999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        for bad in ["", "GiB", "1.5GiB", "99999999TiB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }
}
