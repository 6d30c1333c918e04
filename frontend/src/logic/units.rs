//! Figures as people read them. Called by the nodes panel and the files dock.

use drydock_protocol::api::SessionLimits;

/// A number with so many decimals (at most 6). The standard library's way to write fractions is exact to the last of a
/// thousand digits, and large.
pub fn fixed(value: f64, decimals: u32) -> String {
    let scale = 10i64.pow(decimals.min(6));
    let scaled = (value * scale as f64).round() as i64;
    let sign = if scaled < 0 { "-" } else { "" };
    let (whole, part) = (scaled.unsigned_abs() / scale as u64, scaled.unsigned_abs() % scale as u64);
    match decimals {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{part:0width$}", width = decimals.min(6) as usize),
    }
}

/// A number within bounds. `f64::clamp` would bring along the code that prints its operands when the bounds are mixed up.
pub fn within(value: f64, least: f64, most: f64) -> f64 {
    value.max(least).min(most)
}

/// `512 B`, `1.5 KB`, `23 MB`: powers of 1024 with the customary letters.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if value < 1024.0 {
            return if unit == "B" || value >= 100.0 {
                format!("{} {unit}", fixed(value, 0))
            } else {
                format!("{} {unit}", fixed(value, 1))
            };
        }
        value /= 1024.0;
    }
    format!("{} TB", fixed(value, 1))
}

/// Thousandths of a CPU as a percentage: `0.4 %`, `37 %`.
pub fn cpu(millis: u32) -> String {
    if millis > 0 && millis < 100 {
        format!("{}.{} %", millis / 10, millis % 10)
    } else {
        format!("{} %", millis / 10)
    }
}

/// What the nodes of a session may use together.
pub fn limits(of: &SessionLimits) -> String {
    let cpus = match of.cpu_millis {
        1000 => "1 CPU".into(),
        n => format!("{} CPUs", fixed(f64::from(n) / 1000.0, u32::from(n % 1000 != 0))),
    };
    let (memory, disk) = (bytes(of.memory), bytes(of.disk));
    format!("All nodes share {cpus}, {memory} of memory, {disk} of disk and {} processes.", of.processes)
}

/// The permission bits as `ls` shows them: `rwxr-xr-x`.
pub fn mode(bits: u32) -> String {
    (0..9).map(|i| if bits >> (8 - i) & 1 == 1 { ['r', 'w', 'x'][i % 3] } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_share() {
        let of = SessionLimits { cpu_millis: 1500, memory: 1 << 30, disk: 512 << 20, processes: 900 };
        let text = "All nodes share 1.5 CPUs, 1.0 GB of memory, 512 MB of disk and 900 processes.";
        assert_eq!(limits(&of), text);
        assert!(limits(&SessionLimits { cpu_millis: 2000, ..of }).contains("share 2 CPUs"));
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KB");
        assert_eq!(bytes(300 << 20), "300 MB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TB");
    }

    #[test]
    fn fractions() {
        assert_eq!(fixed(0.5, 4), "0.5000");
        assert_eq!(fixed(33.33336, 4), "33.3334");
        assert_eq!(fixed(-1.26, 1), "-1.3");
        assert_eq!(fixed(-0.01, 0), "0");
        assert_eq!(fixed(1.05, 2), "1.05");
        assert_eq!(fixed(f64::NAN, 2), "0.00");
    }

    #[test]
    fn shares_of_a_cpu() {
        assert_eq!([0, 4, 99, 370, 2000].map(cpu), ["0 %", "0.4 %", "9.9 %", "37 %", "200 %"]);
    }

    #[test]
    fn permissions() {
        assert_eq!(mode(0o755), "rwxr-xr-x");
        assert_eq!(mode(0o100640), "rw-r-----");
    }
}
