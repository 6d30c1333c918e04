//! The query of a request, and the conversions of its values as Kubernetes makes them (k8s.io/apimachinery `pkg/runtime/converter.go`).

use drydock_apimachinery::Status;

/// Names and values in the order in which they were written. Of the names that the API server reads, the first value counts.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

/// More parameters than this are cut off: the longest real ones (`exec` with its command) have some dozens.
const MOST: usize = 1024;

impl Query {
    /// Reads what follows the question mark.
    pub fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Self(pairs.take(MOST).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name; empty if there is none.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All pairs.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// A boolean, as `Convert_Slice_string_To_bool` reads it: anything but `false` and `0` is true.
    pub fn flag(&self, name: &str) -> bool {
        self.flag_given(name).unwrap_or(false)
    }

    /// The same, and whether it was given at all.
    pub fn flag_given(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// A whole number; absent or empty: none.
    pub fn int(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => parse_int(text).map(Some),
        }
    }
}

/// `strconv.ParseInt` with its errors.
fn parse_int(text: &str) -> Result<i64, Status> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_go_reads_them() {
        let query = Query::parse("a=1&b=abc&c=false&d=0&e&f=True&g=99999999999999999999&a=2");
        assert_eq!(query.int("a").expect("a number"), Some(1));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        let words = query.int("b").expect_err("no number").message;
        assert_eq!(words, "strconv.ParseInt: parsing \"abc\": invalid syntax");
        let words = query.int("g").expect_err("too large").message;
        assert_eq!(words, "strconv.ParseInt: parsing \"99999999999999999999\": value out of range");
        assert!(!query.flag("c") && !query.flag("d") && query.flag("e") && query.flag("f"));
        assert!(query.flag_given("z").is_none());
    }
}
