//! `--link` on the default bridge: a container knows others under names of its own. What is noted of a link is the id of the other, so
//! that a new name changes nothing. On networks that users make links are the networks' (`net::request`), and need nobody to be there.

use super::{Container, model::HostConfig, record::Record};
use crate::{
    engine::Engine,
    error::{Context, Error, Result},
};
use std::{collections::HashMap, sync::Arc};

/// Containers that share a network in a row, one with the next.
const MOST_SHARED: usize = 32;

/// Whether the links of such a container are these (moby's `registerLinks`).
fn are_legacy(host: &HostConfig) -> bool {
    drydock_network::is_predefined(&host.network_mode)
}

/// The container whose network one of this mode uses, through all that only pass it on.
pub fn donor(engine: &Engine, mode: &str) -> Option<Result<Arc<Container>>> {
    let mut name = mode.strip_prefix("container:")?.to_owned();
    for _ in 0..MOST_SHARED {
        let other = match engine.containers.get(&name) {
            Ok(other) => other,
            Err(error) => return Some(Err(error)),
        };
        let mode = other.record().host.network_mode.clone();
        match mode.strip_prefix("container:") {
            Some(next) => next.clone_into(&mut name),
            None => return Some(Ok(other)),
        }
    }
    Some(Err(Error::internal("cannot join own network namespace")))
}

/// Finds the containers that a new one is linked to, and notes their ids.
pub fn resolve(engine: &Engine, host: &mut HostConfig) -> Result<()> {
    if !are_legacy(host) {
        return Ok(());
    }
    for link in host.links.iter_mut().flatten() {
        let (name, alias) = parse(link)?;
        let missing =
            |error: Error| Error::invalid(format!("could not get container for {name}: {}", error.message));
        let named = engine.containers.get(name).map_err(missing)?;
        let mode = named.record().host.network_mode.clone();
        let other = donor(engine, &mode).transpose().map_err(missing)?.unwrap_or(named);
        if other.record().host.network_mode == "host" {
            return Err(Error::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ));
        }
        *link = format!("{}:{alias}", other.id);
    }
    Ok(())
}

/// `name:alias`, `name`, and `/name:/own/alias` as inspection shows it.
fn parse(link: &str) -> Result<(&str, &str)> {
    if link.is_empty() {
        return Err(Error::invalid("empty string specified for links"));
    }
    let Some((name, alias)) = link.split_once(':') else { return Ok((link, link)) };
    if alias.contains(':') {
        return Err(Error::invalid(format!("bad format for links: {link}")));
    }
    match name.strip_prefix('/') {
        Some(name) => Ok((name, alias.rsplit('/').next().unwrap_or(alias))),
        None => Ok((name, alias)),
    }
}

/// (other container, alias), as far as they are still there.
pub fn of(engine: &Engine, record: &Record) -> Vec<(Arc<Container>, String)> {
    if !are_legacy(&record.host) {
        return vec![];
    }
    let pairs = record.host.links.iter().flatten().filter_map(|link| link.split_once(':'));
    pairs.filter_map(|(id, alias)| Some((engine.containers.get(id).ok()?, alias.to_string()))).collect()
}

/// As inspection shows them: `/other:/own/alias`.
pub fn shown(engine: &Engine, record: &Record) -> Option<Vec<String>> {
    let text = |(other, alias): (Arc<Container>, String)| {
        format!("/{}:/{}/{alias}", other.record().name, record.name)
    };
    Some(of(engine, record).into_iter().map(text).collect::<Vec<_>>()).filter(|links| !links.is_empty())
}

/// Who is linked to must run when a container starts.
pub fn check(engine: &Engine, record: &Record) -> Result<()> {
    if record.host.network_mode != "bridge" {
        return Ok(());
    }
    for (other, alias) in of(engine, record) {
        let other = other.record();
        if !other.networks.contains_key("bridge") {
            return Err(Error::internal(format!(
                "Cannot link to /{}, as it does not belong to the default network",
                other.name
            )));
        }
        if !other.state.phase.running() {
            return Err(Error::internal(format!(
                "Cannot link to a non running container: /{} AS /{}/{alias}",
                other.name, record.name
            )));
        }
    }
    Ok(())
}

/// What all containers are called by others: `/own/alias` by id.
pub fn names(engine: &Engine) -> HashMap<String, Vec<String>> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for container in engine.containers.all() {
        let record = container.record();
        if !are_legacy(&record.host) {
            continue;
        }
        for (id, alias) in record.host.links.iter().flatten().filter_map(|link| link.split_once(':')) {
            names.entry(id.to_owned()).or_default().push(format!("/{}/{alias}", record.name));
        }
    }
    names
}

/// Takes a link away from a container: another is no longer known in it under that name (`docker rm --link`).
pub fn unlink(engine: &Engine, parent: &str, alias: &str) -> Result<()> {
    let container = engine.containers.get(parent)?;
    let mut record = container.record();
    let named =
        |link: &String| link.rsplit(':').next().and_then(|name| name.rsplit('/').next()) == Some(alias);
    let links = record.host.links.iter_mut();
    let gone = links.map(|links| links.extract_if(.., |link| named(link)).count()).sum::<usize>();
    if gone == 0 {
        return Err(Error::not_found(format!("No such link: /{}/{alias}", record.name)));
    }
    super::net::refresh_files(engine, &record);
    let dir = engine.containers.dir(&record.id);
    record.save(&dir).doing(|| format!("write {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_they_are_given_and_shown() {
        assert_eq!(parse("db"), Ok(("db", "db")));
        assert_eq!(parse("db:store"), Ok(("db", "store")));
        assert_eq!(parse("/db:/web/store"), Ok(("db", "store")));
        assert_eq!(parse("a:b:c").unwrap_err().message, "bad format for links: a:b:c");
        assert!(parse("").is_err());
    }
}
