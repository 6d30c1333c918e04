//! Published ports: a socket of the node for each, a task that carries its traffic to the container, and firewall
//! rules that let the outside reach the container with its own address.

use crate::{
    Binding, Endpoint, Networks, PortRequest, Result,
    bridge_options::GatewayMode,
    definition::{Bridge, Driver},
    error::Kind,
    networks::State,
    proxy::{self, Proxy, Socket, Target},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};
use tokio::runtime::Handle;

/// So often another port is tried if somebody else has the one that was chosen.
const ATTEMPTS: u32 = 10;

/// A port that is published: it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Published {
    binding: Binding,
    target: Arc<Target>,
    /// None where the port is the container's own only.
    proxy: Option<Proxy>,
}

impl Published {
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Where it leads now: to the address of the same kind as the node's, which is the only one that a rule can lead to.
    pub fn target(&self) -> Option<IpAddr> {
        match self.binding.host_ip {
            IpAddr::V4(_) => self.target.ipv4().map(IpAddr::V4),
            IpAddr::V6(_) => self.target.ipv6().map(IpAddr::V6),
        }
    }
}

impl Networks {
    /// Publishes ports of a container; they lead to its endpoint with the default route ([`Networks::way_out`]). All or none.
    pub async fn publish(&self, container: &str, requests: &[PortRequest]) -> Result<Vec<Binding>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let (container, requests) = (container.to_owned(), requests.to_vec());
        let runtime = Handle::current();
        self.blocking(move |networks| networks.publish_now(&container, requests, &runtime)).await
    }

    /// Takes all published ports of a container back (it has stopped).
    pub async fn unpublish(&self, container: &str) -> Result<()> {
        let published = {
            let mut state = self.state();
            let known = state.containers.get_mut(container);
            known.map(|known| std::mem::take(&mut known.published)).unwrap_or_default()
        };
        self.stop(published).await
    }

    /// Ends proxies. When this is done, the ports are free.
    pub(crate) async fn stop(&self, published: Vec<Published>) -> Result<()> {
        if published.is_empty() {
            return Ok(());
        }
        for Published { binding, proxy, .. } in published {
            if let Some(proxy) = proxy {
                proxy.stop().await;
            }
            self.give_back([binding].into_iter());
        }
        self.blocking(Self::update_firewall).await
    }

    /// Where a container's ports are published.
    pub fn published(&self, container: &str) -> Vec<Binding> {
        let state = self.state();
        let known = state.containers.get(container);
        known.map(|known| known.published.iter().map(|p| p.binding).collect()).unwrap_or_default()
    }

    fn publish_now(
        &self,
        container: &str,
        requests: Vec<PortRequest>,
        runtime: &Handle,
    ) -> Result<Vec<Binding>> {
        let way_out = self.way_out(container);
        let address = |endpoint: &Endpoint| {
            let ipv6 = endpoint.ipv6.as_ref().map(|ipv6| IpAddr::V6(ipv6.address));
            endpoint.address.map(IpAddr::V4).or(ipv6)
        };
        let Some(target) = way_out.as_ref().and_then(address) else { return Ok(Vec::new()) };
        let own = way_out.as_ref().map(|endpoint| (endpoint.address.is_some(), endpoint.ipv6.is_some()));
        // Who is in the node's own network has all ports there.
        if way_out.as_ref().is_some_and(|endpoint| endpoint.driver == Driver::Macvlan) {
            return Ok(Vec::new());
        }
        let (host_binding, mode, ipv6_mode) = {
            let state = self.state();
            let network = way_out.and_then(|e| state.network(&e.network_id));
            let bridge = network.and_then(|network| network.definition.bridge.as_ref());
            let ipv6_mode = |bridge: &Bridge| bridge.ipv6.as_ref().map(|ipv6| ipv6.mode).unwrap_or_default();
            bridge.map(|b| (b.host_binding, b.mode, ipv6_mode(b))).unwrap_or_default()
        };
        let (has_ipv4, has_ipv6) = own.unwrap_or_default();
        let routed = |has: bool, mode, any: IpAddr| (has && mode == GatewayMode::Routed).then_some(any);
        // Where the container's own addresses are reached from outside there is no port of the node.
        let opened = [
            routed(has_ipv4, mode, Ipv4Addr::UNSPECIFIED.into()),
            routed(has_ipv6, ipv6_mode, Ipv6Addr::UNSPECIFIED.into()),
        ];
        let bind = |address: &IpAddr| match address {
            IpAddr::V6(_) if has_ipv6 => opened[1].is_none(),
            // What comes to the node's IPv6 addresses goes to a container without one, too, but not the other way round.
            _ => has_ipv4 && opened[0].is_none(),
        };
        let mut bound: Vec<(Binding, Option<Socket>)> = Vec::new();
        for group in group(requests) {
            for address in opened.iter().flatten() {
                bound.extend(group.iter().map(|request| (open(request, *address), None)));
            }
            match self.bind_group(&group, host_binding, target, bind) {
                Ok(sockets) => {
                    bound.extend(sockets.into_iter().map(|(binding, socket)| (binding, Some(socket))))
                }
                Err(error) => {
                    self.give_back(bound.iter().map(|(binding, _)| *binding));
                    return Err(error);
                }
            }
        }
        let bindings: Vec<Binding> = bound.iter().map(|(binding, _)| *binding).collect();
        {
            let mut state = self.state();
            let State { containers, ports, .. } = &mut *state;
            let Some(known) = containers.get_mut(container) else {
                for binding in &bindings {
                    ports.give_back(binding.protocol, binding.host_ip, binding.host_port);
                }
                return Err(Kind::Conflict.error(format!("container {container} is in no network any more")));
            };
            let _runtime = runtime.enter();
            for (binding, socket) in bound {
                let target = known.target.clone();
                let started = socket.map(|socket| socket.start(target.clone(), binding.container_port));
                match started.transpose() {
                    Ok(proxy) => known.published.push(Published { binding, target, proxy }),
                    Err(error) => tracing::warn!(container, ?binding, %error, "start a proxy"),
                }
            }
        }
        if let Err(error) = self.update_firewall() {
            tracing::warn!(container, %error, "firewall rules of published ports");
        }
        Ok(bindings)
    }

    /// Binds one host port for requests that differ in the address only.
    fn bind_group(
        &self,
        group: &[PortRequest],
        host_binding: Option<IpAddr>,
        target: IpAddr,
        bind: impl Fn(&IpAddr) -> bool,
    ) -> Result<Vec<(Binding, Socket)>> {
        let request = group[0];
        let mut addresses: Vec<IpAddr> =
            group.iter().flat_map(|request| addresses(request, host_binding)).collect();
        addresses.retain(bind);
        if addresses.is_empty() {
            return Ok(vec![]);
        }
        let fixed = request.range().is_some_and(|(begin, end)| begin == end);
        let mut refusal = None;
        for _ in 0..if fixed { 1 } else { ATTEMPTS } {
            let port = self.state().ports.take(request.protocol, &addresses, request.range())?;
            match bind_all(&request, &addresses, port, target) {
                Ok(sockets) => return Ok(sockets),
                Err(error) => {
                    let mut state = self.state();
                    for address in &addresses {
                        state.ports.give_back(request.protocol, *address, port);
                    }
                    refusal = Some(error);
                }
            }
        }
        Err(refusal.unwrap_or_else(|| Kind::Internal.error("no port could be bound")))
    }

    fn give_back(&self, bindings: impl Iterator<Item = Binding>) {
        let mut state = self.state();
        for binding in bindings {
            state.ports.give_back(binding.protocol, binding.host_ip, binding.host_port);
        }
    }
}

/// A port that is open at the container's own address, and no port of the node.
fn open(request: &PortRequest, host_ip: IpAddr) -> Binding {
    Binding { protocol: request.protocol, host_ip, host_port: 0, container_port: request.container_port }
}

/// Requests in Docker's order: fixed ports first, and those together that differ in the address only, since they are
/// to get the same port.
fn group(mut requests: Vec<PortRequest>) -> Vec<Vec<PortRequest>> {
    let key = |request: &PortRequest| {
        let fixed = request.range().is_some_and(|(begin, end)| begin == end);
        (!fixed, request.container_port, request.protocol, request.range())
    };
    requests.sort_by_key(|request| (key(request), request.host_ip));
    requests.dedup();
    requests.chunk_by(|a, b| key(a) == key(b)).map(<[PortRequest]>::to_vec).collect()
}

/// The addresses of the node that a request is for.
fn addresses(request: &PortRequest, host_binding: Option<IpAddr>) -> Vec<IpAddr> {
    match request.host_ip.or(host_binding) {
        Some(address) if request.host_ip.is_some() || !address.is_unspecified() => vec![address],
        _ => {
            let mut all = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
            // As Docker: not on a node that has no IPv6.
            all.extend(proxy::ipv6_available().then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
            all
        }
    }
}

fn bind_all(
    request: &PortRequest,
    addresses: &[IpAddr],
    port: u16,
    target: IpAddr,
) -> Result<Vec<(Binding, Socket)>> {
    addresses
        .iter()
        .map(|address| {
            let socket = Socket::bind(request.protocol, *address, port).map_err(|errno| {
                let what = describe(request, *address, port, target);
                let why = errno.desc().to_lowercase();
                Kind::Internal.error(format!("failed to bind host port {what}: {why}"))
            })?;
            let binding = Binding {
                protocol: request.protocol,
                host_ip: *address,
                host_port: port,
                container_port: request.container_port,
            };
            Ok((binding, socket))
        })
        .collect()
}

/// `for 0.0.0.0:80:172.17.0.2:80/tcp`, and with the port that was tried in front of it if there was a choice.
fn describe(request: &PortRequest, address: IpAddr, port: u16, target: IpAddr) -> String {
    let target = match target {
        IpAddr::V4(target) => target.to_string(),
        IpAddr::V6(target) => format!("[{target}]"),
    };
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let PortRequest { protocol, container_port, .. } = request;
    match request.range() {
        Some((begin, end)) if begin == end => {
            format!("for {host}:{begin}:{target}:{container_port}/{protocol}")
        }
        Some((begin, end)) => format!("{port} for {host}:{begin}-{end}:{target}:{container_port}/{protocol}"),
        None => format!("for {host}::{target}:{container_port}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    fn request(host: &str, begin: u16, end: u16, port: u16) -> PortRequest {
        PortRequest {
            protocol: Protocol::Tcp,
            host_ip: host.parse().ok(),
            host_port: begin,
            host_port_end: end,
            container_port: port,
        }
    }

    #[test]
    fn requests_are_grouped_and_sorted() {
        let groups = group(vec![
            request("", 0, 0, 80),
            request("::1", 81, 0, 81),
            request("127.0.0.1", 81, 81, 81),
            request("", 8000, 8010, 80),
        ]);
        let ports: Vec<(usize, u16)> = groups.iter().map(|g| (g.len(), g[0].host_port)).collect();
        assert_eq!(ports, [(2, 81), (1, 0), (1, 8000)]);
        assert_eq!(groups[0][0].host_ip, "127.0.0.1".parse().ok());
    }

    #[test]
    fn refusals_name_the_port_as_docker_does() {
        let target = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2));
        let v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert_eq!(describe(&request("", 80, 0, 80), v4, 80, target), "for 0.0.0.0:80:172.17.0.2:80/tcp");
        let v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        assert_eq!(
            describe(&request("", 8080, 8082, 82), v6, 8081, target),
            "8081 for [::]:8080-8082:172.17.0.2:82/tcp"
        );
    }
}
