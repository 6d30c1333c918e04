//! `filters=` of list, prune and events requests: what must be true of a thing. Two spellings are read: the map form of
//! today's clients (`{"label":{"a=b":true}}`) and the list form of older ones (`{"label":["a=b"]}`).

use crate::error::{Error, Result};
use crate::http::Query;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Filters by key; a key may have several values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads the `filters` of a query; absent or empty means none.
    pub fn of(query: &Query) -> Result<Self> {
        Self::parse(query.get("filters"))
    }

    /// Reads either spelling.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = || Error::invalid("invalid filter");
        let fields = match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => fields,
            Ok(Value::Null) => return Ok(Self::default()),
            _ => return Err(invalid()),
        };
        let values = |value: Value| -> Option<BTreeSet<String>> {
            match value {
                // A value that is `false` is named but not asked for.
                Value::Object(values) => values
                    .into_iter()
                    .filter_map(|(name, asked)| match asked {
                        Value::Bool(true) => Some(Some(name)),
                        Value::Bool(false) => None,
                        _ => Some(None),
                    })
                    .collect(),
                Value::Array(values) => values
                    .into_iter()
                    .map(|value| if let Value::String(text) = value { Some(text) } else { None })
                    .collect(),
                Value::Null => Some(BTreeSet::new()),
                _ => None,
            }
        };
        let fields = fields.into_iter().map(|(key, value)| Some((key, values(value)?)));
        fields.collect::<Option<BTreeMap<_, _>>>().map(Self).ok_or_else(invalid)
    }

    /// Refuses keys that the request does not know.
    pub fn validate(&self, accepted: &[&str]) -> Result<()> {
        match self.0.keys().find(|key| !accepted.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Adds a value.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().insert(value.to_owned());
    }

    /// Whether a key is there.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The values of a key.
    pub fn get<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether `value` is one of the key's values, or there are none.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        match self.0.get(key) {
            Some(values) if !values.is_empty() => values.contains(value),
            _ => true,
        }
    }

    /// Whether one of the key's values, as a regular expression, is found in `value`; or there are none.
    pub fn matches(&self, key: &str, value: &str) -> bool {
        self.exact(key, value)
            || self.get(key).any(|pattern| regex_lite::Regex::new(pattern).is_ok_and(|re| re.is_match(value)))
    }

    /// Whether `value` begins with one of the key's values, or there are none.
    pub fn prefix(&self, key: &str, value: &str) -> bool {
        self.exact(key, value) || self.get(key).any(|prefix| value.starts_with(prefix))
    }

    /// Whether all of the key's `name` and `name=value` are among `labels`.
    pub fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(key).all(|wanted| has_label(labels, wanted))
    }

    /// What prune asks of labels: all of `label`, none of `label!`.
    pub fn prune_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels("label", labels) && !self.get("label!").any(|unwanted| has_label(labels, unwanted))
    }

    /// The truth value of a key; `None` if it is absent.
    pub fn truth(&self, key: &str) -> Result<Option<bool>> {
        let Some(values) = self.0.get(key) else { return Ok(None) };
        let has = |texts: [&str; 2]| texts.iter().any(|text| values.contains(*text));
        match (has(["1", "true"]), has(["0", "false"])) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ if values.is_empty() => Err(Error::invalid(format!("invalid filter '{key}'"))),
            _ => {
                let values = values.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
                Err(Error::invalid(format!("invalid filter '{key}=[{values}]'")))
            }
        }
    }
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|is| is == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Filters {
        Filters::parse(text).unwrap()
    }

    #[test]
    fn both_spellings_are_read() {
        let map = parse(r#"{"label":{"a=b":true,"c":true,"no":false},"status":{"exited":true}}"#);
        let list = parse(r#"{"label":["a=b","c"],"status":["exited"]}"#);
        assert_eq!(map, list);
        assert_eq!(map.get("label").collect::<Vec<_>>(), ["a=b", "c"]);
        assert_eq!((parse(""), parse("{}")), (Filters::default(), Filters::default()));
        for wrong in ["x", "[]", r#"{"a":1}"#, r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#] {
            assert_eq!(Filters::parse(wrong).unwrap_err().message, "invalid filter", "{wrong}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let unknown = parse(r#"{"foo":{"x":true}}"#).validate(&["name"]).unwrap_err();
        assert_eq!(unknown, Error::invalid("invalid filter 'foo'"));
        assert!(parse(r#"{"name":{"x":true}}"#).validate(&["name"]).is_ok());
    }

    #[test]
    fn values_match_exactly_by_pattern_or_by_beginning() {
        let filters = parse(r#"{"name":["^web-[0-9]+$","db"],"id":["abc"],"broken":["("]}"#);
        assert!(filters.matches("name", "web-12") && filters.matches("name", "my-db-1"));
        assert!(!filters.matches("name", "web-x") && !filters.matches("broken", "x"));
        assert!(filters.prefix("id", "abcdef") && !filters.prefix("id", "xabc"));
        assert!(filters.exact("absent", "anything") && !filters.exact("id", "abcdef"));
    }

    #[test]
    fn all_labels_must_be_there() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
        assert!(parse(r#"{"label":["a=b","c"]}"#).labels("label", &labels));
        assert!(!parse(r#"{"label":["a=b","d"]}"#).labels("label", &labels));
        assert!(!parse(r#"{"label":["a=x"]}"#).labels("label", &labels));
        assert!(parse(r#"{"label!":["a=x"]}"#).prune_labels(&labels));
        assert!(!parse(r#"{"label!":["a"]}"#).prune_labels(&labels));
    }

    #[test]
    fn truth_values() {
        assert_eq!(parse(r#"{"dangling":["true"]}"#).truth("dangling"), Ok(Some(true)));
        assert_eq!(parse(r#"{"dangling":["0"]}"#).truth("dangling"), Ok(Some(false)));
        assert_eq!(parse("").truth("dangling"), Ok(None));
        let wrong = parse(r#"{"dangling":["maybe"]}"#).truth("dangling").unwrap_err();
        assert_eq!(wrong.message, "invalid filter 'dangling=[maybe]'");
        assert!(parse(r#"{"dangling":["0","1"]}"#).truth("dangling").is_err());
    }
}
