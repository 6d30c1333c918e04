//! Limits that a request asks for: memory, processors, block devices, what may be used of the host. Refusals are in Docker's words.

use super::model::Resources;
use crate::{
    cgroup::Groups,
    error::{Error, Result},
};

/// Smallest memory limit.
const MIN_MEMORY: i64 = 6 << 20;

/// Checks limits; used for `docker update` too. Controllers that are not there make warnings, as with Docker.
pub fn check(limits: &mut Resources, groups: &Groups) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    check_memory(limits)?;
    if limits.kernel_memory > 0 {
        warnings.push(
            "Specifying a kernel memory limit is deprecated and will be removed in a future release.".into(),
        );
    }
    check_cpu(limits)?;
    if limits.oom_kill_disable == Some(true) && limits.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
    }
    if limits.blkio_weight > 0 && !(10..=1000).contains(&limits.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if (limits.blkio_weight > 0 || limits.blkio_weight_device.as_ref().is_some_and(|l| !l.is_empty()))
        && !groups.has("blkio")
    {
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
                .into(),
        );
        limits.blkio_weight = 0;
    }
    if (!limits.cpuset_cpus.is_empty() || !limits.cpuset_mems.is_empty()) && !groups.has("cpuset") {
        warnings.push(
            "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.".into(),
        );
        (limits.cpuset_cpus, limits.cpuset_mems) = (String::new(), String::new());
    }
    let unbounded = |l: &Option<Vec<serde_json::Value>>| l.as_ref().is_some_and(|l| !l.is_empty());
    let throttled = [
        (&limits.blkio_device_read_bps, "BPS Block I/O read limit"),
        (&limits.blkio_device_write_bps, "BPS Block I/O write limit"),
        (&limits.blkio_device_read_iops, "IOPS Block read limit"),
        (&limits.blkio_device_write_iops, "IOPS Block write limit"),
    ];
    for (list, what) in throttled {
        if unbounded(list) {
            warnings.push(format!(
                "Your kernel does not support {what} or the cgroup is not mounted. {what} discarded."
            ));
        }
    }
    check_devices(limits)?;
    for limit in limits.ulimits.iter().flatten() {
        if limit.hard >= 0 && limit.soft > limit.hard {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            )));
        }
    }
    Ok(warnings)
}

fn check_memory(limits: &mut Resources) -> Result<()> {
    let (memory, swap) = (limits.memory, limits.memory_swap);
    if memory != 0 && memory < MIN_MEMORY {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if memory > 0 && swap > 0 && swap < memory {
        return Err(Error::invalid("Minimum memoryswap limit should be larger than memory limit, see usage"));
    }
    if memory == 0 && swap > 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    // The client's way to say nothing.
    limits.memory_swappiness = limits.memory_swappiness.filter(|swappiness| *swappiness != -1);
    if let Some(swappiness) = limits.memory_swappiness
        && !(0..=100).contains(&swappiness)
    {
        return Err(Error::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    let reservation = limits.memory_reservation;
    if reservation > 0 && reservation < MIN_MEMORY {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if memory > 0 && reservation > 0 && memory < reservation {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    if memory > 0 && swap == 0 {
        limits.memory_swap = memory.saturating_mul(2);
    }
    Ok(())
}

fn check_cpu(limits: &Resources) -> Result<()> {
    let conflict = |a: &str, b: &str| {
        Err(Error::invalid(format!("Conflicting options: {a} and {b} cannot both be set.")))
    };
    if limits.nano_cpus > 0 && limits.cpu_period > 0 {
        return conflict("Nano CPUs", "CPU Period").map_err(|_: Error| {
            Error::invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set.")
        });
    }
    if limits.nano_cpus > 0 && limits.cpu_quota > 0 {
        return conflict("Nano CPUs", "CPU Quota");
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let most = i64::try_from(cpus).unwrap_or(1).saturating_mul(1_000_000_000);
    if limits.nano_cpus < 0 || limits.nano_cpus > most {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if limits.cpu_period != 0 && !(1000..=1_000_000).contains(&limits.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if limits.cpu_quota > 0 && limits.cpu_quota < 1000 {
        return Err(Error::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    if limits.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            limits.cpu_shares
        )));
    }
    if limits.cpu_realtime_period != 0 || limits.cpu_realtime_runtime != 0 {
        return Err(Error::invalid("kernel does not support CPU real-time scheduler"));
    }
    if limits.cpu_percent > 0 {
        return Err(Error::invalid("CPUPercent is not supported on linux"));
    }
    check_set(&limits.cpuset_cpus, "cpus")?;
    check_set(&limits.cpuset_mems, "mems")
}

/// `0-2,5`.
fn check_set(text: &str, what: &str) -> Result<()> {
    let number = |t: &str| t.parse::<u16>().ok();
    let range = |part: &str| match part.split_once('-') {
        Some((from, to)) => number(from).zip(number(to)).is_some_and(|(a, b)| a <= b),
        None => number(part).is_some(),
    };
    if text.is_empty() || text.split(',').all(range) {
        return Ok(());
    }
    Err(Error::invalid(format!("Invalid value {text} for cpuset {what}")))
}

fn check_devices(limits: &mut Resources) -> Result<()> {
    if let Some(request) = limits.device_requests.iter().flatten().next() {
        let sets: Vec<String> =
            request.capabilities.iter().flatten().map(|set| format!("[{}]", set.join(" "))).collect();
        return Err(Error::internal(format!(
            "could not select device driver \"{}\" with capabilities: [{}]",
            request.driver,
            sets.join(" ")
        )));
    }
    /// These every container has anyway.
    const HARMLESS: [&str; 7] =
        ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console"];
    for device in limits.devices.iter_mut().flatten() {
        // A link to a device is that device, under the link's name unless another is given.
        if let Ok(real) = std::fs::canonicalize(&device.path_on_host)
            && let Some(real) =
                real.to_str().filter(|real| HARMLESS.contains(real) && *real != device.path_on_host)
        {
            if device.path_in_container.is_empty() {
                device.path_in_container.clone_from(&device.path_on_host);
            }
            real.clone_into(&mut device.path_on_host);
        }
    }
    let Some(device) = limits.devices.iter().flatten().find(|d| !HARMLESS.contains(&d.path_on_host.as_str()))
    else {
        return Ok(());
    };
    let refused = |why: &str| {
        let path = &device.path_on_host;
        format!("error gathering device information while adding custom device \"{path}\": {why}")
    };
    match std::fs::metadata(&device.path_on_host) {
        Err(_) => Err(Error::internal(refused("no such file or directory"))),
        Ok(found) if found.is_file() || found.is_dir() => Err(Error::internal(refused("not a device node"))),
        Ok(_) => Err(Error::forbidden(refused("devices of the host are not available to containers here"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::model::DeviceMapping;

    fn check(path: &str) -> Result<Resources> {
        let device = DeviceMapping { path_on_host: path.into(), ..DeviceMapping::default() };
        let mut limits = Resources { devices: Some(vec![device]), ..Resources::default() };
        check_devices(&mut limits).map(|()| limits)
    }

    #[test]
    fn only_devices_are_devices() {
        let why = "error gathering device information while adding custom device \"/etc\": not a device node";
        assert_eq!(check("/etc").unwrap_err().message, why);
        assert!(check("/dev/nosuch").unwrap_err().message.ends_with("no such file or directory"));
        let temp = tempfile::tempdir().unwrap();
        let link = temp.path().join("zero").to_string_lossy().into_owned();
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let device = check(&link).unwrap().devices.unwrap().remove(0);
        assert_eq!((device.path_on_host.as_str(), device.path_in_container), ("/dev/zero", link));
    }
}
