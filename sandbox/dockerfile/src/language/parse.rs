//! Lists of words → typed instructions, with BuildKit's checks and words (instructions/parse.go).

use super::device::parse_device;
use super::error::{ParseError, suggest};
use super::flags::{Flags, Is};
use super::go::{self, quote};
use super::instruction::{
    CommandLine, Copy, Dockerfile, Health, InlineFile, Instruction, Kind, Network, Pair, Run, Stage,
};
use super::lines::{self, Heredoc, Node};
use super::mount::parse_mount;

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Bytes of all here-documents of one COPY: one that is named several times is there several times.
const MAX_INLINE: usize = 16 << 20;

/// Reads a Dockerfile.
///
/// # Errors
/// In Docker's words.
pub fn parse(text: &str) -> Result<Dockerfile, ParseError> {
    let read = lines::read(text)?;
    let mut file = Dockerfile {
        global_args: Vec::new(),
        stages: Vec::new(),
        escape: read.escape,
        directives: read.directives,
        warnings: read.warnings,
    };
    for node in &read.nodes {
        let lines = node.first_line..=node.last_line;
        let fail = |e: String| {
            ParseError::new(format!("dockerfile parse error on line {}: {e}", node.first_line), lines.clone())
        };
        if node.name.eq_ignore_ascii_case("from") {
            file.stages.push(from(node).map_err(fail)?);
            continue;
        }
        let instruction = instruction(node).map_err(fail)?;
        match (file.stages.last_mut(), &instruction.kind) {
            (Some(stage), _) => stage.instructions.push(instruction),
            (None, Kind::Arg(_)) => file.global_args.push(instruction),
            // BuildKit says this one without the line.
            (None, _) => return Err(ParseError::new("no build stage in current context", lines)),
        }
    }
    Ok(file)
}

/// Reads instructions without a `FROM`: ONBUILD triggers, `docker commit --change`.
///
/// # Errors
/// In Docker's words.
pub fn parse_instructions(text: &str) -> Result<Vec<Instruction>, ParseError> {
    let read = lines::read(text)?;
    let one = |node: &Node| {
        let lines = node.first_line..=node.last_line;
        if node.name.eq_ignore_ascii_case("from") {
            return Err(ParseError::new("*instructions.Stage is not a command type", lines));
        }
        instruction(node).map_err(|e| ParseError::new(e, lines))
    };
    read.nodes.iter().map(one).collect()
}

fn from(node: &Node) -> Result<Stage, String> {
    let args = &node.args;
    let name = match args.as_slice() {
        [_] => None,
        [_, r#as, name] if r#as.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let valid = lower.starts_with(|c: char| c.is_ascii_lowercase())
                && lower.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
            if !valid {
                let name = quote(name);
                return Err(format!(
                    "invalid name for build stage: {name}, name can't start with a number or contain symbols"
                ));
            }
            Some(lower)
        }
        _ => return Err("FROM requires either one or three arguments".into()),
    };
    let flags = Flags::parse(&node.flags, &[("platform", Is::Text)])?;
    Ok(Stage {
        name,
        base: args[0].clone(),
        platform: Some(flags.text("platform")).filter(|p| !p.is_empty()),
        source: node.original.trim().to_owned(),
        line: node.first_line,
        comments: node.comments.clone(),
        instructions: Vec::new(),
    })
}

fn instruction(node: &Node) -> Result<Instruction, String> {
    let kind = kind(node)?;
    Ok(Instruction {
        kind,
        source: node.original.trim().to_owned(),
        line: node.first_line,
        last_line: node.last_line,
        comments: node.comments.clone(),
    })
}

fn kind(node: &Node) -> Result<Kind, String> {
    let none = || Flags::parse(&node.flags, &[]).map(|_| ());
    Ok(match node.name.to_lowercase().as_str() {
        "env" => {
            none()?;
            Kind::Env(pairs(node, "ENV")?)
        }
        "label" => {
            none()?;
            Kind::Label(pairs(node, "LABEL")?, true)
        }
        "maintainer" => {
            let text = exactly_one(node, "MAINTAINER")?;
            none()?;
            Kind::Maintainer(text)
        }
        "add" => Kind::Add(copy(node, "ADD")?),
        "copy" => Kind::Copy(copy(node, "COPY")?),
        "onbuild" => onbuild(node)?,
        "workdir" => {
            let text = exactly_one(node, "WORKDIR")?;
            none()?;
            Kind::Workdir(text)
        }
        "run" => Kind::Run(run(node)?),
        "cmd" => {
            none()?;
            Kind::Cmd(command_line(node))
        }
        "entrypoint" => {
            none()?;
            Kind::Entrypoint(command_line(node))
        }
        "healthcheck" => Kind::Healthcheck(health(node)?),
        "expose" => {
            let mut ports = at_least_one(node, "EXPOSE")?.to_vec();
            none()?;
            ports.sort();
            Kind::Expose(ports)
        }
        "user" => {
            let text = exactly_one(node, "USER")?;
            none()?;
            Kind::User(text)
        }
        "volume" => {
            let volumes: Vec<String> =
                at_least_one(node, "VOLUME")?.iter().map(|v| v.trim().to_owned()).collect();
            none()?;
            if volumes.iter().any(String::is_empty) {
                return Err("VOLUME specified can not be an empty string".into());
            }
            Kind::Volume(volumes)
        }
        "stopsignal" => Kind::StopSignal(exactly_one(node, "STOPSIGNAL")?),
        "arg" => Kind::Arg(args(node)?),
        "shell" => {
            none()?;
            let words = at_least_one(node, "SHELL")?;
            if !node.json {
                return Err("SHELL requires the arguments to be in JSON form".into());
            }
            Kind::Shell(words.to_vec())
        }
        _ => return Err(suggest(format!("unknown instruction: {}", node.name), &node.name, &NAMES, false)),
    })
}

fn at_least_one<'a>(node: &'a Node, name: &str) -> Result<&'a [String], String> {
    if node.args.is_empty() { Err(format!("{name} requires at least one argument")) } else { Ok(&node.args) }
}

fn exactly_one(node: &Node, name: &str) -> Result<String, String> {
    match node.args.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(format!("{name} requires exactly one argument")),
    }
}

fn pairs(node: &Node, name: &str) -> Result<Vec<Pair>, String> {
    let args = at_least_one(node, name)?;
    let pair = |triple: &[String]| match triple {
        [key, ..] if key.is_empty() => Err(format!("{name} names can not be blank")),
        [key, value, _] => Ok(Pair { name: key.clone(), value: value.clone() }),
        _ => Err(format!("Bad input to {name}, too many arguments")),
    };
    args.chunks(3).map(pair).collect()
}

fn args(node: &Node) -> Result<Vec<(String, Option<String>)>, String> {
    let one = |arg: &String| match arg.split_once('=') {
        Some(("", _)) => Err("ARG names can not be blank".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((arg.clone(), None)),
    };
    at_least_one(node, "ARG")?.iter().map(one).collect()
}

fn copy(node: &Node, name: &str) -> Result<Copy, String> {
    let [paths @ .., destination] = node.args.as_slice() else {
        return Err(no_destination(name));
    };
    if paths.is_empty() {
        return Err(no_destination(name));
    }
    let mut known =
        vec![("chown", Is::Text), ("chmod", Is::Text), ("link", Is::Bool), ("exclude", Is::Texts)];
    if name == "ADD" {
        known.extend([("keep-git-dir", Is::Bool), ("checksum", Is::Text), ("unpack", Is::Bool)]);
    } else {
        known.extend([("from", Is::Text), ("parents", Is::Bool)]);
    }
    let flags = Flags::parse(&node.flags, &known)?;
    let heredoc = |word: &str| lines::heredoc(word).ok().flatten();
    if heredoc(destination).is_some() {
        return Err(format!("{name} cannot accept a heredoc as a destination"));
    }
    let (mut sources, mut files, mut total) = (Vec::new(), Vec::new(), 0);
    for path in paths {
        match heredoc(path) {
            Some(Heredoc { name, expand, chomp, .. }) => {
                let data =
                    node.heredocs.iter().rfind(|h| h.name == name).map(Heredoc::text).unwrap_or_default();
                total += data.len();
                if total > MAX_INLINE {
                    return Err("heredocs are too large".into());
                }
                files.push(InlineFile { name, data, chomp, expand });
            }
            None => sources.push(path.clone()),
        }
    }
    Ok(Copy {
        sources,
        files,
        destination: destination.clone(),
        from: Some(flags.text("from")).filter(|f| !f.is_empty()),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.bool("link").unwrap_or_default(),
        parents: flags.bool("parents").unwrap_or_default(),
        exclude: flags.texts("exclude"),
        checksum: flags.text("checksum"),
        keep_git_dir: flags.bool("keep-git-dir"),
        unpack: flags.bool("unpack"),
    })
}

fn no_destination(name: &str) -> String {
    format!(
        "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
    )
}

fn onbuild(node: &Node) -> Result<Kind, String> {
    let args = at_least_one(node, "ONBUILD")?;
    Flags::parse(&node.flags, &[])?;
    match args[0].trim().to_uppercase().as_str() {
        "ONBUILD" => return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into()),
        trigger @ ("MAINTAINER" | "FROM") => {
            return Err(format!("{trigger} isn't allowed as an ONBUILD trigger"));
        }
        _ => {}
    }
    let original = node.original.trim_start();
    let mut text = original.get("ONBUILD".len()..).unwrap_or_default().trim_start().to_owned();
    for heredoc in &node.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(Kind::Onbuild(text))
}

fn command_line(node: &Node) -> CommandLine {
    let file = |h: &Heredoc| InlineFile {
        name: h.name.clone(),
        data: h.content.clone(),
        chomp: h.chomp,
        expand: h.expand,
    };
    CommandLine {
        words: node.args.clone(),
        shell: !node.json,
        files: node.heredocs.iter().map(file).collect(),
    }
}

fn run(node: &Node) -> Result<Run, String> {
    let known = [("mount", Is::Texts), ("network", Is::Text), ("security", Is::Text), ("device", Is::Texts)];
    let flags = Flags::parse(&node.flags, &known)?;
    let mounts = flags.texts("mount");
    for mount in &mounts {
        parse_mount(mount, None)?;
    }
    let network = match flags.get("network") {
        None | Some("default") => Network::Default,
        Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(other) => return Err(format!("invalid network mode {}", quote(other))),
    };
    let insecure = match flags.get("security") {
        None | Some("sandbox") => false,
        Some("insecure") => true,
        Some(other) => return Err(format!("security {} is not valid", quote(other))),
    };
    let devices = flags.texts("device").iter().map(|text| parse_device(text)).collect::<Result<_, _>>()?;
    Ok(Run { command: command_line(node), mounts, network, insecure, devices })
}

fn health(node: &Node) -> Result<Health, String> {
    let args = at_least_one(node, "HEALTHCHECK")?;
    let (kind, args) = (args[0].to_uppercase(), &args[1..]);
    if kind == "NONE" {
        if !args.is_empty() {
            return Err("HEALTHCHECK NONE takes no arguments".into());
        }
        return Ok(Health { test: Some(vec![kind]), ..Health::default() });
    }
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let flags = Flags::parse(&node.flags, &names.map(|name| (name, Is::Text)))?;
    if kind != "CMD" {
        return Err(format!("Unknown type {} in HEALTHCHECK (try CMD)", quote(&kind)));
    }
    if args.is_empty() {
        return Err("Missing command after HEALTHCHECK CMD".into());
    }
    let kind = if node.json { "CMD" } else { "CMD-SHELL" };
    let duration = |name: &str| match flags.get(name).unwrap_or_default() {
        "" => Ok(0),
        text => match go::parse_duration(text)? {
            0 => Ok(0),
            short if short < 1_000_000 => Err(format!("Interval {} cannot be less than 1ms", quote(name))),
            duration => Ok(duration),
        },
    };
    Ok(Health {
        test: Some(std::iter::once(kind.to_owned()).chain(args.iter().cloned()).collect()),
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries: retries(flags.get("retries").unwrap_or_default())?,
    })
}

fn retries(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let reason = if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        "value out of range"
    } else {
        "invalid syntax"
    };
    let number: i32 =
        text.parse().map_err(|_| format!("strconv.ParseInt: parsing {}: {reason}", quote(text)))?;
    if number < 0 {
        return Err(format!("--retries cannot be negative ({number})"));
    }
    Ok(number.into())
}
