//! The rules that look at what variables make of a Dockerfile: in `FROM`, and in the instructions of stages whose base image is known
//! (frontend/dockerfile/dockerfile2llb/convert.go). What a base image that is not here sets nobody knows before it is pulled, so
//! undefined variables are told for the others only.

use super::{Linter, Rule, lines};
use crate::vertices::global_variables;
use drydock_dockerfile::build::Options;
use drydock_dockerfile::ignore::Patterns;
use drydock_dockerfile::language::shell::{Lexer, Looked, Variables, variables};
use drydock_dockerfile::language::{Dockerfile, Instruction, Kind, Stage, suggest};
use std::collections::{BTreeMap, BTreeSet};

const UNDEFINED_FROM: Rule =
    ("UndefinedArgInFrom", "FROM command must use declared ARGs", "undefined-arg-in-from");
const UNDEFINED: Rule = ("UndefinedVar", "Variables should be defined before their use", "undefined-var");
const DEFAULT_FROM: Rule = (
    "InvalidDefaultArgInFrom",
    "Default value for global ARG results in an empty or invalid base image name",
    "invalid-default-arg-in-from",
);
const REDUNDANT: Rule = (
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    "redundant-target-platform",
);
const CONSTANT: Rule = (
    "FromPlatformFlagConstDisallowed",
    "FROM --platform flag should not use a constant value",
    "from-platform-flag-const-disallowed",
);
const WORKDIR: Rule = (
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    "workdir-relative-path",
);
const PROTOCOL: Rule =
    ("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase", "expose-proto-casing");
const MAPPING: Rule = (
    "ExposeInvalidFormat",
    "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    "expose-invalid-format",
);

/// What is known beside the file.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Options of the build.
    pub options: Options,
    /// The environment of base images that are here, by their names in the file with variables expanded.
    pub environments: BTreeMap<String, Vec<String>>,
    /// `.dockerignore`, if it was read.
    pub ignored: Option<Patterns>,
}

/// The base images of a file, as the options make them.
pub fn base_names(file: &Dockerfile, options: &Options) -> BTreeSet<String> {
    let globals = global_variables(file, options);
    let lexer = Lexer::new(file.escape);
    file.stages.iter().map(|stage| lexer.look(&stage.base, &globals).word).collect()
}

/// What a stage leaves to those that begin with it.
#[derive(Debug, Clone, Default)]
struct After {
    /// `None`: nobody knows.
    environment: Option<Variables>,
    arguments: BTreeSet<String>,
    has_workdir: bool,
}

impl Linter {
    /// All rules of this kind.
    pub(super) fn values(&mut self, file: &Dockerfile, known: &Known) {
        let lexer = Lexer::new(file.escape);
        let globals = global_variables(file, &known.options);
        let mut plain = known.options.clone();
        plain.build_args.clear();
        let defaults = global_variables(file, &plain);
        let declared = declared(file, &globals);
        let mut stages: Vec<After> = vec![];
        for stage in &file.stages {
            let at = (stage.line, stage.line);
            if !is_reference(&lexer.look(&stage.base, &defaults).word) {
                let text = format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    stage.base
                );
                self.warn(DEFAULT_FROM, at, text);
            }
            let base = lexer.look(&stage.base, &globals);
            self.undeclared(&base, &declared, at);
            if let Some(text) = &stage.platform {
                let platform = lexer.look(text, &globals);
                self.undeclared(&platform, &declared, at);
                self.platform(stage, text, &platform, &globals);
            }
            let before = before(file, stages.as_slice(), &base.word, known);
            stages.push(self.instructions(stage, &lexer, &globals, before));
        }
    }

    fn undeclared(&mut self, looked: &Looked, declared: &[String], at: (usize, usize)) {
        for name in looked.unset.iter().filter(|name| !declared.contains(name)) {
            let text = suggest(format!("FROM argument '{name}' is not declared"), name, declared, true);
            self.warn(UNDEFINED_FROM, at, text);
        }
    }

    fn platform(&mut self, stage: &Stage, text: &str, looked: &Looked, globals: &Variables) {
        let at = (stage.line, stage.line);
        if looked.set.iter().eq(["TARGETPLATFORM"])
            && looked.unset.is_empty()
            && globals.get("TARGETPLATFORM") == Some(&looked.word)
        {
            let text = format!(
                "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
            );
            self.warn(REDUNDANT, at, text);
        }
        if !looked.set.is_empty() || !looked.unset.is_empty() {
            return;
        }
        // A stage that is named after its platform means it.
        let named = |part: &str| stage.name.as_deref().unwrap_or_default().contains(part);
        let mut parts = looked.word.split('/').filter(|part| !part.is_empty());
        if parts.clone().next().is_some() && !parts.by_ref().take(2).any(named) {
            let text = format!("FROM --platform flag should not use constant value {:?}", looked.word);
            self.warn(CONSTANT, at, text);
        }
    }

    fn instructions(&mut self, stage: &Stage, lexer: &Lexer, globals: &Variables, before: After) -> After {
        let mut after = before;
        let mut environment = after.environment.clone().unwrap_or_default();
        for instruction in &stage.instructions {
            // Labels of the command line are no part of the file.
            if matches!(instruction.kind, Kind::Label(_, false)) {
                continue;
            }
            let mut unset = BTreeSet::new();
            for word in words(&instruction.kind) {
                unset.extend(lexer.look(word, &environment).unset);
            }
            if after.environment.is_some() {
                let unset = unset.iter().filter(|name| !after.arguments.contains(*name));
                unset.for_each(|name| self.undefined(name, &environment, instruction));
            }
            match &instruction.kind {
                Kind::Arg(list) => {
                    for (name, default) in list {
                        let default = default.as_deref().map(|text| lexer.look(text, &environment).word);
                        // What was given or declared before FROM is meant, also where there is a default.
                        let value = default.or_else(|| globals.get(name).cloned());
                        after.arguments.insert(name.clone());
                        value
                            .into_iter()
                            .for_each(|value| _ = environment.entry(name.clone()).or_insert(value));
                    }
                }
                Kind::Env(pairs) => {
                    let read = |pair: &drydock_dockerfile::language::Pair| {
                        (
                            lexer.look(&pair.name, &environment).word,
                            lexer.look(&pair.value, &environment).word,
                        )
                    };
                    let new: Vec<_> = pairs.iter().map(read).collect();
                    environment.extend(new);
                }
                Kind::Workdir(path) => {
                    let path = lexer.look(path, &environment).word;
                    if !after.has_workdir && !path.starts_with('/') && unset.is_empty() {
                        let text = format!(
                            "Relative workdir {path:?} can have unexpected results if the base image changes"
                        );
                        self.warn(WORKDIR, lines(instruction), text);
                    }
                    after.has_workdir = true;
                }
                Kind::Expose(ports) => {
                    for port in ports.iter().flat_map(|port| lexer.words(port, &environment)).flatten() {
                        self.port(&port, instruction);
                    }
                }
                _ => {}
            }
        }
        after.environment = after.environment.map(|_| environment);
        after
    }

    fn undefined(&mut self, name: &str, environment: &Variables, instruction: &Instruction) {
        let names: Vec<&String> = environment.keys().collect();
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let hint = suggest(String::new(), name, &names, true);
        let hint = hint.replacen("(did you mean ", "(did you mean $", 1);
        self.warn(UNDEFINED, lines(instruction), format!("Usage of undefined variable '${name}'{hint}"));
    }

    /// `8080:80/TCP`
    fn port(&mut self, port: &str, instruction: &Instruction) {
        let protocol = port.rsplit(':').next().and_then(|last| last.split_once('/')).map_or("", |(_, p)| p);
        if protocol != protocol.to_lowercase() {
            let text = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
            self.warn(PROTOCOL, lines(instruction), text);
        }
        // `:80` maps nothing.
        if port.rsplit_once(':').is_some_and(|(mapped, _)| !mapped.trim_matches(':').is_empty()) {
            let text = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            );
            self.warn(MAPPING, lines(instruction), text);
        }
    }
}

/// Names that a FROM may use.
fn declared(file: &Dockerfile, globals: &Variables) -> Vec<String> {
    let own = file.global_args.iter().flat_map(|instruction| match &instruction.kind {
        Kind::Arg(list) => list.iter().map(|(name, _)| name.clone()).collect(),
        _ => vec![],
    });
    let names: BTreeSet<String> = own.chain(globals.keys().cloned()).collect();
    names.into_iter().collect()
}

/// What a stage begins with.
fn before(file: &Dockerfile, done: &[After], base: &str, known: &Known) -> After {
    let same = |stage: &Stage| stage.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(base));
    if let Some(after) = file.stages[..done.len()].iter().position(same).and_then(|at| done.get(at)) {
        return after.clone();
    }
    let none = vec![];
    let environment = match base {
        "scratch" => Some(&none),
        // A named context may be anything.
        base if known.options.contexts.contains_key(base) => None,
        base => known.environments.get(base),
    };
    let environment = environment.map(|environment| {
        let mut environment = variables(environment);
        environment.entry("PATH".to_owned()).or_default();
        environment
    });
    After { environment, ..After::default() }
}

/// The words of an instruction in which variables are expanded.
fn words(kind: &Kind) -> Vec<&str> {
    match kind {
        Kind::Add(copy) | Kind::Copy(copy) => {
            let more = [&copy.destination, &copy.chown, &copy.chmod, &copy.checksum];
            copy.sources.iter().chain(more).chain(&copy.exclude).map(String::as_str).collect()
        }
        Kind::Arg(list) => list.iter().filter_map(|(_, default)| default.as_deref()).collect(),
        Kind::Env(pairs) | Kind::Label(pairs, true) => {
            pairs.iter().flat_map(|pair| [pair.name.as_str(), pair.value.as_str()]).collect()
        }
        Kind::Expose(list) | Kind::Volume(list) => list.iter().map(String::as_str).collect(),
        Kind::StopSignal(text) | Kind::User(text) | Kind::Workdir(text) => vec![text.as_str()],
        _ => vec![],
    }
}

/// Whether a text could name an image (github.com/distribution/reference).
fn is_reference(text: &str) -> bool {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[last..].split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let of = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let mut parts = name.split('/').peekable();
    // `registry:5000/…`, in which capitals are no matter.
    let is_domain = |part: &&str| part.contains(['.', ':']) || *part == "localhost";
    if name.contains('/') && parts.peek().is_some_and(is_domain) {
        parts.next();
    }
    let is_part =
        |part: &str| of(part, "._-") && part == part.to_lowercase() && !part.starts_with(['.', '_', '-']);
    parts.all(is_part)
        && tag.is_none_or(|tag| of(tag, "_.-"))
        && digest.is_none_or(|digest| of(digest, ":_+.-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::{Warning, check};
    use drydock_dockerfile::build::Platform;
    use drydock_dockerfile::language::parse;

    fn short(text: &str, args: &[(&str, &str)]) -> Vec<String> {
        let host = Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() };
        let build_args = args.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect();
        let options = Options { host: Some(host), build_args, ..Options::default() };
        let environments = BTreeMap::from([("busybox".to_owned(), vec!["LANG=C".to_owned()])]);
        let (warnings, _) =
            check(&parse(text).unwrap(), None, &Known { options, environments, ignored: None }).unwrap();
        warnings.iter().map(Warning::short).collect()
    }

    #[test]
    fn what_from_says_is_looked_at() {
        assert_eq!(
            short(
                "ARG VERSION\nFROM busybox:${VERSIO}\nFROM $VERSION\nFROM busybox:$VERSION\n",
                &[("VERSION", "1")]
            ),
            [
                "InvalidDefaultArgInFrom: Default value for ARG busybox:${VERSIO} results in empty or invalid base image name (line 2)",
                "UndefinedArgInFrom: FROM argument 'VERSIO' is not declared (did you mean VERSION?) (line 2)",
                "InvalidDefaultArgInFrom: Default value for ARG $VERSION results in empty or invalid base image name (line 3)",
                "InvalidDefaultArgInFrom: Default value for ARG busybox:$VERSION results in empty or invalid base image name (line 4)",
            ]
        );
        assert_eq!(
            short(
                "FROM --platform=$TARGETPLATFORM busybox\nFROM --platform=linux/arm64 busybox\nFROM --platform=linux/arm64 busybox AS arm64\nFROM --platform=$BUILDPLATFORM busybox\n",
                &[]
            ),
            [
                "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 1)",
                "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/arm64\" (line 2)",
            ]
        );
    }

    #[test]
    fn undefined_variables_are_told_where_the_environment_is_known() {
        let text = "ARG V=1\nFROM busybox AS a\nARG V\nARG unset\nENV NAME=x\nCOPY $NAME $V $unset $LANG $PATH /d/\nLABEL l=$NAM\nUSER ${none:-x}\n\
                    FROM a\nENV X=$NAME Y=$V\nFROM unknown\nENV X=$anything\nFROM scratch\nVOLUME $gone\n";
        assert_eq!(
            short(text, &[]),
            [
                "UndefinedVar: Usage of undefined variable '$NAM' (did you mean $NAME?) (line 7)",
                "UndefinedVar: Usage of undefined variable '$none' (line 8)",
                "UndefinedVar: Usage of undefined variable '$gone' (line 14)",
            ]
        );
    }

    #[test]
    fn directories_and_ports() {
        let text = "FROM busybox AS a\nWORKDIR app\nWORKDIR sub\nEXPOSE 80/TCP 8080:80 127.0.0.1:1:2/udp 90\nFROM a\nWORKDIR b\nFROM busybox\nWORKDIR /x\nWORKDIR y\n";
        assert_eq!(
            short(text, &[]),
            [
                "WorkdirRelativePath: Relative workdir \"app\" can have unexpected results if the base image changes (line 2)",
                // The parser sorts ports, as BuildKit's does.
                "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:1:2/udp' (line 4)",
                "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 4)",
                "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '8080:80' (line 4)",
            ]
        );
    }

    #[test]
    fn references() {
        for good in
            ["busybox", "a/b:1", "r.example:5000/A.b/c".to_lowercase().as_str(), "x@sha256:00", "localhost/x"]
        {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["", ":", "a:", ":1", "a//b", "A", "a b", "/a"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
