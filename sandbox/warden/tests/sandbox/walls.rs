//! The walls: between sessions, and between a session and the host.

use crate::host::{Host, small};
use drydock_runtime::limits::Limits;
use libtest_mimic::Trial;
use std::fs;

pub fn tests() -> Vec<Trial> {
    vec![
        Trial::test("sessions_do_not_see_each_other", sessions_do_not_see_each_other),
        Trial::test("the_host_is_out_of_sight", the_host_is_out_of_sight),
        Trial::test("root_in_a_node_is_nobody_on_the_host", root_in_a_node_is_nobody),
        Trial::test("init_can_not_be_traced_or_killed", init_can_not_be_traced_or_killed),
        Trial::test("limits_hold", limits_hold),
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
