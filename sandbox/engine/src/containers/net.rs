//! A container's networks: from what was asked for to endpoints, published ports and names, and back.

use super::{
    Container, addresses,
    model::{Config, EndpointSettings, HostConfig, PortBinding, PortMap},
    record::Record,
};
use crate::{
    engine::Engine,
    error::{Context, Error, Result},
};
use drydock_network::{
    Endpoint, EndpointRequest, Inside, PortRequest, Protocol, Resolver, dns_names, inspect::Network,
};
use drydock_runtime::container::spec::Interface;
use std::collections::{BTreeMap, BTreeSet};

/// Checks what shall be published. Returns warnings.
pub fn check_ports(config: &Config, host: &HostConfig) -> Result<Vec<String>> {
    for port in config.exposed_ports.iter().flatten().map(|(port, _)| port) {
        parse_port(port)?;
    }
    requests(host)?;
    let published = host.port_bindings.as_ref().is_some_and(|p| !p.is_empty());
    Ok(if published && host.network_mode == "host" {
        vec!["Published ports are discarded when using host network mode".into()]
    } else {
        vec![]
    })
}

/// `80/tcp`, `80`.
fn parse_port(text: &str) -> Result<(u16, Protocol)> {
    let bad = || Error::invalid(format!("invalid port specification: \"{text}\""));
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.parse::<Protocol>()?;
    // A range is the client's to expand; only its first port is meant otherwise.
    let port = port.split('-').next().unwrap_or_default().parse().map_err(|_| bad())?;
    Ok((port, protocol))
}

/// What is asked to be published (`-p`).
fn requests(host: &HostConfig) -> Result<Vec<PortRequest>> {
    let mut requests = Vec::new();
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let (container_port, protocol) = parse_port(port)?;
        // `"80/tcp": []` or null: any port of the node.
        let any = [PortBinding::default()];
        let bindings = bindings.as_deref().filter(|b| !b.is_empty()).unwrap_or(&any);
        for binding in bindings {
            let bad = || Error::invalid(format!("invalid port specification: \"{}\"", binding.host_port));
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => {
                    Some(text.parse().map_err(|_| Error::invalid(format!("invalid IP address: {text}")))?)
                }
            };
            let (from, to) = binding.host_port.split_once('-').unwrap_or((&binding.host_port, ""));
            let number =
                |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<u16>().map_err(|_| bad()) };
            let (host_port, host_port_end) = (number(from)?, number(to)?);
            requests.push(PortRequest { protocol, host_ip, host_port, host_port_end, container_port });
        }
    }
    Ok(requests)
}

/// With `-P` every exposed port that is not published otherwise.
fn all_requests(record: &Record) -> Result<Vec<PortRequest>> {
    let mut all = requests(&record.host)?;
    if record.host.publish_all_ports {
        for port in record.config.exposed_ports.iter().flatten().map(|(port, _)| port) {
            let (container_port, protocol) = parse_port(port)?;
            if !all.iter().any(|r| (r.container_port, r.protocol) == (container_port, protocol)) {
                all.push(PortRequest {
                    protocol,
                    host_ip: None,
                    host_port: 0,
                    host_port_end: 0,
                    container_port,
                });
            }
        }
    }
    Ok(all)
}

/// What to ask a network for.
fn request(record: &Record, network: &str, settings: &EndpointSettings) -> EndpointRequest {
    let aliases = settings.aliases.clone().unwrap_or_default();
    let pair = |link: &String| {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        (alias.to_string(), name.to_string())
    };
    let some = |text: &str| (!text.is_empty()).then(|| text.to_string());
    let user_defined = !drydock_network::is_predefined(network);
    let mut links: Vec<(String, String)> = settings.links.iter().flatten().map(pair).collect();
    if user_defined && network == record.host.network_mode {
        links.extend(record.host.links.iter().flatten().map(pair));
    }
    let mac = some(&settings.mac_address)
        .or_else(|| record.wished_macs.get(network).cloned())
        .or_else(|| some(&record.config.mac_address).filter(|_| network == record.host.network_mode));
    EndpointRequest {
        network: network.into(),
        container: record.id.clone(),
        container_name: record.name.clone(),
        dns_names: dns_names(&record.name, &aliases, &record.id, &record.config.hostname),
        links,
        has_aliases: !aliases.is_empty(),
        address: settings.ipam_config.as_ref().and_then(|c| some(&c.ipv4_address)),
        ipv6_address: settings.ipam_config.as_ref().and_then(|c| some(&c.ipv6_address)),
        // What is no address has been refused.
        link_local: settings
            .ipam_config
            .iter()
            .flat_map(|config| config.link_local_ips.iter().flatten())
            .filter_map(|address| address.parse().ok())
            .collect(),
        mac,
        interface: option(settings, addresses::IFNAME),
        sysctls: option(settings, addresses::SYSCTLS)
            .map(|all| all.split(',').map(Into::into).collect())
            .unwrap_or_default(),
        gateway_priority: settings.gw_priority,
    }
}

/// The hardware addresses that are asked for.
pub fn wished_macs(networks: &BTreeMap<String, EndpointSettings>) -> BTreeMap<String, String> {
    let wished = networks.iter().filter(|(_, settings)| !settings.mac_address.is_empty());
    wished.map(|(name, settings)| (name.clone(), settings.mac_address.clone())).collect()
}

/// That of the network which a container was made for, as clients before API 1.44 look for it.
pub fn wished_mac(record: &Record) -> String {
    record.wished_macs.get(&record.host.network_mode).cloned().unwrap_or_default()
}

fn option(settings: &EndpointSettings, name: &str) -> Option<String> {
    settings.driver_opts.as_ref()?.get(name).filter(|value| !value.is_empty()).cloned()
}

/// Notes what a network has given.
fn note(settings: &mut EndpointSettings, endpoint: &Endpoint) {
    settings.network_id.clone_from(&endpoint.network_id);
    settings.endpoint_id.clone_from(&endpoint.id);
    settings.gateway = endpoint.gateway.map(|g| g.to_string()).unwrap_or_default();
    settings.ip_address = endpoint.address.map(|a| a.to_string()).unwrap_or_default();
    settings.ip_prefix_len = if endpoint.address.is_some() { endpoint.prefix } else { 0 };
    let ipv6 = endpoint.ipv6.as_ref();
    settings.ipv6_gateway =
        ipv6.and_then(|ipv6| ipv6.gateway).map(|gateway| gateway.to_string()).unwrap_or_default();
    settings.global_ipv6_address = ipv6.map(|ipv6| ipv6.address.to_string()).unwrap_or_default();
    settings.global_ipv6_prefix_len = ipv6.map_or(0, |ipv6| ipv6.prefix);
    settings.mac_address = endpoint.mac.map(|m| m.to_string()).unwrap_or_default();
    settings.dns_names = endpoint.user_defined().then(|| endpoint.dns_names.clone());
}

/// Takes places in all networks of a container that is to start.
pub fn reserve(engine: &Engine, record: &mut Record) -> Result<()> {
    may_share(&record.host.network_mode, &record.networks.keys().map(String::as_str).collect())?;
    let mut networks = std::mem::take(&mut record.networks);
    let mut endpoints = Vec::new();
    let mut named = BTreeMap::new();
    let mut failed = None;
    for (mut name, mut settings) in std::mem::take(&mut networks) {
        let asked = match engine.networks.reserve(&request(record, &name, &settings)) {
            Ok(endpoint) if failed.is_none() => {
                note(&mut settings, &endpoint);
                // It may have been named by its id.
                let called = std::mem::replace(&mut name, endpoint.network_name.clone());
                if let Some(mac) = record.wished_macs.remove(&called) {
                    record.wished_macs.insert(name.clone(), mac);
                }
                endpoints.push(endpoint);
                name
            }
            Ok(_) => name,
            Err(error) => {
                failed = failed.or(Some(error));
                name
            }
        };
        named.insert(asked, settings);
    }
    record.networks = named;
    record.endpoints = endpoints;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Makes the interfaces of a container whose first process is there, and its published ports.
pub async fn plug(engine: &Engine, record: &Record, inside: Inside) -> Result<Vec<Interface>> {
    let interfaces = engine.networks.plug(&record.id, inside.clone())?;
    if record.endpoints.iter().any(Endpoint::user_defined) {
        engine.networks.serve_names(&record.id, inside, resolver(engine, record)).await?;
    }
    publish(engine, record).await?;
    Ok(interfaces)
}

/// How the container's questions about others are answered.
pub fn resolver(engine: &Engine, record: &Record) -> Resolver {
    let dns = super::files::dns(engine, record);
    Resolver { ndots_set: dns.options.iter().any(|o| o.starts_with("ndots")), servers: dns.servers }
}

/// Publishes a container's ports.
pub async fn publish(engine: &Engine, record: &Record) -> Result<Vec<drydock_network::Binding>> {
    let wanted = all_requests(record)?;
    if wanted.is_empty() || record.host.network_mode == "host" {
        return Ok(vec![]);
    }
    engine.networks.publish(&record.id, &wanted).await.map_err(|error| {
        let endpoint = engine.networks.way_out(&record.id).map(|e| e.id).unwrap_or_default();
        let error = Error::from(error);
        let message = format!(
            "driver failed programming external connectivity on endpoint {} ({endpoint}): {}",
            record.name, error.message
        );
        Error::new(error.status, message)
    })
}

/// Publishes a container's ports where they were, for an engine that takes it over.
pub async fn publish_again(engine: &Engine, record: &Record) -> Result<()> {
    let same = record.published.iter().map(|b| PortRequest {
        protocol: b.protocol,
        host_ip: Some(b.host_ip),
        host_port: b.host_port,
        host_port_end: 0,
        container_port: b.container_port,
    });
    engine.networks.publish(&record.id, &same.collect::<Vec<_>>()).await?;
    Ok(())
}

/// Gives everything back when a container has ended, and tells it.
pub async fn release(engine: &Engine, container: &Container) {
    let endpoints = {
        let mut record = container.record();
        record.published.clear();
        record.networks.values_mut().for_each(|settings| {
            let mac = if settings.endpoint_id.is_empty() {
                std::mem::take(&mut settings.mac_address)
            } else {
                String::new()
            };
            settings.clear();
            settings.mac_address = mac;
        });
        std::mem::take(&mut record.endpoints)
    };
    if let Err(error) = engine.networks.release_container(&container.id).await {
        tracing::warn!(container = container.id, %error, "a network could not be left");
    }
    // Nobody hears of BuildKit's own containers.
    for endpoint in endpoints.iter().filter(|_| !container.record().step) {
        tell(engine, "disconnect", endpoint);
    }
}

/// An event of a network.
pub fn tell(engine: &Engine, action: &str, endpoint: &Endpoint) {
    let attributes = [
        ("container".to_string(), endpoint.container.clone()),
        ("name".to_string(), endpoint.network_name.clone()),
        ("type".to_string(), endpoint.driver.name().to_string()),
    ];
    engine.events.emit("network", action, &endpoint.network_id, attributes.into());
}

/// `docker network connect`.
pub async fn connect(
    engine: &Engine,
    network: &str,
    container: &str,
    settings: impl Into<Option<EndpointSettings>>,
) -> Result<()> {
    let container = &engine.containers.get(container)?;
    let mut settings = settings.into().unwrap_or_default();
    let _turn = container.turn.lock().await;
    let found = engine.networks.find(network)?;
    let live = container.live();
    let request = {
        let record = container.record();
        may_connect(&record, &found, live.is_some())?;
        addresses::check_one(Some(&found), &found.name, &settings).map_err(Error::invalid)?;
        request(&record, &found.name, &settings)
    };
    let way_out = engine.networks.way_out(&container.id);
    if !settings.mac_address.is_empty() {
        container.record().wished_macs.insert(found.name.clone(), settings.mac_address.clone());
    }
    let mut publishing = Ok(());
    if let Some(live) = live {
        let endpoint = plug_running(engine, container, engine.way_in(container, &live), &request).await?;
        note(&mut settings, &endpoint);
        tell(engine, "connect", &endpoint);
        container.record().endpoints = engine.networks.endpoints(&container.id);
        publishing = publish_elsewhere(engine, container, way_out).await;
    } else {
        settings.network_id.clone_from(&found.id);
    }
    let mut record = container.record();
    record.networks.insert(found.name.clone(), settings);
    refresh_files(engine, &record);
    if record.state.phase.alive() {
        super::files::resolve(engine, &record)?;
    }
    save(engine, &record)?;
    publishing
}

/// Whether a container may be in all of these networks at once (moby's `updateNetworkSettings`).
fn may_share(mode: &str, networks: &BTreeSet<&str>) -> Result<()> {
    if mode != "host" && networks.contains("host") {
        return Err(Error::invalid(
            "cannot connect container to host network - container must be created in host network mode",
        ));
    }
    if mode.starts_with("container:") || (networks.len() > 1 && networks.contains("host")) {
        return Err(Error::invalid(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    if networks.len() > 1 && networks.contains("none") {
        return Err(Error::invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    Ok(())
}

fn may_connect(record: &Record, network: &Network, runs: bool) -> Result<()> {
    let all = record.networks.keys().map(String::as_str).chain([network.name.as_str()]);
    may_share(&record.host.network_mode, &all.collect())?;
    if !runs && record.networks.contains_key(&network.name) {
        return Err(Error::forbidden(format!(
            "endpoint with name {} already exists in network {}",
            record.name, network.name
        )));
    }
    Ok(())
}

/// Gives a running container (`pid`: a process in its network namespace) its place in a network.
async fn plug_running(
    engine: &Engine,
    container: &Container,
    pid: i32,
    request: &EndpointRequest,
) -> Result<Endpoint> {
    let endpoint = engine.networks.reserve(request)?;
    if let Err(error) = engine.networks.plug_running(&container.id, pid) {
        let _not_there = engine.networks.release(&endpoint.network_id, &container.id);
        return Err(error.into());
    }
    engine.networks.settle(&container.id).await;
    let resolver = resolver(engine, &container.record());
    if endpoint.user_defined() {
        engine.networks.serve_names(&container.id, pid, resolver).await?;
    }
    Ok(endpoint)
}

/// Ports are published where the container's way out is: if that is another network now, they move there.
async fn publish_elsewhere(engine: &Engine, container: &Container, before: Option<Endpoint>) -> Result<()> {
    let id = |endpoint: &Option<Endpoint>| endpoint.as_ref().map(|endpoint| endpoint.id.clone());
    if id(&before) == id(&engine.networks.way_out(&container.id)) {
        return Ok(());
    }
    let snapshot = container.record().clone();
    engine.networks.unpublish(&container.id).await?;
    let published = publish(engine, &snapshot).await;
    container.record().published = engine.networks.published(&container.id);
    published.map(|_| ())
}

/// `docker network disconnect`.
pub async fn disconnect(engine: &Engine, network: &str, container: &str, force: bool) -> Result<()> {
    let container = &engine.containers.get(container)?;
    let _turn = container.turn.lock().await;
    let found = match engine.networks.find(network) {
        // A network that is gone is forgotten, if that is what is wanted.
        Err(_) if force && container.record().networks.remove(network).is_some() => {
            return save(engine, &container.record());
        }
        found => found?,
    };
    let running = container.live().is_some();
    {
        let record = container.record();
        if record.host.network_mode == "host" && found.name == "host" {
            return Err(Error::invalid(
                "cannot disconnect container from host network - container was created in host network mode",
            ));
        }
        let known = record.networks.contains_key(&found.name) || record.networks.contains_key(&found.id);
        if !known {
            return Err(Error::forbidden(format!(
                "container {} is not connected to network {}",
                container.id, found.name
            )));
        }
    }
    let way_out = engine.networks.way_out(&container.id);
    if running {
        let endpoint =
            engine.networks.endpoints(&container.id).into_iter().find(|e| e.network_id == found.id);
        engine.networks.release(&found.id, &container.id)?;
        if let Some(endpoint) = endpoint {
            tell(engine, "disconnect", &endpoint);
        }
    }
    let publishing = if running { publish_elsewhere(engine, container, way_out).await } else { Ok(()) };
    let mut record = container.record();
    record.networks.retain(|name, _| *name != found.name && *name != found.id);
    record.wished_macs.retain(|name, _| *name != found.name && *name != found.id);
    record.endpoints.retain(|e| e.network_id != found.id);
    refresh_files(engine, &record);
    save(engine, &record)?;
    publishing
}

/// Writes `/etc/hosts` of a container that runs anew.
pub fn refresh_files(engine: &Engine, record: &Record) {
    if record.state.phase.alive()
        && let Err(error) = super::files::hosts(engine, record)
    {
        tracing::warn!(container = record.short(), %error, "/etc/hosts could not be written");
    }
}

fn save(engine: &Engine, record: &Record) -> Result<()> {
    let dir = engine.containers.dir(&record.id);
    record.save_state(&dir).doing(|| format!("write {}", dir.display()))
}

/// `Ports` as inspection shows them: published ones, and exposed ones as `null`.
pub fn port_map(record: &Record) -> PortMap {
    let mut map = PortMap::new();
    if !record.state.phase.alive() {
        return map;
    }
    for port in record.config.exposed_ports.iter().flatten().map(|(port, _)| port) {
        map.insert(if port.contains('/') { port.clone() } else { format!("{port}/tcp") }, None);
    }
    for binding in &record.published {
        let entry = map.entry(format!("{}/{}", binding.container_port, binding.protocol)).or_default();
        entry.get_or_insert_default().push(PortBinding {
            host_ip: binding.host_ip.to_string(),
            // None of the node: a routed network.
            host_port: if binding.host_port == 0 { String::new() } else { binding.host_port.to_string() },
        });
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_are_no_neighbours_are_refused_in_mobys_words() {
        let share = |mode: &str, networks: &[&str]| {
            may_share(mode, &networks.iter().copied().collect()).map_err(|error| error.message)
        };
        for (mode, alone) in [("host", "host"), ("none", "none"), ("bridge", "bridge"), ("mine", "other")] {
            assert_eq!(share(mode, &[alone]), Ok(()));
        }
        assert_eq!(share("bridge", &["bridge", "mine"]), Ok(()));
        assert_eq!(
            share("host", &["host", "bridge"]).unwrap_err(),
            "container sharing network namespace with another container or host cannot be connected to any other network"
        );
        assert_eq!(
            share("bridge", &["bridge", "host"]).unwrap_err(),
            "cannot connect container to host network - container must be created in host network mode"
        );
        assert!(share("none", &["none", "bridge"]).unwrap_err().contains("in private (none) mode"));
        assert!(share("container:x", &["bridge"]).unwrap_err().starts_with("container sharing"));
    }

    #[test]
    fn a_port_that_is_none_of_the_nodes_is_shown_without_a_number() {
        let mut record = Record::default();
        record.state.phase = super::super::record::Phase::Running;
        record.published = vec![drydock_network::Binding {
            protocol: Protocol::Tcp,
            host_ip: std::net::Ipv4Addr::UNSPECIFIED.into(),
            host_port: 0,
            container_port: 80,
        }];
        let shown = serde_json::to_string(&port_map(&record)).unwrap();
        assert_eq!(shown, r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":""}]}"#);
    }

    #[test]
    fn ports_to_publish_are_read() {
        let mut host = HostConfig::default();
        let binding = PortBinding { host_ip: "127.0.0.1".into(), host_port: "8000-8010".into() };
        host.port_bindings =
            Some([("80/udp".to_string(), Some(vec![binding])), ("90".to_string(), None)].into());
        let found = requests(&host).unwrap();
        assert_eq!(
            (found[0].host_port, found[0].host_port_end, found[0].protocol),
            (8000, 8010, Protocol::Udp)
        );
        assert_eq!((found[1].host_port, found[1].container_port), (0, 90));
        host.port_bindings = Some(
            [("80/tcp".to_string(), Some(vec![PortBinding { host_port: "x".into(), ..Default::default() }]))]
                .into(),
        );
        assert!(requests(&host).is_err());
    }
}
