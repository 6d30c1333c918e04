//! Containers in a node: what the init clones, builds and locks for an engine (here the small one of `engine.rs`).

use crate::{
    agent::Ask,
    engine::Order,
    host::{Host, Session, node},
};
use drydock_protocol::frame::Size;
use drydock_runtime::container::spec::{
    Below, ContainerSpec, Filter, Mount, MountSource, Namespace, Namespaces, ProcessSpec,
};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    vec![
        Trial::test("a_container_has_its_own_of_everything", a_container_has_its_own_of_everything),
        Trial::test("a_container_is_walled_in", a_container_is_walled_in),
        Trial::test("a_container_gets_its_mounts", a_container_gets_its_mounts),
        Trial::test("a_child_waits_for_its_container", a_child_waits_for_its_container),
        Trial::test("a_process_enters_a_container", a_process_enters_a_container),
        Trial::test("containers_outlive_their_engine", containers_outlive_their_engine),
        Trial::test(
            "a_program_that_the_kernel_refuses_has_started",
            a_program_that_the_kernel_refuses_has_started,
        ),
        Trial::test("a_container_that_cannot_start_says_why", a_container_that_cannot_start_says_why),
        Trial::test("the_engine_is_controlled_from_the_node", the_engine_is_controlled),
        Trial::test("paused_containers_do_not_keep_a_node_or_a_session", paused_containers_end),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;

/// A session whose node1 has the root of a container prepared at `/var/lib/docker/t/merged`.
fn prepare(host: &Host) -> Session<'_> {
    let session = host.create(1);
    session.run(
        1,
        "set -e; cd /var/lib/docker; mkdir -p t/upper t/work t/merged
         mount -t overlay overlay -o lowerdir=/,upperdir=t/upper,workdir=t/work,userxattr t/merged
         for h in /sys/fs/cgroup/*/cgroup.procs; do mkdir -p ${h%/*}/docker/c; done
         mkdir -p /sys/fs/cgroup/docker/c 2>/dev/null || true",
    );
    session
}

fn spec(script: &str) -> ContainerSpec {
    ContainerSpec {
        hostname: "box".into(),
        domainname: String::new(),
        process: process(&["sh", "-c", script]),
        root: "/var/lib/docker/t/merged".into(),
        read_only: false,
        mounts: vec![],
        namespaces: Namespaces {
            pid: Namespace::New,
            ipc: Namespace::New,
            net: Namespace::New,
            uts: Namespace::New,
            cgroup: Namespace::New,
        },
        cgroup: "docker/c".into(),
        masked: [
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/sys/firmware",
            "/proc/acpi",
            "/proc/scsi",
        ]
        .map(Into::into)
        .to_vec(),
        read_only_paths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
            .map(Into::into)
            .to_vec(),
        sysctls: vec![],
        shm_size: 64 << 20,
        init: false,
        wasm: false,
        privileged: false,
        writable_cgroups: false,
    }
}

fn process(argv: &[&str]) -> ProcessSpec {
    ProcessSpec {
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
        cwd: "/".into(),
        user: String::new(),
        groups: vec![],
        tty: None,
        capabilities: [
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "KILL",
            "SETGID",
            "SETUID",
            "NET_BIND_SERVICE",
            "SYS_CHROOT",
        ]
        .map(Into::into)
        .to_vec(),
        no_new_privileges: false,
        seccomp: Filter::Default { admin: false },
        rlimits: vec![("nofile".into(), 512, 1024)],
        oom_score_adj: None,
    }
}

fn order(session: &Session<'_>, order: &Order) -> (i32, String) {
    let body = serde_json::to_string(order).unwrap().replace('\'', "'\\''");
    let answer =
        session.run(1, &format!("curl -sS --unix-socket /run/docker.sock http://e/ -d '{body}' 2>&1"));
    let (status, output) = answer.split_once('\n').unwrap_or((&answer, ""));
    (status.parse().unwrap_or_else(|_| panic!("{answer}")), output.trim_end().to_owned())
}

fn run(session: &Session<'_>, spec: ContainerSpec) -> (i32, String) {
    order(session, &Order::Run("c".into(), spec))
}

fn a_container_has_its_own_of_everything() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    // Nothing runs before somebody asks.
    assert_eq!(s.run(1, "pgrep -x dockerd; true"), "");
    assert_eq!(run(&s, spec("hostname; echo $$; id -u; pwd; echo $HOME")), (0, "box\n1\n0\n/\n/root".into()));
    assert_eq!(s.run(1, "pgrep -cx dockerd; cat /run/docker.pid | xargs ps -o comm= -p"), "1\ndockerd");
    assert_eq!(run(&s, spec("exit 7")).0, 7);
    assert_eq!(run(&s, spec("kill -9 $$; sleep 1; exit 3")).0, 3);
    let other = s.run(1, "readlink /proc/self/ns/{pid,mnt,net,uts,ipc,cgroup}");
    let (_, own) = run(&s, spec("for n in pid mnt net uts ipc cgroup; do readlink /proc/self/ns/$n; done"));
    for (a, b) in other.lines().zip(own.lines()) {
        assert_ne!(a, b);
    }
    let (_, links) = run(
        &s,
        spec("cat /proc/self/cgroup | grep -v ':/$' ; ls /sys/class/net; cat /sys/class/net/lo/operstate"),
    );
    assert_eq!(links, "lo\nunknown");
    let (_, groups) = run(&s, spec("find /sys/fs/cgroup -name cgroup.procs | wc -l"));
    assert_ne!(groups, "0");
    // What it writes lands in its upper directory, on the node's disk.
    run(&s, spec("echo hi > /etc/new; rm /etc/motd"));
    assert_eq!(
        s.run(1, "cat /var/lib/docker/t/upper/etc/new; stat -c '%t,%T' /var/lib/docker/t/upper/etc/motd"),
        "hi\n0,0"
    );
    // As another user, with a terminal, and with an init of its own.
    let mut nobody = spec("id -un; id -G; ulimit -n; tty; exit 5");
    nobody.process.user = "nobody:33".into();
    nobody.process.groups = vec!["44".into()];
    nobody.process.tty = Some(Size { cols: 80, rows: 24 });
    assert_eq!(run(&s, nobody), (5, "nobody\r\n33 44\r\n512\r\n/dev/pts/0".into()));
    let mut with_init = spec("echo $$; (sleep 0.01 &); sleep 0.1; ps -e -o comm= | tr '\\n' ' '; exit 9");
    with_init.init = true;
    let (status, output) = run(&s, with_init);
    assert_eq!(status, 9, "{output}");
    assert!(output.starts_with("2\n") && output.contains("docker-init"), "{output}");
    Ok(())
}

fn a_container_is_walled_in() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    let refused = |script: &str| {
        let (status, output) = run(&s, spec(script));
        assert_ne!(status, 0, "{script}: {output}");
    };
    refused("mount -t tmpfs x /mnt");
    refused("unshare --uts true");
    refused("unshare --user true");
    refused("echo 1 > /proc/sys/kernel/domainname");
    refused("echo b > /proc/sysrq-trigger");
    refused("mkdir /sys/fs/cgroup/x || mkdir /sys/fs/cgroup/memory/x");
    refused("chroot / true && hostname other");
    refused("test -s /proc/kcore -o -s /proc/keys");
    refused("kill -9 1; kill -0 2");
    assert_eq!(
        run(&s, spec("grep CapEff /proc/self/status; ls /proc/self/fd | wc -l")).1,
        "CapEff:\t00000000000404eb\n4"
    );
    // Root of the node can't trace the child while it is still ours, and the container can't find the node's files.
    assert_eq!(
        run(&s, spec("ls /proc/1/root/var/lib/docker/t 2>/dev/null; set -- /proc/[0-9]*; echo $#")).1,
        "1"
    );
    let mut read_only = spec("touch /x 2>/dev/null || echo locked; touch /dev/shm/x && echo shm");
    read_only.read_only = true;
    assert_eq!(run(&s, read_only).1, "locked\nshm");
    let mut no_new = spec("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f2 | tr '\\n' ' '");
    no_new.process.no_new_privileges = true;
    assert_eq!(run(&s, no_new).1, "1 2");
    Ok(())
}

fn a_container_gets_its_mounts() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    s.run(1, "mkdir -p /srv/a; echo from-node > /srv/a/f; ln -s /etc /var/lib/docker/t/merged/link");
    let bind = |from: &str, target: &str, read_only| Mount {
        source: MountSource::Bind(from.into()),
        target: target.into(),
        read_only,
        propagation: None,
        below: Below::Same,
    };
    let mut c = spec(
        "cat /data/f /etc/one /etc/two; echo x > /data/g; touch /ro/x 2>/dev/null || echo ro; stat -f -c %T /scratch; df -k /scratch | tail -1 | awk '{print $2}'; stat -c %a /scratch",
    );
    c.mounts = vec![
        bind("/srv/a", "/data", false),
        bind("/srv/a", "/ro/deep/er", true),
        bind("/srv/a/f", "/etc/one", false),
        // A link of the image is followed inside the image.
        bind("/srv/a/f", "/link/two", false),
        Mount {
            source: MountSource::Tmpfs(vec!["size=1m".into(), "mode=700".into()]),
            target: "/scratch".into(),
            read_only: false,
            propagation: None,
            below: Below::Same,
        },
    ];
    c.process.argv[2] = c.process.argv[2].replace("/ro/x", "/ro/deep/er/x");
    assert_eq!(run(&s, c).1, "from-node\nfrom-node\nfrom-node\nro\ntmpfs\n1024\n700");
    assert_eq!(s.run(1, "cat /srv/a/g; test -e /etc/two || echo clean"), "x\nclean");
    let mut evil = spec("true");
    evil.mounts = vec![bind("/srv/a", "/proc/sys", false)];
    let (status, why) = run(&s, evil);
    assert!(status == -1 && why.contains("inside /proc"), "{why}");
    Ok(())
}

/// It sees what was mounted in the node while it waited; it is no harm if somebody ends it, and it ends by itself.
fn a_child_waits_for_its_container() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    let mut late = spec("cat /data/f; exit 3");
    late.mounts = vec![Mount {
        source: MountSource::Bind("/srv".into()),
        target: "/data".into(),
        read_only: false,
        propagation: None,
        below: Below::Same,
    }];
    // On a busy host it may be gone before we look.
    let waits = "timeout 5 sh -c 'until pgrep -x drydock-init; do :; done' || true";
    order(&s, &Order::Expect);
    s.run(1, &format!("{waits}; mount -t tmpfs x /srv; echo late > /srv/f"));
    assert_eq!(run(&s, late.clone()), (3, "late".into()));
    order(&s, &Order::Expect);
    s.run(1, &format!("{waits}; pkill -KILL -x drydock-init || true"));
    assert_eq!(run(&s, late), (3, "late".into()));
    order(&s, &Order::Expect);
    s.run(1, &format!("{waits}; while pgrep -x drydock-init; do :; done"));
    Ok(())
}

fn a_process_enters_a_container() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    assert_eq!(order(&s, &Order::Start("c".into(), spec("exec sleep 1000"))), (0, String::new()));
    let exec = |process: ProcessSpec| order(&s, &Order::Exec("e".into(), "c".into(), process));
    assert_eq!(
        exec(process(&[
            "sh",
            "-c",
            "hostname; cat /proc/1/cmdline | tr '\\0' ' '; set -- /proc/[0-9]*; echo $#"
        ]))
        .1,
        "box\nsleep 1000 2"
    );
    let mut tty = process(&["sh", "-c", "tty; stty size; exit 4"]);
    tty.tty = Some(Size { cols: 100, rows: 30 });
    assert_eq!(exec(tty), (4, "/dev/pts/0\r\n30 100".into()));
    let mut elsewhere = process(&["sh", "-c", "pwd; id -u; mount -t tmpfs x /mnt || echo walled"]);
    elsewhere.cwd = "/usr".into();
    elsewhere.user = "nobody".into();
    assert!(exec(elsewhere).1.starts_with("/usr\n65534\n"));
    // It counts as the container's, and is a child of the node's init.
    assert_eq!(s.run(1, "pgrep -x sleep | xargs ps -o ppid= -p | tr -d ' '"), "1");
    let (status, why) = exec(process(&["nothing"]));
    assert!(status == -1 && why.contains("executable file not found in $PATH"), "{why}");
    Ok(())
}

fn containers_outlive_their_engine() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    order(&s, &Order::Start("c".into(), spec("sleep 1000")));
    let before = s.run(1, "until pgrep -x sleep; do :; done; kill -9 $(cat /run/docker.pid)");
    assert_eq!(order(&s, &Order::Told).1, "c None 2");
    assert_eq!(s.run(1, "pgrep -x sleep"), before);
    // One that ends while no engine runs is told with its status.
    let told = s.run(
        1,
        "kill -STOP $(cat /run/docker.pid); pkill -KILL -x sleep; while pgrep -x sleep; do :; done; kill -KILL $(cat /run/docker.pid); curl -sS --unix-socket /run/docker.sock http://e/ -d '\"Told\"'",
    );
    assert!(told.contains("c Some(137) 2"), "{told}");
    Ok(())
}

/// What the kernel will not execute is a program that has started and failed, as with runc and tini: the log tells why.
fn a_program_that_the_kernel_refuses_has_started() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    s.run(
        1,
        "printf 'echo hi\\n' > /plain; printf '#!/bin/sh\\r\\necho hi\\n' > /crlf; printf '\\177ELFjunk' > /elf
         chmod +x /plain /crlf /elf",
    );
    let of = |path: &str, init: bool| {
        let mut c = spec("");
        c.process.argv = vec![path.into()];
        c.init = init;
        run(&s, c)
    };
    assert_eq!(of("/plain", false), (255, "exec /plain: exec format error".into()));
    assert_eq!(of("/crlf", false), (255, "exec /crlf: no such file or directory".into()));
    assert_eq!(of("/elf", false), (255, "exec /elf: exec format error".into()));
    let (status, said) = of("/crlf", true);
    assert!(
        status == 127 && said.contains("] exec /crlf failed: No such file or directory"),
        "{status} {said}"
    );
    Ok(())
}

fn a_container_that_cannot_start_says_why() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    let why = |change: &dyn Fn(&mut ContainerSpec)| {
        let mut c = spec("true");
        change(&mut c);
        let (status, why) = run(&s, c);
        assert_eq!(status, -1, "{why}");
        why
    };
    let argv = |argv: &'static [&'static str], says: &str| {
        let said = why(&move |c| c.process.argv = argv.iter().map(ToString::to_string).collect());
        assert!(said.contains(says), "{said}");
    };
    argv(&["nothing"], r#"NotFound, message: "exec: \"nothing\": executable file not found in $PATH""#);
    argv(&["/nothing"], "stat /nothing: no such file or directory");
    argv(&["/etc"], "NotExecutable");
    argv(&["/etc/passwd"], "permission denied");
    assert!(why(&|c| c.process.user = "joe".into()).contains("unable to find user joe"));
    assert!(why(&|c| c.process.cwd = "/etc/passwd".into()).contains("not a directory"));
    assert!(
        why(&|c| c.mounts = vec![Mount {
            source: MountSource::Bind("/nowhere".into()),
            target: "/x".into(),
            read_only: false,
            propagation: None,
            below: Below::Same
        }])
        .contains("/nowhere")
    );
    assert!(why(&|c| c.cgroup = "docker/none".into()).contains("docker/none"));
    assert!(
        why(&|c| c.sysctls = vec![("kernel.nothing".into(), "1".into())])
            .contains("/proc/sys/kernel/nothing")
    );
    // None of them is left.
    assert_eq!(s.run(1, "set -- /proc/[0-9]*; echo $#"), "3");
    Ok(())
}

fn paused_containers_end() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    let pause = "f=/sys/fs/cgroup/freezer/docker/c/freezer.state; if [ -e $f ]; then echo FROZEN > $f; else echo 1 > /sys/fs/cgroup/docker/c/cgroup.freeze; fi";
    order(&s, &Order::Start("c".into(), spec("exec sleep 1000")));
    s.run(1, pause);
    let node1 = node(1);
    assert_eq!(s.ask(&Ask::Off(node1)).0, 0);
    assert_eq!(s.ask(&Ask::On(node1)).0, 0);
    s.run(1, "cd /var/lib/docker/t && rm -rf work && mkdir work && mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work,userxattr merged; for h in /sys/fs/cgroup/*/cgroup.procs; do mkdir -p ${h%/*}/docker/c; done; mkdir -p /sys/fs/cgroup/docker/c 2>/dev/null || true");
    order(&s, &Order::Start("c".into(), spec("exec sleep 1000")));
    s.run(1, pause);
    assert!(matches!(s.destroy(), drydock_warden::messages::Answer::Destroyed { .. }));
    Ok(())
}

fn the_engine_is_controlled() -> Outcome {
    let host = Host::new();
    let s = prepare(&host);
    order(&s, &Order::Told);
    let tell = |verb: &str| {
        s.run(
            1,
            &format!("mkfifo /run/r; exec 3<>/run/r; echo '{verb} docker /run/r' > /run/initctl; read -t 10 word <&3; echo $word; rm /run/r"),
        )
    };
    let first = s.run(1, "cat /run/docker.pid");
    assert_eq!(tell("restart"), "ok");
    assert_eq!(order(&s, &Order::Told).0, 0);
    assert_ne!(s.run(1, "cat /run/docker.pid"), first);
    assert_eq!(tell("stop"), "ok");
    assert_eq!(s.run(1, "pgrep -x dockerd; ls /run/docker.sock 2>&1 | grep -c 'No such'"), "1");
    assert_eq!(tell("start"), "ok");
    assert_eq!(order(&s, &Order::Told).0, 0);
    assert_eq!(tell("dance"), "unknown");
    Ok(())
}
