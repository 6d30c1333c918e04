//! What a Docker expert tries that the curriculum does not: a full disk, options that few know, what is refused. By the official client.

use drydock_e2e::{Lab, Server};
use std::sync::Arc;

/// A container fills the disk. What takes nothing goes on; what was lost comes back by `docker rm`, and nothing else is needed.
#[tokio::test]
async fn a_full_disk_does_not_lock_one_out() {
    let server = Arc::new(Server::start(&["--session-disk", "256MiB"]));
    let lab = Lab::on(server.clone(), 1).await;
    lab.sh("docker pull -q busybox && docker tag busybox other && docker volume create vol").await;
    lab.sh("docker run -d --name bg busybox sleep 1d && docker run -d --name keep busybox sleep 1d").await;
    lab.refused("docker run --name fill busybox dd if=/dev/zero of=/big bs=1M", 1, "Disk quota exceeded")
        .await;
    lab.sh("docker kill keep").await;
    let states = "docker ps -a --format '{{.Names}} {{.Status}}' | cut -d' ' -f1-3";
    let before = "fill Exited (1)\nkeep Exited (137)";
    // A new engine reads what there is, and knows how all ended.
    lab.sh("systemctl restart docker").await;
    let found = lab.sh(states).await;
    assert!(found.starts_with(before) && found.contains("bg Up"), "{found}");
    lab.refused("docker create busybox", 1, ": disk quota exceeded").await;
    lab.sh("docker volume rm vol && docker rm fill").await;
    assert!(!lab.sh("ls /var/lib/docker/overlay2").await.contains("removing"));
    lab.sh("docker run --rm busybox true && docker exec bg true").await;

    // An image, and the rest: nothing of it needs room.
    lab.refused("docker run --name again busybox dd if=/dev/zero of=/big bs=1M", 1, "Disk quota exceeded")
        .await;
    lab.sh("docker rmi other && docker rm -f bg keep").await;
    assert!(lab.sh("docker system prune -af").await.contains("Total reclaimed space: 2"));
    assert_eq!(lab.sh("docker ps -aq; docker images -q").await, "");
    lab.sh("docker run --rm busybox true").await;
    lab.end().await;
}

/// The store has one image under a name: commands that name another platform neither show it as that one nor remove it.
#[tokio::test]
async fn platforms_are_heeded() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox && docker save busybox -o /busybox.tar").await;
    let other = "busybox was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)";
    for command in ["image inspect", "history", "image rm"] {
        lab.refused(&format!("docker {command} --platform linux/arm64 busybox"), 1, other).await;
        if command != "image rm" {
            lab.sh(&format!("docker {command} --platform linux/amd64 busybox")).await;
        }
    }
    lab.refused(
        "docker save --platform linux/arm64 busybox -o /x.tar",
        1,
        "no suitable export target found for platform linux/arm64",
    )
    .await;
    let pull = lab.try_sh("docker pull --platform linux/arm64 busybox").await;
    let said = format!("{}{}", pull.text(), pull.stderr);
    assert!(said.contains("no matching manifest for linux/arm64") && !said.contains("preparing"), "{said}");
    lab.refused("docker run --pull never --platform linux/arm64 busybox true", 125, other).await;
    lab.sh("docker image rm --platform linux/amd64 busybox").await;
    assert_eq!(lab.sh("docker load --platform linux/arm64 -i /busybox.tar; docker images -q").await, "");
    assert!(
        lab.sh("docker load --platform linux/amd64 -i /busybox.tar").await.contains("Loaded image: busybox")
    );
    lab.refused("head -c 2000 /usr/bin/env | docker load", 1, "archive/tar: invalid tar header").await;
    lab.end().await;
}

#[tokio::test]
async fn devices_and_host_names_are_those_that_were_asked_for() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox").await;
    let device = "docker run --rm --device /dev/null:/dev/foo:r busybox sh -c 'test -c /dev/foo && cat /dev/foo && stat -c %t:%T /dev/foo'";
    assert_eq!(lab.sh(device).await, "1:3");
    let hostname = |options: &str| format!("docker run --rm {options} busybox hostname");
    assert_eq!(lab.sh(&hostname("--network host --hostname foo")).await, "foo");
    assert_eq!(lab.sh(&hostname("--network host")).await, "node1");
    assert_eq!(lab.sh(&hostname("--uts host")).await, "node1");
    assert_eq!(
        lab.sh("docker run --rm --network host --privileged busybox hostname bar; hostname").await,
        "node1"
    );
    lab.end().await;
}

/// The scripts of the node's image, which may be older than they are.
const SYSTEMCTL: &str = include_str!("../../sandbox/images/node/files/usr/local/bin/systemctl");
const JOURNALCTL: &str = include_str!("../../sandbox/images/node/files/usr/local/bin/journalctl");

#[tokio::test]
async fn the_engines_configuration_is_read_checked_and_reloaded() {
    let lab = Lab::docker(1).await;
    for (name, script) in [("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)] {
        lab.sh(&format!("cat > /usr/local/bin/{name} <<'END'\n{script}END")).await;
    }
    lab.sh("docker pull -q busybox").await;
    let configure = |text: &str| format!("echo '{text}' > /etc/docker/daemon.json");
    let unable = "unable to configure the Docker daemon with file /etc/docker/daemon.json: ";
    for (text, why) in [
        (r#"{"debug": true,}"#, "invalid character '}' looking for beginning of object key string"),
        (r#"{"nosuch": 1}"#, "the following directives don't match any configuration option: nosuch"),
    ] {
        lab.sh(&configure(text)).await;
        lab.refused("systemctl restart docker", 1, "Job for docker.service failed").await;
        assert_eq!(lab.sh("journalctl -u docker | tail -n 1").await, format!("{unable}{why}"));
        lab.refused("docker ps", 1, "Cannot connect to the Docker daemon").await;
        assert!(lab.try_sh("systemctl status docker").await.text().contains("failed (Result: exit-code)"));
    }
    lab.sh(&configure(
        r#"{"log-driver": "local", "labels": ["a=b"], "bip": "10.99.0.1/24", "mtu": 1400, "dns": ["9.9.9.9"],
            "default-address-pools": [{"base": "10.100.0.0/16", "size": 24}], "default-shm-size": "32m",
            "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 99, "Soft": 98}}}"#,
    ))
    .await;
    lab.sh("systemctl start docker").await;
    let info = "docker info -f '{{.LoggingDriver}} {{.Labels}} {{.Debug}}'";
    assert_eq!(lab.sh(info).await, "local [a=b] false");
    let inside = "docker run --rm busybox sh -c 'ulimit -n; df -k /dev/shm | tail -n 1; grep ^nameserver /etc/resolv.conf; ip addr show eth0'";
    let inside = lab.sh(inside).await;
    for word in ["98\n", " 32768 ", "nameserver 9.9.9.9", "mtu 1400", "10.99.0.2/24"] {
        assert!(inside.contains(word), "{word}: {inside}");
    }
    let subnet = "docker network create pool >/dev/null && docker network inspect pool -f '{{(index .IPAM.Config 0).Subnet}}'";
    assert_eq!(lab.sh(subnet).await, "10.100.0.0/24");
    lab.sh(&configure(r#"{"labels": ["c=d"], "debug": true}"#)).await;
    lab.sh("docker events --filter event=reload > /events & until grep -q reload /events; do systemctl reload docker; sleep 0.1; done; kill %1")
        .await;
    assert_eq!(lab.sh(info).await, "local [c=d] true");
    lab.sh("rm /etc/docker/daemon.json && systemctl restart docker").await;
    assert_eq!(lab.sh("docker run --rm busybox ip addr show eth0 | grep -o 172.17.0.2").await, "172.17.0.2");
    lab.end().await;
}

#[tokio::test]
async fn interfaces_have_names_and_settings_that_were_asked_for() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox && docker network create -o com.docker.network.container_iface_prefix=web pre").await;
    assert!(lab.sh("docker run --rm --network pre busybox ip link").await.contains(": web0@"));
    let endpoint = "com.docker.network.endpoint";
    let run = |option: &str, script: &str| {
        format!(
            "docker run --rm --network 'name=pre,driver-opt={endpoint}.ifname=foo0,\"driver-opt={endpoint}.sysctls={option}\"' busybox {script}"
        )
    };
    let read = "cat /proc/sys/net/ipv4/conf/foo0/log_martians";
    assert_eq!(lab.sh(&run("net.ipv4.conf.IFNAME.log_martians=1", read)).await, "1");
    lab.refused(&run("net.foo=1", "true"), 125, "unrecognised network interface sysctl 'net.foo=1'").await;
    // A container that comes back with its address is found at once by those who knew it before.
    lab.sh("docker run -d --name srv --network pre busybox httpd -f -h /etc && docker run -d --name ask --network pre busybox sleep 1d").await;
    let mac = "docker inspect -f '{{.NetworkSettings.Networks.pre.MacAddress}}' srv";
    let ask = "docker exec ask sh -c 'until wget -T 1 -qO- srv/hostname; do :; done; ip neigh'";
    let (first, known) = (lab.sh(mac).await, lab.sh(ask).await);
    lab.sh("docker restart -t 0 srv").await;
    let (second, learnt) = (lab.sh(mac).await, lab.sh("docker exec ask ip neigh").await);
    assert!(first != second && known.contains(&first) && learnt.contains(&second), "{known}\n{learnt}");
    lab.end().await;
}

/// A node's `/proc` in a container, and a client that copies from there: `self` would be the engine.
#[tokio::test]
async fn copies_see_no_file_of_the_kernel() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox && docker run -d --name ww -v /proc:/hp busybox sleep 1000").await;
    for path in ["/hp/self/map_files", "/hp/self/exe", "/hp/1/status", "/hp", "/proc/1/status", "/sys/kernel"]
    {
        let missing = format!("Could not find the file {path} in container ww");
        lab.refused(&format!("docker cp ww:{path} -"), 1, &missing).await;
    }
    let names = lab.sh("set -o pipefail; docker cp ww:/ - | tar t --absolute-names").await;
    assert!(
        names.contains("/etc/passwd\n") && names.contains("/hp/\n") && names.contains("/sys/\n"),
        "{names}"
    );
    assert!(!names.contains("/hp/self") && !names.contains("/proc/1"), "{names}");
    lab.end().await;
}

#[tokio::test]
async fn refusals_of_volumes_and_health_checks_are_dockers() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox && docker volume create vol && docker run --rm -v vol:/v busybox ln -s /etc /v/out").await;
    let run = |path: &str| {
        format!("docker run --rm --mount type=volume,src=vol,dst=/v,volume-subpath={path} busybox true")
    };
    let data = "/var/lib/docker/volumes/vol/_data";
    let why = format!("cannot access path {data}/nosuch: lstat {data}/nosuch: no such file or directory");
    // The client takes it for a program that is missing.
    lab.refused(&run("nosuch"), 127, &why).await;
    let why = format!(
        "path concatenation escapes the base directory, base: {data}, subpath: ../../../../../../etc"
    );
    lab.refused(&run("out"), 125, &why).await;
    lab.sh("docker run -d --name hc --health-cmd 'echo slow; sleep 1d' --health-timeout 200ms --health-interval 100ms --health-retries 1 busybox sleep 1d").await;
    lab.sh(
        "until [ \"$(docker inspect hc -f '{{.State.Health.Status}}')\" = unhealthy ]; do sleep 0.05; done",
    )
    .await;
    assert_eq!(
        lab.sh("docker inspect hc -f '{{(index .State.Health.Log 0).Output}}'").await,
        "Health check exceeded timeout (200ms): slow"
    );
    lab.end().await;
}

#[tokio::test]
async fn a_container_brings_its_own_seccomp_profile() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox").await;
    let profile = |name: &str, text: &str| format!("cat > {name}.json <<'END'\n{text}\nEND");
    lab.sh(&profile(
        "few",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["chmod", "fchmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_KILL_PROCESS", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#,
    ))
    .await;
    let run = |more: &str, script: &str| {
        format!("docker run --rm {more} --security-opt seccomp=few.json busybox sh -c '{script}'")
    };
    lab.refused(&run("", "chmod 700 /tmp"), 1, "chmod: /tmp: Operation not permitted").await;
    lab.refused(&run("--privileged -u 1", "chmod 700 /tmp"), 1, "Operation not permitted").await;
    lab.refused(&run("", "mkdir /x"), 1, "No space left on device").await;
    lab.sh(&run("", "rmdir /home")).await;
    // Not at once: a child that ends by this signal before the engine has looked counts as one that never became a program.
    lab.refused(&run("--cap-add SYS_ADMIN", "sleep 1; rmdir /home"), 159, "").await;
    lab.sh("docker run --name c1 -d --security-opt seccomp=few.json busybox sleep 600").await;
    lab.refused("docker exec c1 chmod 700 /tmp", 1, "Operation not permitted").await;
    // All capabilities, but the container's filter: runc has no other for its processes.
    lab.refused("docker exec --privileged c1 chmod 700 /tmp", 1, "Operation not permitted").await;
    lab.sh("docker run --name c2 -d busybox sleep 600").await;
    lab.refused("docker exec --privileged c2 hostname x", 1, "Operation not permitted").await;
    lab.sh("docker run --name c3 -d --privileged busybox sleep 600 && docker exec c3 hostname x").await;
    let refusals = [
        (
            r#"{"syscalls": "x"}"#,
            "Decoding seccomp profile failed: json: cannot unmarshal string into Go struct field Seccomp.syscalls",
        ),
        (r#"{"defaultAction": "DENY"}"#, "string DENY is not a valid action for seccomp"),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#,
            "OCI runtime start failed: cannot start a container that has stopped",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["setuid"], "action": "SCMP_ACT_ERRNO"}]}"#,
            "error during container init: unable to setup user: operation not permitted",
        ),
    ];
    for (text, why) in refusals {
        lab.sh(&profile("bad", text)).await;
        lab.refused("docker run --rm --security-opt seccomp=bad.json busybox true", 125, why).await;
    }
    // That is a run, which ends at once.
    let execve = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}]}"#;
    lab.sh(&profile("bad", execve)).await;
    let run = "docker run --rm --security-opt seccomp=bad.json busybox true";
    lab.refused(run, 255, "exec /bin/true: operation not permitted").await;
    lab.end().await;
}

#[tokio::test]
async fn busybox_has_users_and_groups_and_makes_more() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox").await;
    let run = |script: &str| format!("docker run --rm busybox sh -c '{script}'");
    assert_eq!(lab.sh("docker inspect busybox -f '{{json .Config.Labels}}'").await, "null");
    assert_eq!(lab.sh(&run("grep -cE \"^(staff|audio|wheel|www-data):\" /etc/group")).await, "4");
    let made = "adduser -D ann && addgroup -g 2000 team && adduser ann team && su ann -c id && stat -c %U:%a /home/ann";
    assert_eq!(lab.sh(&run(made)).await, "uid=1000(ann) gid=1000(ann) groups=1000(ann),2000(team)\nann:2755");
    let system = "addgroup -S app && adduser --system --disabled-password --no-create-home --ingroup app app && id app";
    assert_eq!(lab.sh(&run(system)).await, "uid=100(app) gid=101(app) groups=101(app)");
    lab.refused(&run("adduser -D root"), 1, "adduser: user 'root' in use").await;
    assert_eq!(
        lab.sh(&run(
            "adduser -D ann && deluser --remove-home ann && ls /home; grep -c ann /etc/passwd; true"
        ))
        .await,
        "0"
    );
    assert_eq!(
        lab.sh(&run(
            "nice -n 1 sleep 99 & until pgrep -x sleep >/dev/null; do :; done; pgrep -l sleep | cut -d \" \" -f 2; pkill sleep"
        ))
        .await,
        "sleep"
    );
    lab.end().await;
}

#[tokio::test]
async fn networks_have_ipv6_where_it_is_wanted() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox && docker network create --ipv6 --subnet 2001:db8:1::/64 n6 && docker network create --ipv6 local").await;
    let shown = "docker network inspect n6 -f '{{.EnableIPv6}} {{(index .IPAM.Config 0).Subnet}}'";
    assert_eq!(lab.sh(shown).await, "true 2001:db8:1::/64");
    assert!(
        lab.sh("docker network inspect local -f '{{(index .IPAM.Config 1).Subnet}}'").await.starts_with("fd")
    );
    lab.sh("docker run -d --name c1 --network n6 busybox sleep 600").await;
    let serve = "mkdir -p /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w";
    lab.sh(&format!(
        "docker run -d --name web --network n6 --ip6 2001:db8:1::50 -p 8080:80 busybox sh -c '{serve}'"
    ))
    .await;
    let inside = "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}}{{end}}";
    assert_eq!(lab.sh(&format!("docker inspect c1 -f '{inside}'")).await, "2001:db8:1::2/64 2001:db8:1::1");
    let asked =
        ["docker exec c1 wget -T 3 -qO- http://[2001:db8:1::50]/", "curl -sg -m 3 http://[::1]:8080/"];
    for _ in 0..2 {
        for asked in asked {
            assert_eq!(lab.sh(&format!("until {asked}; do sleep 0.1; done")).await, "hello");
        }
        // The address has another link-layer address now, of which its neighbours hear.
        lab.sh("docker restart -t 0 web").await;
    }
    assert!(lab.sh("docker exec c1 nslookup -type=aaaa web").await.contains("Address: 2001:db8:1::50"));
    assert!(lab.sh("docker exec c1 cat /etc/hosts").await.contains("2001:db8:1::2\t"));
    let why = "no configured subnet or ip-range contain the IP address 2001:db8:2::1";
    lab.refused("docker run --rm --network n6 --ip6 2001:db8:2::1 busybox true", 125, why).await;
    lab.sh("docker rm -f c1 web").await;
    lab.sh(r#"echo '{"ipv6": true, "fixed-cidr-v6": "2001:db8:7::/64"}' > /etc/docker/daemon.json && systemctl restart docker"#)
        .await;
    let inside = "docker run --rm busybox ip -6 addr show eth0 | grep -o 'inet6 2001:[^ ]*'";
    assert_eq!(lab.sh(inside).await, "inet6 2001:db8:7::2/64");
    lab.end().await;
}

/// The first after a start of the engine makes its own `/dev`; one lies ready for those that come after it.
#[tokio::test]
async fn all_containers_have_the_same_devices() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox && systemctl restart docker").await;
    let look = r#"ls -l /dev | awk "{print \$1, \$3, \$4, \$NF}"; grep " /dev" /proc/mounts; tty; true"#;
    let options = ["", "-t", "--ipc host", "--shm-size 1m", "--privileged"];
    let mut first = Vec::new();
    for option in options {
        lab.sh("systemctl restart docker").await;
        first.push(lab.sh(&format!("docker run --rm {option} busybox sh -c '{look}'")).await);
    }
    assert!(
        first[0].contains("devpts /dev/pts devpts") && first[0].contains("mqueue /dev/mqueue"),
        "{}",
        first[0]
    );
    assert!(first[1].contains("/dev/pts/0") && first[1].contains(" console"), "{}", first[1]);
    for (option, first) in options.into_iter().zip(&first) {
        assert_eq!(&lab.sh(&format!("docker run --rm {option} busybox sh -c '{look}'")).await, first);
    }
    lab.end().await;
}

#[tokio::test]
async fn what_a_session_can_not_have_is_told_and_shown_as_it_is() {
    let lab = Lab::docker(1).await;
    let create = "docker pull -q busybox > /dev/null
docker create --name more --ulimit nofile=10:99999999 --oom-score-adj=-500 busybox 2>&1 | grep -o 'WARNING: [A-Za-z]* [A-Za-z]*'
docker inspect -f '{{(index .HostConfig.Ulimits 0).Soft}} {{.HostConfig.OomScoreAdj}}' more
test $(docker inspect -f '{{(index .HostConfig.Ulimits 0).Hard}}' more) = $(ulimit -Hn) && echo same";
    assert_eq!(lab.sh(create).await, "WARNING: Ulimit nofile\nWARNING: An OOM\n10 0\nsame");
    // The group of a container is where it is asked to be, and its log is there before its first line.
    let parent = "docker run -d --name cg --cgroup-parent /lab/team busybox sleep inf > /dev/null
grep -c \":/lab/team/$(docker inspect -f '{{.Id}}' cg)$\" /proc/$(docker inspect -f '{{.State.Pid}}' cg)/cgroup > /dev/null && echo there
docker exec cg true && docker pause cg && docker unpause cg && docker update --cpus 0.5 cg
stat -c %s $(docker inspect -f '{{.LogPath}}' cg)
docker rm -f cg && find /sys/fs/cgroup -path '*/lab/team/*/cgroup.procs' | wc -l";
    assert_eq!(lab.sh(parent).await, "there\ncg\ncg\ncg\n0\ncg\n0");
    lab.end().await;
}

#[tokio::test]
async fn the_containers_of_a_build_are_buildkits_own() {
    let lab = Lab::docker(1).await;
    let build = "mkdir /b && cd /b && printf 'FROM busybox\\nRUN sleep 3\\n' > Dockerfile
since=$(date +%s.%N); docker build -q . > /dev/null & until pgrep -x sleep > /dev/null; do :; done
docker info -f '{{.Containers}} {{.ContainersRunning}}'; wait
docker events --since $since --until $(date +%s.%N) --format '{{.Type}}' | sort -u";
    assert_eq!(lab.sh(build).await, "0 0\nimage");
    lab.end().await;
}

#[tokio::test]
async fn what_is_asked_of_a_container_is_done_or_refused() {
    let lab = Lab::docker(1).await;
    // Of process 1 and its child, or of the program alone.
    let inside = "docker pull -q busybox > /dev/null
docker run -d --name oom --init --oom-score-adj 444 busybox sleep 100 > /dev/null
until [ \"$(cat /proc/$(pgrep -P $(docker inspect -f '{{.State.Pid}}' oom))/oom_score_adj)\" = 444 ]; do :; done
docker run --rm --init --user 1000 busybox sh -c 'grep CapEff /proc/1/status'
docker run --rm --security-opt writable-cgroups=true busybox sh -c 'd=$(ls -d /sys/fs/cgroup/pids 2>/dev/null || echo /sys/fs/cgroup); mkdir $d/x && echo made'
docker run --rm busybox sh -c 'd=$(ls -d /sys/fs/cgroup/pids 2>/dev/null || echo /sys/fs/cgroup); mkdir $d/x 2>&1 | grep -o Read-only'";
    assert_eq!(lab.sh(inside).await, "CapEff:\t0000000000000000\nmade\nRead-only");
    lab.refused("docker run --rm -v /etc/passwd busybox true", 125, "cannot mount volume over existing file")
        .await;
    lab.refused("docker run --rm --volume-driver foo -v /anon busybox true", 125, "plugin \"foo\" not found")
        .await;
    let create = "curl -sf --unix-socket /run/docker.sock -H 'content-type: application/json' http://d/containers/create?name=typo \
                  -d '{\"Image\":\"busybox\",\"HostConfig\":{\"Ulimits\":[{\"Name\":\"nofiles\",\"Soft\":1,\"Hard\":1}]}}'";
    lab.sh(create).await;
    lab.refused("docker start typo", 1, "wrong rlimit value: RLIMIT_NOFILES").await;
    assert_eq!(lab.sh("docker volume ls -q").await, "");
    lab.end().await;
}

#[tokio::test]
async fn what_has_begun_is_done_although_its_client_is_gone() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name deaf busybox sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'").await;
    lab.sh("timeout -s INT 0.5 docker stop -t 1 deaf; [ $(timeout 20 docker wait deaf) = 137 ] && docker rm deaf").await;
    // At every moment of a start.
    lab.sh(
        "for wait in $(seq 10 2 38); do docker create --name begun busybox sleep 777 > /dev/null; \
         timeout 0.0$wait curl -s --unix-socket /var/run/docker.sock -X POST http://d/containers/begun/start; \
         docker rm -f begun > /dev/null || exit 1; done; ! pgrep -x sleep",
    )
    .await;
    assert_eq!(lab.sh("docker network inspect bridge -f '{{len .Containers}}'").await, "0");
    lab.end().await;
}

#[tokio::test]
async fn removal_by_force_wins_against_a_restart() {
    let lab = Lab::docker(1).await;
    lab.sh(
        "for i in $(seq 10); do docker run -d --name both busybox sleep 100 > /dev/null; docker restart -t 0 both > /dev/null 2>&1 & \
         docker rm -f both > /dev/null || exit 1; wait; done; [ -z \"$(docker ps -aq)\" ]",
    )
    .await;
    lab.end().await;
}

/// The end of a program is told to who gave it more input than it read; and to who was busy with what is gone by then.
#[tokio::test]
async fn how_something_ended_is_told_whatever_happens_beside_it() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name box busybox sleep 1000").await;
    let unread = "for i in $(seq 10); do yes | docker exec -i box sh -c 'head -1 > /dev/null; exit 3' 2>&1; echo $?; \
                  head -c 1000000 /dev/zero | docker run --rm -i busybox sh -c 'exit 4' 2>&1; echo $?; done | sort | uniq -c";
    let told = lab.sh(unread).await;
    assert_eq!(told.split_whitespace().collect::<Vec<_>>(), ["10", "3", "10", "4"], "{told}");
    let gone = "for i in 1 2 3; do docker run -d --name away busybox sleep 1000 > /dev/null; docker exec away sleep 1000 & \
                until docker top away | grep -c sleep | grep -q 2; do :; done; docker rm -f away > /dev/null; wait $!; echo $?; done; \
                docker inspect box away 2>&1 > /dev/null";
    assert!(lab.sh(&format!("{gone} || true")).await.starts_with("137\n137\n137\n"));
    lab.refused("docker inspect away", 1, "No such object: away").await;
    // Compose hears of the end of what it did not start, and asks about it.
    let compose = "mkdir -p /c && cd /c && cat > compose.yaml <<'X'
services:
  a: {image: busybox, init: true, command: sleep 1000}
  b: {image: busybox, init: true, command: sleep 1000}
X
docker compose up > up.log 2>&1 & up=$!
until [ $(docker ps -q -f label=com.docker.compose.project=c | wc -l) = 2 ]; do :; done
for i in 1 2 3; do docker compose run --rm -T b echo one-off 2> /dev/null; done
docker rm -f c-b-1 > /dev/null; docker compose stop -t 1 2> /dev/null; wait $up; grep -c panic up.log";
    assert_eq!(lab.try_sh(compose).await.text().trim_end(), "one-off\none-off\none-off\n0");
    lab.end().await;
}
