//! Checks of the kernel that need no privilege: version, name spaces, file systems, system call filters.

use super::{Check, read, read_number};
use std::process::{Command, Stdio};

/// overlayfs over idmapped layers came with Linux 5.19; everything else that is used is older.
const OLDEST: (u32, u32) = (5, 19);
const SESSIONS: &str = "sessions cannot start";

pub(super) fn version() -> Check {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    match parse_release(&release) {
        Some(version) if version >= OLDEST => Check::ok("kernel", format!("Linux {release}")),
        _ => Check::fail(
            "kernel",
            format!("Linux {release}"),
            SESSIONS,
            format!(
                "run Linux {}.{} or newer (Debian 12 and 13 and Ubuntu 24.04 have it)",
                OLDEST.0, OLDEST.1
            ),
        ),
    }
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn user_namespaces() -> Check {
    const NAME: &str = "user namespaces";
    match read_number("/proc/sys/user/max_user_namespaces") {
        None => {
            return Check::fail(NAME, "this kernel has none", SESSIONS, "run a kernel with CONFIG_USER_NS=y");
        }
        Some(0) => {
            let mend = "sysctl -w user.max_user_namespaces=100000 (and a file in /etc/sysctl.d to keep it)";
            return Check::fail(NAME, "user.max_user_namespaces is 0", SESSIONS, mend);
        }
        Some(_) => {}
    }
    let tried =
        Command::new("unshare").args(["--user", "--map-root-user", "true"]).stdin(Stdio::null()).output();
    match tried {
        Ok(output) if output.status.success() => Check::ok(NAME, "made one"),
        Ok(output) => {
            let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(200).collect();
            // user_namespaces(7): in a chroot none can be made, whoever asks.
            let mend = "do not run in a chroot; see kernel.unprivileged_userns_clone, \
                        kernel.apparmor_restrict_unprivileged_userns and the rules of the container or virtual machine that \
                        this runs in";
            Check::fail(NAME, format!("could not make one: {said}"), SESSIONS, mend)
        }
        Err(e) => Check::warn(
            NAME,
            format!("not tried: unshare: {e}"),
            "nobody knows yet",
            "apt-get install util-linux",
        ),
    }
}

/// Without root only a look is possible; with root [`super::trial`] makes the real thing.
pub(super) fn file_systems() -> Check {
    let known = read("/proc/filesystems").unwrap_or_default();
    let missing: Vec<_> = ["overlay", "btrfs"]
        .into_iter()
        .filter(|fs| !known.lines().any(|l| l.trim_start_matches("nodev").trim() == *fs))
        .collect();
    if missing.is_empty() {
        return Check::ok("file systems", "overlay and btrfs are there (as root, doctor really tries them)");
    }
    let found = format!("not loaded: {}", missing.join(", "));
    Check::warn(
        "file systems",
        found,
        "perhaps nothing: they are loaded when first used",
        "run `drydock doctor` as root, which tries them",
    )
}

pub(super) fn seccomp() -> Check {
    const NAME: &str = "system call filter";
    let actions = read("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|a| a == "errno") {
        return Check::ok(NAME, "seccomp filters are there");
    }
    Check::fail(
        NAME,
        "this kernel has no seccomp filters",
        SESSIONS,
        "run a kernel with CONFIG_SECCOMP_FILTER=y",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_release("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(parse_release("5.19"), Some((5, 19)));
        assert!(parse_release("6.8.0-31-generic") > Some(OLDEST));
        assert!(parse_release("5.4.0") < Some(OLDEST));
        assert_eq!(parse_release("linux"), None);
    }
}
