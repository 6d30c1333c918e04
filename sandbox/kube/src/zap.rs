//! etcd's log: a JSON object a line, as zap writes it (etcd `client/pkg/logutil/zap.go`).

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// See the top of the file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Zap;

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.add(field, format!("{value:?}").into()),
        }
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.rest.insert(field.name().replace('_', "-"), value);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N>
    for Zap
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let data = event.metadata();
        let level = match *data.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let file = data.file().unwrap_or("unknown").rsplit('/').next().unwrap_or_default();
        let caller = format!("etcd/{file}:{}", data.line().unwrap_or_default());
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
        let message = Value::from(fields.message);
        write!(writer, r#"{{"level":"{level}","ts":"{now}","caller":"{caller}","msg":{message}"#)?;
        for (name, value) in fields.rest {
            write!(writer, ",{}:{value}", Value::from(name))?;
        }
        writeln!(writer, "}}")
    }
}
