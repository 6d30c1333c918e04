//! The instructions: dispatch, and those that change the configuration only.

use super::config::Config;
use super::error::BuildError;
use super::options::Mode;
use super::output::Event;
use super::ports;
use super::stage::Builder;
use crate::files::resolve_owner;
use crate::language::go::{self, clean, list, quote, quote_list};
use crate::language::shell::{Lexer, variables};
use crate::language::{self, CommandLine, Health, Instruction, Kind, Pair};
use drydock_go::io_text;
use serde_json::json;

type Result<T> = std::result::Result<T, BuildError>;

impl Builder<'_> {
    /// One instruction.
    pub fn dispatch(&mut self, instruction: &Instruction) -> Result<()> {
        let mut hidden = Vec::new();
        match &instruction.kind {
            Kind::Run(run) => return self.run(run),
            Kind::Copy(copy) => return self.copy(copy, "COPY"),
            Kind::Add(copy) => return self.copy(copy, "ADD"),
            Kind::Workdir(path) => return self.workdir(path),
            Kind::Arg(args) => return self.arg(args),
            Kind::Maintainer(name) => self.author.clone_from(name),
            Kind::Healthcheck(_) => self.note_health(),
            Kind::Env(pairs) => {
                for pair in pairs {
                    let name = self.expand(&pair.name)?;
                    hidden.push(name);
                }
            }
            _ => {}
        }
        let args = self.args.visible(&variables(&self.config.env)).into_iter().collect();
        let (config, cmd_set) = (&mut self.config, &mut self.cmd_set);
        let comment =
            Change { config, escape: self.shared.escape, cmd_set, args }.apply(&instruction.kind)?;
        hidden.iter().for_each(|name| self.args.hide(name));
        if self.mode() == Mode::BuildKit && matches!(instruction.kind, Kind::Cmd(_)) {
            // Docker's images have had this field from BuildKit ever since; on Linux it means nothing.
            self.config.other.insert("ArgsEscaped".into(), json!(true));
        }
        let buildkit = match (&instruction.kind, &comment) {
            (Kind::Expose(_), Comment { exposed: Some(ports), .. }) => format!("EXPOSE {}", list(ports)),
            (_, comment) => comment.text.clone(),
        };
        self.commit(&comment.text, &buildkit)
    }

    fn note_health(&self) {
        let old = self.config.healthcheck.as_ref().and_then(|h| h.test.as_deref()).unwrap_or_default();
        if self.mode() == Mode::Classic && old.first().is_some_and(|kind| kind != "NONE") {
            self.emit(Event::Note(&format!("Note: overriding previous HEALTHCHECK: {}", list(old))));
        }
    }

    fn arg(&mut self, args: &[(String, Option<String>)]) -> Result<()> {
        let (mut texts, mut described) = (Vec::new(), Vec::new());
        for (name, value) in args {
            let (name, value) = (self.expand(name)?, value.as_deref().map(|v| self.expand(v)).transpose()?);
            texts.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            described.push(self.args.described(&name, value.as_deref()));
            match self.mode() {
                Mode::Classic => self.args.declare(&name, value),
                Mode::BuildKit => self.args.declare_over(&name, value),
            }
        }
        self.commit(&format!("ARG {}", texts.join(" ")), &format!("ARG {}", described.join(" ")))
    }

    /// What a WORKDIR makes of the one before.
    pub fn next_workdir(&self, path: &str) -> Result<String> {
        workdir(&self.config.working_dir, &self.expand(path)?)
    }

    fn workdir(&mut self, path: &str) -> Result<()> {
        self.config.working_dir = self.next_workdir(path)?;
        let path = self.config.working_dir.clone();
        let text = format!("WORKDIR {path}");
        let key = super::CacheKey { config: self.nop(vec![format!("#(nop) {text}")]), extra: Vec::new() };
        if self.cached(&key)? {
            return Ok(());
        }
        let container = self.running()?;
        let (mut workspace, tree) = self.workspace(&container)?;
        let owner = match self.mode() {
            // BuildKit gives it to the user, the classic builder to root.
            Mode::BuildKit if !self.config.user.is_empty() => {
                resolve_owner(&tree, &self.config.user).map_err(BuildError::failed)?
            }
            _ => (0, 0),
        };
        tree.make_directories(&path, 0o755, owner).map_err(|e| {
            BuildError::failed(format!("failed to create working directory: mkdir {path}: {}", io_text(&e)))
        })?;
        let created_by = self.created_by(&key, &text);
        let image = workspace.commit(&self.step(&key, &container, &created_by, path != "/"))?;
        self.image = image;
        drop(workspace);
        self.removed(&container, true);
        Ok(())
    }
}

fn workdir(current: &str, wanted: &str) -> Result<String> {
    match wanted {
        "" => Err(BuildError::invalid("cannot normalize nothing")),
        absolute if absolute.starts_with('/') => Ok(clean(absolute)),
        relative => Ok(clean(&format!("/{current}/{relative}"))),
    }
}

/// Applies `docker commit --change` (and `docker import --change`) to a configuration.
///
/// # Errors
/// If an instruction is none that changes configuration: `RUN is not a valid change command`.
pub fn apply_changes(config: &mut Config, changes: &[String]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let text = changes.join("\n");
    let read = language::lines::read(&text)?;
    let valid = [
        "cmd",
        "entrypoint",
        "healthcheck",
        "env",
        "expose",
        "label",
        "onbuild",
        "stopsignal",
        "user",
        "volume",
        "workdir",
    ];
    if let Some(node) = read.nodes.iter().find(|node| !valid.contains(&node.name.to_lowercase().as_str())) {
        return Err(BuildError::invalid(format!("{} is not a valid change command", node.name)));
    }
    let mut cmd_set = false;
    for instruction in language::parse_instructions(&text)? {
        if let Kind::Workdir(path) = &instruction.kind {
            let path =
                Lexer::new(read.escape).word(path, &variables(&config.env)).map_err(BuildError::invalid)?;
            config.working_dir = workdir(&config.working_dir, &path)?;
            continue;
        }
        let mut change = Change { config, escape: read.escape, cmd_set: &mut cmd_set, args: Vec::new() };
        change.apply(&instruction.kind)?;
    }
    Ok(())
}

/// A configuration that an instruction changes.
struct Change<'a> {
    config: &'a mut Config,
    escape: char,
    cmd_set: &'a mut bool,
    /// ARGs.
    args: Vec<(String, String)>,
}

/// What a change is called.
struct Comment {
    text: String,
    /// Of EXPOSE: the single ports.
    exposed: Option<Vec<String>>,
}

impl Change<'_> {
    fn expand(&self, text: &str) -> Result<String> {
        let mut known = variables(&self.config.env);
        known.extend(self.args.iter().cloned());
        Lexer::new(self.escape).word(text, &known).map_err(BuildError::invalid)
    }

    /// Pairs are expanded all before the first is set.
    fn pairs(&self, pairs: &[Pair]) -> Result<Vec<(String, String)>> {
        pairs.iter().map(|pair| Ok((self.expand(&pair.name)?, self.expand(&pair.value)?))).collect()
    }

    fn apply(&mut self, kind: &Kind) -> Result<Comment> {
        let mut exposed = None;
        let text = match kind {
            Kind::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                pairs.iter().for_each(|(name, value)| self.config.set_env(name, value));
                described("ENV", &pairs)
            }
            Kind::Label(pairs, expand) => {
                let plain = || pairs.iter().map(|p| (p.name.clone(), p.value.clone())).collect();
                let pairs = if *expand { self.pairs(pairs)? } else { plain() };
                self.config.labels.get_or_insert_default().extend(pairs.iter().cloned());
                described("LABEL", &pairs)
            }
            Kind::Maintainer(name) => format!("MAINTAINER {name}"),
            Kind::Onbuild(trigger) => {
                self.config.on_build.get_or_insert_default().push(trigger.clone());
                format!("ONBUILD {trigger}")
            }
            Kind::Cmd(line) => {
                let words = self.command(line);
                self.config.cmd = Some(words.clone()).filter(|w| !w.is_empty());
                *self.cmd_set |= !line.words.is_empty();
                format!("CMD {}", quote_list(&words))
            }
            Kind::Entrypoint(line) => {
                let words = if line.words.is_empty() { Vec::new() } else { self.command(line) };
                self.config.entrypoint = Some(words.clone()).filter(|w| !w.is_empty());
                if !*self.cmd_set {
                    self.config.cmd = None;
                }
                format!("ENTRYPOINT {}", quote_list(&words))
            }
            Kind::Healthcheck(health) => {
                self.config.healthcheck = Some(health.clone());
                format!("HEALTHCHECK {}", health_text(health))
            }
            Kind::Expose(words) => {
                let (words, ports) = self.expose(words)?;
                exposed = Some(ports);
                format!("EXPOSE {}", words.join(" "))
            }
            Kind::User(user) => {
                self.config.user = self.expand(user)?;
                format!("USER {}", self.config.user)
            }
            Kind::Volume(volumes) => {
                let volumes = volumes.iter().map(|v| self.expand(v)).collect::<Result<Vec<_>>>()?;
                if volumes.iter().any(String::is_empty) {
                    return Err(BuildError::invalid("VOLUME specified can not be an empty string"));
                }
                let all = self.config.volumes.get_or_insert_default();
                all.extend(volumes.iter().map(|v| (v.clone(), json!({}))));
                format!("VOLUME {}", list(&volumes))
            }
            Kind::StopSignal(signal) => {
                let signal = self.expand(signal)?;
                if signal_number(&signal).is_none() {
                    return Err(BuildError::invalid(format!("invalid signal: {signal}")));
                }
                self.config.stop_signal.clone_from(&signal);
                format!("STOPSIGNAL {signal}")
            }
            Kind::Shell(shell) => {
                self.config.shell = Some(shell.clone());
                format!("SHELL {}", list(shell))
            }
            Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_) | Kind::Arg(_) => {
                return Err(BuildError::invalid("not a change of the configuration"));
            }
        };
        Ok(Comment { text, exposed })
    }

    fn expose(&mut self, words: &[String]) -> Result<(Vec<String>, Vec<String>)> {
        let mut known = variables(&self.config.env);
        known.extend(self.args.iter().cloned());
        let lexer = Lexer::new(self.escape);
        let (mut all, mut ports) = (Vec::new(), Vec::new());
        for word in words {
            all.extend(lexer.words(word, &known).map_err(BuildError::invalid)?);
        }
        for word in &all {
            ports.extend(ports::parse(word).map_err(BuildError::invalid)?);
            if ports.len() > ports::MAX_PORTS {
                return Err(BuildError::invalid("EXPOSE names too many ports"));
            }
        }
        self.config
            .exposed_ports
            .get_or_insert_default()
            .extend(ports.iter().map(|p| (p.clone(), json!({}))));
        Ok((all, ports))
    }

    fn command(&self, line: &CommandLine) -> Vec<String> {
        let mut words = if line.shell { self.config.shell() } else { Vec::new() };
        words.extend(line.words.iter().cloned());
        words
    }
}

fn described(name: &str, pairs: &[(String, String)]) -> String {
    pairs.iter().fold(name.to_owned(), |text, (name, value)| format!("{text} {name}={value}"))
}

/// Go's `%q` of a `*HealthConfig`.
fn health_text(health: &Health) -> String {
    let test = health.test.as_deref().map(quote_list).unwrap_or_default();
    let duration = |nanoseconds| quote(&go::format_duration(nanoseconds));
    let retries = match u8::try_from(health.retries) {
        Ok(number) if (32..127).contains(&number) => format!("'{}'", char::from(number)),
        Ok(7) => "'\\a'".into(),
        Ok(8) => "'\\b'".into(),
        Ok(9) => "'\\t'".into(),
        Ok(10) => "'\\n'".into(),
        Ok(11) => "'\\v'".into(),
        Ok(12) => "'\\f'".into(),
        Ok(13) => "'\\r'".into(),
        Ok(number) if number < 128 => format!("'\\x{number:02x}'"),
        _ => format!(
            "'{}'",
            char::from_u32(u32::try_from(health.retries).unwrap_or(0xfffd)).unwrap_or('\u{fffd}')
        ),
    };
    let times = [health.interval, health.timeout, health.start_period, health.start_interval].map(duration);
    format!("&{{{test} {} {retries}}}", times.join(" "))
}

/// The number of a signal: `9`, `KILL`, `SIGKILL`, `SIGRTMIN+3`.
pub fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<i32>() {
        return Some(number).filter(|n| *n != 0);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let (first, last) = (34, 64);
    let offset = |text: &str, limit: i32| text.parse::<i32>().ok().filter(|n| (1..=limit).contains(n));
    match name {
        "RTMIN" => Some(first),
        "RTMAX" => Some(last),
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        name => {
            if let Some(plus) = name.strip_prefix("RTMIN+") {
                return offset(plus, 15).map(|n| first + n);
            }
            if let Some(minus) = name.strip_prefix("RTMAX-") {
                return offset(minus, 14).map(|n| last - n);
            }
            NAMES.iter().position(|n| *n == name).and_then(|at| i32::try_from(at + 1).ok())
        }
    }
}
