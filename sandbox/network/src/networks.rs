//! The networks of a node: which there are, found by name, made and removed.

use crate::{
    AddressPool, DefaultBridge, Error, Result, bridge,
    bridge_options::{BridgeOptions, GatewayMode},
    definition::{Bridge, ConfigOnly, Definition, Driver, Ipv6, NewNetwork, Subnet, not_found},
    endpoints::{Container, Endpoint},
    error::Kind,
    firewall::Firewall,
    inspect,
    ipam::{self, Net, Pool},
    macvlan::Macvlan,
    ports::Allocator,
    random,
    store::Store,
    time,
};
use drydock_runtime::netlink;
use ipnet::{Ipv4Net, Ipv6Net};
use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// Where things are in the node.
#[derive(Debug, Clone)]
pub struct Config {
    /// Definitions are kept below it.
    pub directory: PathBuf,
    /// The node's resolvers.
    pub resolv_conf: PathBuf,
    /// Rules are given to this program.
    pub iptables_restore: PathBuf,
    /// Says what rules there are.
    pub iptables_save: PathBuf,
    /// Where networks that name no subnet get theirs; none: Docker's own.
    pub pools: Vec<AddressPool>,
    /// The network `bridge`.
    pub default_bridge: DefaultBridge,
    /// The engine's own id, from which the prefix of its IPv6 networks comes.
    pub engine_id: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: "/var/lib/docker/network".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            iptables_restore: "/usr/sbin/iptables-restore".into(),
            iptables_save: "/usr/sbin/iptables-save".into(),
            pools: Vec::new(),
            default_bridge: DefaultBridge::default(),
            engine_id: String::new(),
        }
    }
}

/// The networks of a node. Clones are the same networks.
#[derive(Debug, Clone)]
pub struct Networks {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub config: Config,
    /// Held while definitions are written, so that the last one to write has seen all.
    store: Mutex<Store>,
    /// Held for moments only, never while something waits.
    state: Mutex<State>,
    pub firewall: Mutex<Firewall>,
    /// The same of IPv6.
    pub firewall6: Mutex<Firewall>,
    /// Held while a bridge is made, so that it is made once.
    pub bridges: Mutex<()>,
    pub numbers: Numbers,
}

/// Numbers for interfaces of the node: the next ones after those that are there, as the kernel gives them out.
#[derive(Debug, Default)]
pub(crate) struct Numbers(AtomicU32);

impl Numbers {
    /// One that nobody had when [`Self::look`] looked.
    pub fn next(&self) -> Result<u32> {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.look()?;
        }
        Ok(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Sees which there are: somebody else may have made an interface.
    pub fn look(&self) -> Result<()> {
        let highest = netlink::links()?.iter().map(|link| link.index).max().unwrap_or(1);
        self.0.store(highest, Ordering::Relaxed);
        Ok(())
    }
}

/// All that is known. The kernel's part of it is made from it, never the other way round.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// In the order in which they were made.
    pub networks: Vec<Network>,
    pub containers: HashMap<String, Container>,
    pub ports: Allocator,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub definition: Definition,
    /// Of a bridge only.
    pub pool: Option<Pool<Ipv4Net>>,
    /// Of a bridge with IPv6 only.
    pub pool6: Option<Pool<Ipv6Net>>,
    /// By the id of the container.
    pub endpoints: BTreeMap<String, Endpoint>,
}

impl Network {
    pub fn new(definition: Definition) -> Self {
        let pool = definition.bridge.as_ref().filter(|bridge| !bridge.no_ipv4).map(|bridge| {
            let mut pool = Pool::new(bridge.subnet, bridge.range);
            let gateway = (bridge.mode != GatewayMode::Isolated).then_some(&bridge.gateway);
            for address in bridge.reserved.iter().chain(gateway) {
                // Two of them may be the same.
                let _taken = pool.take(*address);
            }
            pool
        });
        let pool6 = definition.bridge.as_ref().and_then(|bridge| bridge.ipv6.as_ref()).map(|ipv6| {
            let mut pool = Pool::new(ipv6.subnet, ipv6.range);
            let gateway = (ipv6.mode != GatewayMode::Isolated).then_some(&ipv6.gateway);
            for address in ipv6.reserved.iter().chain(gateway) {
                let _taken = pool.take(*address);
            }
            pool
        });
        Self { definition, pool, pool6, endpoints: BTreeMap::new() }
    }
}

impl State {
    pub fn network(&self, id: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.definition.id == id)
    }

    pub fn network_mut(&mut self, id: &str) -> Option<&mut Network> {
        self.networks.iter_mut().find(|network| network.definition.id == id)
    }

    /// By id, name, or the beginning of an id, in Docker's order.
    pub fn find(&self, term: &str) -> Result<&Network> {
        if let Some(network) = self.network(term) {
            return Ok(network);
        }
        // "default" is the API's old name for the network of containers that name none.
        let name = if term == "default" { "bridge" } else { term };
        if let Some(network) = self.networks.iter().find(|network| network.definition.name == name) {
            return Ok(network);
        }
        let mut by_prefix = self
            .networks
            .iter()
            .filter(|network| !term.is_empty() && network.definition.id.starts_with(term));
        match (by_prefix.next(), by_prefix.count()) {
            (None, _) => Err(not_found(term)),
            (Some(network), 0) => Ok(network),
            (Some(_), more) => Err(Kind::Invalid.error(format!(
                "network {term} is ambiguous ({} matches found based on ID prefix)",
                more + 1
            ))),
        }
    }

    pub(crate) fn bridges(&self) -> impl Iterator<Item = (&Definition, &Bridge)> {
        self.networks
            .iter()
            .filter_map(|network| Some((&network.definition, network.definition.bridge.as_ref()?)))
    }
}

impl Networks {
    /// Takes over what is there: reads definitions, makes the predefined ones and all bridges, switches forwarding
    /// on. Firewall rules follow in the background; whoever changes them waits for that.
    pub fn open(config: Config) -> Result<Self> {
        let store = Store::new(&config.directory);
        let networks = store.load().into_iter().map(Network::new).collect();
        let mut state = State { networks, ..State::default() };
        let changed = add_predefined(&mut state, &config)?;
        let drop_policy = bridge::enable_forwarding() == bridge::Forwarding::SwitchedOn;
        let networks = Self {
            shared: Arc::new(Shared {
                firewall: Mutex::new(Firewall::new(&config, drop_policy)),
                firewall6: Mutex::new(Firewall::ipv6(&config)),
                config,
                store: Mutex::new(store),
                state: Mutex::new(state),
                bridges: Mutex::new(()),
                numbers: Numbers::default(),
            }),
        };
        let changed = networks.renew_default_bridge()? || changed;
        if changed && let Err(error) = networks.save() {
            // On a full disk they are made anew by the next engine.
            tracing::warn!(%error, "the predefined networks can't be written");
        }
        let bridges: Vec<Bridge> = networks.state().bridges().map(|(_, bridge)| bridge.clone()).collect();
        for bridge in &bridges {
            // One that can't be made is tried again when a container needs it.
            if let Err(error) = networks.ensure_bridge(bridge) {
                tracing::warn!(bridge = bridge.interface, %error, "make a bridge");
            }
        }
        let background = networks.clone();
        // Of the namespace that the caller is in: a thread inherits it.
        let thread = std::thread::Builder::new().name("firewall".into()).spawn(move || {
            if let Err(error) = background.update_firewall() {
                tracing::error!(%error, "firewall");
            }
        });
        thread.map_err(|e| Error::io("start a thread", &e))?;
        Ok(networks)
    }

    /// All networks, in the order in which they were made (the predefined ones first).
    pub fn list(&self) -> Vec<inspect::Network> {
        self.state().networks.iter().map(inspect::Network::of).collect()
    }

    /// One network by id, name, or the beginning of an id.
    pub fn find(&self, name_or_id: &str) -> Result<inspect::Network> {
        self.state().find(name_or_id).map(inspect::Network::of)
    }

    /// Makes a network; answers its id.
    pub async fn create(&self, new: NewNetwork) -> Result<String> {
        self.blocking(move |networks| networks.create_now(&new)).await
    }

    fn create_now(&self, new: &NewNetwork) -> Result<String> {
        new.check()?;
        let configured = self.configured(new)?;
        let new = configured.as_ref().unwrap_or(new);
        let wish = new.subnet()?;
        let options = if new.driver == "macvlan" { BTreeMap::new() } else { new.options.clone() };
        let options = BridgeOptions::read(&options)?;
        options.check(new.internal)?;
        let routes = bridge::routes();
        let definition = {
            let mut state = self.state();
            if state.networks.iter().any(|network| network.definition.name == new.name) {
                return Err(Kind::Conflict.error(format!("network with name {} already exists", new.name)));
            }
            let definition = if new.config_only {
                hold(new)
            } else {
                define(new, wish, options, &state, (&routes, &self.shared.config))?
            };
            state.networks.push(Network::new(definition.clone()));
            definition
        };
        let made =
            definition.bridge.as_ref().map_or(Ok(()), |bridge| self.ensure_bridge(bridge)).and_then(|()| {
                self.save()?;
                self.update_firewall()
            });
        if let Err(error) = made {
            self.forget(&definition);
            return Err(error);
        }
        Ok(definition.id)
    }

    /// The wish with the configuration that another network holds for it.
    fn configured(&self, new: &NewNetwork) -> Result<Option<NewNetwork>> {
        if new.config_from.is_empty() {
            return Ok(None);
        }
        let state = self.state();
        let mut held = state.networks.iter().filter_map(|n| Some((&n.definition, n.definition.config_only?)));
        let found = held.find(|(definition, _)| definition.name == new.config_from);
        let missing =
            || Kind::NotFound.error(format!("configuration network {:?} does not exist", new.config_from));
        found.map(|(definition, held)| Some(new.configured(definition, held))).ok_or_else(missing)
    }

    /// Removes a network that no container is connected to; answers what it was.
    pub async fn remove(&self, name_or_id: &str) -> Result<inspect::Network> {
        let name = name_or_id.to_owned();
        self.blocking(move |networks| networks.remove_now(&name)).await
    }

    fn remove_now(&self, name_or_id: &str) -> Result<inspect::Network> {
        let (definition, shown) = {
            let mut state = self.state();
            let network = state.find(name_or_id)?;
            let definition = network.definition.clone();
            if definition.predefined() {
                return Err(Kind::Forbidden
                    .error(format!("{} is a pre-defined network and cannot be removed", definition.name)));
            }
            if definition.config_only.is_some()
                && state.networks.iter().any(|other| other.definition.config_from == definition.name)
            {
                return Err(
                    Kind::Forbidden.error(format!("configuration network {:?} is in use", definition.name))
                );
            }
            if !network.endpoints.is_empty() {
                let named = |e: &Endpoint| format!("name:{:?} id:{:?}", e.container_name, short(&e.id));
                let active: Vec<String> = network.endpoints.values().map(named).collect();
                return Err(Kind::Forbidden.error(format!(
                    "error while removing network: network {} has active endpoints ({})",
                    definition.name,
                    active.join(", ")
                )));
            }
            let shown = inspect::Network::of(network);
            // At once: nobody may get in between.
            state.networks.retain(|network| network.definition.id != definition.id);
            (definition, shown)
        };
        self.forget(&definition);
        self.save()?;
        Ok(shown)
    }

    /// Takes a network out of memory, kernel and firewall; what is no longer there is no error.
    fn forget(&self, definition: &Definition) {
        self.state().networks.retain(|network| network.definition.id != definition.id);
        if let Some(bridge) = &definition.bridge {
            self.remove_bridge(bridge);
        }
        if let Err(error) = self.update_firewall() {
            tracing::warn!(network = definition.name, %error, "remove firewall rules");
        }
    }

    pub(crate) fn save(&self) -> Result<()> {
        let store = self.shared.store.lock().unwrap_or_else(PoisonError::into_inner);
        let definitions: Vec<Definition> =
            self.state().networks.iter().map(|network| network.definition.clone()).collect();
        store.save(definitions.iter())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it leaves it half changed in a way that matters more than going on does.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs what waits for programs on a thread of its own. It runs to its end even if nobody waits for it any more.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let networks = self.clone();
        tokio::task::spawn_blocking(move || work(&networks))
            .await
            .map_err(|e| Kind::Internal.error(format!("network task: {e}")))?
    }
}

/// The first twelve digits of an id.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A network that only holds a configuration.
fn hold(new: &NewNetwork) -> Definition {
    Definition {
        id: random::hex::<32>(),
        name: new.name.clone(),
        created: time::now(),
        driver: Driver::Null,
        internal: false,
        attachable: false,
        ipam_options: new.ipam_options.clone(),
        ipam: new.configs(),
        options: new.options.clone(),
        labels: new.labels.clone(),
        bridge: None,
        config_only: Some(ConfigOnly { no_ipv4: !new.has_ipv4(), ipv6: new.ipv6 }),
        config_from: String::new(),
    }
}

/// A network's definition, with a subnet that nobody else has.
fn define(
    new: &NewNetwork,
    wish: Option<Subnet<Ipv4Net>>,
    options: BridgeOptions,
    state: &State,
    (routes, config): (&[Ipv4Net], &Config),
) -> Result<Definition> {
    let id = random::hex::<32>();
    let macvlan = (new.driver == "macvlan").then(|| Macvlan::read(&id, &new.options)).transpose()?;
    macvlan.as_ref().map_or(Ok(()), |macvlan| macvlan.check(state))?;
    let parent = macvlan.as_ref().map(|macvlan| macvlan.parent.clone());
    let interface = parent.or(options.interface).unwrap_or_else(|| format!("br-{}", short(&id)));
    let same =
        |bridge: &Bridge| bridge.macvlan.is_none() && macvlan.is_none() && bridge.interface == interface;
    if let Some((other, _)) = state.bridges().find(|(_, bridge)| same(bridge)) {
        return Err(Kind::Forbidden.error(format!(
            "cannot create network {id} ({interface}): conflicts with network {} ({interface}): networks have same \
             bridge name",
            other.id
        )));
    }
    let taken: Vec<Ipv4Net> = state.bridges().filter_map(|(_, bridge)| bridge.ipv4_subnet()).collect();
    let (subnet, range, gateway, reserved) = match wish {
        None if !new.has_ipv4() => (Ipv4Net::default(), None, Some(Ipv4Addr::UNSPECIFIED), Vec::new()),
        None => (ipam::choose_subnet(taken.iter().chain(routes), &config.pools)?, None, None, Vec::new()),
        Some(wish) => {
            if taken.iter().any(|other| ipam::overlap(other, &wish.net)) {
                return Err(Kind::Forbidden
                    .error("invalid pool request: Pool overlaps with other one on this address space"));
            }
            (wish.net, wish.range, wish.gateway, wish.reserved)
        }
    };
    let gateway = match gateway {
        Some(none) if !new.has_ipv4() => none,
        wish => choose_gateway(subnet, range, wish, &reserved)?,
    };
    let bridge = Bridge {
        interface,
        no_ipv4: !new.has_ipv4(),
        subnet,
        range,
        gateway,
        reserved,
        mtu: options.mtu,
        icc: options.icc,
        masquerade: options.masquerade,
        host_binding: options.host_binding,
        prefix: options.prefix,
        host_address: options.host_address,
        mode: options.mode,
        macvlan,
        ipv6: new.ipv6.then(|| define_ipv6(new, options.ipv6_mode, state, config)).transpose()?,
    };
    Ok(Definition {
        id,
        name: new.name.clone(),
        created: time::now(),
        driver: if new.driver == "macvlan" { Driver::Macvlan } else { Driver::Bridge },
        internal: new.internal,
        attachable: new.attachable,
        ipam_options: new.ipam_options.clone(),
        ipam: new.configs(),
        options: new.options.clone(),
        labels: new.labels.clone(),
        bridge: Some(bridge),
        config_only: None,
        config_from: new.config_from.clone(),
    })
}

/// The IPv6 side of a network.
fn define_ipv6(new: &NewNetwork, mode: GatewayMode, state: &State, config: &Config) -> Result<Ipv6> {
    let taken: Vec<Ipv6Net> = state.bridges().filter_map(|(_, b)| Some(b.ipv6.as_ref()?.subnet)).collect();
    let (subnet, range, gateway, reserved) = match new.ipv6_subnet()? {
        None => (ipam::choose_ipv6_subnet(&taken, &config.pools, &config.engine_id)?, None, None, Vec::new()),
        Some(wish) if taken.iter().any(|other| ipam::overlap(other, &wish.net)) => {
            return Err(Kind::Forbidden
                .error("invalid pool request: Pool overlaps with other one on this address space"));
        }
        Some(wish) => (wish.net, wish.range, wish.gateway, wish.reserved),
    };
    let gateway = choose_gateway(subnet, range, gateway, &reserved)?;
    Ok(Ipv6 { subnet, range, gateway, reserved, mode })
}

/// The gateway that was asked for, or the first free address.
pub(crate) fn choose_gateway<N: Net>(
    subnet: N,
    range: Option<N>,
    wish: Option<N::Address>,
    reserved: &[N::Address],
) -> Result<N::Address> {
    let mut pool = Pool::new(subnet, range);
    let gateway = match wish {
        None => pool.take_first().ok_or_else(|| {
            Kind::Internal.error("failed to allocate gateway (): no available addresses on this pool")
        })?,
        Some(gateway) => {
            let refused =
                |e: Error| Kind::Internal.error(format!("failed to allocate gateway ({gateway}): {e}"));
            pool.take(gateway).map_err(refused)?;
            gateway
        }
    };
    for address in reserved {
        let refused = |e: Error| {
            Kind::Internal.error(format!("failed to allocate secondary ip address ({address}): {e}"))
        };
        pool.take(*address).map_err(refused)?;
    }
    Ok(gateway)
}

/// Makes the networks that always exist, if they are not there. Says whether it made one.
fn add_predefined(state: &mut State, config: &Config) -> Result<bool> {
    let mut changed = false;
    for (name, driver) in [("none", Driver::Null), ("host", Driver::Host), ("bridge", Driver::Bridge)] {
        if state.networks.iter().any(|network| network.definition.name == name) {
            continue;
        }
        changed = true;
        let mut definition = Definition {
            id: random::hex::<32>(),
            name: name.into(),
            created: time::now(),
            driver,
            internal: false,
            attachable: false,
            ipam_options: None,
            ipam: Vec::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            bridge: None,
            config_only: None,
            config_from: String::new(),
        };
        if driver == Driver::Bridge {
            config.default_bridge.renew(&mut definition, state, config)?;
        }
        state.networks.push(Network::new(definition));
    }
    Ok(changed)
}
