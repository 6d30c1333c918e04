//! Checks of the host around the kernel: privilege, control groups, programs, space, limits, image, port.

use super::{Check, Subject, read, read_number};
use drydock_images::Store;
use drydock_runtime::cgroup::Hierarchies;
use std::{
    fs,
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const SESSIONS: &str = "sessions cannot start";
/// A busy host: its limits are compared with what so many sessions at work would need.
const BUSY: u64 = 200;

pub(super) fn root(root: bool) -> Check {
    if root {
        return Check::ok("root", "yes; the web process gives it up after it has bound its port");
    }
    let mend = "run `drydock serve` as root (doctor, too: as root it makes real tries)";
    Check::fail("root", "no", "`drydock serve` cannot start sessions", mend)
}

pub(super) fn control_groups(root: bool) -> Check {
    const NAME: &str = "control groups";
    let hierarchies = match Hierarchies::detect() {
        Ok(hierarchies) => hierarchies,
        Err(e) => {
            let mend = "mount cgroup2 on /sys/fs/cgroup and boot without cgroup_disable=; in a container, delegate a cgroup to it";
            return Check::fail(NAME, e.to_string(), SESSIONS, mend);
        }
    };
    let (what, places): (_, Vec<PathBuf>) = match hierarchies {
        Hierarchies::V2(path) => ("v2", vec![path]),
        Hierarchies::V1(list) => ("v1", list.into_iter().map(|(_, path)| path).collect()),
    };
    if !root {
        return Check::ok(NAME, format!("{what} with all controllers"));
    }
    for place in places {
        let group = place.join(format!("drydock-doctor-{}", std::process::id()));
        if let Err(e) = fs::create_dir(&group).and_then(|()| fs::remove_dir(&group)) {
            let mend = "mount it writable; in a container, delegate a cgroup to it";
            return Check::fail(
                NAME,
                format!("{what}, but no group can be made in {}: {e}", place.display()),
                SESSIONS,
                mend,
            );
        }
    }
    Check::ok(NAME, format!("{what} with all controllers; made a group"))
}

pub(super) fn nft(root: bool) -> Check {
    const NAME: &str = "nftables";
    const EFFECT: &str = "rules for a way out of sessions cannot be made (by default there is none)";
    let mend = "apt-get install nftables; modprobe nf_tables";
    let mut command = if root { Command::new("unshare") } else { Command::new("nft") };
    if root {
        // In an empty network namespace: the host's own rules are nobody's business here.
        command.args(["--net", "nft", "list", "ruleset"]);
    } else {
        command.arg("--version");
    }
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => {
            Check::ok(NAME, if root { "lists rules" } else { "installed" })
        }
        Ok(output) => {
            let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(200).collect();
            Check::warn(NAME, said, EFFECT, mend)
        }
        Err(e) => Check::warn(NAME, format!("nft: {e}"), EFFECT, mend),
    }
}

pub(super) fn memory() -> Check {
    let text = read("/proc/meminfo").unwrap_or_default();
    let line = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let (total, available) = (line("MemTotal").unwrap_or(0) >> 10, line("MemAvailable").unwrap_or(0) >> 10);
    let found = format!("{total} MiB, {available} MiB of it available");
    if total >= 2000 {
        return Check::ok("memory", found);
    }
    Check::warn(
        "memory",
        found,
        "only one or two sessions fit",
        "give the machine 2 GiB or more, or lower --session-memory",
    )
}

pub(super) fn disk_space(state_dir: &Path) -> Check {
    const NAME: &str = "disk space";
    let near = state_dir.ancestors().find(|a| a.is_dir()).unwrap_or(Path::new("/"));
    let stat = match nix::sys::statvfs::statvfs(near) {
        Ok(stat) => stat,
        Err(e) => {
            return Check::fail(
                NAME,
                format!("{}: {e}", near.display()),
                SESSIONS,
                "choose another --state-dir",
            );
        }
    };
    let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
    let found = format!("{:.1} GiB free in {}", free as f64 / f64::from(1 << 30), near.display());
    let mend = "make room there, or choose another --state-dir";
    match free >> 30 {
        0..2 => Check::fail(NAME, found, "the node image (1 GiB while it is prepared) does not fit", mend),
        2..10 => Check::warn(
            NAME,
            found,
            "learners who fill their disks (2 GiB each by default) will fill this one",
            mend,
        ),
        _ => Check::ok(NAME, found),
    }
}

/// Limits of the whole host that many sessions share.
pub(super) fn limits() -> Vec<Check> {
    let open_files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .map_or(0, |(_, hard)| hard);
    let table: [(&str, &str, u64, u64, &str, &str); 6] = [
        // About 12 processes and threads for a session at rest, hundreds for one at work.
        (
            "process ids",
            "/proc/sys/kernel/pid_max",
            0,
            BUSY * 500,
            "kernel.pid_max=4194304",
            "a full host runs out of process ids",
        ),
        (
            "threads",
            "/proc/sys/kernel/threads-max",
            0,
            BUSY * 300,
            "kernel.threads-max=500000",
            "a full host runs out of threads",
        ),
        (
            "open files",
            "/proc/sys/fs/file-max",
            0,
            BUSY * 1000,
            "fs.file-max=2000000",
            "a full host runs out of open files",
        ),
        (
            "user namespaces' number",
            "/proc/sys/user/max_user_namespaces",
            0,
            BUSY * 4,
            "user.max_user_namespaces=100000",
            "a full host cannot make more sessions",
        ),
        (
            "terminals",
            "/proc/sys/kernel/pty/max",
            0,
            BUSY * 8,
            "kernel.pty.max=16384",
            "a full host runs out of terminals",
        ),
        (
            "open files of a process",
            "",
            open_files,
            16_384,
            "",
            "the web process and programs in nodes run out of open files",
        ),
    ];
    let mut checks = Vec::new();
    for (name, path, value, wanted, sysctl, effect) in table {
        let value = if path.is_empty() { value } else { read_number(path).unwrap_or(0) };
        let found = format!("{value}; {BUSY} busy sessions want {wanted}");
        let mend = match sysctl {
            "" => "raise the hard limit: LimitNOFILE=1048576 in the service's unit, or `ulimit -Hn 1048576` before the start".into(),
            sysctl => format!("sysctl -w {sysctl} (and a file in /etc/sysctl.d to keep it)"),
        };
        checks.push(if value >= wanted {
            Check::ok(name, value.to_string())
        } else {
            Check::warn(name, found, effect, mend)
        });
    }
    checks.extend([
        inotify(),
        connections(),
        core_dumps(&read("/proc/sys/kernel/core_pattern").unwrap_or_default()),
    ]);
    checks.extend(AT_MOST.iter().map(|bound| bound.check(read_number(bound.path))));
    checks
}

/// A number of the host that is better small: what it allows counts for no session.
struct AtMost {
    name: &'static str,
    path: &'static str,
    sysctl: &'static str,
    most: u64,
    effect: &'static str,
}

const SOCKET_MEMORY: &str = "sockets with large buffers take memory of the host beyond their session's limit";
/// What Linux has by itself for sockets (net/core/sock.c).
const SOCKET_BUFFER: u64 = 212_992;

const fn socket_buffer(name: &'static str, path: &'static str, sysctl: &'static str) -> AtMost {
    AtMost { name, path, sysctl, most: SOCKET_BUFFER, effect: SOCKET_MEMORY }
}

const AT_MOST: [AtMost; 5] = [
    socket_buffer("largest receive buffer", "/proc/sys/net/core/rmem_max", "net.core.rmem_max"),
    socket_buffer("receive buffer", "/proc/sys/net/core/rmem_default", "net.core.rmem_default"),
    socket_buffer("largest send buffer", "/proc/sys/net/core/wmem_max", "net.core.wmem_max"),
    socket_buffer("send buffer", "/proc/sys/net/core/wmem_default", "net.core.wmem_default"),
    AtMost {
        name: "mounts",
        path: "/proc/sys/fs/mount-max",
        sysctl: "fs.mount-max",
        most: 10_000,
        effect: "a session with very many mounts keeps the kernel busy for all",
    },
];

impl AtMost {
    fn check(&self, found: Option<u64>) -> Check {
        let Self { name, sysctl, most, effect, .. } = *self;
        match found {
            Some(found) if found > most => Check::warn(
                name,
                format!("{sysctl} is {found}"),
                effect,
                format!("sysctl -w {sysctl}={most} (and a file in /etc/sysctl.d to keep it)"),
            ),
            Some(found) => Check::ok(name, found.to_string()),
            None => Check::ok(name, "this kernel has no such limit"),
        }
    }
}

/// No limit of a process holds for a pipe (core(5)): the handler would be started as the host's root, with what a learner's program
/// gives it.
fn core_dumps(pattern: &str) -> Check {
    const NAME: &str = "core dumps";
    if !pattern.starts_with('|') {
        return Check::ok(NAME, "go into files, which sessions have none of");
    }
    Check::warn(
        NAME,
        format!("go to a program of this host: {}", pattern.chars().take(60).collect::<String>()),
        "programs that crash in a session start that program as this host's root, as often as a learner likes",
        "sysctl -w kernel.core_pattern=core (and a file in /etc/sysctl.d to keep it), and switch off systemd-coredump or apport",
    )
}

/// Every network namespace, and so every container, may have so many tracked connections, in memory that counts for nobody.
fn connections() -> Check {
    const NAME: &str = "tracked connections";
    const MOST: u64 = 65_536;
    match read_number("/proc/sys/net/netfilter/nf_conntrack_max") {
        Some(found) if found > MOST => Check::warn(
            NAME,
            format!("{found} for each network namespace"),
            "a session whose containers open very many connections takes memory beyond its limit (320 bytes each)",
            format!(
                "sysctl -w net.netfilter.nf_conntrack_max={MOST} (and a file in /etc/sysctl.d to keep it)"
            ),
        ),
        Some(found) => Check::ok(NAME, format!("{found} for each network namespace")),
        None => Check::ok(NAME, "not tracked yet"),
    }
}

/// inotify is counted per user, and each session is a user of its own: only what one session may use matters.
fn inotify() -> Check {
    let limits = drydock_runtime::limits::Limits::default();
    let watches = read_number("/proc/sys/fs/inotify/max_user_watches").unwrap_or(0);
    let instances = read_number("/proc/sys/fs/inotify/max_user_instances").unwrap_or(0);
    let found = format!("{watches} watches, {instances} instances for each session at most");
    if watches >= u64::from(limits.inotify_watches)
        && instances >= u64::from(limits.inotify_instances.min(128))
    {
        return Check::ok("inotify", found);
    }
    let mend = format!(
        "sysctl -w fs.inotify.max_user_watches={} fs.inotify.max_user_instances={}",
        limits.inotify_watches, limits.inotify_instances
    );
    Check::warn("inotify", found, "programs in nodes that watch many files fail", mend)
}

pub(super) fn image(dir: &Path, root: bool) -> Check {
    const NAME: &str = "node image";
    const EFFECT: &str = "`drydock serve` has nothing to start nodes from";
    if !root {
        return Check::warn(NAME, "only root may look", "nobody knows yet", "run `drydock doctor` as root");
    }
    let mend = "`drydock image build` (a minute, needs the Internet) or `drydock image import FILE`";
    // Opening the store would make it.
    if !dir.join("index.json").exists() {
        return Check::fail(NAME, format!("none in {}", dir.display()), EFFECT, mend);
    }
    match Store::open(dir).and_then(|store| store.resolve("node")) {
        Ok(image) => Check::ok(NAME, format!("{} in {}", &image.digest.to_string()[..19], dir.display())),
        Err(e) => Check::fail(NAME, e.to_string(), EFFECT, mend),
    }
}

pub(super) fn port(subject: &Subject) -> Check {
    const NAME: &str = "port";
    match TcpListener::bind(subject.listen) {
        Ok(_) => Check::ok(NAME, format!("{} is free", subject.listen)),
        Err(_) if UnixStream::connect(subject.state_dir.join("web/api.sock")).is_ok() => {
            Check::ok(NAME, format!("{} is in use; a server of this state directory runs", subject.listen))
        }
        Err(e) => Check::fail(
            NAME,
            format!("{}: {e}", subject.listen),
            "`drydock serve` cannot listen there",
            "stop what listens there (ss -ltnp), or choose another --listen",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn what_counts_for_no_session_had_better_be_small() {
        let [.., mounts] = &AT_MOST;
        let state = |found| mounts.check(found).state;
        assert_eq!(
            (state(Some(100_000)), state(Some(10_000)), state(None)),
            (State::Warn, State::Ok, State::Ok)
        );
        assert!(mounts.check(Some(100_000)).mend.contains("fs.mount-max=10000"));
    }

    #[test]
    fn a_crash_starts_no_program_of_the_host() {
        assert_eq!(core_dumps("core").state, State::Ok);
        assert_eq!(core_dumps("|/usr/lib/systemd/systemd-coredump %P %u").state, State::Warn);
    }
}
