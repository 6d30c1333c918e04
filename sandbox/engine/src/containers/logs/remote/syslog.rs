//! `--log-driver syslog`: RFC 3164 and RFC 5424 over UDP, TCP and Unix sockets (moby's `daemon/logger/syslog`).

use super::{
    super::{
        super::streams::Stream,
        info::{Info, host_name},
    },
    Address, Driver, Line, Patience, Sink,
    connection::Url,
    is_common,
    tls::Tls,
};
use crate::clock::Timestamp;
use std::{collections::BTreeMap, time::Duration};

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "",
    "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Without the host's name, as local programs write.
    Unix,
    Rfc3164,
    Rfc5424,
    /// With microseconds.
    Rfc5424Micro,
}

struct Syslog {
    facility: usize,
    form: Form,
    tag: String,
    host: String,
    /// Each message has its length before it (RFC 5425).
    counted: bool,
}

/// `ValidateLogOpt`.
pub fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    for option in options.keys() {
        let own = matches!(
            option.as_str(),
            "syslog-address"
                | "syslog-facility"
                | "syslog-tls-ca-cert"
                | "syslog-tls-cert"
                | "syslog-tls-key"
                | "syslog-tls-skip-verify"
                | "syslog-format"
        );
        if !own && !is_common(option) {
            return Err(format!("unknown log opt '{option}' for syslog log driver"));
        }
    }
    read(options).map(drop)
}

fn read(options: &BTreeMap<String, String>) -> Result<(Address, usize, Form), String> {
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    Ok((
        address(option("syslog-address"))?,
        facility(option("syslog-facility"))?,
        form(option("syslog-format"))?,
    ))
}

fn address(text: &str) -> Result<Address, String> {
    if text.is_empty() {
        return Ok(Address::System);
    }
    let url = Url::read(text)?;
    if matches!(url.scheme, "unix" | "unixgram") {
        if let Err(error) = std::fs::metadata(url.path) {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let why = if missing { "no such file or directory".into() } else { error.to_string() };
            return Err(format!("stat {}: {why}", url.path));
        }
        let path = url.path.into();
        return Ok(if url.scheme == "unix" { Address::Unix(path) } else { Address::Unixgram(path) });
    }
    let port = if url.port.is_empty() { Ok(514) } else { url.port.parse() };
    let port = port.map_err(|_| format!("address {}: invalid port", url.port))?;
    match url.scheme {
        "udp" => Ok(Address::Udp(url.host.into(), port)),
        "tcp" => Ok(Address::Tcp(url.host.into(), port)),
        "tcp+tls" => Ok(Address::Tls(url.host.into(), port, Tls::default())),
        other => Err(format!("unsupported scheme: '{other}'")),
    }
}

fn facility(text: &str) -> Result<usize, String> {
    if text.is_empty() {
        return Ok(3);
    }
    let named = FACILITIES.iter().position(|name| *name == text);
    let found = named.or_else(|| text.parse().ok().filter(|number| *number < FACILITIES.len()));
    found.ok_or_else(|| "invalid syslog facility".into())
}

fn form(text: &str) -> Result<Form, String> {
    match text {
        "" => Ok(Form::Unix),
        "rfc3164" => Ok(Form::Rfc3164),
        "rfc5424" => Ok(Form::Rfc5424),
        "rfc5424micro" => Ok(Form::Rfc5424Micro),
        _ => Err("Invalid syslog format".into()),
    }
}

pub(super) fn driver(info: &Info<'_>) -> Result<Driver, String> {
    let tag = info.tag("{{.ID}}")?;
    let options = &info.0.host.log_config.config;
    let (mut address, facility, form) = read(options)?;
    if let Address::Tls(.., tls) = &mut address {
        let option = |name: &str| options.get(name).cloned().unwrap_or_default();
        *tls = Tls {
            ca: option("syslog-tls-ca-cert"),
            cert: option("syslog-tls-cert"),
            key: option("syslog-tls-key"),
            anyone: options.contains_key("syslog-tls-skip-verify"),
        };
    }
    let secure = matches!(address, Address::Tls(..));
    let counted = secure && matches!(form, Form::Rfc5424 | Form::Rfc5424Micro);
    let sink = Box::new(Syslog { facility, form, tag, host: host_name(), counted });
    let patience = Patience { tries: 1, pause: Duration::ZERO, growth: 1.0 };
    Ok(Driver { sink, address, patience, lazy: false })
}

impl Sink for Syslog {
    fn encode(&self, line: &Line) -> Vec<Vec<u8>> {
        if line.text.is_empty() {
            return vec![];
        }
        let severity = if line.stream == Stream::Err { 3 } else { 6 };
        let mut text =
            self.head(self.facility * 8 + severity, Timestamp::now(), std::process::id()).into_bytes();
        text.extend_from_slice(&line.text);
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        if self.counted {
            text.splice(..0, format!("{} ", text.len()).into_bytes());
        }
        vec![text]
    }
}

impl Syslog {
    fn head(&self, priority: usize, now: Timestamp, pid: u32) -> String {
        let Self { tag, host, .. } = self;
        let iso = now.to_string();
        let whole = iso.get(..19).unwrap_or_default();
        match self.form {
            Form::Unix => format!("<{priority}>{} {tag}[{pid}]: ", stamp(whole)),
            Form::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", stamp(whole)),
            Form::Rfc5424 => format!("<{priority}>1 {whole}Z {host} {tag} {pid} {tag} - "),
            Form::Rfc5424Micro => {
                let micros = now.nanos().rem_euclid(1_000_000_000) / 1000;
                format!("<{priority}>1 {whole}.{micros:06}Z {host} {tag} {pid} {tag} - ")
            }
        }
    }
}

/// `Jan _2 15:04:05`.
fn stamp(iso: &str) -> String {
    let number = |range: std::ops::Range<usize>| {
        iso.get(range).and_then(|text| text.parse::<usize>().ok()).unwrap_or(1)
    };
    let month = MONTHS[number(5..7).clamp(1, 12) - 1];
    format!("{month} {:>2} {}", number(8..10), iso.get(11..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_form_that_is_asked_for() {
        let syslog =
            |form| Syslog { facility: 3, form, tag: "web".into(), host: "node1".into(), counted: false };
        let now = Timestamp::from_unix(1_700_000_000, 12_345_678);
        let head = |form| syslog(form).head(30, now, 7);
        assert_eq!(head(Form::Unix), "<30>Nov 14 22:13:20 web[7]: ");
        assert_eq!(head(Form::Rfc3164), "<30>Nov 14 22:13:20 node1 web[7]: ");
        assert_eq!(head(Form::Rfc5424), "<30>1 2023-11-14T22:13:20Z node1 web 7 web - ");
        assert_eq!(head(Form::Rfc5424Micro), "<30>1 2023-11-14T22:13:20.012345Z node1 web 7 web - ");
        let counted = Syslog { counted: true, ..syslog(Form::Rfc5424) };
        let syslog = Syslog { facility: 16, host: String::new(), ..syslog(Form::Unix) };
        let line = |text: &str| Line { stream: Stream::Err, time: now, text: text.into(), partial: false };
        let sent = syslog.encode(&line("oh")).concat();
        assert!(sent.starts_with(b"<131>") && sent.ends_with(b"]: oh\n"));
        assert!(syslog.encode(&line("")).is_empty());
        let sent = String::from_utf8(counted.encode(&line("oh")).concat()).unwrap();
        let (length, message) = sent.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()), "{sent}");
        assert!(message.starts_with("<27>1 ") && message.ends_with(" - oh\n"), "{sent}");
    }

    #[test]
    fn options_are_refused_in_mobys_words() {
        let check = |name: &str, value: &str| check(&[(name.to_owned(), value.to_owned())].into());
        let wrong = |name: &str, value: &str| check(name, value).unwrap_err();
        assert_eq!(wrong("foo", "1"), "unknown log opt 'foo' for syslog log driver");
        assert_eq!(wrong("syslog-address", "foo"), "unsupported scheme: ''");
        assert_eq!(wrong("syslog-address", "unix:///nowhere"), "stat /nowhere: no such file or directory");
        assert_eq!(wrong("syslog-facility", "24"), "invalid syslog facility");
        assert_eq!(wrong("syslog-format", "x"), "Invalid syslog format");
        assert_eq!(check("syslog-address", "udp://127.0.0.1"), Ok(()));
        assert_eq!(address("tcp+tls://log"), Ok(Address::Tls("log".into(), 514, Tls::default())));
        assert_eq!(address("tcp://log:1514"), Ok(Address::Tcp("log".into(), 1514)));
        assert_eq!((facility("local3"), facility("")), (Ok(19), Ok(3)));
    }
}
