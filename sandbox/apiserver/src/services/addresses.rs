//! An `IPAddress` for each address that a service has (`pkg/registry/core/service/ipallocator`). It is written and removed in the
//! transaction that writes or removes the service, so the two never disagree; [`repair`] makes those that somebody deleted.

use crate::codec;
use crate::resource::{Registry, Resource};
use crate::rest::meta;
use crate::rest::write::refusal;
use crate::server::Server;
use crate::storage::{self, keys};
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, list};
use drydock_etcd::{Compare, KeyRange, Op, Record, Store, Txn};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Where they are in the store.
const PREFIX: &str = "/registry/ipaddresses/";

/// Addresses of a service (none: there is no service).
fn addresses(service: Option<&Value>) -> Vec<IpAddr> {
    let all = service.map_or(&[][..], |service| list(service, &["spec", "clusterIPs"]));
    all.iter().filter_map(Value::as_str).filter_map(|text| text.parse().ok()).collect()
}

/// All that there are, whoever made them.
pub fn all(store: &Store) -> impl Iterator<Item = Ipv4Addr> {
    let records = store.below(PREFIX.as_bytes()).into_iter();
    records.filter_map(|record| str::from_utf8(record.key.get(PREFIX.len()..)?).ok()?.parse().ok())
}

fn resource(registry: &Registry) -> Result<Arc<Resource>, Status> {
    let found = registry.snapshot().find("networking.k8s.io", "v1", "ipaddresses").cloned();
    found.ok_or_else(|| Status::internal("ipaddresses are not served"))
}

/// What is to be written together with a service that is new, or changed, or goes.
pub fn beside(
    server: &Server,
    of: &Resource,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<Vec<Op>, Status> {
    if !of.is("", "services") {
        return Ok(Vec::new());
    }
    let (had, has) = (addresses(old), addresses(new));
    let resource = resource(&server.registry)?;
    let key = |address: &IpAddr| keys::of(&resource, "", &address.to_string());
    let gone = had.iter().filter(|address| !has.contains(address));
    let mut ops: Vec<_> = gone.map(|address| Op::Delete(KeyRange::key(key(address)))).collect();
    for address in has.iter().filter(|address| !had.contains(address)) {
        let tree = address_of(&resource, *address, new.unwrap_or(&Value::Null))?;
        ops.push(Op::put(key(address), storage::encode(&tree)));
    }
    Ok(ops)
}

/// The same where only the service's record is at hand, and it goes.
pub fn beside_record(server: &Server, record: &Record) -> Result<Vec<Op>, Status> {
    let snapshot = server.registry.snapshot();
    let services = snapshot.find("", "v1", "services");
    match services.filter(|services| record.key.starts_with(services.prefix.as_bytes())) {
        Some(services) => beside(server, services, Some(&storage::decode(record)?), None),
        None => Ok(Vec::new()),
    }
}

fn address_of(resource: &Resource, address: IpAddr, service: &Value) -> Result<Value, Status> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut tree = json!({
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": address.to_string(), "labels": {
            "ipaddress.kubernetes.io/ip-family": family,
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }},
        "spec": {"parentRef": {
            "resource": "services",
            "namespace": object::namespace(service),
            "name": object::name(service),
        }},
    });
    meta::fill(&mut tree)?;
    codec::complete(resource, &mut tree);
    Ok(tree)
}

/// Makes the addresses of services again that are not there.
pub async fn repair(server: &Server) -> Result<(), Status> {
    let resource = resource(&server.registry)?;
    let Some(services) = server.registry.snapshot().find("", "v1", "services").cloned() else {
        return Ok(());
    };
    for record in server.store.below(services.prefix.as_bytes()) {
        let service = storage::decode(&record)?;
        for address in addresses(Some(&service)) {
            let key = keys::of(&resource, "", &address.to_string());
            if server.store.get(key.as_bytes(), None).map_err(refusal)?.is_some() {
                continue;
            }
            let tree = address_of(&resource, address, &service)?;
            // The service may go or change meanwhile.
            let compares = vec![
                Compare::absent(key.clone()),
                Compare::unchanged(record.key.clone(), record.mod_revision),
            ];
            let then = vec![Op::put(key, storage::encode(&tree))];
            server.store.txn(Txn::when(compares, then)).await.map_err(refusal)?;
        }
    }
    Ok(())
}
