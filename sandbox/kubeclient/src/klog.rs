//! A component's log as klog writes it: `I1128 06:29:16.123456       1 kubelet.rs:12] "message" key="value"`.

use k8s_openapi::jiff::Zoned;
use std::fmt;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// See the top of the file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Klog;

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), format!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            let quoted = text.parse::<f64>().is_err() && text.parse::<bool>().is_err();
            self.add(field.name(), if quoted { format!("{text:?}") } else { text });
        }
    }
}

impl Fields {
    fn add(&mut self, name: &str, value: String) {
        let name = if name == "error" { "err" } else { name };
        self.rest.push_str(&format!(" {name}={value}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N>
    for Klog
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let data = event.metadata();
        let level = match *data.level() {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let now = Zoned::now().strftime("%m%d %H:%M:%S.%6f");
        let file = data.file().and_then(|f| f.rsplit('/').next()).unwrap_or("unknown");
        let mut fields = Fields::default();
        event.record(&mut fields);
        let process = std::process::id();
        let line = data.line().unwrap_or(0);
        writeln!(writer, "{level}{now} {process:>7} {file}:{line}] {:?}{}", fields.message, fields.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_of_klogs() {
        let sink = Sink::default();
        let writer = sink.clone();
        let log = tracing_subscriber::fmt().event_format(Klog).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let error = "it \"broke\"";
            tracing::warn!(%error, pods = 3, ready = true, name = "web", "Failed to sync");
        });
        let line = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let (head, text) = line.split_once("] ").unwrap();
        assert_eq!(text, "\"Failed to sync\" err=\"it \\\"broke\\\"\" pods=3 ready=true name=\"web\"\n");
        let words: Vec<&str> = head.split_whitespace().collect();
        assert!(words[0].starts_with('W') && words[0].len() == 5, "{head}");
        assert_eq!((words[1].len(), words[2]), (15, &*std::process::id().to_string()), "{head}");
        assert!(words[3].starts_with("klog.rs:"), "{head}");
    }
}
