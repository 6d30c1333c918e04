//! `EXPOSE`: ports and ranges of ports.

use crate::language::go::quote;

/// Ports that one EXPOSE may name.
pub(super) const MAX_PORTS: usize = 3 * 65_536;

/// `80`, `80/udp`, `8000-8010/tcp` (and `ip:host:container`, which Docker still takes) as `port/protocol`.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    let container = text.rsplit(':').next().unwrap_or(text);
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err(format!("invalid port: {}: no port specified", quote(text)));
    }
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(format!("invalid port: {}: invalid proto: {protocol}", quote(text))),
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let invalid = || format!("invalid containerPort: {range}");
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        assert_eq!(parse("80").unwrap(), ["80/tcp"]);
        assert_eq!(parse("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(parse("8000-8002/tcp").unwrap(), ["8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(parse("127.0.0.1:80:8080").unwrap(), ["8080/tcp"]);
        for (bad, text) in [
            ("x", "invalid containerPort: x"),
            ("70000", "invalid containerPort: 70000"),
            ("9-8", "invalid containerPort: 9-8"),
            ("80/foo", "invalid port: \"80/foo\": invalid proto: foo"),
            ("/tcp", "invalid port: \"/tcp\": no port specified"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), text);
        }
    }
}
