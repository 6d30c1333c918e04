//! What containers have in common, with each other, with the node and with the engine: mounts, memory, names, life. By the official client.

use drydock_e2e::Lab;

/// A directory on a file, or the other way round, in the words that people look up.
#[tokio::test]
async fn a_mount_of_the_wrong_kind_is_told_as_docker_tells_it() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox && docker volume create named").await;
    let hint = "not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type";
    for (what, option) in [
        ("error mounting \"/root/typo.conf\" to rootfs at \"/etc/passwd\"", "-v $PWD/typo.conf:/etc/passwd"),
        ("error mounting \"/etc/hostname\" to rootfs at \"/home\"", "-v /etc/hostname:/home"),
        ("to rootfs at \"/etc/passwd\"", "-v named:/etc/passwd"),
        ("error mounting \"tmpfs\" to rootfs at \"/etc/passwd\"", "--tmpfs /etc/passwd"),
        ("error mounting \"/etc/hostname\" to rootfs at \"/etc/group/x\"", "-v /etc/hostname:/etc/group/x"),
    ] {
        let run = format!("cd /root; docker run --name wrong {option} busybox true");
        lab.refused(&run, 125, what).await;
        lab.sh("docker rm wrong").await;
        lab.refused(&run, 125, hint).await;
        assert_eq!(
            lab.sh("docker inspect -f '{{.State.ExitCode}}' wrong; docker rm wrong").await,
            "127\nwrong"
        );
    }
    lab.end().await;
}

#[tokio::test]
async fn options_of_a_tmpfs_are_heeded() {
    let lab = Lab::docker(1).await;
    let try_it = "busybox sh -c 'cp /bin/busybox /t/echo && /t/echo hi'";
    for option in ["--tmpfs /t:exec", "--tmpfs /t:noexec,exec,size=8m"] {
        assert_eq!(lab.sh(&format!("docker run --rm {option} {try_it} 2>/dev/null")).await, "hi");
    }
    for option in ["--tmpfs /t", "--tmpfs /t:exec,noexec", "--mount type=tmpfs,dst=/t"] {
        lab.refused(&format!("docker run --rm {option} {try_it}"), 126, "Permission denied").await;
    }
    lab.end().await;
}

#[tokio::test]
async fn who_shares_ipc_shares_its_memory() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name pg --ipc shareable --shm-size 128m busybox sleep 1000").await;
    lab.sh("docker exec pg sh -c 'echo one > /dev/shm/a'").await;
    let look = "busybox sh -c 'cat /dev/shm/a; df -k /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2; echo two > /dev/shm/b'";
    assert_eq!(lab.sh(&format!("docker run --rm --ipc container:pg {look}")).await, "one\n131072");
    assert_eq!(lab.sh("docker exec pg cat /dev/shm/b").await, "two");
    // A link that leads out is not followed.
    let sly = "docker run -d --name sly --privileged --ipc shareable busybox sleep 1000
        docker exec sly sh -c 'umount /dev/shm && rmdir /dev/shm && ln -s /etc /dev/shm && ls /dev/shm/passwd'";
    assert!(lab.sh(sly).await.ends_with("/dev/shm/passwd"));
    let shown = lab.sh("docker run --rm --ipc container:sly busybox ls -R /dev").await;
    assert!(!shown.contains("passwd"), "{shown}");
    lab.end().await;
}

#[tokio::test]
async fn a_container_that_joins_a_network_while_it_runs_knows_the_names_in_it() {
    let lab = Lab::docker(1).await;
    lab.sh("docker network create zz; docker run -d --name za --network zz busybox sleep 1000").await;
    lab.sh("docker run -d --name zb busybox sleep 1000; docker run -d --name own busybox sleep 1000").await;
    lab.sh("docker exec own sh -c 'echo nameserver 9.9.9.9 > /etc/resolv.conf'").await;
    lab.sh("docker network connect zz zb; docker network connect zz own").await;
    lab.sh("docker exec zb ping -c1 -w5 za").await;
    // What somebody wrote stays.
    assert_eq!(lab.sh("docker exec own cat /etc/resolv.conf").await, "nameserver 9.9.9.9");
    lab.end().await;
}

/// `live-restore` is on unless the learner turns it off; then containers end with their engine and come back as their policies say.
#[tokio::test]
async fn containers_end_with_their_engine_if_that_is_wanted() {
    let lab = Lab::docker(1).await;
    lab.sh("mkdir -p /etc/docker; echo '{\"live-restore\": false}' > /etc/docker/daemon.json; systemctl restart docker").await;
    assert_eq!(lab.sh("docker info -f '{{.LiveRestoreEnabled}}'").await, "false");
    let begin = "for policy in no always unless-stopped on-failure; do
        docker run -d --name $policy --restart $policy busybox sh -c 'trap \"exit 3\" TERM; while :; do sleep 0.1; done'; done";
    lab.sh(begin).await;
    let states = "docker ps -a --format '{{.Names}} {{.State}}' | sort";
    let come = |wanted: &str| {
        format!(
            "for i in $(seq 100); do [ \"$({states})\" = '{wanted}' ] && exit; sleep 0.1; done; {states}; exit 1"
        )
    };
    lab.sh("docker stop -t 0 unless-stopped; docker start unless-stopped; systemctl restart docker").await;
    lab.sh(&come("always running\nno exited\non-failure exited\nunless-stopped running")).await;
    assert_eq!(lab.sh("docker inspect -f '{{.State.ExitCode}}' no").await, "3");
    // One that outlives an engine that was killed ends with the next.
    lab.sh("docker start no; kill -9 $(cat /run/docker.pid)").await;
    lab.sh(&come("always running\nno exited\non-failure exited\nunless-stopped running")).await;
    lab.end().await;
}

#[tokio::test]
async fn an_engine_that_dies_in_a_build_leaves_no_step() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox").await;
    let build = "printf 'FROM busybox\\nRUN touch /began && sleep 1000\\n' | docker build - >/dev/null 2>&1 &
        for i in $(seq 200); do pgrep -x sleep -a | grep -q 1000 && break; sleep 0.05; done; kill -9 $(cat /run/docker.pid); wait";
    lab.sh(build).await;
    lab.sh("for i in $(seq 100); do [ -z \"$(docker ps -aq)\" ] && ! pgrep -x sleep && [ -z \"$(ls /var/lib/docker/containers)\" ] && exit; sleep 0.1; done; docker ps -a; exit 1").await;
    lab.end().await;
}

/// How many processes root has is not limited by `--ulimit`: it would be counted with all of the session.
#[tokio::test]
async fn roots_processes_are_not_counted_over_containers() {
    let lab = Lab::docker(1).await;
    lab.sh("for i in 1 2 3 4 5 6; do docker run -d busybox sleep 1000; done").await;
    let run = "docker run --rm --ulimit nproc=3 --init busybox sh -c 'sleep 0 & wait; echo ok'";
    assert_eq!(lab.sh(run).await, "ok");
    let limits =
        lab.sh("docker run --rm -u 1234 --ulimit nproc=3 busybox grep processes /proc/self/limits").await;
    assert_eq!(limits.split_whitespace().nth(2), Some("3"), "{limits}");
    lab.end().await;
}

#[tokio::test]
async fn images_that_are_mounted_stay() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox; docker pull -q hello-world").await;
    lab.sh("docker create --name user --mount type=image,src=hello-world,dst=/i busybox true").await;
    let id = lab.sh("docker inspect -f '{{printf \"%.12s\" .Id}}' user").await;
    let words = format!(
        "conflict: unable to remove repository reference \"hello-world\" (must force) - container {id} is using its referenced image"
    );
    lab.refused("docker rmi hello-world", 1, &words).await;
    lab.sh("docker rm user; docker rmi hello-world").await;
    lab.end().await;
}

#[tokio::test]
async fn ps_of_a_container_takes_the_options_of_ps() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name web busybox sh -c 'sleep 1000; true'").await;
    assert_eq!(
        lab.sh("docker top web -o pid,args | sed 1d | awk '{print $2,$3}'").await,
        "sh -c\nsleep 1000"
    );
    assert!(lab.sh("docker top web u").await.contains("sleep 1000"));
    assert!(lab.sh("docker top web -C sleep -o pid,comm").await.contains("sleep"));
    lab.end().await;
}

/// `docker compose up` asks what has become of a container as soon as it hears of its end.
#[tokio::test]
async fn a_container_that_is_restarted_is_never_seen_ended() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name web busybox sleep 1000").await;
    lab.sh("docker events --filter event=die --format '{{.ID}}' > /ends & echo $! > /pid").await;
    let look = "tail -f -n 0 --pid=$(cat /pid) /ends | while read -r id; do
        curl -s --unix-socket /run/docker.sock http://d/containers/$id/json | jq .State.Running; done > /seen &
        for i in $(seq 50); do docker restart -t 0 web > /dev/null; [ $(wc -l < /seen) -ge 10 ] && break; done
        kill $(cat /pid); wait; sort /seen | uniq";
    assert_eq!(lab.sh(look).await, "true");
    lab.end().await;
}

#[tokio::test]
async fn a_volume_that_cannot_be_mounted_is_named() {
    let lab = Lab::docker(1).await;
    lab.sh("docker volume create -o type=none -o o=bind -o device=/nodir bv").await;
    let words = "error while mounting volume '/var/lib/docker/volumes/bv/_data': failed to mount local volume: mount /nodir:/var/lib/docker/volumes/bv/_data";
    lab.refused("docker run -v bv:/x busybox true", 127, words).await;
    lab.end().await;
}

/// Numbers of interfaces are small, as the kernel's own, and one that somebody else has taken is no obstacle.
#[tokio::test]
async fn interfaces_have_the_next_numbers() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name first busybox sleep 1000; ip link add own type bridge").await;
    lab.sh("for i in 1 2 3 4 5; do ip link add own$i type bridge; docker run -d --name b$i busybox sleep 1000; done").await;
    let highest = lab.sh("cat /sys/class/net/*/ifindex | sort -n | tail -1").await;
    assert!(highest.parse::<u32>().unwrap() < 100, "{highest}");
    let pair = "docker exec b5 cat /sys/class/net/eth0/iflink; ip -o link | grep -c veth";
    let pair = lab.sh(pair).await;
    assert!(pair.ends_with("\n6"), "{pair}");
    lab.end().await;
}

#[tokio::test]
async fn a_dockerfile_on_a_web_server_is_built() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d -p 8099:80 busybox sh -c 'printf \"FROM busybox\\nCMD echo from afar\\n\" > /Some; httpd -f -h /'").await;
    lab.sh("docker build -q -t afar http://127.0.0.1:8099/Some").await;
    assert_eq!(lab.sh("docker run --rm afar").await, "from afar");
    lab.sh("docker buildx prune -f --max-used-space 1GB && docker buildx prune -f --min-free-space 1MB")
        .await;
    lab.end().await;
}

/// Compose's `watch` starts an exec a second time on another connection at once, and shows what the first one says.
#[tokio::test]
async fn d13_the_first_who_starts_an_exec_has_it() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox && docker run -d --name box busybox sleep 1000").await;
    // The second request goes out when the answer to the first has begun.
    let program = r#"use IO::Socket::UNIX;
        sub start {
            my $link = IO::Socket::UNIX->new(Peer => "/var/run/docker.sock") or die;
            my $body = "{\"Tty\":true}";
            my $length = length $body;
            print $link "POST /v1.50/exec/$ARGV[0]/start HTTP/1.1\r\nHost: d\r\n$_[0]Content-Type: application/json\r\n" .
                "Content-Length: $length\r\n\r\n$body";
            return $link;
        }
        my $first = start("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        sysread $first, my $got, 1000;
        my $second = start("");
        while ($got !~ /\r\n\r\n.*\n/s && sysread $first, my $piece, 1000) { $got .= $piece }
        $got =~ /\r\n\r\n(.*)/s and print $1;
    "#;
    let script = format!(
        "cat > twice.pl <<'PROGRAM'\n{program}\nPROGRAM\n\
         for i in 1 2 3 4 5 6 7 8 9 10; do \
             id=$(curl -s --unix-socket /var/run/docker.sock -H 'Content-Type: application/json' \
                 -d '{{\"Cmd\":[\"echo\",\"mine\"],\"AttachStdout\":true}}' http://d/containers/box/exec | cut -d'\"' -f4); \
             perl twice.pl $id; \
         done"
    );
    let output = lab.sh(&script).await;
    assert_eq!(output.lines().collect::<Vec<_>>(), ["mine"; 10], "{output}");
    lab.end().await;
}

#[tokio::test]
async fn d12_an_address_of_the_link_is_on_the_interface() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox && docker network create n1 && docker run -d --name ll --network n1 --link-local-ip 169.254.9.9 busybox sleep 1000").await;
    lab.sh("docker run --rm --network n1 --link-local-ip 169.254.9.10 busybox ping -c1 -W3 169.254.9.9")
        .await;
    lab.sh("docker run -d --name late busybox sleep 1000 && docker network connect --link-local-ip 169.254.9.11 n1 late").await;
    lab.sh("docker exec ll ping -c1 -W3 169.254.9.11").await;
    lab.end().await;
}

#[tokio::test]
async fn d5_process_one_of_init_is_shown_as_dockers() {
    let lab = Lab::docker(1).await;
    let output = lab
        .sh("docker pull -q busybox > /dev/null; docker run --rm --init busybox ps -o pid,comm,args")
        .await;
    let line = output.lines().find(|line| line.trim_start().starts_with("1 ")).unwrap_or_default();
    assert_eq!(
        line.split_whitespace().collect::<Vec<_>>(),
        ["1", "docker-init", "/sbin/docker-init", "--", "ps", "-o", "pid,comm,args"]
    );
    let refused = lab.try_sh("docker create -w /etc/passwd busybox true").await;
    let words = "Cannot mkdir: /etc/passwd is not a directory";
    assert!(refused.stderr.contains(words), "{refused:?}");
    lab.end().await;
}

#[tokio::test]
async fn d9_a_layer_that_the_registry_has_is_not_sent_again() {
    let lab = Lab::docker(1).await;
    let registry = "registry:5000/sent";
    lab.sh(&format!("docker login -u sent -p pw registry:5000 && mkdir -p /s && cd /s && printf 'FROM busybox\\nRUN echo x > /x\\n' > Dockerfile && docker build -q -t {registry}/one . && docker push -q {registry}/one")).await;
    let push =
        lab.sh(&format!("docker tag {registry}/one {registry}/two && docker push {registry}/two")).await;
    assert_eq!(push.matches("Mounted from sent/one").count(), 2, "{push}");
    // What was pulled is known as the registry has it, and so is what an image shares with it.
    lab.sh(&format!("docker rmi -f {registry}/one {registry}/two && docker builder prune -af && docker pull -q {registry}/one")).await;
    let push = lab.sh(&format!("docker push {registry}/one")).await;
    assert_eq!(push.matches("Layer already exists").count(), 2, "{push}");
    let build = format!(
        "cd /s && printf 'FROM {registry}/one\\nRUN echo y > /y\\n' > Dockerfile && docker build -q -t {registry}/three . && docker push {registry}/three"
    );
    let push = lab.sh(&build).await;
    assert_eq!((push.matches("Mounted from").count(), push.matches(": Pushed").count()), (2, 1), "{push}");
    lab.end().await;
}
