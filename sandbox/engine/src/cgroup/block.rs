//! Limits of block devices as lines for the files of a control group. A device is named by its path (`/dev/sda`) and found as dockerd
//! finds it; where the node has no such file, by its name in `/sys/class/block`, since what `lsblk` shows has no file in a node.

use super::Groups;
use crate::{
    containers::model::{Resources, ThrottleDevice},
    error::{Error, Result},
};
use drydock_go::io_text;
use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

/// Weights of dockerd; those of `io.weight` go further.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;
/// Largest of `io.weight`.
const MOST: u64 = 10_000;

/// A file of a container's group, and what to write to it.
pub(super) type Line = (&'static str, String);

/// All that the limits say of block devices. Error: a device that is not there.
pub(super) fn lines(groups: &Groups, limits: &Resources) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    if let Some(weight) = Some(limits.blkio_weight).filter(|weight| *weight > 0) {
        lines.extend(weight_file(groups).map(|file| (file, weight_text(file, weight))));
    }
    for device in limits.blkio_weight_device.iter().flatten() {
        let number = number(&device.path)?;
        let file = match weight_file(groups) {
            Some("blkio.weight") => "blkio.weight_device",
            Some("blkio.bfq.weight") => "blkio.bfq.weight_device",
            Some(file) => file,
            None => continue,
        };
        lines.push((file, format!("{number} {}", weight_text(file, device.weight))));
    }
    let throttles: [(&Option<Vec<ThrottleDevice>>, &'static str, &str); 4] = [
        (&limits.blkio_device_read_bps, "blkio.throttle.read_bps_device", "rbps"),
        (&limits.blkio_device_write_bps, "blkio.throttle.write_bps_device", "wbps"),
        (&limits.blkio_device_read_iops, "blkio.throttle.read_iops_device", "riops"),
        (&limits.blkio_device_write_iops, "blkio.throttle.write_iops_device", "wiops"),
    ];
    for (list, file, key) in throttles {
        for device in list.iter().flatten() {
            let number = number(&device.path)?;
            lines.push(match (groups.v2(), device.rate) {
                (true, 0) => ("io.max", format!("{number} {key}=max")),
                (true, rate) => ("io.max", format!("{number} {key}={rate}")),
                (false, rate) => (file, format!("{number} {rate}")),
            });
        }
    }
    Ok(lines)
}

/// The file for weights that mean something: those of the scheduler bfq are there whether a device has it or not.
pub(super) fn weight_file(groups: &Groups) -> Option<&'static str> {
    let files =
        if groups.v2() { ["io.bfq.weight", "io.weight"] } else { ["blkio.weight", "blkio.bfq.weight"] };
    let counts = |file: &&str| !file.contains("bfq") || groups.bfq;
    files.into_iter().filter(counts).find(|file| groups.offers("blkio", file))
}

/// Whether a block device has the scheduler bfq.
pub(super) fn some_has_bfq() -> bool {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let scheduler = |device: fs::DirEntry| fs::read_to_string(device.path().join("queue/scheduler"));
    devices.filter_map(|device| scheduler(device).ok()).any(|text| text.contains("[bfq]"))
}

/// As runc converts it.
fn weight_text(file: &str, weight: u16) -> String {
    if file != "io.weight" {
        return weight.to_string();
    }
    let (least, most) = (u64::from(*WEIGHTS.start()), u64::from(*WEIGHTS.end()));
    (1 + u64::from(weight).saturating_sub(least) * (MOST - 1) / (most - least)).to_string()
}

/// `253:0`.
fn number(path: &str) -> Result<String> {
    match fs::metadata(path) {
        Ok(found) => {
            let device = found.rdev();
            Ok(format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device)))
        }
        Err(error) => {
            let known = if error.kind() == io::ErrorKind::NotFound { in_sysfs(path) } else { None };
            known.ok_or_else(|| Error::internal(format!("stat {path}: {}", io_text(&error))))
        }
    }
}

fn in_sysfs(path: &str) -> Option<String> {
    let name = path.strip_prefix("/dev/").filter(|name| !name.contains(['/', '.']))?;
    let text = fs::read_to_string(Path::new("/sys/class/block").join(name).join("dev")).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::model::WeightDevice;

    fn groups(files: &[&str], v2: bool) -> (tempfile::TempDir, Groups) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join(if v2 { "docker" } else { "blkio/docker" });
        fs::create_dir_all(&dir).unwrap();
        if v2 {
            fs::write(temp.path().join("cgroup.controllers"), "io").unwrap();
        }
        files.iter().for_each(|file| fs::write(dir.join(file), "").unwrap());
        let mut groups = Groups { bfq: true, ..Groups::at(temp.path()) };
        if v2 {
            // The kernel lists what was added.
            groups.trees[0].controllers = vec!["io".into()];
        }
        (temp, groups)
    }

    fn limits() -> Resources {
        let throttle = |rate| Some(vec![ThrottleDevice { path: "/dev/zero".into(), rate }]);
        Resources {
            blkio_weight: 500,
            blkio_weight_device: Some(vec![WeightDevice { path: "/dev/null".into(), weight: 10 }]),
            blkio_device_read_bps: throttle(1 << 20),
            blkio_device_write_iops: throttle(100),
            ..Resources::default()
        }
    }

    fn text(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|(file, value)| format!("{file}: {value}")).collect()
    }

    #[test]
    fn version_1_has_a_file_for_each() {
        let (_temp, groups) = groups(&["blkio.bfq.weight"], false);
        assert_eq!(
            text(&lines(&groups, &limits()).unwrap()),
            [
                "blkio.bfq.weight: 500",
                "blkio.bfq.weight_device: 1:3 10",
                "blkio.throttle.read_bps_device: 1:5 1048576",
                "blkio.throttle.write_iops_device: 1:5 100",
            ]
        );
    }

    #[test]
    fn weights_are_left_out_where_no_device_weighs() {
        let (_temp, mut groups) = groups(&["blkio.bfq.weight"], false);
        groups.bfq = false;
        assert!(!groups.weighs_devices());
        let limits = Resources { blkio_weight: 500, ..Resources::default() };
        assert_eq!(lines(&groups, &limits).unwrap(), []);
    }

    #[test]
    fn version_2_has_one_for_all() {
        let (_temp, groups) = groups(&["io.weight"], true);
        assert_eq!(
            text(&lines(&groups, &limits()).unwrap()),
            ["io.weight: 4950", "io.weight: 1:3 1", "io.max: 1:5 rbps=1048576", "io.max: 1:5 wiops=100"]
        );
    }

    #[test]
    fn a_device_that_is_not_there_is_told_as_dockerd_does() {
        let (_temp, groups) = groups(&[], false);
        let nowhere = Some(vec![ThrottleDevice { path: "/dev/nosuch".into(), rate: 1 }]);
        let limits = Resources { blkio_device_read_bps: nowhere, ..Resources::default() };
        let error = lines(&groups, &limits).unwrap_err();
        assert_eq!(error.message, "stat /dev/nosuch: no such file or directory");
    }
}
