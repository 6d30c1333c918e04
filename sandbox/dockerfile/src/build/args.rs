//! `ARG`s: which are known where, and with which value (builder/dockerfile/buildargs.go).

use super::backend::Platform;
use super::options::Options;
use crate::language::shell::Variables;
use std::collections::{BTreeMap, BTreeSet};

/// These need no `ARG`, and are in no history and no cache key.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

type Values = BTreeMap<String, Option<String>>;

/// The arguments of a build at one place.
#[derive(Debug, Clone, Default)]
pub(super) struct Args {
    /// `--build-arg`.
    given: Values,
    /// Before the first FROM, and the platform's.
    global: Values,
    /// Declared in this stage.
    allowed: Values,
    /// The same in their order.
    order: Vec<String>,
    /// Declared anywhere.
    referenced: BTreeSet<String>,
    /// BuildKit: declared with a value after an ENV of the same name, which counts no more.
    over: BTreeSet<String>,
}

impl Args {
    pub fn new(options: &Options) -> Self {
        let host = options.host.clone().unwrap_or_else(|| Platform {
            os: "linux".into(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .into(),
            variant: String::new(),
        });
        let target = options.platform.clone().unwrap_or_else(|| host.clone());
        let stage = if options.target.is_empty() { "default" } else { &options.target };
        let mut global = Values::new();
        for (name, value) in [
            ("BUILDPLATFORM", host.to_string()),
            ("BUILDOS", host.os),
            ("BUILDOSVERSION", String::new()),
            ("BUILDARCH", host.architecture),
            ("BUILDVARIANT", host.variant),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os),
            ("TARGETOSVERSION", String::new()),
            ("TARGETARCH", target.architecture),
            ("TARGETVARIANT", target.variant),
            ("TARGETSTAGE", stage.to_owned()),
        ] {
            global.insert(name.into(), Some(value));
        }
        Self { given: options.build_args.clone(), global, ..Self::default() }
    }

    /// For the next stage: only what was declared before the first FROM.
    pub fn of_stage(&self) -> Self {
        Self { allowed: Values::new(), order: Vec::new(), ..self.clone() }
    }

    /// BuildKit: a stage has what was declared in the stage that it begins with.
    pub fn inherit(&mut self, base: &Self) {
        self.allowed.clone_from(&base.allowed);
        self.order.clone_from(&base.order);
        self.over.clone_from(&base.over);
    }

    /// As BuildKit declares: a value is above those of ENV so far; without one, what was known by the name is known still.
    pub fn declare_over(&mut self, name: &str, value: Option<String>) {
        let value = value.or_else(|| self.allowed.remove(name).flatten());
        self.declare(name, value);
        if self.value(name, &self.allowed).is_some() {
            self.over.insert(name.into());
        }
    }

    /// BuildKit: an ENV of this name is above what was declared before it.
    pub fn hide(&mut self, name: &str) {
        self.over.remove(name);
    }

    pub fn declare_global(&mut self, name: &str, value: Option<String>) {
        // `ARG TARGETOS` before FROM keeps what the platform says.
        if value.is_some() || !self.global.contains_key(name) {
            self.global.insert(name.into(), value);
        }
        self.referenced.insert(name.into());
    }

    pub fn declare(&mut self, name: &str, value: Option<String>) {
        self.allowed.insert(name.into(), value);
        self.order.retain(|n| n != name);
        self.order.push(name.into());
        self.referenced.insert(name.into());
    }

    /// Bytes of what was declared.
    pub fn size(&self) -> usize {
        let values = self.allowed.iter().chain(&self.global);
        values.map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len)).sum()
    }

    /// What a FROM may use.
    pub fn globals(&self) -> Variables {
        self.values(&self.global)
    }

    /// What instructions of the stage may use, without what ENV says.
    pub fn visible(&self, env: &Variables) -> Variables {
        let mut values = self.values(&self.allowed);
        values.retain(|name, _| !env.contains_key(name) || self.over.contains(name));
        values
    }

    /// Without proxies that were not declared.
    pub fn retain_declared(&self, visible: &mut Variables) {
        visible.retain(|name, _| self.allowed.contains_key(name));
    }

    fn values(&self, of: &Values) -> Variables {
        let names = of.keys().map(String::as_str).chain(PROXIES);
        names.filter_map(|name| Some((name.to_owned(), self.value(name, of)?))).collect()
    }

    fn value(&self, name: &str, of: &Values) -> Option<String> {
        let flatten = |values: &Values| values.get(name).cloned().flatten();
        flatten(&self.given)
            .or_else(|| flatten(of))
            .or_else(|| flatten(&self.global).filter(|_| of.contains_key(name)))
    }

    /// `name=value` for the cache and for history: sorted, without proxies that were not declared.
    pub fn recorded(&self, visible: &Variables) -> Vec<String> {
        let named = |name: &str| self.allowed.contains_key(name) || !PROXIES.contains(&name);
        visible
            .iter()
            .filter(|(name, _)| named(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// The same as BuildKit writes it: in order of declaration, also those without a value, with what ENV makes of them.
    pub fn declared(&self, env: &Variables) -> Vec<String> {
        let value = |name: &String| {
            env.get(name).cloned().or_else(|| self.value(name, &self.allowed)).unwrap_or_default()
        };
        self.order.iter().map(|name| format!("{name}={}", value(name))).collect()
    }

    /// What BuildKit's history calls an argument: with its value, if its instruction gives it one.
    pub fn described(&self, name: &str, default: Option<&str>) -> String {
        let own = Values::from([(name.to_owned(), default.map(str::to_owned))]);
        self.value(name, &own).map_or_else(|| name.to_owned(), |value| format!("{name}={value}"))
    }

    pub fn merge_referenced(&mut self, other: &Self) {
        self.referenced.extend(other.referenced.iter().cloned());
    }

    /// `--build-arg`s that no ARG wanted.
    pub fn unused(&self) -> Vec<&str> {
        let unused = |name: &&String| !self.referenced.contains(*name) && !PROXIES.contains(&name.as_str());
        self.given.keys().filter(unused).map(String::as_str).collect()
    }
}
