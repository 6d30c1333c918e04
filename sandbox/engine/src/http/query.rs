//! Query strings. The API repeats keys (`t=a&t=b`), writes truth in several ways and leaves out what is default, so a
//! request's query is a list to ask, not a struct to fill.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::convert::Infallible;

/// The query of a request, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query string. Nothing is refused: what is not UTF-8 is replaced.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a key; empty if there is none.
    pub fn get(&self, key: &str) -> &str {
        self.all(key).next().unwrap_or("")
    }

    /// The first value of a key, if it is there and not empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        Some(self.get(key)).filter(|value| !value.is_empty())
    }

    /// All values of a key, in order.
    pub fn all<'a, 'k>(&'a self, key: &'k str) -> impl Iterator<Item = &'a str> + use<'a, 'k> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether a key is there, with whatever value.
    pub fn has(&self, key: &str) -> bool {
        self.all(key).next().is_some()
    }

    /// A truth value as Docker reads it: absent, empty, `0`, `no`, `false` and `none` are false, all else is true.
    pub fn flag(&self, key: &str) -> bool {
        let value = self.get(key).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A truth value with a default for a key that is absent.
    pub fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.has(key) { self.flag(key) } else { default }
    }

    /// A number; `None` if it is absent or no number.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.get(key).trim().parse().ok()
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or("")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_kept_in_order() {
        let query = Query::parse("t=a%2Fb&t=c&all=1&dockerfile=");
        assert_eq!(query.all("t").collect::<Vec<_>>(), ["a/b", "c"]);
        assert_eq!(query.get("t"), "a/b");
        assert_eq!(query.text("dockerfile"), None);
        assert!(query.has("dockerfile") && !query.has("nothing"));
    }

    #[test]
    fn truth_is_written_in_many_ways() {
        let query = Query::parse("a=1&b=True&c=0&d=false&e=&f=no&g=none&h=x&n=12&m=x");
        for yes in ["a", "b", "h"] {
            assert!(query.flag(yes), "{yes}");
        }
        for no in ["c", "d", "e", "f", "g", "absent"] {
            assert!(!query.flag(no), "{no}");
        }
        assert!(query.flag_or("absent", true) && !query.flag_or("c", true));
        assert_eq!((query.number("n"), query.number("m"), query.number("absent")), (Some(12), None, None));
    }
}
