//! Containers in networks: an endpoint is one container in one network. Reserved in memory first, made in the kernel
//! when the container's first process is there.

use crate::{
    Error, Mac, Networks, Result,
    bridge::accept,
    definition::{Bridge, Driver, is_predefined},
    error::Kind,
    inside::{Inside, Namespace},
    networks::{State, short},
    proxy::Target,
    publish::Published,
    random,
    resolver::Server,
    ways::{WaysOut, set_target},
    wiring::{delete, set_sysctls, set_up, set_ways_out, unplug},
    wishes::{Checked, check, free_number, host_interface, interface_name, network_prefix, take},
};
use drydock_runtime::{
    container::spec::Interface,
    netlink::{self, Batch, Pair, Peer},
};
use nix::{errno::Errno, net::if_::if_nametoindex};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

/// Number of a container's first interface; the loopback interface is 1.
const FIRST_INDEX: u32 = 2;
/// How often another number is tried.
const ATTEMPTS: u32 = 10;

/// How the kernel refuses a number that an interface has, or gets just now.
fn taken(error: &drydock_runtime::Error) -> bool {
    [Errno::EEXIST, Errno::EBUSY].iter().any(|errno| error.errno() == Some(*errno as i32))
}

/// The kernel removes what belonged to a network namespace in this time.
const AFTERMATH: Duration = Duration::from_secs(2);

/// A container that is to be in a network.
#[derive(Debug, Clone, Default)]
pub struct EndpointRequest {
    /// The network: id, name, or the beginning of an id.
    pub network: String,
    /// The container's id.
    pub container: String,
    /// Its name, without the slash.
    pub container_name: String,
    /// Names in the embedded name server ([`dns_names`]); the first is that of its address.
    pub dns_names: Vec<String>,
    /// `--link`: (alias, name of the other container), for this container's questions only.
    pub links: Vec<(String, String)>,
    /// `--network-alias` was given (Docker refuses it on the default networks).
    pub has_aliases: bool,
    /// `--ip`
    pub address: Option<String>,
    /// `--ip6`
    pub ipv6_address: Option<String>,
    /// `--link-local-ip`
    pub link_local: Vec<IpAddr>,
    /// `--mac-address`
    pub mac: Option<String>,
    /// Name of the interface in the container (`com.docker.network.endpoint.ifname`).
    pub interface: Option<String>,
    /// `net.ipv4.conf.IFNAME.log_martians=1` (`com.docker.network.endpoint.sysctls`).
    pub sysctls: Vec<String>,
    /// `gw-priority`: the network with the highest one has the default route.
    pub gateway_priority: i64,
}

/// One container in one network. The engine keeps it with the container, for [`Networks::adopt`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id: 64 digits.
    pub id: String,
    /// The network's id.
    pub network_id: String,
    /// The network's name.
    pub network_name: String,
    /// What kind of network: not each gives an interface.
    pub driver: Driver,
    /// No way out of the network.
    pub internal: bool,
    /// The container's id.
    pub container: String,
    /// Its name, without the slash.
    pub container_name: String,
    /// Names in the embedded name server.
    pub dns_names: Vec<String>,
    /// (alias, name of the other container)
    pub links: Vec<(String, String)>,
    /// The network with the highest one has the default route.
    pub gateway_priority: i64,
    /// The interface on the node's side (`veth1a2b3c4`), if there is one.
    pub host_interface: String,
    /// The container's number of interface, from 0.
    pub number: u32,
    /// Its name; empty in what older engines kept: `eth` and the number.
    #[serde(default)]
    pub name: String,
    /// Settings of the interface.
    #[serde(default)]
    pub sysctls: Vec<String>,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Length of the subnet's prefix.
    pub prefix: u8,
    /// The bridge's address; none on internal networks.
    pub gateway: Option<Ipv4Addr>,
    /// The same of IPv6, where the network has it.
    #[serde(default)]
    pub ipv6: Option<EndpointIpv6>,
    /// Addresses beside those of the network's subnets.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// Its link-layer address.
    pub mac: Option<Mac>,
    /// The interfaces have been made.
    pub plugged: bool,
}

/// The IPv6 side of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointIpv6 {
    /// Its address.
    pub address: Ipv6Addr,
    /// Length of the subnet's prefix.
    pub prefix: u8,
    /// The bridge's address; none on internal networks.
    pub gateway: Option<Ipv6Addr>,
}

impl Endpoint {
    /// The addresses beside those of the network's subnets that its interface can have, with lengths of their prefixes
    /// (libnetwork, `endpoint.go`).
    pub(crate) fn link_local(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        let possible = self.link_local.iter().filter(|address| address.is_ipv4() || self.ipv6.is_some());
        possible.map(|address| (*address, if address.is_ipv4() { 16 } else { 64 }))
    }

    /// Its IPv6 address with the length of the prefix, as text.
    pub(crate) fn ipv6_text(&self) -> String {
        self.ipv6.as_ref().map(|ipv6| format!("{}/{}", ipv6.address, ipv6.prefix)).unwrap_or_default()
    }

    /// Name of the interface inside the container.
    pub fn interface(&self) -> String {
        if self.name.is_empty() { format!("eth{}", self.number) } else { self.name.clone() }
    }

    /// Number of the interface inside the container, if it was made by [`Networks::plug`].
    pub fn index(&self) -> u32 {
        FIRST_INDEX + self.number
    }

    /// The network is one that somebody has made: it has the embedded name server.
    pub fn user_defined(&self) -> bool {
        !is_predefined(&self.network_name)
    }
}

/// What is known of a container as long as it is in a network.
#[derive(Debug, Default)]
pub(crate) struct Container {
    /// Its network namespace.
    pub inside: Option<Inside>,
    /// Addresses of the endpoints with the default routes: where published ports lead.
    pub target: Arc<Target>,
    pub published: Vec<Published>,
    pub resolver: Option<Server>,
}

/// The names that a container has in a user-defined network: its name, its aliases, the beginning of its id, its host name.
pub fn dns_names(name: &str, aliases: &[String], id: &str, hostname: &str) -> Vec<String> {
    let all = [name].into_iter().chain(aliases.iter().map(String::as_str)).chain([short(id), hostname]);
    let mut names: Vec<String> = Vec::new();
    for candidate in all.filter(|name| !name.is_empty()) {
        if !names.iter().any(|name| name == candidate) {
            names.push(candidate.to_owned());
        }
    }
    names
}

impl Networks {
    /// Gives a container a place in a network: an address and all that follows from it. No system call.
    pub fn reserve(&self, request: &EndpointRequest) -> Result<Endpoint> {
        let mut state = self.state();
        let network = state.find(&request.network)?;
        let id = network.definition.id.clone();
        if network.definition.config_only.is_some() {
            return Err(Kind::Forbidden.error("cannot create endpoint on configuration-only network"));
        }
        if network.endpoints.contains_key(&request.container) {
            return Err(Kind::Forbidden.error(format!(
                "endpoint with name {} already exists in network {}",
                request.container_name, network.definition.name
            )));
        }
        let Checked { address, ipv6_address, mac } = check(request, &network.definition)?;
        let number = free_number(&state, &request.container);
        let prefix = network_prefix(network);
        let name = interface_name(&state, request, &prefix)?;
        let network = state.network_mut(&id).ok_or_else(|| crate::definition::not_found(&id))?;
        let definition = &network.definition;
        let none_left = |family: u8| {
            Kind::Unavailable.error(format!(
                "no available IPv{family} addresses on this network's address pools: {} ({id})",
                definition.name
            ))
        };
        let address = take(&mut network.pool, address, || none_left(4))?;
        let ipv6_address = take(&mut network.pool6, ipv6_address, || none_left(6)).inspect_err(|_| {
            if let (Some(pool), Some(address)) = (&mut network.pool, address) {
                pool.release(address);
            }
        })?;
        let alone = |bridge: &Bridge| bridge.macvlan.as_ref().is_some_and(|macvlan| macvlan.alone);
        let gateway = definition.bridge.as_ref().filter(|bridge| !definition.internal && !alone(bridge));
        let endpoint = Endpoint {
            id: random::hex::<32>(),
            network_name: definition.name.clone(),
            driver: definition.driver,
            internal: definition.internal,
            container: request.container.clone(),
            container_name: request.container_name.clone(),
            dns_names: request.dns_names.clone(),
            links: request.links.clone(),
            gateway_priority: request.gateway_priority,
            host_interface: if definition.driver == Driver::Bridge {
                host_interface()
            } else {
                String::new()
            },
            number,
            name,
            sysctls: request.sysctls.clone(),
            address,
            prefix: network.pool.as_ref().map_or(0, crate::ipam::Pool::prefix),
            ipv6: ipv6_address.map(|address| EndpointIpv6 {
                address,
                prefix: network.pool6.as_ref().map_or(0, crate::ipam::Pool::prefix),
                gateway: gateway.and_then(|bridge| Some(bridge.ipv6.as_ref()?.gateway)),
            }),
            gateway: gateway.filter(|bridge| !bridge.no_ipv4).map(|bridge| bridge.gateway),
            link_local: request.link_local.clone(),
            mac: definition.driver.has_interfaces().then(|| mac.unwrap_or_else(Mac::random)),
            plugged: false,
            network_id: id,
        };
        network.endpoints.insert(request.container.clone(), endpoint.clone());
        state.containers.entry(request.container.clone()).or_default();
        Ok(endpoint)
    }

    /// Makes the interfaces of all of a container's endpoints, in the network namespace of its first process, and says
    /// how the child sets them up. One request to the kernel; no program is run.
    pub fn plug(&self, container: &str, inside: impl Into<Inside>) -> Result<Vec<Interface>> {
        let inside = inside.into();
        let made = self.make_pairs(container, &inside, Endpoint::index)?;
        if made.iter().any(|endpoint| !endpoint.sysctls.is_empty()) {
            Namespace::of(&inside)?.run(|| made.iter().try_for_each(set_sysctls))?;
        }
        let mut state = self.state();
        state.containers.entry(container.to_owned()).or_default().inside = Some(inside);
        let ways = set_target(&state, container);
        let is =
            |way: &Option<Endpoint>, endpoint: &Endpoint| way.as_ref().is_some_and(|e| e.id == endpoint.id);
        let with = state.endpoints_of(container).filter(|endpoint| endpoint.driver.has_interfaces());
        let interfaces = with.map(|endpoint| {
            let ipv6 = endpoint.ipv6.as_ref();
            Interface {
                index: endpoint.index(),
                name: endpoint.interface(),
                address: endpoint.address,
                prefix: endpoint.prefix,
                gateway: endpoint.gateway.filter(|_| is(&ways.ipv4, endpoint)),
                ipv6: ipv6.map(|ipv6| (ipv6.address, ipv6.prefix)),
                more: endpoint.link_local().collect(),
                ipv6_gateway: ipv6.and_then(|ipv6| ipv6.gateway).filter(|_| is(&ways.ipv6, endpoint)),
            }
        });
        Ok(interfaces.collect())
    }

    /// Makes the interfaces of endpoints that a running container has got (`docker network connect`) and sets them up from
    /// outside.
    pub fn plug_running(&self, container: &str, inside: impl Into<Inside>) -> Result<()> {
        let inside = inside.into();
        let before = WaysOut::of(&self.state(), container);
        // Number 0: the kernel chooses one, since the container may have made interfaces of its own.
        let made = self.make_pairs(container, &inside, |_| 0)?;
        let after = {
            let mut state = self.state();
            state.containers.entry(container.to_owned()).or_default().inside = Some(inside.clone());
            set_target(&state, container)
        };
        Namespace::of(&inside)?.run(|| {
            for endpoint in &made {
                set_up(endpoint)?;
                set_sysctls(endpoint)?;
            }
            set_ways_out(&before, &after)
        })?;
        self.follow(before.ipv4.as_ref(), after.ipv4.as_ref())
    }

    /// Lets the firewall rules of published ports lead where the container's default route has gone.
    fn follow(&self, before: Option<&Endpoint>, after: Option<&Endpoint>) -> Result<()> {
        let moved = before.map(|e| &e.id) != after.map(|e| &e.id);
        let Some(endpoint) = before.or(after).filter(|_| moved) else { return Ok(()) };
        if self.published(&endpoint.container).is_empty() { Ok(()) } else { self.update_firewall() }
    }

    /// The endpoint through which a container reaches the outside, and through which published ports lead.
    pub fn way_out(&self, container: &str) -> Option<Endpoint> {
        let ways = WaysOut::of(&self.state(), container);
        ways.ipv4.or(ways.ipv6)
    }

    /// A container's endpoints, in the order of their interfaces.
    pub fn endpoints(&self, container: &str) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> = self.state().endpoints_of(container).cloned().collect();
        endpoints.sort_by_key(|endpoint| endpoint.number);
        endpoints
    }

    /// Makes what is reserved and not yet there. Answers what was made.
    fn make_pairs(
        &self,
        container: &str,
        inside: &Inside,
        index: fn(&Endpoint) -> u32,
    ) -> Result<Vec<Endpoint>> {
        let wanted: Vec<(Endpoint, Bridge)> = {
            let state = self.state();
            let unplugged = state.endpoints_of(container).filter(|endpoint| !endpoint.plugged);
            unplugged
                .filter_map(|e| Some((e.clone(), state.network(&e.network_id)?.definition.bridge.clone()?)))
                .collect()
        };
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let namespace = Namespace::of(inside)?;
        let mut attempt = 1;
        let made = loop {
            let made = self.batch(&wanted, &namespace, index)?.send();
            if made.is_err() {
                for (endpoint, _) in wanted.iter().filter(|(endpoint, _)| !endpoint.host_interface.is_empty())
                {
                    let _not_made = Batch::new().delete_named(&endpoint.host_interface).send();
                }
            }
            match made {
                // Somebody else has made an interface with that number.
                Err(error) if attempt < ATTEMPTS && taken(&error) => {
                    self.shared.numbers.look()?;
                }
                made => break made,
            }
            attempt += 1;
        };
        if let Err(error) = made {
            let macvlan = wanted.iter().any(|(_, bridge)| bridge.macvlan.is_some());
            let what = if macvlan {
                "failed to create the macvlan port: "
            } else {
                "failed to add the host <=> sandbox pair interfaces: "
            };
            return Err(Error::from(error).context(what));
        }
        let mut state = self.state();
        for (endpoint, _) in &wanted {
            let network = state.network_mut(&endpoint.network_id);
            if let Some(endpoint) = network.and_then(|network| network.endpoints.get_mut(container)) {
                endpoint.plugged = true;
            }
        }
        Ok(wanted.into_iter().map(|(endpoint, _)| endpoint).collect())
    }

    /// All that makes these interfaces.
    fn batch(
        &self,
        wanted: &[(Endpoint, Bridge)],
        namespace: &Namespace,
        index: fn(&Endpoint) -> u32,
    ) -> Result<Batch> {
        let mut batch = Batch::new();
        for (endpoint, bridge) in wanted {
            let Some(mac) = endpoint.mac else { continue };
            let name = endpoint.interface();
            let peer = Peer { name: &name, index: index(endpoint), mac: mac.0 };
            let port_of = self.bridge_index(bridge)?;
            if let Some(macvlan) = &bridge.macvlan {
                batch.macvlan(port_of, macvlan.mode(), &peer, namespace.fd().as_fd());
                continue;
            }
            let number = if peer.index == 0 { 0 } else { self.shared.numbers.next()? };
            let name = &endpoint.host_interface;
            let pair = Pair { name, index: number, bridge: port_of, mtu: bridge.mtu, peer };
            batch.pair(&pair, namespace.fd().as_fd());
            batch.up(port_of);
            if !bridge.icc {
                batch.isolate(name);
            }
        }
        Ok(batch)
    }

    /// Takes a container out of one network. If it runs, it loses the interface.
    pub fn release(&self, network: &str, container: &str) -> Result<()> {
        let before = WaysOut::of(&self.state(), container);
        let (endpoint, inside, after) = {
            let mut state = self.state();
            let (id, name) = {
                let network = state.find(network)?;
                (network.definition.id.clone(), network.definition.name.clone())
            };
            let endpoint =
                state.network_mut(&id).and_then(|network| network.remove(container)).ok_or_else(|| {
                    Kind::Internal.error(format!("container {container} is not connected to network {name}"))
                })?;
            let after = set_target(&state, container);
            let inside = state.containers.get(container).and_then(|container| container.inside.clone());
            if state.endpoints_of(container).next().is_none() {
                state.containers.get_mut(container).map(|container| container.resolver.take());
            }
            (endpoint, inside, after)
        };
        unplug(&endpoint)?;
        if let Some(inside) = inside
            && let Ok(namespace) = Namespace::of(&inside)
        {
            namespace.run(|| {
                if endpoint.plugged && endpoint.driver == Driver::Macvlan {
                    delete(&endpoint.interface())?;
                }
                set_ways_out(&before, &after)
            })?;
        }
        self.follow(before.ipv4.as_ref(), after.ipv4.as_ref())
    }

    /// Takes a container that has ended out of all networks: addresses, interfaces, names, published ports.
    pub async fn release_container(&self, container: &str) -> Result<()> {
        let (endpoints, published) = {
            let mut state = self.state();
            let endpoints: Vec<Endpoint> =
                state.networks.iter_mut().filter_map(|network| network.remove(container)).collect();
            let known = state.containers.remove(container);
            (endpoints, known.map(|known| known.published).unwrap_or_default())
        };
        let left =
            endpoints.into_iter().filter(|endpoint| endpoint.plugged).map(|e| e.host_interface).collect();
        self.clean_up_later(left);
        self.stop(published).await
    }

    /// Interfaces go with the container's network namespace. One that has not gone (somebody else is in that namespace) is
    /// deleted some time later: the kernel takes about 18 ms for it, which nobody should have to wait for.
    fn clean_up_later(&self, interfaces: Vec<String>) {
        if interfaces.is_empty() {
            return;
        }
        let networks = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AFTERMATH).await;
            let left: Vec<String> =
                interfaces.into_iter().filter(|name| if_nametoindex(name.as_str()).is_ok()).collect();
            if left.is_empty() {
                return;
            }
            if let Err(error) =
                networks.blocking(move |_| left.iter().try_for_each(|name| delete(name))).await
            {
                tracing::warn!(%error, "delete interfaces of a container");
            }
        });
    }

    /// Takes over a container that has outlived the engine: its endpoints as the engine has kept them. Published ports and the
    /// name server are asked for anew.
    pub fn adopt(&self, endpoints: &[Endpoint], inside: impl Into<Inside>) -> Result<()> {
        let inside = inside.into();
        let mut state = self.state();
        for endpoint in endpoints {
            let network = state
                .network_mut(&endpoint.network_id)
                .ok_or_else(|| crate::definition::not_found(&endpoint.network_id))?;
            if let (Some(pool), Some(address)) = (&mut network.pool, endpoint.address) {
                pool.take(address)?;
            }
            if let (Some(pool), Some(ipv6)) = (&mut network.pool6, &endpoint.ipv6) {
                pool.take(ipv6.address)?;
            }
            network.endpoints.insert(endpoint.container.clone(), endpoint.clone());
            state.containers.entry(endpoint.container.clone()).or_default().inside = Some(inside.clone());
        }
        if let Some(endpoint) = endpoints.first() {
            set_target(&state, &endpoint.container);
        }
        Ok(())
    }

    /// Changes a container's name in all of its networks (`docker rename`).
    pub fn rename(&self, container: &str, old: &str, new: &str) {
        let mut state = self.state();
        for endpoint in state.networks.iter_mut().filter_map(|network| network.endpoints.get_mut(container)) {
            new.clone_into(&mut endpoint.container_name);
            for name in endpoint.dns_names.iter_mut().filter(|name| *name == old) {
                new.clone_into(name);
            }
        }
    }

    /// Deletes interfaces of containers that nobody knows any more: to be called when all that run have been adopted.
    pub fn sweep(&self) -> Result<()> {
        let (bridges, known): (Vec<String>, Vec<String>) = {
            let state = self.state();
            let bridges =
                state.networks.iter().filter_map(|n| Some(n.definition.bridge.as_ref()?.interface.clone()));
            let known =
                state.networks.iter().flat_map(|n| n.endpoints.values().map(|e| e.host_interface.clone()));
            (bridges.collect(), known.collect())
        };
        let links = netlink::links()?;
        let ours: Vec<u32> = links.iter().filter(|l| bridges.contains(&l.name)).map(|l| l.index).collect();
        let orphans = links.iter().filter(|link| {
            link.name.starts_with("veth")
                && link.bridge.is_some_and(|bridge| ours.contains(&bridge))
                && !known.contains(&link.name)
        });
        for link in orphans {
            accept(Batch::new().delete(link.index).send(), Errno::ENODEV)?;
        }
        Ok(())
    }
}

impl State {
    pub fn endpoints_of<'a>(&'a self, container: &'a str) -> impl Iterator<Item = &'a Endpoint> {
        self.networks.iter().filter_map(move |network| network.endpoints.get(container))
    }
}

impl crate::networks::Network {
    fn remove(&mut self, container: &str) -> Option<Endpoint> {
        let endpoint = self.endpoints.remove(container)?;
        if let (Some(pool), Some(address)) = (&mut self.pool, endpoint.address) {
            pool.release(address);
        }
        if let (Some(pool), Some(ipv6)) = (&mut self.pool6, &endpoint.ipv6) {
            pool.release(ipv6.address);
        }
        Some(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_container() {
        let id = "0123456789abcdef".repeat(4);
        let aliases = ["db".to_owned(), "web".to_owned()];
        assert_eq!(dns_names("web", &aliases, &id, "0123456789ab"), ["web", "db", "0123456789ab"]);
        assert_eq!(dns_names("", &[], &id, "host"), ["0123456789ab", "host"]);
    }
}
