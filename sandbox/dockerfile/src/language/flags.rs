//! `--name=value` of instructions, with BuildKit's checks and words (instructions/bflag.go).

use super::error::suggest;

/// Which value a flag has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Bool,
    Text,
    /// May be given several times.
    Texts,
}

/// The flags of one instruction.
#[derive(Debug)]
pub(super) struct Flags {
    given: Vec<(&'static str, String)>,
}

impl Flags {
    pub fn parse(args: &[String], known: &[(&'static str, Is)]) -> Result<Self, String> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for arg in args {
            let name = arg.strip_prefix("--").ok_or_else(|| format!("arg should start with -- : {arg}"))?;
            let (name, value) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v)));
            let Some((key, is)) = known.iter().find(|(key, _)| *key == name) else {
                let names: Vec<&str> = known.iter().map(|(key, _)| *key).collect();
                return Err(suggest(format!("unknown flag: --{name}"), name, &names, true));
            };
            if *is != Is::Texts && given.iter().any(|(k, _)| k == key) {
                return Err(format!("duplicate flag specified: --{name}"));
            }
            let value = match (is, value) {
                (Is::Bool, None) => "true".into(),
                (Is::Bool, Some(value)) if !value.is_empty() => match value.to_lowercase().as_str() {
                    value @ ("true" | "false") => value.to_owned(),
                    _ => return Err(format!("expecting boolean value for flag --{name}, not: {value}")),
                },
                (Is::Text | Is::Texts, Some(value)) => value.to_owned(),
                _ => return Err(format!("missing a value on flag: --{name}")),
            };
            given.push((key, value));
        }
        Ok(Self { given })
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    pub fn bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "true")
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        self.given.iter().filter(|(key, _)| *key == name).map(|(_, value)| value.clone()).collect()
    }
}
