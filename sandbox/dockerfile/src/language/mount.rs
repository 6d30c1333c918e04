//! `RUN --mount=type=…` (instructions/commands_runmount.go). A mount is checked when the file is read, as far as that is possible
//! without variables, and read again with them when it is run.

use super::error::suggest;
use super::go::{parse_bool, quote};

/// `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// `type=`.
    pub kind: MountKind,
    /// `from=`: stage or image.
    pub from: Option<String>,
    /// `source=`.
    pub source: String,
    /// `target=`.
    pub target: String,
    /// Nothing may be written. What is written to a bind mount is dropped afterwards anyway.
    pub read_only: bool,
    /// `size=` of a tmpfs.
    pub size: Option<u64>,
    /// `id=`.
    pub id: String,
    /// `sharing=` of a cache.
    pub sharing: Sharing,
    /// `required`: a missing secret is an error.
    pub required: bool,
    /// `env=` of a secret; an empty name stands for its id.
    pub env: Option<String>,
    /// `mode=`.
    pub mode: Option<u32>,
    /// `uid=`.
    pub uid: Option<u32>,
    /// `gid=`.
    pub gid: Option<u32>,
}

/// `type=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret as a file or a variable.
    Secret,
    /// The client's SSH agent.
    Ssh,
}

impl MountKind {
    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// `sharing=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Several builds use it at once.
    #[default]
    Shared,
    /// Each of several builds at once gets one of its own.
    Private,
    /// One build waits for the other.
    Locked,
}

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Expands the variables in a word.
pub type Expand<'a> = dyn Fn(&str) -> Result<String, String> + 'a;

/// Reads the value of a `--mount`. Without `expand`, only what needs no variables is checked.
///
/// # Errors
/// BuildKit's text.
pub fn parse_mount(value: &str, expand: Option<&Expand<'_>>) -> Result<Mount, String> {
    let mut mount = Mount::default();
    let (mut read_only, mut sharing) = (None, None);
    for field in csv(value)? {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(k, v)| (k, Some(v)));
        let key = key.to_lowercase();
        let Some(expand) = expand else {
            if key == "from" && value.is_some_and(|v| v.find('$').is_some_and(|at| at + 1 != v.len())) {
                return Err("'from' doesn't support variable expansion, define alias stage instead".into());
            }
            if key == "from" {
                mount.from = value.filter(|v| !v.is_empty()).map(str::to_owned);
            }
            continue;
        };
        match value {
            Some(value) => set(&mut mount, (&mut read_only, &mut sharing), &key, &expand(value)?, &field)?,
            None => match key.as_str() {
                "readonly" | "ro" => read_only = Some(true),
                "readwrite" | "rw" => read_only = Some(false),
                "required" if matches!(mount.kind, MountKind::Secret | MountKind::Ssh) => {
                    mount.required = true
                }
                "required" => return Err(unexpected(&key, &mount)),
                _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
            },
        }
    }
    if expand.is_some() {
        check(&mount, sharing)?;
    }
    mount.sharing = sharing.unwrap_or_default();
    mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
    Ok(mount)
}

fn unexpected(key: &str, mount: &Mount) -> String {
    format!("unexpected key '{key}' for mount type '{}'", mount.kind.name())
}

type Late<'a> = (&'a mut Option<bool>, &'a mut Option<Sharing>);

fn set(mount: &mut Mount, late: Late<'_>, key: &str, value: &str, field: &str) -> Result<(), String> {
    let bool = || parse_bool(value).ok_or_else(|| format!("invalid value for {key}: {value}"));
    let number = || value.parse::<u32>().map(Some).map_err(|_| format!("invalid value {value} for {key}"));
    let (read_only, sharing) = late;
    match key {
        "type" => {
            mount.kind = match value.to_lowercase().as_str() {
                "bind" => MountKind::Bind,
                "cache" => MountKind::Cache,
                "tmpfs" => MountKind::Tmpfs,
                "secret" => MountKind::Secret,
                "ssh" => MountKind::Ssh,
                _ => {
                    return Err(suggest(
                        format!("unsupported mount type {}", quote(value)),
                        value,
                        &KINDS,
                        true,
                    ));
                }
            }
        }
        "from" => mount.from = Some(value.to_owned()).filter(|v| !v.is_empty()),
        "source" | "src" => mount.source = value.into(),
        "target" | "dst" | "destination" => mount.target = value.into(),
        "readonly" | "ro" => *read_only = Some(bool()?),
        "readwrite" | "rw" => *read_only = Some(!bool()?),
        "required" if matches!(mount.kind, MountKind::Secret | MountKind::Ssh) => mount.required = bool()?,
        "size" if mount.kind == MountKind::Tmpfs => {
            mount.size = Some(bytes(value).ok_or_else(|| format!("invalid value for {key}: {value}"))?);
        }
        "required" | "size" => return Err(unexpected(key, mount)),
        "id" => mount.id = value.into(),
        "sharing" => {
            *sharing = Some(match value.to_lowercase().as_str() {
                "shared" => Sharing::Shared,
                "private" => Sharing::Private,
                "locked" => Sharing::Locked,
                _ => {
                    let message = format!("unsupported sharing value {}", quote(value));
                    return Err(suggest(message, value, &["shared", "private", "locked"], true));
                }
            });
        }
        "mode" => {
            mount.mode =
                Some(u32::from_str_radix(value, 8).map_err(|_| format!("invalid value {value} for mode"))?);
        }
        "uid" => mount.uid = number()?,
        "gid" => mount.gid = number()?,
        "env" => mount.env = Some(value.into()),
        _ => return Err(suggest(format!("unexpected key '{key}' in '{field}'"), key, &KEYS, true)),
    }
    Ok(())
}

fn check(mount: &Mount, sharing: Option<Sharing>) -> Result<(), String> {
    let kind = mount.kind;
    if matches!(kind, MountKind::Bind | MountKind::Tmpfs) {
        for (name, given) in [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)] {
            if given.is_some() {
                return Err(format!("{name} not allowed for {} type mounts", quote(kind.name())));
            }
        }
    }
    if kind == MountKind::Secret {
        if mount.from.is_some() {
            return Err("secret mount should not have a from".into());
        }
        if sharing.is_some() {
            return Err("secret mount should not define sharing".into());
        }
        if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            return Err("invalid secret mount. one of source, target required".into());
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err("both source and id can't be set".into());
        }
    }
    if sharing.is_some() && kind != MountKind::Cache {
        return Err(format!("invalid cache sharing set for {} mount", kind.name()));
    }
    Ok(())
}

/// Fields of a line of CSV.
pub(super) fn csv(line: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut rest) = (Vec::new(), line);
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let (field, after) = rest.split_once(',').map_or((rest, None), |(f, a)| (f, Some(a)));
            if field.contains('"') {
                return Err(
                    "failed to parse csv mounts: parse error on line 1: bare \" in non-quoted-field".into()
                );
            }
            fields.push(field.to_owned());
            match after {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let (mut field, mut chars) = (String::new(), quoted.char_indices().peekable());
        let bad = || {
            "failed to parse csv mounts: parse error on line 1: extraneous or missing \" in quoted-field"
                .to_owned()
        };
        rest = loop {
            match chars.next() {
                Some((_, '"')) if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                    chars.next();
                    field.push('"');
                }
                Some((at, '"')) => break &quoted[at + 1..],
                Some((_, c)) => field.push(c),
                None => return Err(bad()),
            }
        };
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(bad()),
        }
    }
}

/// `10m`, `1.5GB`: docker/go-units' RAMInBytes.
fn bytes(text: &str) -> Option<u64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let number: f64 = text[..end].trim().parse().ok().filter(|n| *n >= 0.0)?;
    let unit = text[end..].trim_start().to_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    Some((number * (1u64 << shift) as f64) as u64)
}
