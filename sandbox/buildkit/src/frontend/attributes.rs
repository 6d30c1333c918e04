//! The attributes of a build request (frontend/dockerui/config.go): strings under names, all from the client.

use crate::engine::{NetworkMode, Settings, Ulimit, Worker};
use crate::error::failed;
use drydock_dockerfile::build::{Mode, Options, Platform};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use tonic::Status;

/// Attributes of a request.
const MAX_ATTRIBUTES: usize = 10_000;

/// `--cache-from` of a request.
const MAX_IMPORTS: usize = 64;

/// What a request says, read.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// Path of the Dockerfile.
    pub filename: String,
    /// Name of the client's directory with the Dockerfile, if it is not in the main context.
    pub dockerfile_local: Option<String>,
    /// Address of the main context, if it is no directory of the client.
    pub context: Option<String>,
    /// Sessions of directories, if not that of the request.
    pub local_sessions: BTreeMap<String, String>,
    /// `--build-context`: name to address.
    pub contexts: BTreeMap<String, String>,
    /// Input definitions: name to reference of another build.
    pub inputs: BTreeMap<String, String>,
    /// A request other than to build: `frontend.outline`.
    pub request: Option<String>,
    /// `BUILDKIT_CONTEXT_KEEP_GIT_DIR`.
    pub keep_git_dir: bool,
    /// `BUILDKIT_SYNTAX`: the frontend, whatever the file says.
    pub syntax: Option<String>,
    /// `BUILDKIT_DOCKERFILE_CHECK`.
    pub check: Option<String>,
    /// How commands run.
    pub settings: Settings,
    target: String,
    build_args: BTreeMap<String, Option<String>>,
    labels: BTreeMap<String, String>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// Of `--no-cache-filter`.
    no_cache_stages: Vec<String>,
    pull: bool,
    /// `--cache-from`.
    pub cache_from: Vec<CacheFrom>,
    platform: Option<Platform>,
}

/// One `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct CacheFrom {
    /// `registry`, `local`, `gha` ….
    #[serde(default, rename = "Type")]
    pub kind: String,
    /// `ref` of a registry's.
    #[serde(default, rename = "Attrs")]
    pub attributes: BTreeMap<String, String>,
}

impl CacheFrom {
    /// An image.
    fn image(name: &str) -> Self {
        Self { kind: "registry".into(), attributes: [("ref".into(), name.into())].into() }
    }

    /// The name of its image, if it is one.
    pub fn name(&self) -> Option<&str> {
        self.attributes.get("ref").map(String::as_str).filter(|_| self.kind == "registry")
    }
}

impl Attributes {
    /// Reads them. `inputs` are references of other builds.
    ///
    /// # Errors
    /// BuildKit's, for what is malformed.
    pub fn read(all: &HashMap<String, String>, inputs: BTreeMap<String, String>) -> Result<Self, Status> {
        if all.len() > MAX_ATTRIBUTES {
            return Err(failed("too many frontend attributes"));
        }
        let get = |name: &str| all.get(name).map_or("", String::as_str);
        let with = |prefix: &str| {
            let strip = |(k, v): (&String, &String)| Some((k.strip_prefix(prefix)?.to_owned(), v.clone()));
            all.iter().filter_map(strip).collect::<BTreeMap<_, _>>()
        };
        let text = |name: &str| Some(get(name)).filter(|v| !v.is_empty()).map(str::to_owned);
        let context_name = text("contextkey").unwrap_or_else(|| "context".into());
        let build_args = with("build-arg:");
        let flag = |name: &str| {
            build_args
                .get(name)
                .is_some_and(|v| matches!(v.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T"))
        };
        Ok(Self {
            filename: text("filename").unwrap_or_else(|| "Dockerfile".into()),
            dockerfile_local: text("dockerfilekey"),
            context: text(&context_name),
            local_sessions: with("local-sessionid:"),
            contexts: named(with("context:")),
            inputs,
            request: text("requestid"),
            keep_git_dir: flag("BUILDKIT_CONTEXT_KEEP_GIT_DIR"),
            syntax: build_args.get("BUILDKIT_SYNTAX").filter(|name| !name.is_empty()).cloned(),
            check: build_args.get("BUILDKIT_DOCKERFILE_CHECK").cloned(),
            settings: settings(&get, &build_args)?,
            target: get("target").to_owned(),
            labels: with("label:"),
            no_cache: all.get("no-cache").is_some_and(|stages| stages.is_empty()),
            no_cache_stages: list(get("no-cache")),
            pull: get("image-resolve-mode") == "pull",
            cache_from: cache_from(get("cache-imports"), get("cache-from"))?,
            platform: text("platform").map(|text| platform(&text)).transpose()?,
            build_args: build_args.into_iter().map(|(k, v)| (k, Some(v))).collect(),
        })
    }

    /// Options of the builder.
    ///
    /// # Errors
    /// None at present.
    pub fn options(&self, worker: &Worker) -> Result<Options, Status> {
        let mut options = Options {
            mode: Mode::BuildKit,
            target: self.target.clone(),
            build_args: self.build_args.clone(),
            labels: self.labels.clone(),
            no_cache: self.no_cache,
            no_cache_stages: self.no_cache_stages.clone(),
            pull: self.pull,
            platform: self.platform.clone(),
            ..Options::default()
        };
        options.cache_from = self.cache_from.iter().filter_map(CacheFrom::name).map(str::to_owned).collect();
        options.host = worker.platforms.first().cloned();
        Ok(options)
    }
}

/// `context:NAME::PLATFORM` is one of `NAME` here: there is one platform.
fn named(contexts: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let plain =
        |(name, value): (String, String)| (name.split("::").next().unwrap_or_default().to_owned(), value);
    contexts.into_iter().map(plain).collect()
}

fn settings<'a>(get: &dyn Fn(&str) -> &'a str, args: &BTreeMap<String, String>) -> Result<Settings, Status> {
    let network = match get("force-network-mode") {
        "" | "sandbox" | "default" => NetworkMode::Default,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        other => return Err(failed(format!("invalid netmode {other}"))),
    };
    let arg = |name: &str| args.get(name).cloned().unwrap_or_default();
    let hostname = Some(arg("BUILDKIT_SANDBOX_HOSTNAME")).filter(|h| !h.is_empty());
    Ok(Settings {
        network,
        extra_hosts: extra_hosts(get("add-hosts"))?,
        shm_size: match get("shm-size") {
            "" => 0,
            text => {
                text.parse().map_err(|_| failed(format!("failed to parse shm size: invalid size {text}")))?
            }
        },
        ulimits: get("ulimit").split(',').filter(|u| !u.is_empty()).map(ulimit).collect::<Result<_, _>>()?,
        cgroup_parent: get("cgroup-parent").to_owned(),
        hostname: hostname.unwrap_or_else(|| get("hostname").to_owned()),
        cache_namespace: arg("BUILDKIT_CACHE_MOUNT_NS"),
    })
}

/// `a=10.0.0.1,b=[::1]`.
fn extra_hosts(text: &str) -> Result<Vec<(String, IpAddr)>, Status> {
    let bad = |host: &str| failed(format!("failed to parse additional hosts: invalid host {host}"));
    let host = |host: &str| {
        let (name, address) = host.split_once('=').ok_or_else(|| bad(host))?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        Ok((name.to_owned(), address.parse().map_err(|_| bad(host))?))
    };
    text.split(',').filter(|host| !host.is_empty()).map(host).collect()
}

/// `nofile=1024:2048`.
fn ulimit(text: &str) -> Result<Ulimit, Status> {
    let bad = || failed(format!("failed to parse ulimit: invalid ulimit argument: {text}"));
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| text.parse().map_err(|_| bad());
    Ok(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

fn cache_from(imports: &str, old: &str) -> Result<Vec<CacheFrom>, Status> {
    let mut list: Vec<_> = self::list(old).iter().map(|name| CacheFrom::image(name)).collect();
    if !imports.is_empty() {
        let read = serde_json::from_str::<Vec<CacheFrom>>(imports);
        list.extend(read.map_err(|e| failed(format!("failed to unmarshal cache-imports: {e}")))?);
    }
    if list.len() > MAX_IMPORTS {
        return Err(failed("too many cache imports"));
    }
    Ok(list)
}

/// `linux/arm64/v8`; one, because a build for several needs a manifest list.
fn platform(text: &str) -> Result<Platform, Status> {
    if text.contains(',') {
        return Err(failed("exporting multiple references to image store is currently unsupported"));
    }
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [os, architecture] => Ok((os, architecture, "")),
        [os, architecture, variant] => Ok((os, architecture, *variant)),
        _ => Err(failed(format!("failed to parse target platform {text}"))),
    }
    .map(|(os, architecture, variant)| Platform {
        os: os.to_string(),
        architecture: architecture.to_string(),
        variant: variant.to_owned(),
    })
}

/// `a,b`: names, without those that are empty.
fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[(&str, &str)]) -> Result<Attributes, Status> {
        let all = list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Attributes::read(&all, BTreeMap::new())
    }

    #[test]
    fn attributes_become_options() {
        let attributes = read(&[
            ("filename", "Other"),
            ("build-arg:a", "1"),
            ("label:l", "2"),
            ("no-cache", ""),
            ("image-resolve-mode", "pull"),
            ("cache-imports", r#"[{"Type":"registry","Attrs":{"ref":"r/x"}},{"Type":"local"}]"#),
            ("platform", "linux/arm64/v8"),
            ("context:base::linux/amd64", "docker-image://alpine"),
            ("add-hosts", "a=10.0.0.1,b=[::1]"),
            ("ulimit", "nofile=1:-1,core=0"),
            ("shm-size", "67108864"),
            ("force-network-mode", "none"),
            ("target", "t"),
        ])
        .unwrap();
        assert_eq!(attributes.filename, "Other");
        assert_eq!(attributes.contexts["base"], "docker-image://alpine");
        let settings = &attributes.settings;
        assert_eq!((settings.network, settings.shm_size), (NetworkMode::None, 64 << 20));
        assert_eq!(settings.extra_hosts[1], ("b".into(), "::1".parse().unwrap()));
        assert_eq!(settings.ulimits[0], Ulimit { name: "nofile".into(), soft: 1, hard: -1 });
        let options = attributes.options(&Worker::default()).unwrap();
        assert!(options.no_cache && options.pull);
        assert_eq!((options.target.as_str(), options.cache_from.as_slice()), ("t", &["r/x".to_owned()][..]));
        assert_eq!(options.platform.unwrap().to_string(), "linux/arm64/v8");
        assert_eq!(options.build_args["a"].as_deref(), Some("1"));
    }

    #[test]
    fn stages_without_cache_are_named_or_all() {
        let options =
            |stages: &str| read(&[("no-cache", stages)]).unwrap().options(&Worker::default()).unwrap();
        let filtered = options("one,two");
        assert!(!filtered.no_cache && options("").no_cache);
        assert_eq!(filtered.no_cache_stages, ["one", "two"]);
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (name, value) in [
            ("force-network-mode", "bridge"),
            ("add-hosts", "a"),
            ("add-hosts", "a=b"),
            ("shm-size", "many"),
            ("ulimit", "nofile"),
            ("ulimit", "nofile=x"),
            ("cache-imports", "{"),
            ("platform", "linux/amd64,linux/arm64"),
            ("platform", "x"),
        ] {
            assert!(read(&[(name, value)]).is_err(), "{name}={value}");
        }
    }
}
