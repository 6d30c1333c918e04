//! What names, labels, keys and ports may look like, with the reasons against a value in the words of k8s.io/apimachinery
//! `pkg/util/validation/validation.go`. Called by the validation of kinds and by the engine for metadata; each function gives
//! the list of reasons, empty if the value is fine.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// The longest DNS label.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

fn too_long_characters(most: usize) -> String {
    format!("must be no more than {most} characters")
}

fn regex_error(message: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{format}')");
    }
    let examples: Vec<_> = examples.iter().map(|one| format!("'{one}'")).collect();
    format!("{message} (e.g. {}, regex used for validation is '{format}')", examples.join(",  or "))
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn matches_label(value: &str) -> bool {
    let bytes = value.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    lower_or_digit(*first)
        && lower_or_digit(*last)
        && bytes.iter().all(|byte| lower_or_digit(*byte) || *byte == b'-')
}

fn matches_subdomain(value: &str) -> bool {
    value.split('.').all(matches_label)
}

/// `IsDNS1123Label`.
pub fn is_dns1123_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(too_long(LABEL_MAX));
    }
    if !matches_label(value) {
        if matches_subdomain(value) {
            // It was a valid subdomain and not a valid label; since the subdomain is lower case, it must contain dots.
            errors.push("must not contain dots".into());
        } else {
            errors.push(regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
                 end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            ));
        }
    }
    errors
}

/// `IsDNS1123Subdomain`.
pub fn is_dns1123_subdomain(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(too_long(SUBDOMAIN_MAX));
    }
    if !matches_subdomain(value) {
        errors.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
             and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    errors
}

/// `IsDNS1035Label`.
pub fn is_dns1035_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(too_long(LABEL_MAX));
    }
    if !(matches_label(value) && value.as_bytes()[0].is_ascii_lowercase()) {
        errors.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// `IsWildcardDNS1123Subdomain`.
pub fn is_wildcard_dns1123_subdomain(value: &str) -> Vec<String> {
    if value.strip_prefix("*.").is_some_and(matches_subdomain) {
        return Vec::new();
    }
    vec![regex_error(
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower \
         case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
        &format!("\\*\\.{SUBDOMAIN}"),
        &["*.example.com"],
    )]
}

/// `IsFullyQualifiedName` / `IsFullyQualifiedDomainName`: a subdomain of at least `segments` parts.
pub fn is_fully_qualified_name(value: &str, segments: usize) -> Vec<String> {
    if value.is_empty() {
        return vec![]; // the caller says that it is required
    }
    let errors = is_dns1123_subdomain(value);
    if !errors.is_empty() {
        return errors;
    }
    if value.split('.').count() < segments {
        return vec![format!(
            "should be a domain with at least {} segments separated by dots",
            segment_word(segments)
        )];
    }
    Vec::new()
}

fn segment_word(count: usize) -> &'static str {
    if count == 3 { "three" } else { "two" }
}

fn matches_qualified(value: &str) -> bool {
    let bytes = value.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// `IsQualifiedName`: keys of labels and annotations.
pub fn is_qualified_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((prefix, name)) if !name.contains('/') => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".into());
            } else {
                errors
                    .extend(is_dns1123_subdomain(prefix).into_iter().map(|one| format!("prefix part {one}")));
            }
            name
        }
        Some(_) => {
            let text = regex_error(
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character",
                QUALIFIED,
                &["MyName", "my.name", "123-abc"],
            );
            errors.push(format!(
                "{text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return errors;
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !matches_qualified(name) {
        let text = regex_error(
            "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            QUALIFIED,
            &["MyName", "my.name", "123-abc"],
        );
        errors.push(format!("name part {text}"));
    }
    errors
}

/// `IsValidLabelValue`.
pub fn is_valid_label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(too_long(LABEL_MAX));
    }
    if !value.is_empty() && !matches_qualified(value) {
        errors.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character",
            LABEL_VALUE,
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// `IsConfigMapKey`: keys of config maps and secrets.
pub fn is_config_map_key(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > SUBDOMAIN_MAX {
        errors.push(too_long(SUBDOMAIN_MAX));
    }
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        errors.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    has_ch_dir_prefix(value, &mut errors);
    errors
}

fn has_ch_dir_prefix(value: &str, errors: &mut Vec<String>) {
    match value {
        "." => errors.push("must not be '.'".into()),
        ".." => errors.push("must not be '..'".into()),
        _ if value.starts_with("..") => errors.push("must not start with '..'".into()),
        _ => {}
    }
}

/// `IsRelaxedEnvVarName`: names of environment variables, since 1.34 all of printable ASCII but `=`.
pub fn is_env_var_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.is_empty() {
        errors.push("environment variable name must be non-empty".into());
    }
    if value.chars().any(|c| !(' '..='~').contains(&c) || c == '=') {
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(why.into());
    }
    errors
}

/// `IsCIdentifier`.
pub fn is_c_identifier(value: &str) -> Vec<String> {
    let mut bytes = value.bytes();
    let fine = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fine {
        return Vec::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters \
         or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// `IsHTTPHeaderName`.
pub fn is_http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// `IsValidPortNum`.
pub fn is_valid_port_num(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".into()]
    }
}

/// `IsValidPortName`: names of ports are IANA service names.
pub fn is_valid_port_name(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 15 {
        errors.push(too_long_characters(15));
    }
    if !value.bytes().all(|byte| lower_or_digit(byte) || byte == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".into());
    }
    errors
}

/// `IsValidPathSegmentName`: names of roles and others that only have to fit into a path.
pub fn is_valid_path_segment_name(value: &str) -> Vec<String> {
    match value {
        "." => return vec!["may not be '.'".into()],
        ".." => return vec!["may not be '..'".into()],
        _ => {}
    }
    is_valid_path_segment_prefix(value)
}

/// `IsValidPathSegmentPrefix`.
pub fn is_valid_path_segment_prefix(value: &str) -> Vec<String> {
    ["/", "%"]
        .into_iter()
        .filter(|part| value.contains(part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

/// What a generated name begins with may end in a dash (`maskTrailingDash`).
fn unmasked(name: &str, prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(head) if prefix && !head.is_empty() => format!("{head}a"),
        _ => name.into(),
    }
}

/// `NameIsDNSSubdomain`: `metadata.name` of most kinds (`prefix`: it is a `generateName`).
pub fn name_is_dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    is_dns1123_subdomain(&unmasked(name, prefix))
}

/// `NameIsDNSLabel`.
pub fn name_is_dns_label(name: &str, prefix: bool) -> Vec<String> {
    is_dns1123_label(&unmasked(name, prefix))
}

/// `NameIsDNS1035Label`.
pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    is_dns1035_label(&unmasked(name, prefix))
}

/// `ValidatePathSegmentName`.
pub fn name_is_path_segment(name: &str, prefix: bool) -> Vec<String> {
    if prefix { is_valid_path_segment_prefix(name) } else { is_valid_path_segment_name(name) }
}

/// The longest text that a name of at most `most` characters may be, as some kinds say it.
pub fn is_at_most(name: &str, most: usize) -> Vec<String> {
    if name.len() > most { vec![too_long_characters(most)] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Cases of pkg/util/validation/validation_test.go.
    #[test]
    fn lengths_and_variables_are_told_in_upstreams_words() {
        assert_eq!(is_valid_port_name("abcdefghijklmnop"), ["must be no more than 15 characters"]);
        for bad in ["a=b", "\u{e4}", "a\tb"] {
            assert_eq!(
                is_env_var_name(bad),
                [
                    "a valid environment variable name must consist only of printable ASCII characters other than '='"
                ]
            );
        }
        assert!(is_env_var_name("a b-c.d").is_empty());
    }

    #[test]
    fn dns_names() {
        for good in ["a", "ab", "abc", "a1", "a-1", "a--1--2--b", "0", "01", "0-1--2--b", "012"] {
            assert_eq!(is_dns1123_label(good), Vec::<String>::new(), "{good}");
            assert_eq!(is_dns1123_subdomain(good), Vec::<String>::new(), "{good}");
        }
        for bad in ["", "A", "ABC", "-", "a-", "-a", "1-", "_", "a_", "a.", " ", "a ", "1 2"] {
            assert!(!is_dns1123_label(bad).is_empty(), "{bad}");
        }
        for good in ["a.b", "aa.bb.cc", "a1.a", "0.a", "1.2.3.4"] {
            assert!(is_dns1123_subdomain(good).is_empty(), "{good}");
            assert_eq!(is_dns1123_label(good), ["must not contain dots"], "{good}");
        }
        for bad in ["a..b", ".a", "a.", "a/b", "A.b"] {
            assert!(!is_dns1123_subdomain(bad).is_empty(), "{bad}");
        }
        for bad in ["0", "1a", "-a", ""] {
            assert!(!is_dns1035_label(bad).is_empty(), "{bad}");
        }
        assert_eq!(is_dns1123_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
    }

    #[test]
    fn qualified_names() {
        let longest = format!("{}/{}", "a".repeat(253), "b".repeat(63));
        for good in [
            "simple",
            "now-with-dashes",
            "1-starts-with-num",
            "1234",
            "simple/simple",
            "1.2.3.4/5678",
            &longest,
        ] {
            assert!(is_qualified_name(good).is_empty(), "{good}");
        }
        for bad in
            ["nospecialchars%^=@", "cantendwithadash-", "only/one/slash", "/a", "a/", "-a", "Example.com/abc"]
        {
            assert!(!is_qualified_name(bad).is_empty(), "{bad}");
        }
        assert_eq!(is_qualified_name("/simple")[0], "prefix part must be non-empty");
    }

    #[test]
    fn ports_keys_and_prefixes() {
        assert_eq!(is_valid_port_name("1234"), ["must contain at least one letter (a-z)"]);
        assert!(is_valid_port_name("http-2").is_empty());
        assert_eq!(is_config_map_key("..a"), ["must not start with '..'"]);
        assert!(name_is_dns_subdomain("web-", true).is_empty());
        assert!(!name_is_dns_subdomain("web-", false).is_empty());
        assert_eq!(name_is_path_segment("a/b", false), ["may not contain '/'"]);
        assert!(name_is_path_segment("system:node", false).is_empty());
    }
}
