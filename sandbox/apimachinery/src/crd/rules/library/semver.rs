//! Versions as <https://semver.org> has them (k8s.io/apiserver `pkg/cel/library/semverlib.go`). Comparisons have the names of those of
//! quantities, and stand there.

use super::{Result, fail};
use cel::extractors::{Arguments, This};
use cel::objects::Opaque;
use cel::{Context, DeclarationError, Value};
use std::cmp::Ordering;
use std::sync::Arc;

/// A version; what it was built from counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    before: Vec<Part>,
}

/// A part of what stands before a release: numbers are less than names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Name(String),
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // The release itself comes after all that stands before it.
        let of_release = self.before.is_empty().cmp(&other.before.is_empty());
        self.numbers.cmp(&other.numbers).then(of_release).then_with(|| self.before.cmp(&other.before))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Version {
    /// Reads one; `lenient`: it may begin with `v`, have fewer numbers and zeros before them.
    fn parse(text: &str, lenient: bool) -> Option<Self> {
        let text = if lenient { text.strip_prefix('v').unwrap_or(text) } else { text };
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        let (core, before) = text.split_once('-').map_or((text, None), |(core, before)| (core, Some(before)));
        let name = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if build.is_some_and(|build| !build.split('.').all(name)) {
            return None;
        }
        let mut numbers = [0; 3];
        let parts: Vec<_> = core.split('.').collect();
        if parts.len() > 3 || parts.len() < 3 && (!lenient || before.is_some() || build.is_some()) {
            return None;
        }
        for (number, part) in numbers.iter_mut().zip(parts) {
            *number = number_of(part, lenient)?;
        }
        let mut all = Vec::new();
        for part in before.into_iter().flat_map(|before| before.split('.')) {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            all.push(match is_number {
                true => Part::Number(number_of(part, false)?),
                false if name(part) => Part::Name(part.into()),
                false => return None,
            });
        }
        Some(Self { numbers, before: all })
    }
}

fn number_of(part: &str, lenient: bool) -> Option<u64> {
    let fine = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (fine && (lenient || part == "0" || !part.starts_with('0'))).then(|| part.parse().ok())?
}

opaque!(VersionValue, Version, "kubernetes.Semver");

/// Versions of two values, if they are.
pub fn pair<'v>(one: &'v Value, other: &'v Value) -> Option<(&'v Version, &'v Version)> {
    Some((VersionValue::from(one, "").ok()?, VersionValue::from(other, "").ok()?))
}

/// Names the functions of versions alone.
pub fn add(context: &mut Context<'_, '_>) -> std::result::Result<(), DeclarationError> {
    fn read(args: &[Value]) -> Option<Version> {
        match args {
            [Value::String(text)] => Version::parse(text, false),
            [Value::String(text), Value::Bool(lenient)] => Version::parse(text, *lenient),
            _ => None,
        }
    }
    context.add_function("semver", |Arguments(args): Arguments| -> Result {
        match read(&args) {
            Some(version) => Ok(VersionValue::value(version)),
            None => fail("semver", "semver parse error during conversion from string"),
        }
    })?;
    context.add_function("isSemver", |Arguments(args): Arguments| -> Result {
        Ok(Value::Bool(read(&args).is_some()))
    })?;
    for (index, name) in ["major", "minor", "patch"].into_iter().enumerate() {
        context.add_function(name, move |This(this): This<Value>| -> Result {
            let number = VersionValue::from(&this, name)?.numbers[index];
            Ok(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)))
        })?;
    }
    Ok(())
}
