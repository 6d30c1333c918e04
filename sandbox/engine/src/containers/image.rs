//! What a container takes from its image: `daemon/commit.go`'s `merge`, and the checks after it.

use super::model::{Config, Empty, Healthcheck};
use crate::error::{Error, Result};
use drydock_images::config::RunConfig;

/// Puts what the image says where the request says nothing.
pub fn merge(config: &mut Config, image: &RunConfig) {
    let or = |mine: &mut String, theirs: &str| {
        if mine.is_empty() {
            *mine = theirs.to_string();
        }
    };
    or(&mut config.user, &image.user);
    or(&mut config.working_dir, &image.working_dir);
    or(&mut config.stop_signal, image.stop_signal.as_deref().unwrap_or_default());
    for (mine, theirs) in
        [(&mut config.exposed_ports, &image.exposed_ports), (&mut config.volumes, &image.volumes)]
    {
        if mine.as_ref().is_some_and(|m| m.is_empty()) {
            *mine = None;
        }
        if let Some(theirs) = theirs.as_ref().filter(|t| !t.is_empty()) {
            let mine = mine.get_or_insert_default();
            for key in theirs.keys() {
                mine.entry(key.clone()).or_insert(Empty {});
            }
        }
    }
    merge_env(config, image);
    if let Some(theirs) = image.labels.as_ref().filter(|l| !l.is_empty()) {
        let mine = config.labels.get_or_insert_default();
        for (name, value) in theirs {
            mine.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if let Some(theirs) = &image.healthcheck {
        merge_health(config, theirs);
    }
    config.stop_timeout = config.stop_timeout.or(image.stop_timeout);
    if config.shell.as_ref().is_none_or(Vec::is_empty) {
        config.shell.clone_from(&image.shell);
    }
}

fn merge_env(config: &mut Config, image: &RunConfig) {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_string();
    let theirs = image.env.iter().flatten();
    let mine = config.env.get_or_insert_default();
    let have: std::collections::HashSet<String> = mine.iter().map(|v| name(v)).collect();
    mine.extend(theirs.filter(|v| !have.contains(&name(v))).cloned());
    if mine.is_empty() {
        config.env = None;
    }
}

fn merge_health(config: &mut Config, theirs: &drydock_images::config::Healthcheck) {
    let theirs = Healthcheck {
        test: theirs.test.clone(),
        interval: theirs.interval,
        timeout: theirs.timeout,
        start_period: theirs.start_period,
        start_interval: theirs.start_interval,
        retries: theirs.retries,
    };
    let Some(mine) = &mut config.healthcheck else {
        config.healthcheck = Some(theirs);
        return;
    };
    if mine.test.as_ref().is_none_or(Vec::is_empty) {
        mine.test = theirs.test;
    }
    let pairs = [
        (&mut mine.interval, theirs.interval),
        (&mut mine.timeout, theirs.timeout),
        (&mut mine.start_period, theirs.start_period),
        (&mut mine.start_interval, theirs.start_interval),
        (&mut mine.retries, theirs.retries),
    ];
    for (mine, theirs) in pairs {
        if *mine == 0 {
            *mine = theirs;
        }
    }
}

/// The program and its arguments.
pub fn command(config: &mut Config) -> Result<(String, Vec<String>)> {
    // `--entrypoint ""` takes the image's away.
    if config.entrypoint.as_ref().is_some_and(|e| e.len() == 1 && e[0].is_empty()) {
        config.entrypoint = None;
    }
    let mut words = config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned();
    let path = words.next().ok_or_else(|| Error::invalid("no command specified"))?;
    Ok((path, words.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split(' ').map(Into::into).collect())
    }

    #[test]
    fn command_and_entry_point_follow_dockers_table() {
        let image = RunConfig { entrypoint: words("ep e"), cmd: words("cmd c"), ..RunConfig::default() };
        let run = |entrypoint: Option<Vec<String>>, cmd: Option<Vec<String>>| {
            let mut config = Config { entrypoint, cmd, ..Config::default() };
            merge(&mut config, &image);
            command(&mut config).map(|(path, args)| format!("{path} {}", args.join(" ")))
        };
        assert_eq!(run(None, None).unwrap(), "ep e cmd c");
        assert_eq!(run(None, words("x")).unwrap(), "ep e x");
        assert_eq!(run(words("y"), None).unwrap(), "y ");
        assert_eq!(run(Some(vec![String::new()]), words("x")).unwrap(), "x ");
        assert_eq!(run(Some(vec![String::new()]), None).unwrap_err().message, "no command specified");
    }

    #[test]
    fn the_requests_environment_wins() {
        let image = RunConfig { env: words("A=1 B=2"), ..RunConfig::default() };
        let mut config = Config { env: words("B=3"), ..Config::default() };
        merge(&mut config, &image);
        assert_eq!(config.env, words("B=3 A=1"));
    }
}
