//! The functions that expressions may call, as `functions.txt` declares them: the standard ones, and what Kubernetes adds to them in the
//! version that an API server of 1.35 takes in new expressions (k8s.io/apiserver `pkg/cel/environment/base.go`).

use super::types::{Kind, Type};
use std::collections::HashMap;
use std::sync::OnceLock;

/// The table of them all.
const TABLE: &str = include_str!("functions.txt");
/// Types of Kubernetes' own.
const NAMED: [&str; 11] = [
    "kubernetes.URL",
    "kubernetes.Quantity",
    "kubernetes.NamedFormat",
    "kubernetes.Semver",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
    "net.IP",
    "net.CIDR",
];

/// One way to call a function.
#[derive(Debug)]
pub struct Overload {
    /// What it is called in tables of costs.
    pub id: &'static str,
    /// Whether it is called as `target.name(…)`.
    pub member: bool,
    /// The target, if it has one, and the arguments.
    pub args: Vec<Type>,
    pub result: Type,
    /// How many types of any kind it has.
    pub params: u32,
}

fn all() -> &'static HashMap<&'static str, Vec<Overload>> {
    static ALL: OnceLock<HashMap<&'static str, Vec<Overload>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for (name, overload) in TABLE.lines().filter_map(line) {
            all.entry(name).or_default().push(overload);
        }
        all
    })
}

/// All ways to call a function of that name; nothing if there is none.
pub fn find(name: &str) -> Option<(&'static str, &'static [Overload])> {
    all().get_key_value(name).map(|(name, overloads)| (*name, overloads.as_slice()))
}

/// Whether a name is one of a type, or the first part of one of a type or function.
pub fn is_known(name: &str) -> bool {
    let first = |one: &str| one.split_once('.').is_some_and(|(first, _)| first == name);
    type_named(name).is_some()
        || name == "google"
        || NAMED.iter().any(|one| first(one))
        || all().keys().any(|one| first(one))
}

fn line(line: &'static str) -> Option<(&'static str, Overload)> {
    let (name, rest) = line.trim().split_once(' ').filter(|(name, _)| *name != "#")?;
    let (id, signature) = rest.trim().split_once(' ')?;
    let (called, result) = signature.rsplit_once("->")?;
    let mut letters = Letters(Vec::new());
    // The arguments' bracket is the one that opens at the start, or after a dot.
    let (target, args) = match called.trim().split_once(".(") {
        Some((target, args)) => (Some(target.trim()), args),
        None => (None, called.trim().strip_prefix('(')?),
    };
    let args = args.strip_suffix(')')?;
    let mut all: Vec<_> = target.map(|target| letters.read(target)).into_iter().collect();
    all.extend(split(args).into_iter().map(|arg| letters.read(arg)));
    let result = letters.read(result);
    Some((name, Overload { id, member: target.is_some(), args: all, result, params: letters.0.len() as u32 }))
}

/// Parts between commas that stand in no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// The letters of a line, in the order in which they came.
struct Letters(Vec<String>);

impl Letters {
    fn read(&mut self, text: &str) -> Type {
        let text = text.trim();
        if let Some((kind, of)) = text.split_once('(') {
            let of =
                split(of.strip_suffix(')').unwrap_or(of)).into_iter().map(|one| self.read(one)).collect();
            let kind = match kind {
                "list" => Kind::List,
                "map" => Kind::Map,
                "type" => Kind::Type,
                _ => Kind::Optional,
            };
            return Type::made(kind, of);
        }
        plain(text).unwrap_or_else(|| {
            let known = self.0.iter().position(|letter| letter == text);
            Type::Param(known.unwrap_or_else(|| {
                self.0.push(text.into());
                self.0.len() - 1
            }) as u32)
        })
    }
}

fn plain(name: &str) -> Option<Type> {
    Some(match name {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::Text,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        other => return named(other),
    })
}

/// A type that is written as in the table.
#[cfg(test)]
pub fn read(text: &str) -> Type {
    Letters(Vec::new()).read(text)
}

/// A type of Kubernetes' own.
pub fn named(name: &str) -> Option<Type> {
    NAMED.iter().find(|one| **one == name).map(|one| Type::Named(one))
}

/// The type that a name means where an expression uses it as a value.
pub fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" | "int" | "uint" | "double" | "string" | "bytes" => plain(name)?,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "optional_type" => Type::optional(Type::Dyn),
        "type" => Type::made(Kind::Type, Vec::new()),
        other if other.starts_with("google.protobuf.") => Type::Dyn,
        other => named(other)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_is_understood() {
        let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for one in lines {
            let (name, overload) = line(one).unwrap_or_else(|| panic!("{one}"));
            assert!(overload.params <= 2, "{one}: {overload:?}");
            assert!(find(name).is_some());
        }
        let (_, size) = find("size").expect("size");
        assert_eq!(size.len(), 8);
        assert_eq!(size[5].args[0].to_string(), "map(_var0, _var1)");
        assert_eq!(find("isGreaterThan").expect("comparison").1.len(), 2);
    }
}
