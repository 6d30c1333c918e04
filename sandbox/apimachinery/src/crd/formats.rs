//! The formats that custom resources may ask of texts (apiextensions-apiserver `pkg/apiserver/validation/formats.go`, over
//! kube-openapi's `strfmt`). Formats that nobody knows are not checked, as upstream.

use super::pattern;
use base64::Engine;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a text is of a format; nothing if the format is unknown.
pub(super) fn fits(format: &str, text: &str) -> Option<bool> {
    let matches = |expression: &str| pattern::compiled(expression).is_ok_and(|regex| regex.is_match(text));
    Some(match format.replace('-', "").as_str() {
        "datetime" => {
            text.parse::<jiff::Timestamp>().is_ok()
                || matches(r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?$")
        }
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => is_duration(text),
        "uri" => uri(text),
        "email" => email(text),
        "hostname" => {
            text.len() <= 255
                && text.trim_end_matches('.').split('.').all(|label| {
                    !label.is_empty()
                        && label.len() <= 63
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                        && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
                })
        }
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => {
            matches(r"^([0-9a-fA-F]{2}[:-]){5,7}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{4}\.){2,3}[0-9a-fA-F]{4}$")
        }
        "uuid" => matches(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
        "uuid3" => matches(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
        "uuid4" => matches(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
        "uuid5" => matches(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "password" => true,
        "hexcolor" => matches("^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
        "rgbcolor" => matches(
            r"^rgb\(\s*(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])\s*,\s*(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])\s*,\s*(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])\s*\)$",
        ),
        "ssn" => matches(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$"),
        "bsonobjectid" => matches("^[0-9a-fA-F]{24}$"),
        "k8sshortname" => crate::names::is_dns1123_label(text).is_empty(),
        "k8slongname" => crate::names::is_dns1123_subdomain(text).is_empty(),
        _ => return None,
    })
}

/// `url.ParseRequestURI`: absolute, or a path.
fn uri(text: &str) -> bool {
    let clean = !text.is_empty() && !text.bytes().any(|byte| byte <= b' ' || byte == 0x7f);
    let scheme = || {
        let (scheme, rest) = text.split_once(':')?;
        let letters = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        let fine = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        (letters && fine && !rest.is_empty()).then_some(())
    };
    clean && (text.starts_with('/') || scheme().is_some())
}

fn email(text: &str) -> bool {
    let address = text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end_matches('>'));
    address.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && !domain.is_empty()
            && !domain.contains('@')
            && !address.contains(char::is_whitespace)
            && !domain.starts_with('.')
            && !domain.ends_with('.')
    })
}

/// `net.ParseCIDR`.
pub(super) fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.len() <= 3
        && bits.bytes().all(|b| b.is_ascii_digit())
        && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// `time.ParseDuration`, and `22 ns` as Scala writes it.
fn is_duration(text: &str) -> bool {
    let expression = r"^[+-]?((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$|^[+-]?0$|^\d+\s*(ns|nano\w*|us|micro\w*|ms|milli\w*|s|sec\w*|m|min\w*|h|hour\w*|hr\w*|d|day\w*|w|week\w*|wk\w*)$";
    pattern::compiled(expression).is_ok_and(|regex| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn formats() {
        for (format, good, bad) in [
            ("date-time", "2026-11-20T13:03:48Z", "yesterday"),
            ("date", "2026-11-20", "2026-13-20"),
            ("duration", "1h30m", "1 fortnight"),
            ("uri", "https://a.b/c?d", "a b"),
            ("email", "a@b.c", "a.b.c"),
            ("hostname", "a-b.c", "-a"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fe80::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "02:00:5e:10:00:00", "02:00"),
            ("uuid", "cc537771-97fa-4645-8f25-d3dca7eed358", "cc53"),
            ("byte", "aGk=", "a"),
            ("k8s-short-name", "abc", "A"),
        ] {
            assert_eq!((fits(format, good), fits(format, bad)), (Some(true), Some(false)), "{format}");
        }
        assert_eq!(fits("int-or-string", "x"), None);
    }
}
