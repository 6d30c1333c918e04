//! `docker update`: limits and the restart policy of a container, also while it runs.

use super::{
    Container, limits,
    model::{HostConfig, Resources, RestartPolicy},
    validate,
};
use crate::{
    engine::Engine,
    error::{Context, Error, Result},
};
use serde::Deserialize;
use std::sync::Arc;

/// Body of `POST /containers/{id}/update`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Update {
    #[serde(flatten)]
    resources: Resources,
    restart_policy: RestartPolicy,
}

/// Changes what is given; 0 and nothing leave it as it is. Returns warnings.
pub async fn update(engine: &Arc<Engine>, container: &Arc<Container>, update: Update) -> Result<Vec<String>> {
    let _turn = container.turn.lock().await;
    let failed =
        |e: Error| Error::new(e.status, format!("Cannot update container {}: {}", container.id, e.message));
    let mut host = container.record().host.clone();
    merge(&mut host, &update).map_err(failed)?;
    let warnings = limits::check(&mut host.resources, &engine.groups)?;
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err(failed(Error::conflict(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        )));
    }
    validate::check_restart(&host)?;
    if container.live().is_some() {
        engine.groups.limit(&container.id, &host.resources).map_err(failed)?;
    }
    {
        let mut record = container.record();
        record.host = host;
        let dir = engine.containers.dir(&container.id);
        record.save(&dir).doing(|| format!("write {}", dir.display()))?;
        engine.container_event(&record, "update", &[]);
    }
    Ok(warnings)
}

/// `UpdateContainer` of moby's `container/container_unix.go`.
fn merge(host: &mut HostConfig, update: &Update) -> Result<()> {
    let (new, old) = (&update.resources, &mut host.resources);
    let conflicts = [
        (new.nano_cpus > 0 && old.cpu_period > 0, "Nano CPUs", "CPU Period"),
        (new.nano_cpus > 0 && old.cpu_quota > 0, "Nano CPUs", "CPU Quota"),
        (new.cpu_period > 0 && old.nano_cpus > 0, "CPU Period", "NanoCPUs"),
        (new.cpu_quota > 0 && old.nano_cpus > 0, "CPU Quota", "NanoCPUs"),
    ];
    if let Some((_, new, old)) = conflicts.iter().find(|(conflict, ..)| *conflict) {
        return Err(Error::conflict(format!(
            "Conflicting options: {new} cannot be updated as {old} has already been set"
        )));
    }
    let numbers = [
        (&mut old.cpu_shares, new.cpu_shares),
        (&mut old.nano_cpus, new.nano_cpus),
        (&mut old.cpu_period, new.cpu_period),
        (&mut old.cpu_quota, new.cpu_quota),
        (&mut old.memory_reservation, new.memory_reservation),
    ];
    for (old, new) in numbers {
        if new != 0 {
            *old = new;
        }
    }
    if new.blkio_weight != 0 {
        old.blkio_weight = new.blkio_weight;
    }
    for (old, new) in [(&mut old.cpuset_cpus, &new.cpuset_cpus), (&mut old.cpuset_mems, &new.cpuset_mems)] {
        if !new.is_empty() {
            old.clone_from(new);
        }
    }
    let throttles = [
        (&mut old.blkio_device_read_bps, &new.blkio_device_read_bps),
        (&mut old.blkio_device_write_bps, &new.blkio_device_write_bps),
        (&mut old.blkio_device_read_iops, &new.blkio_device_read_iops),
        (&mut old.blkio_device_write_iops, &new.blkio_device_write_iops),
    ];
    for (old, new) in throttles.into_iter().filter(|(_, new)| new.is_some()) {
        old.clone_from(new);
    }
    if new.blkio_weight_device.is_some() {
        old.blkio_weight_device.clone_from(&new.blkio_weight_device);
    }
    if new.memory != 0 {
        if new.memory > old.memory_swap && old.memory_swap > 0 && new.memory_swap == 0 {
            return Err(Error::conflict(
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            ));
        }
        old.memory = new.memory;
    }
    if new.memory_swap != 0 {
        old.memory_swap = new.memory_swap;
    }
    if new.pids_limit.is_some() {
        old.pids_limit = new.pids_limit.map(|limit| limit.max(0));
    }
    if !update.restart_policy.name.is_empty() {
        host.restart_policy = update.restart_policy.clone();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_limited_in_one_way_only() {
        let mut host = HostConfig::default();
        host.resources.nano_cpus = 500_000_000;
        let mut update = Update::default();
        update.resources.cpu_quota = 80_000;
        assert_eq!(
            merge(&mut host, &update).unwrap_err().message,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"
        );
    }

    #[test]
    fn only_what_is_given_changes() {
        let mut host = HostConfig::default();
        host.resources.memory = 64 << 20;
        host.resources.memory_swap = 128 << 20;
        let mut update = Update::default();
        update.resources.memory = 256 << 20;
        assert!(merge(&mut host, &update).unwrap_err().message.contains("memoryswap"));
        update.resources.memory_swap = -1;
        update.restart_policy.name = "always".into();
        merge(&mut host, &update).unwrap();
        assert_eq!((host.resources.memory, host.resources.memory_swap), (256 << 20, -1));
        assert_eq!(host.restart_policy.name, "always");
    }
}
