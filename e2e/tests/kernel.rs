//! Section B of the curriculum: what the kernel shows of containers, looked at from their node. Names of tests begin with their row.

use drydock_e2e::Lab;

/// Tells which namespaces two processes have in common.
const SAME: &str = "same() { for n in cgroup ipc mnt net pid user uts; do
    [ $(readlink /proc/$1/ns/$n) = $(readlink /proc/$2/ns/$n) ] && echo -n \"$n \"; done; echo; }
pid() { docker inspect -f '{{.State.Pid}}' $1; }
";
/// Where the control group of a container is, by its controller.
const GROUP: &str =
    "group() { if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup/docker/$2;
    else echo /sys/fs/cgroup/$1/docker/$2; fi; }
";

#[tokio::test]
async fn l1_namespaces() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name one --hostname one --ipc shareable busybox sleep 1000").await;
    let shared = "--network container:one --ipc container:one --pid container:one";
    lab.sh(&format!("docker run -d --name two {shared} busybox sleep 1000")).await;
    let seen = format!("{SAME} same $$ $(pid one); same $(pid one) $(pid two) | sed 's/ uts//'");
    // With the node a container shares the user namespace only; with another one what was asked for (and the UTS namespace, whose
    // host name goes with the network's addresses).
    assert_eq!(lab.sh(&seen).await, "user \nipc net pid user");
    let kinds = "lsns -n -o TYPE,NPROCS,COMMAND -p $(pid one) | grep sleep | awk '{print $1,$2}' | sort";
    let kinds = format!("{SAME} {kinds}");
    assert_eq!(lab.sh(&kinds).await, "cgroup 1\nipc 2\nmnt 1\nnet 2\npid 2\nuts 2");
    let enter = "nsenter -t $(pid one) -u hostname
nsenter -t $(pid one) -n ip -o -4 addr show eth0 | grep -c $(docker inspect -f '{{.NetworkSettings.IPAddress}}' one)
nsenter -t $(pid one) -m -p -n -u -i ps | grep -c 'sleep 1000'";
    assert_eq!(lab.sh(&format!("{SAME} {enter}")).await, "one\n1\n2");
    lab.end().await;
}

/// The containers of one pod share uts, ipc and net; pid and mount are per container.
#[tokio::test]
async fn l1_namespaces_of_a_pod() {
    let lab = Lab::kubernetes(1).await;
    let pod = "kubectl apply -f - <<'EOF'
apiVersion: v1
kind: Pod
metadata: { name: two }
spec:
  containers:
  - { name: a, image: busybox, command: [sleep, '1000'] }
  - { name: b, image: busybox, command: [sleep, '1000'] }
EOF
kubectl wait --for=condition=Ready pod/two --timeout=60s";
    lab.sh(pod).await;
    let of = |name: &str| format!("$(pid $(docker ps -qf name=k8s_{name}_two_default))");
    let seen = format!("{SAME} same {} {}; same {} {}", of("a"), of("b"), of("a"), of("POD"));
    assert_eq!(lab.sh(&seen).await, "ipc net user uts \nipc net user uts");
    lab.end().await;
}

/// The same for the first container, which makes its own file systems, and those after it, for which they lie ready; and for one that
/// has a group where others have none.
#[tokio::test]
async fn l2_control_groups_as_a_container_sees_them() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox").await;
    let look = "grep /sys/fs/cgroup /proc/self/mountinfo | cut -d' ' -f4-6 | sort";
    let first = lab.sh(&format!("docker run --rm busybox sh -c \"{look}\"")).await;
    let lines: Vec<&str> = first.lines().collect();
    assert!(
        lines.iter().all(|line| line.starts_with("/ /sys/fs/cgroup") && line.contains(" ro,")),
        "{first}"
    );
    let node = lab.sh("grep -c ' /sys/fs/cgroup' /proc/self/mountinfo").await;
    assert_eq!(lines.len().to_string(), node, "{first}");
    for options in ["", "--cpus 0.5", "--cpuset-cpus 0", ""] {
        let seen = lab.sh(&format!("docker run --rm {options} busybox sh -c \"{look}\"")).await;
        assert_eq!(seen, first, "{options}");
    }
    lab.end().await;
}

#[tokio::test]
async fn l2_control_groups() {
    let lab = Lab::docker(1).await;
    let id = lab.sh("docker run -d --memory 64m --pids-limit 50 busybox sleep 1000").await;
    let id = id.lines().last().unwrap();
    let groups = lab.sh(&format!("cat /proc/$(docker inspect -f '{{{{.State.Pid}}}}' {id})/cgroup")).await;
    assert!(groups.contains(&format!("/docker/{id}")), "{groups}");
    let limits = format!(
        "{GROUP} cd $(group memory {id}); cat memory.max memory.limit_in_bytes 2> /dev/null; cat $(group pids {id})/pids.max"
    );
    assert_eq!(lab.sh(&limits).await, "67108864\n50");
    lab.sh(&format!("docker update --memory 32m --memory-swap 64m {id}")).await;
    assert_eq!(lab.sh(&limits).await, "33554432\n50");
    lab.sh(&format!("docker rm -f {id}")).await;
    lab.sh(&format!("{GROUP} ! ls -d $(group memory {id}) $(group pids {id})")).await;
    lab.end().await;
}

#[tokio::test]
async fn l3_network_devices() {
    let lab = Lab::docker(1).await;
    // Two servers at port 80 side by side, as each has a network of its own.
    lab.sh("docker run -d --name one whoami && docker run -d --name two whoami").await;
    let address = "$(docker inspect -f '{{.NetworkSettings.IPAddress}}' $c)";
    let ask = format!("for c in one two; do curl -s http://{address} | grep -c Hostname; done");
    assert_eq!(lab.sh(&ask).await, "1\n1");
    // A container's eth0 is one end of a pair; the other one is a port of the bridge.
    let pair = "enter=\"nsenter -t $(docker inspect -f '{{.State.Pid}}' one) -n\"
ip -o link show master docker0 | grep -c \"^$($enter ip -o link show eth0 | sed 's/.*@if//; s/:.*//'): veth\"
ip -o link show master docker0 | wc -l
$enter ip route show default
ip -o -4 addr show docker0 | grep -o 172.17.0.1/16";
    assert_eq!(lab.sh(pair).await, "1\n2\ndefault via 172.17.0.1 dev eth0 \n172.17.0.1/16");
    lab.sh("docker rm -f one two").await;
    // The kernel takes a network apart after its last process, in its own time.
    lab.sh("until [ $(ip -o link show master docker0 | wc -l) = 0 ]; do sleep 0.05; done").await;
    lab.end().await;
}

#[tokio::test]
async fn l4_overlay() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name aa busybox sleep 1000").await;
    let directory = |name: &str| format!("$(docker inspect -f '{{{{.GraphDriver.Data.{name}}}}}' aa)");
    let (merged, upper) = (directory("MergedDir"), directory("UpperDir"));
    // The kernel's mount and what inspect says are the same directories.
    let work = directory("WorkDir");
    let mount = format!("grep -c \"^overlay {merged} .*upperdir={upper},workdir={work}\" /proc/mounts");
    assert_eq!(lab.sh(&mount).await, "1");
    // Copy-up, a new file, and a whiteout.
    lab.sh("docker exec aa sh -c 'echo more >> /etc/passwd; echo new > /new; rm /etc/group'").await;
    let changed = format!("cd {upper} && find . -type f | sort && stat -c '%F %t,%T' etc/group");
    assert_eq!(lab.sh(&changed).await, "./etc/passwd\n./new\ncharacter special file 0,0");
    assert_eq!(lab.sh("docker diff aa | sort").await, "A /new\nC /etc\nC /etc/passwd\nD /etc/group");
    let lower = directory("LowerDir");
    let lower = format!("IFS=:; for d in {lower}; do ls $d/etc/group; done 2> /dev/null | wc -l");
    assert_eq!(lab.sh(&lower).await, "1", "the image still has it");
    assert_eq!(lab.sh(&format!("cat {merged}/new")).await, "new");
    lab.end().await;
}

#[tokio::test]
async fn l5_layers_keep_what_was_deleted() {
    let lab = Lab::docker(1).await;
    lab.sh("mkdir /root/s && cd /root/s && echo hunter2 > password && cat > Dockerfile <<'EOF'
FROM busybox
COPY password /password
RUN head -c 3000000 /dev/urandom > /big
RUN rm /password /big
ENV TOKEN=swordfish
EOF
docker build -q -t leaky . && docker pull -q busybox")
        .await;
    let sizes = "docker history --human=false --format '{{.Size}}' leaky | head -4 | tr '\\n' ' '";
    assert_eq!(lab.sh(sizes).await, "0 0 3000000 8");
    let total = lab.sh("docker image inspect -f '{{.Size}}' leaky busybox").await;
    let total: Vec<u64> = total.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(total[0] - total[1], 3_000_008);
    lab.refused("docker run --rm leaky cat /password", 1, "No such file").await;
    let found = "mkdir /tmp/x && docker save leaky | tar -x -C /tmp/x && cd /tmp/x
for f in $(find blobs -type f); do tar -xOf $f password 2> /dev/null; done
docker history --no-trunc leaky | grep -c swordfish";
    assert_eq!(lab.sh(found).await, "hunter2\n1");
    lab.end().await;
}

#[tokio::test]
async fn l6_shares_and_quota() {
    let lab = Lab::docker(1).await;
    let busy = "busybox sh -c 'while :; do :; done'";
    // On one processor (not by `--cpuset-cpus`, which not every host has), until the first has had a second of it.
    let one = "taskset -pc 0 $(docker inspect -f '{{.State.Pid}}'";
    for (name, shares) in [("much", 1024), ("little", 128)] {
        lab.sh(&format!("docker run -d --name {name} --cpu-shares {shares} {busy}; {one} {name})")).await;
    }
    let used = "used() { awk '{ print $14 + $15 }' /proc/$(docker inspect -f '{{.State.Pid}}' $1)/stat; }
start=$(used much); other=$(used little)
while [ $(($(used much) - start)) -lt 100 ]; do :; done
echo $(($(used little) - other))";
    let other: u32 = lab.sh(used).await.parse().unwrap();
    assert!(other < 50, "8 to 1, but {other} to 100");
    lab.sh("docker rm -f much little").await;
    // A quota is enforced, and counted.
    let id = lab.sh(&format!("docker run -d --cpus 0.1 {busy}")).await;
    let throttled = format!(
        "{GROUP} cd $(group cpu {id}); until [ $(awk '/nr_throttled/ {{ print $2 }}' cpu.stat) -gt 2 ]; do :; done
cat cpu.max cpu.cfs_quota_us 2> /dev/null || true"
    );
    assert_eq!(lab.sh(&throttled).await.split(' ').next(), Some("10000"));
    lab.end().await;
}

/// A host without the controller says so and leaves the limit out, which unit tests show.
#[tokio::test]
async fn l7_processors_and_block_devices() {
    let lab = Lab::docker(1).await;
    if lab.sh("docker info -f '{{.CPUSet}}'").await == "true" {
        let seen = "sh -c 'nproc; grep Cpus_allowed_list /proc/self/status | cut -f 2'";
        assert_eq!(lab.sh(&format!("docker run --rm --cpuset-cpus 0 busybox {seen}")).await, "1\n0");
        lab.refused("docker run --cpuset-cpus 9999 busybox", 125, "for cpuset cpus: value of out range")
            .await;
        lab.refused("docker run --cpuset-cpus 8000 busybox", 125, "CPUs are not available - requested 8000")
            .await;
        // Also one that runs already, and what is started in it later.
        let updated = format!(
            "docker run -d --name on busybox sleep inf > /dev/null
docker update --cpuset-cpus 0 on > /dev/null; docker exec on {seen}
grep Cpus_allowed_list /proc/$(docker inspect -f '{{{{.State.Pid}}}}' on)/status | cut -f 2
docker inspect -f '{{{{.HostConfig.CpusetCpus}}}}' on"
        );
        assert_eq!(lab.sh(&updated).await, "1\n0\n0\n0");
    }
    // The disk that lies below the engine's directory; a node has no file of it, but its name.
    let disk = lab.sh("lsblk -rno NAME,MOUNTPOINTS | sed -n 's|/var/lib/docker$||p'").await;
    let throttles =
        lab.sh("docker info 2> /dev/null | grep -ci 'no .*write_bps\\|no .*wbps'; true").await == "0";
    if throttles && !disk.trim().is_empty() {
        let disk = disk.trim();
        let written = format!(
            "docker run -d --name slow --device-write-bps /dev/{disk}:2mb busybox sleep inf > /dev/null
a=$(date +%s%N); docker exec slow dd if=/dev/zero of=/x bs=1M count=4 oflag=direct 2> /dev/null
echo $((($(date +%s%N) - a) / 1000000)); docker stats --no-stream --format '{{{{.BlockIO}}}}' slow
docker inspect -f '{{{{json .HostConfig.BlkioDeviceWriteBps}}}}' slow"
        );
        let written = lab.sh(&written).await;
        let lines: Vec<&str> = written.lines().collect();
        assert!(lines[0].parse::<u64>().unwrap() > 1000, "{written}");
        assert!(!lines[1].ends_with("/ 0B"), "{written}");
        assert_eq!(lines[2], format!("[{{\"Path\":\"/dev/{disk}\",\"Rate\":2097152}}]"));
    }
    lab.refused(
        "docker run --device-read-bps /dev/nosuch:1mb busybox",
        127,
        "stat /dev/nosuch: no such file",
    )
    .await;
    lab.end().await;
}
