//! The JSON of a profile, read as Go reads it: fields that nobody knows are passed over, `null` is nothing, and what has the wrong type
//! is told with its place.

use drydock_go::json::{END, kind, words};
use serde_json::{Map, Value};

/// A profile as it is written.
#[derive(Debug, Default)]
pub struct Seccomp {
    pub default_action: String,
    pub default_errno: Option<u64>,
    pub architectures: Vec<String>,
    pub flags: Vec<String>,
    /// Architectures with those below each.
    pub arch_map: Vec<(String, Vec<String>)>,
    pub syscalls: Vec<Syscall>,
}

/// A rule for some calls.
#[derive(Debug, Default)]
pub struct Syscall {
    pub name: String,
    pub names: Vec<String>,
    pub action: String,
    pub errno: Option<u64>,
    pub args: Vec<Argument>,
    pub includes: Option<Conditions>,
    pub excludes: Option<Conditions>,
}

/// Something about an argument of a call.
#[derive(Debug, Default)]
pub struct Argument {
    pub index: u64,
    pub value: u64,
    pub value_two: u64,
    pub op: String,
}

/// When a rule holds, or not.
#[derive(Debug, Default)]
pub struct Conditions {
    pub caps: Vec<String>,
    pub arches: Vec<String>,
    pub min_kernel: Option<(u64, u64)>,
}

type Result<T> = std::result::Result<T, String>;

impl Seccomp {
    /// Reads a profile; the error is Go's.
    pub fn decode(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|error| words(text.as_bytes(), &error, END))?;
        let profile = match &value {
            Value::Null => return Ok(Self::default()),
            Value::Object(fields) => Struct { fields, name: "Seccomp", path: String::new() },
            other => {
                return Err(format!(
                    "json: cannot unmarshal {} into Go value of type seccomp.Seccomp",
                    kind(other)
                ));
            }
        };
        Ok(Self {
            default_action: profile.text("defaultAction", "specs.LinuxSeccompAction")?,
            default_errno: profile.number("defaultErrnoRet", "uint")?,
            architectures: profile.texts("architectures", "specs.Arch")?,
            flags: profile.texts("flags", "specs.LinuxSeccompFlag")?,
            arch_map: profile.structs("archMap", "Architecture", "seccomp.Architecture", "", |arch| {
                Ok((arch.text("architecture", "specs.Arch")?, arch.texts("subArchitectures", "specs.Arch")?))
            })?,
            syscalls: profile.structs("syscalls", "Syscall", "seccomp.Syscall", "*", Syscall::decode)?,
        })
    }
}

impl Syscall {
    fn decode(call: &Struct<'_>) -> Result<Self> {
        Ok(Self {
            name: call.text("name", "string")?,
            names: call.texts("names", "string")?,
            action: call.text("action", "specs.LinuxSeccompAction")?,
            errno: call.number("errnoRet", "uint")?,
            args: call.structs("args", "LinuxSeccompArg", "specs.LinuxSeccompArg", "", |arg| {
                Ok(Argument {
                    index: arg.number("index", "uint")?.unwrap_or(0),
                    value: arg.number("value", "uint64")?.unwrap_or(0),
                    value_two: arg.number("valueTwo", "uint64")?.unwrap_or(0),
                    op: arg.text("op", "specs.LinuxSeccompOperator")?,
                })
            })?,
            includes: Conditions::decode(call, "includes")?,
            excludes: Conditions::decode(call, "excludes")?,
        })
    }
}

impl Conditions {
    fn decode(call: &Struct<'_>, name: &str) -> Result<Option<Self>> {
        let Some(value) = call.get(name) else { return Ok(None) };
        let Value::Object(fields) = value else { return Err(call.wrong(name, value, "seccomp.Filter")) };
        let filter = Struct { fields, name: "Filter", path: call.place(name) };
        Ok(Some(Self {
            caps: filter.texts("caps", "string")?,
            arches: filter.texts("arches", "string")?,
            min_kernel: filter.get("minKernel").map(version).transpose()?.flatten(),
        }))
    }
}

/// `"4.8"`; an empty text is none.
fn version(value: &Value) -> Result<Option<(u64, u64)>> {
    let wrong = || format!("invalid kernel version: {value}, expected \"<kernel>.<major>\"");
    let Value::String(text) = value else {
        return Err(format!(
            "{}: json: cannot unmarshal {} into Go value of type string",
            wrong(),
            kind(value)
        ));
    };
    if text.is_empty() {
        return Ok(None);
    }
    let number = |part: &str| match part.parse::<u8>() {
        Ok(number) if !part.starts_with('+') => Ok(u64::from(number)),
        _ => {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let why = if digits { "value out of range" } else { "invalid syntax" };
            Err(format!("{}: strconv.ParseUint: parsing {part:?}: {why}", wrong()))
        }
    };
    match text.split('.').collect::<Vec<_>>()[..] {
        [kernel, major] => match (number(kernel)?, number(major)?) {
            (0, 0) => Err(format!("{}: version cannot be 0.0", wrong())),
            version => Ok(Some(version)),
        },
        _ => Err(wrong()),
    }
}

/// A JSON object that becomes one of Go's structs.
struct Struct<'a> {
    fields: &'a Map<String, Value>,
    name: &'static str,
    /// Where it stands: names of fields, each with a dot behind it.
    path: String,
}

impl Struct<'_> {
    /// A field, by its name in any case; not one that is `null`.
    fn get(&self, name: &str) -> Option<&Value> {
        let other =
            || self.fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        self.fields.get(name).or_else(other).filter(|value| !value.is_null())
    }

    fn place(&self, name: &str) -> String {
        format!("{}{name}.", self.path)
    }

    fn wrong(&self, name: &str, value: &Value, into: &str) -> String {
        let (of, path) = (self.name, &self.path);
        format!(
            "json: cannot unmarshal {} into Go struct field {of}.{path}{name} of type {into}",
            kind(value)
        )
    }

    fn text(&self, name: &str, go: &str) -> Result<String> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(self.wrong(name, other, go)),
        }
    }

    fn number(&self, name: &str, go: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        if let Some(number) = value.as_u64() {
            return Ok(Some(number));
        }
        let (of, path) = (self.name, &self.path);
        Err(match value {
            Value::Number(number) => {
                format!(
                    "json: cannot unmarshal number {number} into Go struct field {of}.{path}{name} of type {go}"
                )
            }
            other => self.wrong(name, other, go),
        })
    }

    fn list(&self, name: &str, go: &str) -> Result<&[Value]> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(other) => Err(self.wrong(name, other, &format!("[]{go}"))),
        }
    }

    fn texts(&self, name: &str, go: &str) -> Result<Vec<String>> {
        let text = |value: &Value| match value {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text.clone()),
            other => Err(self.wrong(name, other, go)),
        };
        self.list(name, go)?.iter().map(text).collect()
    }

    /// The elements of a list of structs, or of pointers to them.
    fn structs<T>(
        &self,
        name: &str,
        of: &'static str,
        go: &str,
        pointer: &str,
        each: impl Fn(&Struct<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let empty = Map::new();
        let one = |value: &Value| {
            let fields = match value {
                Value::Null => &empty,
                Value::Object(fields) => fields,
                other => return Err(self.wrong(name, other, go)),
            };
            each(&Struct { fields, name: of, path: self.place(name) })
        };
        self.list(name, &format!("{pointer}{go}"))?.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_wrong_type_is_told_as_go_tells_it() {
        for (text, words) in [
            ("[]", "json: cannot unmarshal array into Go value of type seccomp.Seccomp"),
            (
                r#"{"syscalls": "x"}"#,
                "json: cannot unmarshal string into Go struct field Seccomp.syscalls of type []*seccomp.Syscall",
            ),
            (
                r#"{"syscalls": [{"names": "mkdir"}]}"#,
                "json: cannot unmarshal string into Go struct field Syscall.syscalls.names of type []string",
            ),
            (
                r#"{"defaultErrnoRet": -1}"#,
                "json: cannot unmarshal number -1 into Go struct field Seccomp.defaultErrnoRet of type uint",
            ),
            (
                r#"{"syscalls": [{"includes": {"minKernel": "4"}}]}"#,
                "invalid kernel version: \"4\", expected \"<kernel>.<major>\"",
            ),
            ("{\"defaultAction\": ", "unexpected end of JSON input"),
        ] {
            assert_eq!(Seccomp::decode(text).unwrap_err(), words);
        }
    }

    #[test]
    fn names_of_fields_have_any_case_and_null_is_nothing() {
        let profile =
            Seccomp::decode(r#"{"DefaultAction": "x", "syscalls": null, "archMap": [null], "comment": 1}"#)
                .unwrap();
        assert_eq!((profile.default_action.as_str(), profile.syscalls.len()), ("x", 0));
        assert_eq!(profile.arch_map.len(), 1);
    }
}
