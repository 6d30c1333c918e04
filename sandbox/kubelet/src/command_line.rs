//! The kubelet's command line: what its unit's drop-in and the files that this names make of it (systemd.service(5), systemd.exec(5)), and
//! the flags (`cmd/kubelet/app/options`). Those that stand for a field of the configuration override it; other flags of upstream's change
//! nothing here.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What the unit runs.
const PROGRAM: &str = "/usr/bin/kubelet";

/// Flags, the fields of `KubeletConfiguration` that they override (as JSON pointers), and what their values are.
const FIELDS: [(&str, &str, Kind); 8] = [
    ("client-ca-file", "/authentication/x509/clientCAFile", Kind::Text),
    ("cluster-dns", "/clusterDNS", Kind::List),
    ("cluster-domain", "/clusterDomain", Kind::Text),
    ("container-runtime-endpoint", "/containerRuntimeEndpoint", Kind::Text),
    ("max-pods", "/maxPods", Kind::Number),
    ("pod-manifest-path", "/staticPodPath", Kind::Text),
    ("v", "/logging/verbosity", Kind::Number),
    ("healthz-port", "/healthzPort", Kind::Number),
];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    List,
    Number,
}

/// Flags of upstream's without meaning here.
const OTHERS: &str = "address allowed-unsafe-sysctls anonymous-auth authentication-token-webhook \
     authentication-token-webhook-cache-ttl authorization-mode authorization-webhook-cache-authorized-ttl \
     authorization-webhook-cache-unauthorized-ttl cert-dir cgroup-driver cgroup-root cgroups-per-qos \
     cloud-config cloud-provider config-dir container-log-max-files container-log-max-size contention-profiling cpu-cfs-quota \
     cpu-cfs-quota-period cpu-manager-policy cpu-manager-policy-options cpu-manager-reconcile-period \
     enable-controller-attach-detach enable-debugging-handlers enable-server enforce-node-allocatable event-burst event-qps \
     eviction-hard eviction-max-pod-grace-period eviction-minimum-reclaim eviction-pressure-transition-period eviction-soft \
     eviction-soft-grace-period exit-on-lock-contention experimental-allocatable-ignore-eviction experimental-mounter-path \
     fail-cgroupv1 fail-swap-on feature-gates file-check-frequency hairpin-mode healthz-bind-address hostname-override \
     http-check-frequency image-credential-provider-bin-dir image-credential-provider-config image-gc-high-threshold \
     image-gc-low-threshold image-service-endpoint kernel-memcg-notification kube-api-burst kube-api-content-type kube-api-qps \
     kube-reserved kube-reserved-cgroup kubelet-cgroups local-storage-capacity-isolation lock-file log-flush-frequency \
     log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size log-text-split-stream logging-format \
     make-iptables-util-chains manifest-url manifest-url-header max-open-files maximum-dead-containers \
     maximum-dead-containers-per-container memory-manager-policy minimum-container-ttl-duration minimum-image-ttl-duration node-ip \
     node-labels node-status-max-images node-status-update-frequency oom-score-adj pod-cidr pod-infra-container-image \
     pod-max-pids pods-per-core port protect-kernel-defaults provider-id qos-reserved read-only-port register-node \
     register-schedulable register-with-taints registry-burst registry-qps reserved-cpus reserved-memory resolv-conf root-dir \
     rotate-certificates rotate-server-certificates runonce runtime-cgroups runtime-request-timeout seccomp-default \
     serialize-image-pulls streaming-connection-idle-timeout sync-frequency system-cgroups system-reserved system-reserved-cgroup \
     tls-cert-file tls-cipher-suites tls-min-version tls-private-key-file topology-manager-policy topology-manager-policy-options \
     topology-manager-scope vmodule volume-plugin-dir volume-stats-agg-period";

/// Largest file of settings.
const MAX_FILE: u64 = 1 << 20;

/// Reads a file of settings: a regular one (another may have no end, or wait for somebody) that is not too large.
pub fn read(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The kubelet can't be started so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// It runs something else.
    #[error("kubelet.service: Failed at step EXEC spawning {0}: No such file or directory")]
    Program(String),
    /// A flag that upstream does not have either, or without its value.
    #[error("failed to parse kubelet flag: {0}")]
    Flag(String),
}

/// A command line, read.
#[derive(Debug, Default, PartialEq)]
pub struct CommandLine {
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `--config`
    pub config: Option<PathBuf>,
    /// Fields of the configuration that flags override, as JSON pointers.
    pub fields: Vec<(&'static str, Value)>,
    /// Flags that change nothing.
    pub unused: Vec<String>,
}

impl CommandLine {
    /// Of the unit with this drop-in; without one there are no flags.
    ///
    /// # Errors
    /// If it runs another program, or a flag is none of the kubelet's.
    pub fn of_unit(drop_in: &Path) -> Result<Self, CommandLineError> {
        match read(drop_in) {
            Ok(text) => Self::parse(words(&text, |path| read(Path::new(path)).ok())?),
            Err(_) => Ok(Self::default()),
        }
    }

    fn parse(args: Vec<String>) -> Result<Self, CommandLineError> {
        let wrong = |why: String| CommandLineError::Flag(why);
        let mut line = Self::default();
        let mut args = args.into_iter().peekable();
        while let Some(arg) = args.next() {
            let Some(flag) =
                arg.strip_prefix("--").or_else(|| arg.strip_prefix('-').filter(|f| f.starts_with('v')))
            else {
                return Err(wrong(match arg.strip_prefix('-') {
                    Some(letters) => {
                        format!(
                            "unknown shorthand flag: {:?} in {arg}",
                            letters.chars().next().unwrap_or('-')
                        )
                    }
                    None => format!("unknown command {arg}"),
                }));
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.replace('_', "-"), Some(value.to_owned())),
                None => (flag.replace('_', "-"), args.next_if(|next| !next.starts_with('-'))),
            };
            let field = FIELDS.iter().find(|(known, ..)| *known == name);
            let needed = || value.clone().ok_or_else(|| wrong(format!("flag needs an argument: --{name}")));
            match (&*name, field) {
                ("config", _) => line.config = Some(needed()?.into()),
                ("kubeconfig", _) => line.kubeconfig = Some(needed()?.into()),
                // For a node that has no kubeconfig yet.
                ("bootstrap-kubeconfig", _) => {}
                (_, Some((_, pointer, kind))) => {
                    let value = kind.read(&needed()?).map_err(|why| {
                        wrong(format!(
                            "invalid argument {:?} for \"--{name}\" flag: {why}",
                            value.clone().unwrap_or_default()
                        ))
                    })?;
                    line.fields.push((pointer, value));
                }
                (other, None) if OTHERS.split_whitespace().any(|known| known == other) => {
                    line.unused.push(name)
                }
                _ => return Err(wrong(format!("unknown flag: --{name}"))),
            }
        }
        Ok(line)
    }

    /// How much is to be logged.
    pub fn verbosity(&self) -> u64 {
        let level = self.fields.iter().rev().find(|(pointer, _)| pointer.ends_with("/verbosity"));
        level.and_then(|(_, level)| level.as_u64()).unwrap_or(0)
    }
}

impl Kind {
    fn read(self, text: &str) -> Result<Value, String> {
        Ok(match self {
            Self::Text => text.into(),
            Self::List => text.split(',').filter(|item| !item.is_empty()).collect(),
            Self::Number => {
                let number: i64 = text
                    .parse()
                    .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))?;
                json!(number)
            }
        })
    }
}

/// The words behind the program's name. `read`: a file's text.
fn words(unit: &str, read: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, CommandLineError> {
    let mut variables: HashMap<String, String> = HashMap::new();
    let mut command = "";
    for line in unit.lines().map(str::trim) {
        let Some((name, value)) = line.split_once('=') else { continue };
        match name.trim_end() {
            "Environment" => variables.extend(variable(unquoted(value))),
            "EnvironmentFile" => {
                let text = read(value.trim().trim_start_matches('-')).unwrap_or_default();
                let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
                variables.extend(lines.filter_map(variable));
            }
            "ExecStart" if !value.trim().is_empty() => command = value,
            _ => {}
        }
    }
    let mut words = command.split_whitespace();
    match words.next() {
        Some(program) if program != PROGRAM => return Err(CommandLineError::Program(program.into())),
        _ => {}
    }
    let mut all = Vec::new();
    for word in words {
        match word.strip_prefix('$') {
            Some(name) => {
                let value = variables.get(name.trim_matches(['{', '}'])).map(String::as_str);
                all.extend(value.unwrap_or_default().split_whitespace().map(str::to_owned));
            }
            None => all.push(unquoted(word).into()),
        }
    }
    Ok(all)
}

/// `NAME=value`
fn variable(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim().into(), unquoted(value).into()))
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inner = |quote| text.strip_prefix(quote).and_then(|text: &str| text.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "# a note\n[Service]\nEnvironment=\"A=--kubeconfig=/k --bootstrap-kubeconfig=/b\"\n\
        Environment=\"B=--config=/c\"\nEnvironmentFile=-/flags\nEnvironmentFile=-/none\nExecStart=\n\
        ExecStart=/usr/bin/kubelet $A ${B} $EXTRA $NOTHING --max-pods 5\n";

    #[test]
    fn kubeadms_drop_in_is_understood() {
        let read = |path: &str| (path == "/flags").then(|| "# x\nEXTRA=\"--v=4 --node-ip=1.2.3.4\"\n".into());
        let line = CommandLine::parse(words(UNIT, read).unwrap()).unwrap();
        assert_eq!(line.config.as_deref(), Some(Path::new("/c")));
        assert_eq!(line.kubeconfig.as_deref(), Some(Path::new("/k")));
        assert_eq!(line.fields, [("/logging/verbosity", json!(4)), ("/maxPods", json!(5))]);
        assert_eq!((line.verbosity(), &line.unused[..]), (4, &["node-ip".into()][..]));
    }

    #[test]
    fn what_can_not_be_started_is_told_as_systemd_and_upstream_tell_it() {
        let none = |_: &str| None;
        let program = words("ExecStart=/usr/local/bin/kubelet $A", none).unwrap_err().to_string();
        let said =
            "kubelet.service: Failed at step EXEC spawning /usr/local/bin/kubelet: No such file or directory";
        assert_eq!(program, said);
        for (flags, said) in [
            ("--confg=/x", "failed to parse kubelet flag: unknown flag: --confg"),
            ("--config", "failed to parse kubelet flag: flag needs an argument: --config"),
            (
                "--max-pods=many",
                "failed to parse kubelet flag: invalid argument \"many\" for \"--max-pods\" flag: strconv.ParseInt: \
                 parsing \"many\": invalid syntax",
            ),
        ] {
            let line = words(&format!("ExecStart=/usr/bin/kubelet {flags}"), none).unwrap();
            assert_eq!(CommandLine::parse(line).unwrap_err().to_string(), said);
        }
    }
}
