//! What `/metrics` tells: how many requests of which kind were answered how.

use http::StatusCode;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// More combinations than real clients can make; others are not told apart.
const MOST: usize = 2000;

/// Counts of requests.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<BTreeMap<(&'static str, String, u16), u64>>);

impl Metrics {
    /// One more.
    pub fn count(&self, verb: &'static str, resource: &str, code: StatusCode) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = counts.len() >= MOST;
        let key = (verb, resource.to_string(), code.as_u16());
        match counts.get_mut(&key) {
            Some(count) => *count += 1,
            None if is_full => *counts.entry((verb, String::new(), code.as_u16())).or_default() += 1,
            None => {
                counts.insert(key, 1);
            }
        }
    }

    /// In Prometheus' text format.
    pub fn text(&self, revision: i64) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::from(
            "# HELP apiserver_request_total Counter of apiserver requests broken out for each verb, resource and HTTP response code.\n\
             # TYPE apiserver_request_total counter\n",
        );
        for ((verb, resource, code), count) in counts.iter() {
            let verb = verb.to_ascii_uppercase();
            let resource: String =
                resource.chars().filter(|c| !matches!(c, '"' | '\\' | '\n')).take(80).collect();
            let _infallible = writeln!(
                out,
                "apiserver_request_total{{code=\"{code}\",resource=\"{resource}\",verb=\"{verb}\"}} {count}"
            );
        }
        let _infallible = write!(
            out,
            "# HELP apiserver_storage_revision The newest revision of the store that this server has seen.\n\
             # TYPE apiserver_storage_revision gauge\napiserver_storage_revision {revision}\n"
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted() {
        let metrics = Metrics::default();
        metrics.count("get", "pods", StatusCode::OK);
        metrics.count("get", "pods", StatusCode::OK);
        let text = metrics.text(7);
        assert!(
            text.contains("apiserver_request_total{code=\"200\",resource=\"pods\",verb=\"GET\"} 2\n"),
            "{text}"
        );
    }
}
