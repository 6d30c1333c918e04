//! The walls: between sessions, and between a session and the host.

use crate::host::{Host, small};
use drydock_runtime::limits::Limits;
use drydock_warden::messages::{Answer, Request};
use libtest_mimic::Trial;
use std::{
    fs,
    path::{Path, PathBuf},
};

pub fn tests() -> Vec<Trial> {
    vec![
        Trial::test("sessions_do_not_see_each_other", sessions_do_not_see_each_other),
        Trial::test("the_host_is_out_of_sight", the_host_is_out_of_sight),
        Trial::test("root_in_a_node_is_nobody_on_the_host", root_in_a_node_is_nobody),
        Trial::test("init_can_not_be_traced_or_killed", init_can_not_be_traced_or_killed),
        Trial::test("limits_hold", limits_hold),
        Trial::test("shared_images_stay_as_they_are", shared_images_stay_as_they_are),
        Trial::test("a_disk_has_no_back_door", a_disk_has_no_back_door),
        Trial::test("devices_are_the_wardens", devices_are_the_wardens),
        Trial::test("files_share_no_extents", files_share_no_extents),
        Trial::test("namespaces_can_be_entered", namespaces_can_be_entered),
        Trial::test("who_holds_sockets_is_known", who_holds_sockets_is_known),
        Trial::test("memory_of_sockets_is_limited", memory_of_sockets_is_limited),
        Trial::test("the_hosts_groups_are_out_of_sight", the_hosts_groups_are_out_of_sight),
        Trial::test("groups_without_end_are_removed", groups_without_end_are_removed),
        Trial::test("what_is_frozen_deep_down_dies", what_is_frozen_deep_down_dies),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;

fn sessions_do_not_see_each_other() -> Outcome {
    let host = Host::new();
    let (a, b) = (host.create(2), host.create(1));
    a.run(1, "echo secret > /root/a; setsid sleep 4321 >/dev/null 2>&1 & ");
    // Same addresses, other networks: node2 of the first session is not there for the second.
    a.run(1, "ping -c1 -W2 192.168.0.12 >/dev/null");
    assert_ne!(b.try_run(1, "ping -c1 -W1 192.168.0.12").0, 0);
    assert_eq!(b.run(1, "ls /root; pgrep -x sleep; true"), "");
    // Every process that can be signalled is signalled: the other session and the other node go on.
    b.try_run(1, "kill -9 -1");
    assert_eq!(a.run(1, "pgrep -c sleep; cat /root/a"), "1\nsecret");
    a.try_run(1, "kill -9 -1");
    assert_eq!(a.run(2, "hostname"), "node2");
    assert_eq!(a.run(1, "hostname"), "node1");
    // System V and POSIX shared memory, message queues, abstract sockets: each session (and node) has its own.
    a.run(1, "ipcmk -M 4096 >/dev/null; touch /dev/shm/x /dev/mqueue/y");
    assert_eq!(b.run(1, "ipcs -m | grep -c 0x; ls /dev/shm /dev/mqueue | grep -c '[xy]$'; true"), "0\n0");
    // No id of the host belongs to both.
    let range =
        |s: &crate::host::Session<'_>| fs::read_to_string(format!("/proc/{}/uid_map", s.pid())).unwrap();
    assert_ne!(range(&a), range(&b));
    Ok(())
}

fn the_host_is_out_of_sight() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    let secret = host.state().join("secret");
    fs::write(&secret, "host")?;
    let path = secret.display();
    for way in [String::new(), "/proc/1/root".into(), "/proc/self/cwd/../../..".into()] {
        assert_ne!(s.try_run(1, &format!("cat {way}{path}")).0, 0, "{way}");
    }
    // The kernel tells where a bind mount lies in its file system: of the shared images that is the state directory's name,
    // and no more than the name can be had.
    let mounts = s.run(1, "grep -v /var/lib/docker/catalogue /proc/self/mountinfo");
    assert!(!mounts.contains(&*host.state().to_string_lossy()), "{mounts}");
    // No disk of the host, no module, no clock, no reset, no raw memory.
    assert_eq!(s.run(1, "ls /dev | grep -E '^(sd|vd|loop|mem|kmsg|kvm|fuse)'; true"), "");
    for refused in [
        "mknod /tmp/d b 254 0 && cat /tmp/d",
        "date -s 2020-01-01",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "cat /proc/kcore",
        "dmesg",
        "insmod /x.ko",
        "mount -t ext4 /dev/vda /mnt",
        "mount -t debugfs x /mnt",
        "echo x > /sys/kernel/uevent_helper",
        "swapon /etc/passwd",
    ] {
        assert_ne!(s.try_run(1, refused).0, 0, "{refused}");
    }
    // No route out: the host's addresses and everything else are unreachable, at once.
    for address in ["192.0.2.1", "169.254.169.254", "10.0.0.1", "1.1.1.1"] {
        let (_, said) = s.try_run(1, &format!("curl -m 5 -s -S http://{address}/"));
        assert!(
            said.contains("Network is unreachable")
                || said.contains("Couldn't connect")
                || said.contains("Could not connect"),
            "{said}"
        );
    }
    Ok(())
}

fn root_in_a_node_is_nobody() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    assert_eq!(s.run(1, "awk '{print $1, $3}' /proc/self/uid_map"), "0 65536");
    let caps = s.run(1, "grep CapBnd /proc/self/status | cut -f2");
    let bits = u64::from_str_radix(&caps, 16)?;
    // capabilities(7): 16 SYS_MODULE, 17 SYS_RAWIO, 24 SYS_RESOURCE, 25 SYS_TIME, 39 BPF.
    for denied in [16, 17, 24, 25, 39] {
        assert_eq!(bits & (1 << denied), 0, "capability {denied} in {caps}");
    }
    assert_eq!(s.run(1, "grep -c 'Seccomp:.2' /proc/self/status"), "1");
    // A set-user-id root program that a learner makes is owned by an id that is nobody on the host.
    s.run(1, "cp /bin/id /root/id && chmod 4755 /root/id");
    let disk = format!(
        "/proc/{}/root{}/disk/{}/node1/upper/root/id",
        host.warden_pid(),
        host.state().display(),
        s.id
    );
    let meta = fs::metadata(&disk)?;
    assert!(std::os::unix::fs::MetadataExt::uid(&meta) >= 1 << 30);
    // The limits that the kernel counts per user namespace can't be raised from inside.
    assert_ne!(s.try_run(1, "echo 1000000 > /proc/sys/user/max_inotify_watches").0, 0);
    Ok(())
}

fn init_can_not_be_traced_or_killed() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    for refused in [
        "strace -f -p 1 -o /dev/null",
        "ls /proc/1/fd/",
        "cat /proc/1/environ",
        "cat /proc/1/maps",
        "readlink /proc/1/exe",
        "nsenter -t 1 -m true",
    ] {
        assert_ne!(s.try_run(1, refused).0, 0, "{refused}");
    }
    s.try_run(1, "kill -9 1; kill -STOP 1; kill -TERM 1");
    assert_eq!(s.run(1, "hostname"), "node1");
    // Nothing of the host is told by pid 1's command line.
    assert_eq!(s.run(1, "tr '\\0' ' ' < /proc/1/cmdline | xargs"), "init");
    Ok(())
}

fn limits_hold() -> Outcome {
    let host = Host::new();
    let s = host.create_with(2, Limits { open_files: 512, ..small() });
    // Disk: 64 MiB for both nodes together, with a message that names the cause.
    let (status, said) = s.try_run(1, "dd if=/dev/urandom of=/root/big bs=1M count=100 conv=fsync 2>&1");
    assert!(status != 0 && (said.contains("quota exceeded") || said.contains("No space left")), "{said}");
    assert_ne!(s.try_run(2, "dd if=/dev/urandom of=/root/big bs=1M count=60 conv=fsync 2>&1").0, 0);
    assert_eq!(s.run(1, "rm /root/big; hostname"), "node1");
    // Memory: a process that wants more is killed, the node goes on.
    assert_eq!(s.try_run(1, "head -c 600M /dev/zero | tail -c 500M").0, 137);
    // Processes: a fork bomb meets the wall and the other node still answers after it is gone.
    let (_, said) = s.try_run(1, "for i in $(seq 300); do sleep 5 & done 2>&1; kill $(jobs -p); wait");
    assert!(said.contains("Resource temporarily unavailable"), "{said}");
    assert_eq!(s.run(2, "hostname"), "node2");
    assert_eq!(s.run(1, "ulimit -n; ulimit -Hn"), "512\n512");
    assert_ne!(s.try_run(1, "ulimit -n 1024").0, 0);
    Ok(())
}

/// Whatever root does to the mount of the images that all sessions share, nothing can be written there.
fn shared_images_stay_as_they_are() -> Outcome {
    const IMAGES: &str = "/var/lib/docker/catalogue";
    let host = Host::new();
    let s = host.create(1);
    assert_eq!(s.run(1, &format!("test -e {IMAGES}/oci-layout; echo $?")), "0");
    for opening in [
        format!("mount -o remount,bind,rw {IMAGES}"),
        format!("mount -o remount,rw {IMAGES}"),
        format!("mkdir /b; mount --bind {IMAGES} /b; mount -o remount,bind,rw /b"),
        format!("unshare -m sh -c 'mount -o remount,bind,rw {IMAGES}; touch {IMAGES}/x'"),
        format!("unshare -Urm sh -c 'mount -o remount,bind,rw {IMAGES}; touch {IMAGES}/x'"),
        format!("mount -o remount,bind,ro,dev {IMAGES}"),
    ] {
        assert_ne!(s.try_run(1, &opening).0, 0, "{opening}");
    }
    for place in [IMAGES, "/b"] {
        assert_ne!(s.try_run(1, &format!("touch {place}/x || touch {place}/tmp/x")).0, 0, "{place}");
    }
    assert_eq!(
        s.run(1, &format!("findmnt -no options {IMAGES} | tr , '\\n' | grep -xE 'ro|nodev' | sort")),
        "nodev\nro"
    );
    // In the nodes that come later too.
    assert!(matches!(
        host.ask(Request::AddNode { id: s.id.clone(), node: crate::host::node(2) }),
        Answer::Done
    ));
    assert_ne!(s.try_run(2, &format!("mount -o remount,bind,rw {IMAGES}")).0, 0);
    // Nobody there waits for a lock that a node holds.
    assert_eq!(s.run(1, &format!("find {IMAGES} -name '*lock*' -o -name '*in-use*'")), "");
    Ok(())
}

/// A subvolume of btrfs would be a disk without a limit.
fn a_disk_has_no_back_door() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    let make = "perl -e '$b = pack(\"q a4088\", 0, \"more\"); sysopen(F, \"/var/lib/docker\", 0) or die; \
                ioctl(F, 0x5000940e, $b) or die \"$!\\n\"' 2>&1";
    assert_eq!(s.try_run(1, make).1.trim_end(), "Operation not permitted");
    assert_ne!(s.try_run(1, "test -e /var/lib/docker/more").0, 0);
    Ok(())
}

/// The device files of nodes are the warden's own: what the host does to its `/dev` is no matter to sessions that run.
fn devices_are_the_wardens() -> Outcome {
    use std::os::unix::fs::MetadataExt;
    let host = Host::new();
    let s = host.create(1);
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let path = format!("/dev/{name}");
        let seen = s.run(1, &format!("stat -c '%d %a %t,%T %h' {path}"));
        let meta = fs::metadata(&path)?;
        let number = format!("{:x},{:x}", rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        assert!(seen.ends_with(&format!(" 666 {number} 1")), "{path}: {seen}");
        assert!(!seen.starts_with(&format!("{} ", meta.dev())), "{path} is the host's");
    }
    assert_eq!(s.run(1, "echo x > /dev/null; head -c 3 /dev/zero | od -An -tx1"), " 00 00 00");
    // They belong to root, as on a machine, where the kernel maps ids of a tmpfs (Linux 6.3), and all sessions have the same.
    let owner = s.run(1, "stat -c '%u:%g' /dev/null");
    assert!(["0:0", "65534:65534"].contains(&&*owner), "{owner}");
    // mount(2) and mount_setattr(2) themselves, since mount(8) has its own ideas of what is no directory.
    let calls = "perl -e 'sub done { exit !shift } my ($path, $how) = @ARGV; \
                 done(!syscall(165, 0, $path, 0, 32 | 4096 | 10, 0)) if $how eq \"remount\"; \
                 done(!syscall(165, 0, $path, 0, 32, 0)) if $how eq \"superblock\"; \
                 done(!syscall(442, -100, $path, 0, pack(\"Q4\", 0, 1, 0, 0), 32))'";
    for taking in [
        "chmod 600 /dev/null".to_owned(),
        "chown 1000 /dev/null".to_owned(),
        format!("{calls} /dev/null remount"),
        format!("{calls} /dev/null superblock"),
        format!("{calls} /dev/null attributes"),
        format!("touch /n; mount --bind /dev/null /n; {calls} /n remount || {calls} /n attributes"),
        format!("unshare -m {calls} /dev/null remount"),
        format!("unshare -Urm {calls} /dev/null attributes"),
        "chmod 600 /n".to_owned(),
    ] {
        assert_ne!(s.try_run(1, &taking).0, 0, "{taking}");
    }
    // The same calls do what they are for where they may.
    s.run(
        1,
        &format!(
            "mkdir /t; mount -t tmpfs t /t; mount -o remount,bind,ro /t; {calls} /t remount; touch /t/x"
        ),
    );
    assert_eq!(s.run(1, "stat -c %a /dev/null"), "666");
    Ok(())
}

/// Files share no extents: one that a million files share keeps the disk of all sessions busy for seconds.
fn files_share_no_extents() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    s.run(1, "cd /var/lib/docker && head -c 100000 /dev/urandom > a");
    let (status, said) = s.try_run(1, "cd /var/lib/docker && cp --reflink=always a b");
    assert!(status != 0 && said.contains("Operation not supported"), "{said}");
    s.run(1, "cd /var/lib/docker && cp a c && cmp a c");
    Ok(())
}

/// What every book does with namespaces works.
fn namespaces_can_be_entered() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    s.run(
        1,
        "unshare --fork --pid --mount-proc --net --uts --ipc --cgroup sleep 1000 > /dev/null 2>&1 & \
              until pgrep -x sleep; do :; done; nsenter --all -t $(pgrep -x sleep) true",
    );
    // Its own /sys shows the devices of its network only.
    assert_eq!(s.run(1, "ip netns add one && ip netns exec one ls /sys/class/net"), "lo");
    Ok(())
}

/// Memory that is charged to nobody is the session's with most sockets, if it comes to that.
fn who_holds_sockets_is_known() -> Outcome {
    let host = Host::new();
    let (quiet, busy) = (host.create(1), host.create(1));
    let open = "perl -MSocket -e '$| = 1; for (1..500) { socket(my $s, AF_INET, SOCK_RAW, 253) or die; push @s, $s } \
                print \"open\\n\"; sleep 1000' > /tmp/said 2>&1 & until grep -q open /tmp/said; do :; done; \
                awk '/^Uid:/ { print $2 }' /proc/self/status; cat /proc/self/uid_map";
    let users = |map: &str| {
        let numbers: Vec<u32> = map.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let [.., first, count] = numbers[..] else { panic!("{map}") };
        first..first + count
    };
    let all = [
        (quiet.id.clone(), users(&quiet.run(1, "cat /proc/self/uid_map"))),
        (busy.id.clone(), users(&busy.run(1, open))),
    ];
    let (id, bytes) = drydock_warden::shortage::heaviest(&all.into()).ok_or("nobody has a socket")?;
    assert!(id == busy.id && bytes > 500 * 100_000, "{id} {bytes}");
    Ok(())
}

fn memory_of_sockets_is_limited() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    // Rings that packet sockets share with programs: their memory would be charged to nobody.
    let ring = "perl -e 'socket(S, 17, 3, 0) or die \"$!\"; \
                setsockopt(S, 263, 5, pack(\"I4\", 1 << 20, 64, 1 << 16, 1024)) or die \"$!\\n\"' 2>&1";
    assert_eq!(s.try_run(1, ring).1.trim_end(), "Protocol not available");
    // Datagrams that nobody reads: 300 sockets would take several hundred megabytes of the host.
    let fill = "perl -MSocket -e 'for (1..300) { \
                socket(my $r, AF_INET, SOCK_DGRAM, 0); setsockopt($r, 1, 8, pack(\"I\", 1 << 30)); \
                bind($r, pack_sockaddr_in(0, INADDR_LOOPBACK)); push @s, $r; \
                socket(my $w, AF_INET, SOCK_DGRAM, 0); connect($w, getsockname($r)); push @s, $w; \
                for (1..64) { send($w, \"x\" x 60000, 0x40) } } \
                open F, \"/proc/net/sockstat\"; while (<F>) { print $1 if /^UDP:.* mem (\\d+)/ }'";
    let before = "awk '/^UDP:/ { print $NF }' /proc/net/sockstat";
    let before: u64 = s.run(1, before).parse()?;
    let pages: u64 = s.run(1, fill).parse()?;
    let taken = pages.saturating_sub(before) * 4096;
    assert!(taken <= small().memory, "{} MiB of a session with {} MiB", taken >> 20, small().memory >> 20);
    Ok(())
}

/// Whatever hierarchy a node mounts, used by us or not: it sees no group of the host's.
fn the_hosts_groups_are_out_of_sight() -> Outcome {
    let groups = HostGroups::make()?;
    let host = Host::new();
    let seen = host.create(1).run(
        1,
        "mkdir /tmp/g; cut -d: -f2 /proc/self/cgroup | while read -r names; do
            if [ -n \"$names\" ]; then mount -t cgroup -o \"$names\" g /tmp/g; else mount -t cgroup2 g /tmp/g; fi || continue
            echo \"mounted $names\"; find /tmp/g -type d; umount /tmp/g
         done 2>&1",
    );
    assert!(seen.contains("mounted") && !seen.contains(&groups.name), "{}: {seen}", groups.name);
    Ok(())
}

/// A group of the host's in the root of each hierarchy, removed at the end.
struct HostGroups {
    name: String,
    paths: Vec<PathBuf>,
}

impl HostGroups {
    fn make() -> std::io::Result<Self> {
        let name = format!("drydock-test-{}", std::process::id());
        let mut groups = Self { paths: vec![], name };
        let below = fs::read_dir("/sys/fs/cgroup")?.flatten().map(|entry| entry.path());
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists().then(|| "/sys/fs/cgroup".into());
        let v1 = below.filter(|path| v2.is_none() && path.join("cgroup.procs").exists());
        for root in v1.collect::<Vec<_>>().into_iter().chain(v2.clone()) {
            let path = root.join(&groups.name);
            fs::create_dir(&path)?;
            groups.paths.push(path);
        }
        Ok(groups)
    }
}

impl Drop for HostGroups {
    fn drop(&mut self) {
        for path in &self.paths {
            let _already_gone = fs::remove_dir(path);
        }
    }
}

/// Control groups deeper than a path can say, and many of them: the session ends, and nobody waits for it.
fn groups_without_end_are_removed() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    let group = if fs::exists("/sys/fs/cgroup/cgroup.controllers")? { "." } else { "pids" };
    s.run(
        1,
        &format!("cd /sys/fs/cgroup/{group}; perl -e 'for (1..2300) {{ mkdir \"d\" or last; chdir \"d\" }}'"),
    );
    s.run(1, &format!("cd /sys/fs/cgroup/{group}; perl -e 'for (1..3000) {{ mkdir \"w$_\" or last }}'"));
    assert!(matches!(s.destroy(), Answer::Destroyed { .. }));
    assert_eq!(host.create(1).run(1, "hostname"), "node1");
    Ok(())
}

/// A frozen process does not even die (control groups v1), and a node can hide it deep down.
fn what_is_frozen_deep_down_dies() -> Outcome {
    if fs::exists("/sys/fs/cgroup/cgroup.controllers")? {
        return Ok(());
    }
    let host = Host::new();
    let s = host.create(1);
    s.run(
        1,
        "cd /sys/fs/cgroup/freezer; sleep 4321 >/dev/null 2>&1 & pid=$!; \
         perl -e 'for (1..6000) { mkdir \"w$_\" } for (1..2300) { mkdir \"d\"; chdir \"d\" } \
         open F, \">cgroup.procs\"; print F $ARGV[0]; close F; open F, \">freezer.state\"; print F \"FROZEN\"; close F' $pid",
    );
    let base = fs::read_to_string(format!("/proc/{}/uid_map", s.pid()))?;
    let base: u32 = base.split_whitespace().nth(1).ok_or("no map")?.parse()?;
    assert!(matches!(s.destroy(), Answer::Destroyed { .. }));
    drop(host);
    // The warden ended, so it has swept everything: no process has a user of the session's.
    for entry in fs::read_dir("/proc")?.flatten() {
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let user = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next()?.parse::<u32>().ok());
        assert!(!user.is_some_and(|user| (base..base + 65_536).contains(&user)), "{status}");
    }
    Ok(())
}
