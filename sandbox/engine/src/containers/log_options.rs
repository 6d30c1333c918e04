//! `--log-driver` and `--log-opt`: what a container may ask for, in the words of moby's loggers.

use super::{
    logs::remote,
    model::HostConfig,
    words::{human_size, parse_bool, parse_size},
};
use crate::error::{Error, Result};

/// `logger.ValidateLogOpts`.
pub fn check_log(host: &mut HostConfig) -> Result<()> {
    if host.log_config.driver.is_empty() {
        host.log_config.driver = "json-file".into();
    }
    let (driver, options) = (host.log_config.driver.as_str(), &host.log_config.config);
    if driver == "none" {
        return Ok(());
    }
    let invalid = |text: String| Err(Error::invalid(text));
    let mode = options.get("mode").map_or("", String::as_str);
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return invalid(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(size) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'".into(),
            );
        }
        if parse_size(size).is_none() {
            return invalid(format!("error parsing option max-buffer-size: invalid size: '{size}'"));
        }
    }
    if let Some(text) = options.get("cache-disabled").filter(|t| !t.is_empty() && parse_bool(t).is_none()) {
        return invalid(format!("invalid value for option cache-disabled: {text}"));
    }
    let (known, name): (&[&str], _) = match driver {
        remote if remote::is_remote(remote) => return remote::check(driver, options).map_err(Error::invalid),
        "journald" => (&["labels", "labels-regex", "env", "env-regex", "tag"], "for journald log driver"),
        "json-file" => (
            &["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"],
            "for json-file log driver",
        ),
        "local" => (&["max-file", "max-size", "compress"], "for log driver local"),
        other => {
            return invalid(format!("error looking up logging plugin {other}: plugin \"{other}\" not found"));
        }
    };
    let common =
        ["mode", "max-buffer-size", "cache-disabled", "cache-max-file", "cache-max-size", "cache-compress"];
    if let Some(key) = options.keys().map(String::as_str).find(|k| !known.contains(k) && !common.contains(k))
    {
        return invalid(format!("unknown log opt '{key}' {name}"));
    }
    Ok(())
}

/// The words for a log driver that can't begin.
pub fn failed(why: String) -> Error {
    Error::internal(format!(
        "failed to create task for container: failed to initialize logging driver: {why}"
    ))
}

/// What a log driver itself refuses, which it does when the container starts.
pub fn check_log_driver(host: &HostConfig) -> Result<()> {
    let (driver, options) = (host.log_config.driver.as_str(), &host.log_config.config);
    let failed = |text: String| Err(failed(text));
    match driver {
        "none" => return Ok(()),
        "journald" => return failed("journald is not enabled on this host".into()),
        _ => {}
    }
    let size = match options.get("max-size").map(|text| (text, human_size(text))) {
        Some((text, None)) => return failed(format!("invalid size: '{text}'")),
        Some((_, Some(..=0))) if driver == "json-file" => {
            return failed("max-size must be a positive number".into());
        }
        size => size,
    };
    let files = match options.get("max-file").map(|text| (text, text.parse::<i64>())) {
        Some((text, Err(_))) => {
            return failed(format!("strconv.Atoi: parsing \"{text}\": invalid syntax"));
        }
        Some((_, Ok(..=0))) => return failed("max-file cannot be less than 1".into()),
        Some((_, Ok(files))) => files,
        None if driver == "local" => 5,
        None => 1,
    };
    let compress = match options.get("compress").map(|text| (text, parse_bool(text))) {
        Some((_, Some(compress))) => compress,
        None => driver == "local",
        Some((text, None)) => {
            return failed(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax"));
        }
    };
    match driver {
        "json-file" if compress && (files == 1 || size.is_none()) => {
            failed("compress cannot be true when max-file is less than 2 or max-size is not set".into())
        }
        "local" if compress && files == 1 => {
            failed("compression cannot be enabled when max file count is 1".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_options_are_refused_in_the_loggers_words() {
        let log = |driver: &str, options: &[(&str, &str)]| {
            let mut host = HostConfig::default();
            host.log_config.driver = driver.into();
            host.log_config.config =
                options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            check_log(&mut host).and_then(|()| check_log_driver(&host)).map_err(|error| error.message)
        };
        let refused = |driver: &str, options: &[(&str, &str)]| log(driver, options).unwrap_err();
        assert_eq!(refused("", &[("mode", "x")]), "logger: logging mode not supported: x");
        assert_eq!(
            refused("json-file", &[("max-buffer-size", "1m")]),
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
        );
        assert_eq!(refused("local", &[("tag", "x")]), "unknown log opt 'tag' for log driver local");
        assert_eq!(
            refused("awslogs", &[]),
            "error looking up logging plugin awslogs: plugin \"awslogs\" not found"
        );
        assert_eq!(refused("gelf", &[]), "gelf-address is a required parameter");
        assert_eq!(
            refused("journald", &[]),
            "failed to create task for container: failed to initialize logging driver: journald is not enabled on this host"
        );
        assert_eq!(
            refused("json-file", &[("cache-disabled", "x")]),
            "invalid value for option cache-disabled: x"
        );
        assert_eq!(
            refused("json-file", &[("compress", "true")]),
            "failed to create task for container: failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size is not set"
        );
        assert_eq!(
            refused("json-file", &[("max-file", "0")]),
            "failed to create task for container: failed to initialize logging driver: max-file cannot be less than 1"
        );
        for good in [
            [("mode", "non-blocking"), ("max-buffer-size", "4m"), ("max-size", "1k")],
            [("compress", "true"), ("max-file", "3"), ("max-size", "10m")],
        ] {
            assert_eq!(log("json-file", &good), Ok(()));
        }
        assert_eq!(log("local", &[]), Ok(()));
        assert_eq!(log("none", &[("anything", "x")]), Ok(()));
    }
}
