//! What a client asks of a build: the query of `POST /build`, with Docker's refusals.

use crate::containers::model::{HostConfig, Ulimit};
use crate::error::{Error, Result};
use crate::http::Query;
use crate::images;
use axum::http::HeaderMap;
use drydock_dockerfile::build::{Options, Platform};
use drydock_images::Reference;
use drydock_registry::{AuthConfig, decode_registry_config};
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// A build.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the builder itself has to know.
    pub options: Options,
    /// Where the context is, if it does not come with the request.
    pub remote: Option<String>,
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Names for the image.
    pub tags: Vec<Reference>,
    /// Only the image's id is told, unless the build fails.
    pub quiet: bool,
    /// Limits, network, extra hosts of all containers of the build.
    pub host: HostConfig,
    /// Who asks registries, by registry.
    pub credentials: HashMap<String, AuthConfig>,
}

impl Request {
    /// Reads the query and the credentials of a request.
    pub fn read(query: &Query, headers: &HeaderMap) -> Result<Self> {
        refuse(query)?;
        let header = headers.get("x-registry-config").and_then(|value| value.to_str().ok()).unwrap_or("");
        let options = Options {
            target: query.get("target").to_owned(),
            build_args: json(query, "buildargs", "error reading build args")?,
            labels: json(query, "labels", "error reading labels")?,
            no_cache: query.flag("nocache"),
            pull: query.flag("pull"),
            cache_from: json(query, "cachefrom", "error reading cache-from")?,
            platform: query.text("platform").map(platform).transpose()?,
            host: Some(own_platform()),
            squash: query.flag("squash"),
            keep_containers: query.has("rm") && !query.get("rm").is_empty() && !query.flag("rm"),
            force_remove: query.flag("forcerm"),
            ..Options::default()
        };
        Ok(Self {
            options,
            remote: query.text("remote").filter(|remote| *remote != "client-session").map(str::to_owned),
            dockerfile: query.text("dockerfile").unwrap_or("Dockerfile").to_owned(),
            tags: tags(query)?,
            quiet: query.flag("q"),
            host: host(query)?,
            credentials: decode_registry_config(header).unwrap_or_default(),
        })
    }
}

/// What this engine does not do.
fn refuse(query: &Query) -> Result<()> {
    if query.has("securityopt") {
        return Err(Error::invalid("security options are not supported on linux"));
    }
    match query.get("version") {
        "" | "1" => {}
        "2" => {
            return Err(Error::not_implemented(
                "BuildKit builds come over a session, which this engine does not speak yet",
            ));
        }
        other => return Err(Error::invalid(format!("invalid version {other:?}"))),
    }
    match query.get("isolation") {
        "" | "default" => Ok(()),
        other => Err(Error::invalid(format!("unsupported isolation: {other:?}"))),
    }
}

fn json<T: DeserializeOwned + Default>(query: &Query, key: &str, what: &str) -> Result<T> {
    let Some(text) = query.text(key) else { return Ok(T::default()) };
    let read: Option<T> =
        serde_json::from_str(text).map_err(|error| Error::invalid(format!("{what}: {error}")))?;
    Ok(read.unwrap_or_default())
}

fn tags(query: &Query) -> Result<Vec<Reference>> {
    let mut tags: Vec<Reference> = vec![];
    for text in query.all("t").filter(|text| !text.is_empty()) {
        let tag = Reference::parse(text)?;
        if tag.digest().is_some() {
            return Err(Error::invalid("build tag cannot contain a digest"));
        }
        let tag = images::tagged(text, "")?.unwrap_or(tag);
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

fn platform(text: &str) -> Result<Platform> {
    let read =
        text.parse::<drydock_registry::Platform>().map_err(|error| Error::invalid(error.to_string()))?;
    Ok(Platform { os: read.os, architecture: read.architecture, variant: read.variant })
}

pub(super) fn own_platform() -> Platform {
    let own = drydock_registry::Platform::host();
    Platform { os: own.os, architecture: own.architecture, variant: own.variant }
}

/// What all containers of the build have.
fn host(query: &Query) -> Result<HostConfig> {
    let number = |key: &str| query.number(key).unwrap_or(0);
    let mut host = HostConfig::default();
    host.resources.memory = number("memory");
    host.resources.memory_swap = number("memswap");
    host.resources.cpu_shares = number("cpushares");
    host.resources.cpu_period = number("cpuperiod");
    host.resources.cpu_quota = number("cpuquota");
    host.resources.cpuset_cpus = query.get("cpusetcpus").to_owned();
    host.resources.cpuset_mems = query.get("cpusetmems").to_owned();
    host.resources.cgroup_parent = query.get("cgroupparent").to_owned();
    let ulimits: Vec<Ulimit> = json(query, "ulimits", "error reading ulimit settings")?;
    host.resources.ulimits = Some(ulimits).filter(|limits| !limits.is_empty());
    host.network_mode = query.get("networkmode").to_owned();
    if let Some(text) = query.text("shmsize") {
        let wrong = || Error::internal(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
        host.shm_size = text.parse().map_err(|_| wrong())?;
    }
    // Clients send one value for each, and some send all in one.
    let hosts: Vec<String> =
        query.all("extrahosts").flat_map(|text| text.split(',')).map(str::to_owned).collect();
    host.extra_hosts = Some(hosts).filter(|hosts| !hosts.is_empty());
    host.log_config.driver = "none".to_owned();
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Request> {
        Request::read(&Query::parse(query), &HeaderMap::new())
    }

    #[test]
    fn a_query_becomes_a_build() {
        let request = read(
            "dockerfile=a%2FDockerfile&t=b1&t=team%2Fapp%3A2&buildargs=%7B%22A%22%3A%221%22%2C%22B%22%3Anull%7D\
             &labels=%7B%22l%22%3A%22m%22%7D&nocache=1&rm=1&target=x&memory=5&extrahosts=a%3A1.2.3.4&version=1&shmsize=64",
        )
        .unwrap();
        let tags: Vec<_> = request.tags.iter().map(Reference::familiar).collect();
        assert_eq!(tags, ["b1:latest", "team/app:2"]);
        assert_eq!(request.dockerfile, "a/Dockerfile");
        assert_eq!(request.options.build_args["A"].as_deref(), Some("1"));
        assert_eq!(request.options.build_args["B"], None);
        assert!(request.options.no_cache && !request.options.keep_containers && !request.quiet);
        assert_eq!((request.host.resources.memory, request.host.shm_size), (5, 64));
        assert_eq!(request.host.extra_hosts, Some(vec!["a:1.2.3.4".to_owned()]));
        assert_eq!(read("").unwrap().dockerfile, "Dockerfile");
        assert!(read("rm=0").unwrap().options.keep_containers);
    }

    #[test]
    fn wrong_queries_are_refused() {
        for (query, words) in [
            (
                "t=a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "build tag cannot contain a digest",
            ),
            ("t=A", "repository name (library/A) must be lowercase"),
            ("version=3", "invalid version \"3\""),
            ("buildargs=x", "error reading build args"),
            ("securityopt=x", "security options are not supported on linux"),
            ("isolation=hyperv", "unsupported isolation: \"hyperv\""),
        ] {
            let error = read(query).unwrap_err();
            assert!(error.message.contains(words), "{query}: {error}");
        }
    }
}
