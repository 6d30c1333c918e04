//! Figures as people read them. Called by the nodes panel and the files dock.

/// `512 B`, `1.5 KB`, `23 MB`: powers of 1024 with the customary letters.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if value < 1024.0 {
            return if unit == "B" || value >= 100.0 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TB")
}

/// Thousandths of a CPU as a percentage: `0.4 %`, `37 %`.
pub fn cpu(millis: u32) -> String {
    if millis > 0 && millis < 100 {
        format!("{}.{} %", millis / 10, millis % 10)
    } else {
        format!("{} %", millis / 10)
    }
}

/// The permission bits as `ls` shows them: `rwxr-xr-x`.
pub fn mode(bits: u32) -> String {
    (0..9).map(|i| if bits >> (8 - i) & 1 == 1 { ['r', 'w', 'x'][i % 3] } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KB");
        assert_eq!(bytes(300 << 20), "300 MB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TB");
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
