//! API services of custom resources: one for each group and version that is served, made and removed with its definitions
//! (`crdregistration_controller.go` of kube-apiserver, `autoregister_controller.go` of kube-aggregator).

use crate::bootstrap;
use crate::rest::write::refusal;
use crate::server::Server;
use crate::storage;
use drydock_apimachinery::Status;
use drydock_apimachinery::object::{self, label, list, text};
use drydock_etcd::{KeyRange, Query, Record};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

const PREFIX: &str = "/registry/apiregistration.k8s.io/apiservices/";

/// Of custom resources the priorities are low.
const PRIORITIES: (u32, u32) = (1000, 100);

/// Makes those that these definitions (established ones) want, and removes those that none wants any more.
pub async fn keep<'a>(server: &Server, definitions: impl Iterator<Item = &'a Value>) -> Result<(), Status> {
    let mut wanted = BTreeSet::new();
    for definition in definitions {
        let group = text(definition, &["spec", "group"]);
        let served = list(definition, &["spec", "versions"]).iter().filter(|one| one["served"] == true);
        wanted.extend(served.map(|one| (group, text(one, &["name"]))));
    }
    let (of_group, of_version) = PRIORITIES;
    for (group, version) in &wanted {
        let tree = bootstrap::api_service(group, version, of_group, of_version, "true");
        bootstrap::ensure(server, "apiregistration.k8s.io", "v1", "apiservices", tree).await?;
    }
    for (record, name) in registered(server)? {
        let is_wanted = wanted.iter().any(|(group, version)| name == format!("{version}.{group}"));
        if !is_wanted {
            // Who was quicker will be seen by the next look.
            let _done =
                server.store.delete_if(record.key.clone(), record.mod_revision).await.map_err(refusal)?;
        }
    }
    Ok(())
}

/// Those that were made here, with their names.
fn registered(server: &Server) -> Result<Vec<(Arc<Record>, String)>, Status> {
    let found = server.store.range(&KeyRange::prefix(PREFIX), &Query::default()).map_err(refusal)?;
    let mut all = Vec::new();
    for record in found.records {
        // What is none was written past us.
        let Ok(tree) = storage::shared(&record) else { continue };
        if label(&tree, "kube-aggregator.kubernetes.io/automanaged") == Some("true") {
            all.push((record, object::name(&tree).to_string()));
        }
    }
    Ok(all)
}
