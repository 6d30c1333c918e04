//! `--log-driver fluentd`: Fluentd's forward protocol, MessagePack over TCP or a Unix socket (moby's `daemon/logger/fluentd`).

use super::{super::info::Info, Address, Driver, Line, Patience, Sink, connection::Url, is_common, tls::Tls};
use crate::{
    clock::{go_duration, parse_duration},
    containers::words::{parse_bool, parse_size},
};
use base64::Engine as _;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

struct Fluentd {
    tag: String,
    id: String,
    name: String,
    extra: BTreeMap<String, String>,
    precise: bool,
    /// The id of what was sent last, if that is to be acknowledged.
    asked: Option<Mutex<String>>,
}

struct Options {
    address: Address,
    retries: u64,
    wait: Duration,
    asynchronous: bool,
    precise: bool,
    acknowledged: bool,
}

/// `ValidateLogOpt`.
pub fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    for option in options.keys() {
        let own = matches!(
            option.as_str(),
            "fluentd-address"
                | "fluentd-async"
                | "fluentd-async-reconnect-interval"
                | "fluentd-buffer-limit"
                | "fluentd-max-retries"
                | "fluentd-request-ack"
                | "fluentd-retry-wait"
                | "fluentd-sub-second-precision"
                | "fluentd-write-timeout"
        );
        if !own && !is_common(option) {
            return Err(format!("unknown log opt '{option}' for fluentd log driver"));
        }
    }
    read(options).map(drop)
}

fn read(options: &BTreeMap<String, String>) -> Result<Options, String> {
    let option = |name: &str| options.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let boolean = |name: &str| {
        option(name).map_or(Ok(false), |text| {
            parse_bool(text).ok_or_else(|| format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))
        })
    };
    let duration =
        |text: &str| parse_duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"));
    let text = option("fluentd-address").unwrap_or_default();
    let address = address(text).map_err(|why| format!("invalid fluentd-address ({text}): {why}"))?;
    if let Some(size) = option("fluentd-buffer-limit")
        && parse_size(size).is_none()
    {
        return Err(format!("invalid size: '{size}'"));
    }
    let wait = option("fluentd-retry-wait").map_or(Ok(Duration::from_secs(1)), duration)?;
    let retries = option("fluentd-max-retries").map_or(Ok(i32::MAX.unsigned_abs()), |text| {
        text.parse::<u32>().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
    })?;
    if i32::try_from(retries).is_err() {
        return Err("invalid fluentd-max-retries: value out of range".into());
    }
    let asynchronous = boolean("fluentd-async")?;
    if let Some(text) = option("fluentd-async-reconnect-interval") {
        let name = "fluentd-async-reconnect-interval";
        let interval = duration(text).map_err(|why| format!("invalid value for {name}: {why}"))?;
        if !interval.is_zero() && !(Duration::from_millis(100)..=Duration::from_secs(10)).contains(&interval)
        {
            let interval = go_duration(interval);
            return Err(format!(
                "invalid value for {name}: value (\"{interval}\") must be between 100ms and 10s"
            ));
        }
    }
    let (precise, acknowledged) = (boolean("fluentd-sub-second-precision")?, boolean("fluentd-request-ack")?);
    if let Some(text) = option("fluentd-write-timeout") {
        let why = |why| format!("invalid value for fluentd-write-timeout: value must be a duration: {why}");
        duration(text).map_err(why)?;
    }
    Ok(Options { address, retries: retries.into(), wait, asynchronous, precise, acknowledged })
}

fn address(text: &str) -> Result<Address, String> {
    let full = if text.contains("://") { text.to_owned() } else { format!("tcp://{text}") };
    let url = Url::read(&full)?;
    match url.scheme {
        "unix" if url.path.trim_start_matches('/').is_empty() => return Err("path is empty".into()),
        "unix" => return Ok(Address::Unix(url.path.into())),
        "tcp" | "tls" => {}
        other => return Err(format!("unsupported scheme: '{other}'")),
    }
    if !url.path.is_empty() {
        return Err("should not contain a path element".into());
    }
    let host = if url.host.is_empty() { "127.0.0.1" } else { url.host };
    let range = || format!("invalid port: strconv.ParseUint: parsing {:?}: value out of range", url.port);
    let port = if url.port.is_empty() { 24224 } else { url.port.parse().map_err(|_| range())? };
    Ok(match url.scheme {
        "tls" => Address::Tls(host.into(), port, Tls::default()),
        _ => Address::Tcp(host.into(), port),
    })
}

pub(super) fn driver(info: &Info<'_>) -> Result<Driver, String> {
    let options = read(&info.0.host.log_config.config)?;
    let sink = Box::new(Fluentd {
        tag: info.tag("{{.ID}}")?,
        id: info.0.id.clone(),
        name: format!("/{}", info.0.name),
        extra: info.attributes(str::to_owned)?,
        precise: options.precise,
        asked: options.acknowledged.then(Mutex::default),
    });
    let patience = Patience { tries: options.retries, pause: options.wait, growth: 1.5 };
    Ok(Driver { sink, address: options.address, patience, lazy: options.asynchronous })
}

impl Sink for Fluentd {
    fn encode(&self, line: &Line) -> Vec<Vec<u8>> {
        let text = String::from_utf8_lossy(&line.text);
        let mut record: Vec<(&str, &str)> = vec![
            ("container_id", &self.id),
            ("container_name", &self.name),
            ("source", line.stream.name()),
            ("log", &text),
        ];
        record.extend(self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        if line.partial {
            record.push(("partial_message", "true"));
        }
        let mut message = vec![0x94];
        put_text(&mut message, &self.tag);
        self.put_time(&mut message, line);
        put_map(&mut message, &record);
        match &self.asked {
            None => put_map(&mut message, &[]),
            Some(asked) => {
                let mut id = [0; 16];
                let _same_id_at_worst = getrandom::fill(&mut id);
                let id = base64::engine::general_purpose::STANDARD.encode(id);
                put_map(&mut message, &[("chunk", &id)]);
                *asked.lock().unwrap_or_else(PoisonError::into_inner) = id;
            }
        }
        vec![message]
    }

    fn awaited(&self) -> Option<Vec<u8>> {
        let asked = self.asked.as_ref()?;
        Some(asked.lock().unwrap_or_else(PoisonError::into_inner).clone().into_bytes())
    }
}

impl Fluentd {
    fn put_time(&self, to: &mut Vec<u8>, line: &Line) {
        let seconds = line.time.seconds();
        if self.precise {
            // An EventTime: extension 0 of eight bytes.
            let nanos = line.time.nanos().rem_euclid(1_000_000_000);
            to.extend_from_slice(&[0xd7, 0]);
            to.extend_from_slice(&u32::try_from(seconds).unwrap_or_default().to_be_bytes());
            to.extend_from_slice(&u32::try_from(nanos).unwrap_or_default().to_be_bytes());
        } else {
            to.push(0xd3);
            to.extend_from_slice(&seconds.to_be_bytes());
        }
    }
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    let len = text.len();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..32), _) => to.push(0xa0 | len),
        (Ok(len), _) => to.extend_from_slice(&[0xd9, len]),
        (_, Ok(len)) => {
            to.push(0xda);
            to.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            to.push(0xdb);
            to.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    to.extend_from_slice(text.as_bytes());
}

fn put_map(to: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    match u8::try_from(pairs.len()) {
        Ok(len @ ..16) => to.push(0x80 | len),
        _ => {
            to.push(0xde);
            to.extend_from_slice(&u16::try_from(pairs.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    for (name, value) in pairs {
        put_text(to, name);
        put_text(to, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, containers::streams::Stream};

    #[test]
    fn messages_are_forwards() {
        let mut fluentd = Fluentd {
            tag: "docker.web".into(),
            id: "0123".into(),
            name: "/web".into(),
            extra: BTreeMap::new(),
            precise: false,
            asked: None,
        };
        let time = Timestamp::from_unix(1_700_000_000, 5);
        let line = Line { stream: Stream::Out, time, text: b"hello".to_vec(), partial: false };
        let sent = fluentd.encode(&line).concat();
        let mut expected = b"\x94\xaadocker.web\xd3\0\0\0\0\x65\x53\xf1\0\x84".to_vec();
        expected.extend_from_slice(
            b"\xaccontainer_id\xa40123\xaecontainer_name\xa4/web\xa6source\xa6stdout\xa3log\xa5hello\x80",
        );
        assert_eq!(sent, expected);
        assert_eq!(fluentd.awaited(), None);
        (fluentd.precise, fluentd.asked) = (true, Some(Mutex::default()));
        let sent = fluentd.encode(&line).concat();
        let time = b"\xaadocker.web\xd7\0\x65\x53\xf1\0\0\0\0\x05\x84";
        assert!(sent.windows(time.len()).any(|part| part == time));
        let asked = fluentd.awaited().unwrap();
        assert!(asked.len() == 24 && sent.ends_with(&asked));
    }

    #[test]
    fn options_are_refused_in_mobys_words() {
        let check = |name: &str, value: &str| check(&[(format!("fluentd-{name}"), value.to_owned())].into());
        let wrong = |name: &str, value: &str| check(name, value).unwrap_err();
        assert_eq!(wrong("x", "1"), "unknown log opt 'fluentd-x' for fluentd log driver");
        assert_eq!(
            wrong("address", "ftp://x"),
            "invalid fluentd-address (ftp://x): unsupported scheme: 'ftp'"
        );
        assert_eq!(
            wrong("address", "x/y"),
            "invalid fluentd-address (x/y): should not contain a path element"
        );
        assert_eq!(wrong("address", "unix:///"), "invalid fluentd-address (unix:///): path is empty");
        assert_eq!(wrong("max-retries", "4294967295"), "invalid fluentd-max-retries: value out of range");
        assert_eq!(
            wrong("async-reconnect-interval", "11s"),
            "invalid value for fluentd-async-reconnect-interval: value (\"11s\") must be between 100ms and 10s"
        );
        assert_eq!(wrong("async", "x"), "strconv.ParseBool: parsing \"x\": invalid syntax");
        assert_eq!(address(""), Ok(Address::Tcp("127.0.0.1".into(), 24224)));
        assert_eq!(address("log:1"), Ok(Address::Tcp("log".into(), 1)));
    }
}
