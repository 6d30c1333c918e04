//! Addresses and ports of Services: given when one is made, free again when it is gone. There is no list of what is taken beside the
//! services themselves, so nothing can disagree with them (upstream keeps bitmaps and repairs them every three minutes). What is given
//! to a service that is not yet written (a webhook may take its time) is held for it meanwhile.

pub mod addresses;

use crate::admission::reader;
use crate::resource::Resource;
use crate::server::Server;
use crate::storage;
use drydock_apimachinery::Status;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::object::{self, list, map_mut, text};
use drydock_etcd::KeyRange;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `--service-node-port-range`, if nothing else is said.
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// `--service-cluster-ip-range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: Ipv4Addr,
    bits: u8,
}

impl Range {
    /// Kubeadm's default.
    pub const DEFAULT: Self = Self { first: Ipv4Addr::new(10, 96, 0, 0), bits: 12 };

    /// Reads `10.96.0.0/12`.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, bits) = text.split_once('/')?;
        let (first, bits): (Ipv4Addr, u8) = (first.parse().ok()?, bits.parse().ok()?);
        (8..=30).contains(&bits).then(|| {
            let mask = u32::MAX << (32 - bits);
            Self { first: Ipv4Addr::from(u32::from(first) & mask), bits }
        })
    }

    fn size(self) -> u32 {
        1 << (32 - self.bits)
    }

    /// Network and broadcast addresses apart.
    fn contains(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.first));
        offset > 0 && offset < self.size() - 1
    }

    /// The address of the `kubernetes` service.
    pub fn api_server(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + 1)
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// What services have that are about to be written.
#[derive(Debug, Default)]
pub struct Held(Mutex<Taken>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        // It is never left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody else is given these until it is dropped.
#[derive(Debug)]
pub struct Hold<'a> {
    held: &'a Held,
    own: Taken,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        held.addresses.retain(|address| !self.own.addresses.contains(address));
        held.ports.retain(|port| !self.own.ports.contains(port));
    }
}

/// Gives a service what it lacks, or says why it can't have what it wants. What it got is to be held until it is written.
pub fn allocate<'a>(
    server: &'a Server,
    resource: &Resource,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<Option<Hold<'a>>, Status> {
    if !resource.is("", "services") || text(new, &["spec", "type"]) == "ExternalName" {
        return Ok(None);
    }
    // One looks and takes after the other, or both would find the same free.
    let mut held = server.services.lock();
    let mut taken = Taken::read(server, resource, new)?;
    taken.addresses.extend(&held.addresses);
    taken.ports.extend(held.ports.iter().cloned());
    let mut errors = ErrorList::default();
    allocate_address(server, new, old, &taken, &mut errors)?;
    allocate_ports(&server.options.node_ports, new, old, &taken, &mut errors)?;
    if !errors.is_empty() {
        return Err(Status::invalid(resource.group_kind(), object::name(new), &errors));
    }
    let (mut own, mut had) = (Taken::default(), Taken::default());
    own.add(new);
    had.add(old.unwrap_or(&Value::Null));
    own.addresses.retain(|address| !had.addresses.contains(address));
    own.ports.retain(|port| !had.ports.contains(port));
    held.addresses.extend(&own.addresses);
    held.ports.extend(own.ports.iter().cloned());
    Ok(Some(Hold { held: &server.services, own }))
}

/// What services have.
#[derive(Debug, Default)]
struct Taken {
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<(u16, String)>,
}

impl Taken {
    /// What the other services have.
    fn read(server: &Server, resource: &Resource, but: &Value) -> Result<Self, Status> {
        let keys = KeyRange::prefix(resource.prefix.clone());
        let found = server.store.range(&keys, &drydock_etcd::Query::default()).map_err(Status::internal)?;
        let own = storage::keys::of(resource, object::namespace(but), object::name(but));
        let mut taken = Self::default();
        for record in found.records.iter().filter(|record| record.key != own.as_bytes()) {
            let Ok(tree) = storage::decode(record) else { continue };
            taken.add(&tree);
        }
        // Those that somebody else made.
        taken.addresses.extend(addresses::all(&server.store));
        Ok(taken)
    }

    /// What a service has.
    fn add(&mut self, service: &Value) {
        let addresses = list(service, &["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
        self.addresses.extend(addresses.filter_map(|text| text.parse::<Ipv4Addr>().ok()));
        for port in list(service, &["spec", "ports"]) {
            if let Some(number) = port_of(port) {
                self.ports.insert((number, text(port, &["protocol"]).into()));
            }
        }
        if let Some(number) = object::int(service, &["spec", "healthCheckNodePort"]) {
            self.ports.extend(u16::try_from(number).ok().map(|number| (number, "TCP".into())));
        }
    }

    fn has_port(&self, port: u16) -> bool {
        ["TCP", "UDP", "SCTP"].iter().any(|protocol| self.ports.contains(&(port, (*protocol).into())))
    }
}

fn port_of(port: &Value) -> Option<u16> {
    port["nodePort"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

fn allocate_address(
    server: &Server,
    new: &mut Value,
    old: Option<&Value>,
    taken: &Taken,
    errors: &mut ErrorList,
) -> Result<(), Status> {
    let ranges = ranges(server)?;
    let wanted = text(new, &["spec", "clusterIP"]).to_string();
    if wanted == "None"
        || old.is_some_and(|old| text(old, &["spec", "clusterIP"]) == wanted && !wanted.is_empty())
    {
        return Ok(());
    }
    if !wanted.is_empty() {
        let path = Path::new("spec.clusterIPs");
        let refuse = |why: String| format!("failed to allocate IP {wanted}: {why}");
        match wanted.parse::<Ipv4Addr>() {
            Ok(address) if !ranges.iter().any(|range| range.contains(address)) => errors.invalid(
                &path,
                json!([wanted]),
                refuse(format!(
                    "the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {}",
                    server.options.service_range
                )),
            ),
            Ok(address) if taken.addresses.contains(&address) => {
                errors.invalid(&path, json!([wanted]), refuse("provided IP is already allocated".into()));
            }
            // What is no address has been refused by validation.
            _ => {}
        }
        return Ok(());
    }
    let mut free = None;
    for range in ranges {
        free = free_address(range, taken)?;
        if free.is_some() {
            break;
        }
    }
    let Some(address) = free else {
        errors.push(
            drydock_apimachinery::field::ErrorKind::Internal,
            &Path::new("spec.clusterIPs"),
            None,
            "failed to allocate a serviceIP: range is full",
        );
        return Ok(());
    };
    let spec = map_mut(new, &["spec"]);
    spec.insert("clusterIP".into(), address.to_string().into());
    spec.insert("clusterIPs".into(), json!([address.to_string()]));
    Ok(())
}

/// Where addresses may be from: what the server was told, then what was added (`servicecidrs`).
fn ranges(server: &Server) -> Result<Vec<Range>, Status> {
    let mut ranges = vec![server.options.service_range];
    for added in reader::list(&server.store, "servicecidrs")? {
        let texts = list(&added, &["spec", "cidrs"]).iter().filter_map(Value::as_str);
        let more = texts.filter_map(Range::parse).filter(|_| !object::is_deleting(&added));
        for range in more {
            if !ranges.contains(&range) {
                ranges.push(range);
            }
        }
    }
    Ok(ranges)
}

/// A random free address; the first ones are left to those who ask for them (KEP-3070).
fn free_address(range: Range, taken: &Taken) -> Result<Option<Ipv4Addr>, Status> {
    let size = range.size() - 2;
    let band = (size / 16).clamp(16, 256).min(size / 2);
    let start = random()? % (size - band);
    let upper = (0..size - band).map(|n| band + (start + n) % (size - band));
    let candidates = upper.chain(0..band).map(|n| Ipv4Addr::from(u32::from(range.first) + 1 + n));
    Ok(candidates
        .into_iter()
        .find(|address| *address != range.api_server() && !taken.addresses.contains(address)))
}

fn random() -> Result<u32, Status> {
    getrandom::u32().map_err(Status::internal)
}

fn allocate_ports(
    range: &RangeInclusive<u16>,
    new: &mut Value,
    old: Option<&Value>,
    taken: &Taken,
    errors: &mut ErrorList,
) -> Result<(), Status> {
    let type_ = text(new, &["spec", "type"]).to_string();
    // Of other types validation has to say that they have none, or that there is no such type.
    if !matches!(&*type_, "NodePort" | "LoadBalancer") {
        return Ok(());
    }
    let wants = type_ == "NodePort"
        || (type_ == "LoadBalancer" && new["spec"]["allocateLoadBalancerNodePorts"] != false);
    let had: HashSet<u16> =
        old.map(|old| list(old, &["spec", "ports"]).iter().filter_map(port_of).collect()).unwrap_or_default();
    let mut own: HashSet<u16> = list(new, &["spec", "ports"]).iter().filter_map(port_of).collect();
    let Some(ports) = new["spec"]["ports"].as_array_mut() else { return Ok(()) };
    let path = Path::new("spec.ports");
    for (index, port) in ports.iter_mut().enumerate() {
        let protocol = text(port, &["protocol"]).to_string();
        match port_of(port) {
            Some(number) if had.contains(&number) => {}
            Some(number) => {
                let path = path.index(index);
                let path = path.child("nodePort");
                if !range.contains(&number) {
                    let why = format!(
                        "provided port is not in the valid range. The range of valid ports is {}-{}",
                        range.start(),
                        range.end()
                    );
                    errors.invalid(&path, number, why);
                } else if taken.ports.contains(&(number, protocol)) {
                    errors.invalid(&path, number, "provided port is already allocated");
                }
            }
            None if wants => {
                let Some(number) = free_port(range, taken, &own)? else {
                    let why = "failed to allocate a nodePort: range is full";
                    errors.push(
                        drydock_apimachinery::field::ErrorKind::Internal,
                        &path.index(index),
                        None,
                        why,
                    );
                    continue;
                };
                own.insert(number);
                if let Some(port) = port.as_object_mut() {
                    port.insert("nodePort".into(), number.into());
                }
            }
            None => {}
        }
    }
    health_port(range, new, &type_, taken, &own)
}

/// The port at which a load balancer asks whether a node has local endpoints.
fn health_port(
    range: &RangeInclusive<u16>,
    new: &mut Value,
    type_: &str,
    taken: &Taken,
    own: &HashSet<u16>,
) -> Result<(), Status> {
    let is_local = text(new, &["spec", "externalTrafficPolicy"]) == "Local";
    let has = object::int(new, &["spec", "healthCheckNodePort"]).unwrap_or(0) != 0;
    if type_ == "LoadBalancer"
        && is_local
        && !has
        && let Some(number) = free_port(range, taken, own)?
    {
        map_mut(new, &["spec"]).insert("healthCheckNodePort".into(), number.into());
    }
    Ok(())
}

fn free_port(range: &RangeInclusive<u16>, taken: &Taken, own: &HashSet<u16>) -> Result<Option<u16>, Status> {
    let (first, size) = (*range.start(), u32::from(range.end().saturating_sub(*range.start())) + 1);
    let start = random()? % size;
    let mut candidates = (0..size).filter_map(|n| u16::try_from((start + n) % size).ok().map(|n| first + n));
    Ok(candidates.find(|port| !taken.has_port(*port) && !own.contains(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_know_their_addresses() {
        let range = Range::parse("10.96.0.0/12").expect("a range");
        assert_eq!((range, range.to_string().as_str()), (Range::DEFAULT, "10.96.0.0/12"));
        assert_eq!(range.api_server(), Ipv4Addr::new(10, 96, 0, 1));
        assert!(range.contains(Ipv4Addr::new(10, 111, 255, 254)));
        for outside in [[10, 96, 0, 0], [10, 111, 255, 255], [10, 95, 0, 1], [10, 112, 0, 1]] {
            assert!(!range.contains(outside.into()), "{outside:?}");
        }
        for wrong in ["10.0.0.0/33", "10.0.0.0/255", "10.0.0.0/31", "10.0.0.0", "::/12"] {
            assert!(Range::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_last_free_address_is_found() {
        let range = Range::parse("10.0.0.0/28").expect("a range");
        let mut taken =
            Taken { addresses: (2..15).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect(), ports: HashSet::new() };
        taken.addresses.remove(&Ipv4Addr::new(10, 0, 0, 7));
        assert_eq!(free_address(range, &taken).expect("random"), Some(Ipv4Addr::new(10, 0, 0, 7)));
        taken.addresses.insert(Ipv4Addr::new(10, 0, 0, 7));
        assert_eq!(free_address(range, &taken).expect("random"), None);
    }

    #[test]
    fn ports_come_from_the_range_that_was_set() {
        let taken = Taken { addresses: HashSet::new(), ports: HashSet::from([(8000, "TCP".into())]) };
        let free =
            |own: &[u16]| free_port(&(8000..=8001), &taken, &own.iter().copied().collect()).expect("random");
        assert_eq!(free(&[]), Some(8001));
        assert_eq!(free(&[8001]), None);
    }

    #[test]
    fn ports_of_types_that_get_none_are_left_to_validation() {
        for (type_, wrong) in [("ClusterIP", 0), ("Foo", 0), ("NodePort", 1), ("LoadBalancer", 1)] {
            let mut service =
                serde_json::json!({"spec": {"type": type_, "ports": [{"port": 80, "nodePort": 8080}]}});
            let mut errors = ErrorList::default();
            allocate_ports(&(30000..=32767), &mut service, None, &Taken::default(), &mut errors)
                .expect("allocated");
            assert_eq!(errors.iter().count(), wrong, "{type_}");
        }
    }
}
