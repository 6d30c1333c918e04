//! What a log driver is told of its container (moby's `logger.Info`): the attributes that options name, and the tag.

use super::{super::record::Record, tag};
use regex_lite::Regex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A container, as a log driver sees it.
#[derive(Debug)]
pub struct Info<'a>(pub &'a Record);

impl Info<'_> {
    fn option(&self, name: &str) -> &str {
        self.0.host.log_config.config.get(name).map_or("", String::as_str)
    }

    /// `Command`: program and arguments.
    pub fn command(&self) -> String {
        [&self.0.path].into_iter().chain(&self.0.args).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Labels and variables that the log options name, under keys of the driver's own kind.
    pub fn attributes(&self, key: impl Fn(&str) -> String) -> Result<BTreeMap<String, String>, String> {
        let labels = self.0.config.labels.iter().flatten().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let env = self.0.config.env.iter().flatten().filter_map(|e| e.split_once('=')).collect();
        let mut found = BTreeMap::new();
        for (option, given) in [("labels", labels), ("env", env)] {
            let given: BTreeMap<&str, &str> = given;
            let named = self.option(option).split(',').filter_map(|name| given.get_key_value(name));
            found.extend(named.map(|(k, v)| (key(k), (*v).to_owned())));
            let expression = self.option(&format!("{option}-regex"));
            if !expression.is_empty() {
                let expression = Regex::new(expression)
                    .map_err(|error| format!("error parsing regexp: {error}: `{expression}`"))?;
                let fitting = given.iter().filter(|(k, _)| expression.is_match(k));
                found.extend(fitting.map(|(k, v)| (key(k), (*v).to_owned())));
            }
        }
        Ok(found)
    }

    /// `tag`, or what the driver has instead.
    pub fn tag(&self, default: &str) -> Result<String, String> {
        let wanted = self.option("tag");
        tag::execute(if wanted.is_empty() { default } else { wanted }, &self.fields())
    }

    fn fields(&self) -> Value {
        let record = self.0;
        let config: Map<String, Value> =
            record.host.log_config.config.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        json!({
            "Command": self.command(),
            "Config": config,
            "ContainerArgs": record.args,
            "ContainerCreated": record.created.to_string(),
            "ContainerEntrypoint": record.path,
            "ContainerEnv": record.config.env.clone().unwrap_or_default(),
            "ContainerID": record.id,
            "ContainerImageID": record.image,
            "ContainerImageName": record.config.image,
            "ContainerLabels": record.config.labels.clone().unwrap_or_default(),
            "ContainerName": format!("/{}", record.name),
            "DaemonName": "docker",
            "FullID": record.id,
            "Hostname": host_name(),
            "ID": record.short(),
            "ImageFullID": record.image,
            "ImageID": record.image.get(..12).unwrap_or(&record.image),
            "ImageName": record.config.image,
            "LogPath": "",
            "Name": record.name,
        })
    }
}

/// The node's name.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_named_or_matched() {
        let mut record = Record { id: "0123456789abcdef".into(), name: "web".into(), ..Record::default() };
        record.config.labels =
            Some([("tier", "front"), ("team", "a")].map(|(k, v)| (k.into(), v.into())).into());
        record.config.env = Some(vec!["PATH=/bin".into(), "MODE=dev".into(), "BARE".into()]);
        let mut option = |name: &str, value: &str| {
            record.host.log_config.config.insert(name.into(), value.into());
        };
        option("labels", "tier,absent");
        option("env-regex", "^MO");
        option("tag", "{{.ImageName}}/{{.Name}}/{{.ID}}");
        record.config.image = "nginx".into();
        let info = Info(&record);
        let found = info.attributes(|key| format!("_{key}")).unwrap();
        assert_eq!(found, [("_tier", "front"), ("_MODE", "dev")].map(|(k, v)| (k.into(), v.into())).into());
        assert_eq!(info.tag("").unwrap(), "nginx/web/0123456789ab");
        record.host.log_config.config.insert("labels-regex".into(), "(".into());
        assert!(Info(&record).attributes(str::to_owned).unwrap_err().starts_with("error parsing regexp: "));
    }
}
