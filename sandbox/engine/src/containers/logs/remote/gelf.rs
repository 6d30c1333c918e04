//! `--log-driver gelf`: Graylog's JSON over UDP, compressed and in chunks, or over TCP (moby's `daemon/logger/gelf`).

use super::{
    super::{
        super::streams::Stream,
        info::{Info, host_name},
    },
    Address, Driver, Line, Patience, Sink,
    connection::Url,
    is_common,
};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, io::Write, time::Duration};

/// Bytes of a datagram.
const CHUNK: usize = 1420;
/// Of them the chunk's head.
const HEAD: usize = 12;
/// Most chunks of a message.
const MOST: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zlib,
    None,
    /// A byte 0 at the end instead.
    Stream,
}

struct Gelf {
    host: String,
    extra: Map<String, Value>,
    packing: Packing,
    level: Compression,
}

/// `ValidateLogOpt`.
pub fn check(options: &BTreeMap<String, String>) -> Result<(), String> {
    let udp = matches!(address(options)?, Address::Udp(..));
    for (option, value) in options {
        let unknown = || Err(format!("unknown value {value:?} for log opt {option:?} for gelf log driver"));
        match option.as_str() {
            "gelf-address" => {}
            common if is_common(common) => {}
            "gelf-compression-level" | "gelf-compression-type" if !udp => {
                return Err("compression is only supported on UDP".into());
            }
            "gelf-compression-level" => match value.parse::<i32>() {
                Ok(-1..=9) => {}
                _ => return unknown(),
            },
            "gelf-compression-type" if matches!(value.as_str(), "gzip" | "zlib" | "none") => {}
            "gelf-compression-type" => return unknown(),
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if udp => {
                return Err(format!("{option:?} is only valid for TCP"));
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if value.parse::<u32>().is_ok() => {}
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" => {
                return Err(format!("{option:?} must be a positive integer"));
            }
            _ => return Err(format!("unknown log opt {option:?} for gelf log driver")),
        }
    }
    Ok(())
}

fn address(options: &BTreeMap<String, String>) -> Result<Address, String> {
    let text = options.get("gelf-address").map_or("", String::as_str);
    if text.is_empty() {
        return Err("gelf-address is a required parameter".into());
    }
    let url = Url::read(text)?;
    if !matches!(url.scheme, "udp" | "tcp") {
        return Err("gelf: endpoint needs to be TCP or UDP".into());
    }
    let port = url.port.parse().map_err(|_| "gelf: please provide gelf-address as proto://host:port")?;
    Ok(if url.scheme == "udp" {
        Address::Udp(url.host.into(), port)
    } else {
        Address::Tcp(url.host.into(), port)
    })
}

pub(super) fn driver(info: &Info<'_>) -> Result<Driver, String> {
    let options = &info.0.host.log_config.config;
    let address = address(options)?;
    let mut extra: Map<String, Value> = [
        ("_command", info.command()),
        ("_container_id", info.0.id.clone()),
        ("_container_name", info.0.name.clone()),
        ("_created", info.0.created.to_string()),
        ("_image_id", info.0.image.clone()),
        ("_image_name", info.0.config.image.clone()),
        ("_tag", info.tag("{{.ID}}")?),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.into()))
    .collect();
    let key = |name: &str| if name.starts_with('_') { name.to_owned() } else { format!("_{name}") };
    extra.extend(info.attributes(key)?.into_iter().map(|(name, value)| (name, value.into())));
    let number = |name: &str| options.get(name).and_then(|text| text.parse::<u32>().ok());
    let udp = matches!(address, Address::Udp(..));
    let packing = match options.get("gelf-compression-type").map(String::as_str) {
        _ if !udp => Packing::Stream,
        Some("zlib") => Packing::Zlib,
        Some("none") => Packing::None,
        _ => Packing::Gzip,
    };
    let level = match options.get("gelf-compression-level").and_then(|text| text.parse::<i32>().ok()) {
        Some(-1) => Compression::default(),
        Some(level) => Compression::new(u32::try_from(level).unwrap_or(1)),
        None => Compression::fast(),
    };
    // moby takes the delay for nanoseconds.
    let pause = if options.contains_key("gelf-tcp-reconnect-delay") {
        Duration::ZERO
    } else {
        Duration::from_secs(1)
    };
    let tries = if udp { 0 } else { u64::from(number("gelf-tcp-max-reconnect").unwrap_or(3)) };
    let sink = Box::new(Gelf { host: host_name(), extra, packing, level });
    Ok(Driver { sink, address, patience: Patience { tries, pause, growth: 1.0 }, lazy: false })
}

impl Sink for Gelf {
    fn encode(&self, line: &Line) -> Vec<Vec<u8>> {
        if line.text.is_empty() {
            return vec![];
        }
        let mut message = self.message(line);
        let packed = match self.packing {
            Packing::Stream => {
                message.push(0);
                return vec![message];
            }
            Packing::None => Ok(message),
            Packing::Gzip => {
                pack(GzEncoder::new(Vec::new(), self.level), &message).and_then(GzEncoder::finish)
            }
            Packing::Zlib => {
                pack(ZlibEncoder::new(Vec::new(), self.level), &message).and_then(ZlibEncoder::finish)
            }
        };
        // Memory takes all.
        chunks(packed.unwrap_or_default())
    }
}

fn pack<W: Write>(mut to: W, bytes: &[u8]) -> std::io::Result<W> {
    to.write_all(bytes)?;
    Ok(to)
}

fn chunks(message: Vec<u8>) -> Vec<Vec<u8>> {
    if message.len() <= CHUNK {
        return vec![message];
    }
    let count = message.len().div_ceil(CHUNK - HEAD);
    if count > MOST {
        tracing::warn!("Failed to log message: msg too large, would need {count} chunks");
        return vec![];
    }
    let mut id = [0; 8];
    let _same_id_at_worst = getrandom::fill(&mut id);
    let head = |number: usize| {
        let small = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        [&[0x1e, 0x0f][..], &id, &[small(number), small(count)]].concat()
    };
    message
        .chunks(CHUNK - HEAD)
        .enumerate()
        .map(|(number, part)| [&head(number)[..], part].concat())
        .collect()
}

impl Gelf {
    fn message(&self, line: &Line) -> Vec<u8> {
        let text = |text: &str| Value::from(text).to_string();
        let millis = line.time.nanos().div_euclid(1_000_000);
        let level = if line.stream == Stream::Err { 3 } else { 6 };
        let mut message = format!(
            "{{\"version\":\"1.1\",\"host\":{},\"short_message\":{},\"timestamp\":{},\"level\":{level}",
            text(&self.host),
            text(&String::from_utf8_lossy(&line.text)),
            format!("{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
                .trim_end_matches('0')
                .trim_end_matches('.'),
        );
        for (name, value) in &self.extra {
            message += &format!(",{}:{value}", text(name));
        }
        message.push('}');
        message.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use std::io::Read;

    fn line(text: &str) -> Line {
        Line {
            stream: Stream::Out,
            time: Timestamp::from_unix(1_700_000_000, 120_000_000),
            text: text.into(),
            partial: false,
        }
    }

    fn gelf(packing: Packing) -> Gelf {
        let extra = [("_tag".to_owned(), "web".into())].into_iter().collect();
        Gelf { host: "node1".into(), extra, packing, level: Compression::fast() }
    }

    #[test]
    fn messages_are_graylogs() {
        let sent = gelf(Packing::Stream).encode(&line("a \"b\"")).concat();
        let expected = "{\"version\":\"1.1\",\"host\":\"node1\",\"short_message\":\"a \\\"b\\\"\",\
                        \"timestamp\":1700000000.12,\"level\":6,\"_tag\":\"web\"}\0";
        assert_eq!(String::from_utf8(sent).unwrap(), expected);
        let zipped = gelf(Packing::Gzip).encode(&line("x"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&zipped[0][..]).read_to_string(&mut text).unwrap();
        assert!(zipped.len() == 1 && text.contains("\"short_message\":\"x\""), "{text}");
    }

    #[test]
    fn long_messages_go_in_chunks() {
        let sent = gelf(Packing::None).encode(&line(&"x".repeat(3000)));
        assert_eq!(sent.len(), 3);
        for (number, chunk) in sent.iter().enumerate() {
            assert!(chunk.len() <= CHUNK && chunk.starts_with(&[0x1e, 0x0f]));
            assert_eq!(chunk[10..12], [u8::try_from(number).unwrap(), 3]);
        }
        let whole: Vec<u8> = sent.iter().flat_map(|chunk| &chunk[HEAD..]).copied().collect();
        assert!(serde_json::from_slice::<Value>(&whole).is_ok());
    }

    #[test]
    fn options_are_refused_in_mobys_words() {
        let wrong = |options: &[(&str, &str)]| {
            check(&options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()).unwrap_err()
        };
        let (udp, tcp) = (("gelf-address", "udp://h:1"), ("gelf-address", "tcp://h:1"));
        assert_eq!(wrong(&[]), "gelf-address is a required parameter");
        assert_eq!(wrong(&[("gelf-address", "h:1")]), "gelf: endpoint needs to be TCP or UDP");
        assert_eq!(
            wrong(&[("gelf-address", "udp://h")]),
            "gelf: please provide gelf-address as proto://host:port"
        );
        assert_eq!(wrong(&[tcp, ("gelf-compression-type", "gzip")]), "compression is only supported on UDP");
        assert_eq!(
            wrong(&[udp, ("gelf-compression-level", "10")]),
            "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver"
        );
        assert_eq!(
            wrong(&[udp, ("gelf-tcp-max-reconnect", "1")]),
            "\"gelf-tcp-max-reconnect\" is only valid for TCP"
        );
        assert_eq!(wrong(&[udp, ("x", "1")]), "unknown log opt \"x\" for gelf log driver");
    }
}
