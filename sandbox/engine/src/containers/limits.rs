//! Limits that a request asks for: memory, processors, block devices, what may be used of the host. Refusals are in Docker's words.

use super::{failures::refused_by_runc, model::Resources};
use crate::{
    cgroup::Groups,
    error::{Error, Result},
};
use drydock_runtime::container::rlimits;
use std::collections::BTreeSet;

/// More of them no Linux has, as dockerd sees it.
const MOST_PROCESSORS: u32 = 8192;
/// Smallest memory limit.
const MIN_MEMORY: i64 = 6 << 20;

/// Checks limits, in dockerd's order; used for `docker update` too. What the kernel has no controller for is left out with a warning, as
/// with Docker.
pub fn check(limits: &mut Resources, groups: &Groups) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    check_memory(limits, groups, &mut warnings)?;
    check_cpu(limits, &mut warnings)?;
    check_cpuset(limits, groups, &mut warnings)?;
    check_block_devices(limits, groups, &mut warnings)?;
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

/// What is refused only at the start: by dockerd (`oci.AppendDevicePermissionsFromCgroupRules`), and by runc (`strToRlimit`).
pub fn check_at_start(limits: &Resources) -> Result<()> {
    for rule in limits.device_cgroup_rules.iter().flatten() {
        if !is_device_rule(rule) {
            return Err(Error::internal(format!("invalid device cgroup rule format: '{rule}'")));
        }
    }
    for limit in limits.ulimits.iter().flatten() {
        if !rlimits::is_known(&limit.name.to_ascii_lowercase()) {
            let name = limit.name.to_ascii_uppercase();
            return Err(refused_by_runc(&format!("wrong rlimit value: RLIMIT_{name}")));
        }
    }
    Ok(())
}

/// `c 13:* rwm`
fn is_device_rule(rule: &str) -> bool {
    let number = |text: &str| text == "*" || !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = rule.split(' ').collect();
    let [kind, device, access] = parts[..] else { return false };
    matches!(kind, "a" | "b" | "c")
        && device.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
        && (1..=3).contains(&access.len())
        && access.bytes().all(|b| b"rwm".contains(&b))
}

fn check_block_devices(limits: &mut Resources, groups: &Groups, warnings: &mut Vec<String>) -> Result<()> {
    let weighs = groups.weighs_devices();
    if limits.blkio_weight > 0 && !weighs {
        warnings.push(unsupported("Block I/O weight", "Weight"));
        limits.blkio_weight = 0;
    }
    if limits.blkio_weight > 0 && !(10..=1000).contains(&limits.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if limits.io_maximum_bandwidth != 0 || limits.io_maximum_iops != 0 {
        return Err(Error::invalid(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        ));
    }
    let some = |list: Option<usize>| list.is_some_and(|length| length > 0);
    if some(limits.blkio_weight_device.as_ref().map(Vec::len)) && !weighs {
        warnings.push(unsupported("Block I/O weight_device", "Weight-device"));
        limits.blkio_weight_device = Some(vec![]);
    }
    let throttles = [
        (
            &mut limits.blkio_device_read_bps,
            "read_bps",
            "BPS Block I/O read limit",
            "Block I/O BPS read limit",
        ),
        (
            &mut limits.blkio_device_write_bps,
            "write_bps",
            "BPS Block I/O write limit",
            "Block I/O BPS write limit",
        ),
        (
            &mut limits.blkio_device_read_iops,
            "read_iops",
            "IOPS Block read limit",
            "Block I/O IOPS read limit",
        ),
        (
            &mut limits.blkio_device_write_iops,
            "write_iops",
            "IOPS Block write limit",
            "Block I/O IOPS write limit",
        ),
    ];
    for (list, file, what, discarded) in throttles {
        if some(list.as_ref().map(Vec::len)) && !groups.throttles_devices(file) {
            warnings.push(unsupported(what, discarded));
            *list = Some(vec![]);
        }
    }
    Ok(())
}

fn unsupported(what: &str, discarded: &str) -> String {
    format!("Your kernel does not support {what} or the cgroup is not mounted. {discarded} discarded.")
}

fn check_memory(limits: &mut Resources, groups: &Groups, warnings: &mut Vec<String>) -> Result<()> {
    let memory = limits.memory;
    if memory != 0 && memory < MIN_MEMORY {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    let swaps = if groups.v2() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
    if memory > 0 && limits.memory_swap != -1 && !groups.offers("memory", swaps) {
        warnings.push("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.".into());
        limits.memory_swap = -1;
    }
    let swap = limits.memory_swap;
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
    if limits.kernel_memory > 0 {
        warnings.push(
            "Specifying a kernel memory limit is deprecated and will be removed in a future release.".into(),
        );
    }
    if !groups.offers("memory", "memory.oom_control") {
        if limits.oom_kill_disable.take() == Some(true) {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".into());
        }
    } else if limits.oom_kill_disable == Some(true) && limits.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
    }
    Ok(())
}

fn check_cpu(limits: &mut Resources, warnings: &mut Vec<String>) -> Result<()> {
    let conflict = |a: &str, b: &str| {
        Err(Error::invalid(format!("Conflicting options: {a} and {b} cannot both be set")))
    };
    if limits.nano_cpus > 0 && limits.cpu_period > 0 {
        return conflict("Nano CPUs", "CPU Period");
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
        warnings.push("linux does not support CPU percent. Percent discarded.".into());
        limits.cpu_percent = 0;
    }
    Ok(())
}

fn check_cpuset(limits: &mut Resources, groups: &Groups, warnings: &mut Vec<String>) -> Result<()> {
    if (!limits.cpuset_cpus.is_empty() || !limits.cpuset_mems.is_empty()) && !groups.has("cpuset") {
        warnings.push(unsupported("cpuset", "Cpuset"));
        (limits.cpuset_cpus, limits.cpuset_mems) = (String::new(), String::new());
    }
    let sets = [(&limits.cpuset_cpus, "cpus", "CPUs"), (&limits.cpuset_mems, "mems", "memory nodes")];
    for (wanted, what, name) in sets.into_iter().filter(|(wanted, ..)| !wanted.is_empty()) {
        let invalid =
            |why: String| Error::invalid(format!("Invalid value {wanted} for cpuset {what}: {why}"));
        let parsed = parse_set(wanted, MOST_PROCESSORS).map_err(invalid)?;
        let available = groups.available(what);
        let there = parse_set(&available, u32::MAX).map_err(Error::internal)?;
        if !parsed.is_subset(&there) {
            return Err(Error::invalid(format!(
                "Requested {name} are not available - requested {wanted}, available: {available}"
            )));
        }
    }
    Ok(())
}

/// What a session's programs may have no more of, told and shown as it will be.
pub fn bound_ulimits(limits: &mut Resources) -> Vec<String> {
    let mut warnings = Vec::new();
    for limit in limits.ulimits.iter_mut().flatten() {
        let Some(most) = rlimits::most(&limit.name).and_then(|most| i64::try_from(most).ok()) else {
            continue;
        };
        let above = |value: i64| value < 0 || value > most;
        if above(limit.soft) || above(limit.hard) {
            let bounded = |value| if above(value) { most } else { value };
            (limit.soft, limit.hard) = (bounded(limit.soft), bounded(limit.hard));
            warnings.push(format!(
                "Ulimit {} is above what a session may have, which is {most}. Limited to {}:{}.",
                limit.name, limit.soft, limit.hard
            ));
        }
    }
    warnings
}

/// `0-2,5` (`parseUintList` of moby's `pkg/sysinfo`).
fn parse_set(text: &str, most: u32) -> std::result::Result<BTreeSet<u32>, String> {
    let mut set = BTreeSet::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let number = |t: &str| t.parse::<u32>().map_err(|_| format!("invalid format: {text}"));
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (number(from)?, number(to)?);
        if to < from {
            return Err(format!("invalid format: {text}"));
        }
        if to > most {
            return Err(format!("value of out range, maximum is {most}"));
        }
        set.extend(from..=to);
    }
    Ok(set)
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
    use crate::containers::model::{DeviceMapping, ThrottleDevice, Ulimit};
    use std::fs;

    fn with_device(path: &str) -> Result<Resources> {
        let device = DeviceMapping { path_on_host: path.into(), ..DeviceMapping::default() };
        let mut limits = Resources { devices: Some(vec![device]), ..Resources::default() };
        check_devices(&mut limits).map(|()| limits)
    }

    /// Directories stand in for a host with these controllers of version 1.
    fn host(controllers: &[&str]) -> (tempfile::TempDir, Groups) {
        let temp = tempfile::tempdir().unwrap();
        for controller in controllers {
            let dir = temp.path().join(controller);
            fs::create_dir_all(dir.join("docker")).unwrap();
            fs::write(dir.join("cpuset.cpus"), "0-1\n").unwrap();
            fs::write(dir.join("cpuset.mems"), "0\n").unwrap();
            fs::write(dir.join("docker/blkio.throttle.read_bps_device"), "").unwrap();
        }
        let groups = Groups::at(temp.path());
        (temp, groups)
    }

    #[test]
    fn processors_that_are_not_there_are_refused() {
        let (_temp, groups) = host(&["cpuset"]);
        let told = |cpus: &str, mems: &str| {
            let mut limits =
                Resources { cpuset_cpus: cpus.into(), cpuset_mems: mems.into(), ..Resources::default() };
            check(&mut limits, &groups).map_err(|error| error.message)
        };
        assert_eq!(told("0", "0"), Ok(vec![]));
        assert_eq!(told("1,0", ""), Ok(vec![]));
        assert_eq!(
            told("0-9", "").unwrap_err(),
            "Requested CPUs are not available - requested 0-9, available: 0-1"
        );
        assert_eq!(
            told("", "1").unwrap_err(),
            "Requested memory nodes are not available - requested 1, available: 0"
        );
        assert_eq!(told("1-0", "").unwrap_err(), "Invalid value 1-0 for cpuset cpus: invalid format: 1-0");
        assert_eq!(
            told("0-9999", "").unwrap_err(),
            "Invalid value 0-9999 for cpuset cpus: value of out range, maximum is 8192"
        );
    }

    #[test]
    fn what_is_wrong_is_refused_at_the_start() {
        let rules =
            |rule: &str| Resources { device_cgroup_rules: Some(vec![rule.into()]), ..Resources::default() };
        for rule in ["c 1:3 mr", "a 7:* rmw", "b *:* m"] {
            check_at_start(&rules(rule)).unwrap();
        }
        for rule in ["foo", "", "d 1:3 r", "c 1 r", "c 1:x r", "c 1:3 rwmr", "c 1:3 x", "c 1:3  r"] {
            let refused = check_at_start(&rules(rule)).unwrap_err();
            assert_eq!(refused.message, format!("invalid device cgroup rule format: '{rule}'"));
        }
        let limit = |name: &str| Ulimit { name: name.into(), soft: 1, hard: 1 };
        let limits = |name| Resources { ulimits: Some(vec![limit(name)]), ..Resources::default() };
        check_at_start(&limits("NOFILE")).unwrap();
        let refused = check_at_start(&limits("nofiles")).unwrap_err().message;
        assert!(
            refused.ends_with("runc create failed: wrong rlimit value: RLIMIT_NOFILES: unknown"),
            "{refused}"
        );
    }

    #[test]
    fn ulimits_above_the_sessions_are_told_and_shown_as_they_are() {
        let most = i64::try_from(rlimits::most("nofile").unwrap()).unwrap();
        let ulimit = |soft, hard| Ulimit { name: "nofile".into(), soft, hard };
        let list = vec![ulimit(10, 20), ulimit(10, -1), ulimit(most, most)];
        let mut limits = Resources { ulimits: Some(list), ..Resources::default() };
        assert_eq!(
            bound_ulimits(&mut limits),
            [format!(
                "Ulimit nofile is above what a session may have, which is {most}. Limited to 10:{most}."
            )]
        );
        assert_eq!(limits.ulimits.unwrap(), [ulimit(10, 20), ulimit(10, most), ulimit(most, most)]);
    }

    #[test]
    fn what_the_kernel_has_not_is_left_out_and_told() {
        let throttle = |rate| Some(vec![ThrottleDevice { path: "/dev/sda".into(), rate }]);
        let asked = Resources {
            cpuset_cpus: "7".into(),
            blkio_weight: 5,
            blkio_device_read_bps: throttle(1),
            blkio_device_write_iops: throttle(1),
            ..Resources::default()
        };
        let (_temp, groups) = host(&["blkio"]);
        let mut limits = asked.clone();
        assert_eq!(
            check(&mut limits, &groups).unwrap(),
            [
                "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
                "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write limit discarded.",
            ]
        );
        assert_eq!((limits.cpuset_cpus.as_str(), limits.blkio_weight), ("", 0));
        assert_eq!(
            (limits.blkio_device_read_bps, limits.blkio_device_write_iops),
            (throttle(1), Some(vec![]))
        );
    }

    #[test]
    fn only_devices_are_devices() {
        let why = "error gathering device information while adding custom device \"/etc\": not a device node";
        assert_eq!(with_device("/etc").unwrap_err().message, why);
        assert!(with_device("/dev/nosuch").unwrap_err().message.ends_with("no such file or directory"));
        let temp = tempfile::tempdir().unwrap();
        let link = temp.path().join("zero").to_string_lossy().into_owned();
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let device = with_device(&link).unwrap().devices.unwrap().remove(0);
        assert_eq!((device.path_on_host.as_str(), device.path_in_container), ("/dev/zero", link));
    }
}
