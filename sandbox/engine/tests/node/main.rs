//! The engine in a node of a real session, asked by the official client there. Needs root, a node image and the catalogue
//! (`DRYDOCK_IMAGES`, `DRYDOCK_CATALOGUE`, or those in the user's cache).

// The tests of the warden have all that starts a session.
#[allow(dead_code, reason = "what is not used here is used there")]
#[path = "../../../warden/tests/sandbox/agent.rs"]
mod agent;
#[allow(dead_code, reason = "what is not used here is used there")]
#[path = "../../../warden/tests/sandbox/host.rs"]
mod host;

mod engine {
    pub fn main(boot: drydock_runtime::container::EngineBoot) -> i32 {
        drydock_engine::run(boot)
    }
}

use drydock_runtime::limits::Limits;
use host::{Host, Session};
use std::{path::PathBuf, process::Command};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, dir] = &arguments[..]
        && word == "warden"
    {
        return host::be_the_warden(PathBuf::from(dir));
    }
    if let [_, word, scripts @ ..] = &arguments[..]
        && word == "try"
    {
        with_session(|session| {
            for script in scripts {
                let (status, output) = session.try_run(1, script);
                println!("$ {script}\n{output}[{status}]");
            }
        });
        return;
    }
    with_session(|session| {
        for (script, expected) in CHECKS {
            let (_, output) = session.try_run(1, script);
            assert!(output.contains(expected), "`{script}`\nexpected: {expected}\nprinted: {output}");
            println!("ok: {script}");
        }
    });
}

/// Scripts for the node's shell, in this order in one session, and what they must print.
const CHECKS: [(&str, &str); 48] = [
    ("docker run --rm busybox echo hello 2>/dev/null", "hello"),
    ("docker run --rm -i busybox cat <<< words", "words"),
    ("docker run --rm busybox nosuch; echo $?", "127"),
    ("docker run --rm busybox /etc; echo $?", "126"),
    ("docker run --rm busybox sh -c 'exit 7'; echo $?", "7"),
    ("script -qec \"docker run --rm -it busybox tty\" /dev/null", "/dev/pts/0"),
    (
        "docker run --name oom --memory 10m busybox tail /dev/zero; docker inspect oom -f '{{.State.OOMKilled}} {{.State.ExitCode}}'",
        "true 137",
    ),
    (
        "docker run -d --init --name box -v vol:/data -p 8088:80 busybox sh -c 'echo page > /index.html; httpd -f -h /'",
        "",
    ),
    (
        "sleep 0.3; docker exec box sh -c 'echo in > /data/f; exit 3'; echo $?; docker cp box:/data/f - | tar xO",
        "3\nin",
    ),
    ("curl -s localhost:8088; docker diff box", "page\nA /data\nA /index.html"),
    (
        "docker run --rm --name box busybox true 2>&1; echo",
        "Conflict. The container name \"/box\" is already in use",
    ),
    ("docker pause box; docker ps; docker unpause box", "(Paused)"),
    // The engine dies; the container does not, and a new engine takes it over.
    (
        "kill -9 $(cat /run/docker.pid); sleep 1.5; docker exec box echo alive; curl -s localhost:8088",
        "alive\npage",
    ),
    ("docker stop box; docker inspect box -f '{{.State.Status}} {{.State.ExitCode}}'", "exited 143"),
    (
        "docker run --name tries --restart on-failure:2 -d busybox false; sleep 1; docker inspect tries -f '{{.RestartCount}} {{.State.Status}}'",
        "2 exited",
    ),
    // Real-time signals have numbers only.
    (
        "docker run -d --name rt busybox sh -c 'trap \"exit 5\" 36; echo ready; while :; do sleep 0.1; done'; until docker logs rt | grep -q ready; do sleep 0.1; done; docker kill -s RTMIN+2 rt; docker wait rt",
        "rt\n5",
    ),
    (
        "mkdir -p /srv/w; cd /srv/w; printf 'FROM busybox\\nRUN echo remote > /r\\nCMD cat /r\\n' > Dockerfile; tar cf ctx.tar Dockerfile; docker export tries > ex.tar; docker run -d --network host -v /srv/w:/w busybox httpd -f -p 8099 -h /w; until curl -sf localhost:8099/ex.tar -o /dev/null; do sleep 0.1; done; docker import http://127.0.0.1:8099/ex.tar imported; docker run --rm imported echo from afar; docker import http://127.0.0.1:8099/nosuch x",
        "from afar\nError response from daemon: failed to GET http://127.0.0.1:8099/nosuch with status 404 ",
    ),
    (
        "for f in ctx.tar Dockerfile; do curl -s -X POST \"http://localhost/v1.41/build?remote=http://127.0.0.1:8099/$f&t=$(echo $f | tr A-Z a-z)\" --unix-socket /run/docker.sock | grep -o 'Successfully tagged.*latest'; done; docker run --rm ctx.tar; docker run --rm dockerfile",
        "Successfully tagged ctx.tar:latest\nSuccessfully tagged dockerfile:latest\nremote\nremote",
    ),
    // A server that serves files only knows nothing of shallow copies.
    (
        "mkdir /srv/w/r; cd /srv/w/r; git init -q; printf 'FROM busybox\\nCMD echo from git\\n' > Dockerfile; git add -A; git -c user.name=n -c user.email=n@h commit -qm 1; git tag v1; git update-server-info; mv .git ../x.git; docker build -q -t fromgit 'http://127.0.0.1:8099/x.git?tag=v1'; docker run --rm fromgit",
        "from git",
    ),
    (
        "cd /srv/w; printf 'FROM busybox\\nCOPY --from=other Dockerfile /copied\\nRUN tail -1 /copied\\n' | docker build --progress plain --build-context other=http://127.0.0.1:8099/x.git - 2>&1 | grep -o 'CMD echo from git'",
        "CMD echo from git",
    ),
    (
        "docker network create net; docker run -d --name web --network net busybox httpd -f; docker run --rm --network net busybox ping -c1 web",
        "1 packets received",
    ),
    (
        "S=$(date +%s.%N); { printf 'FROM busybox\\nENV A=1\\nCOPY Dockerfile /\\nRUN true\\n' > Dockerfile; DOCKER_BUILDKIT=0 docker build -q . 2>/dev/null; docker build -q .; docker commit web; } > /dev/null; docker events --since $S --until $(date +%s.%N) --filter event=create --filter type=image | grep -c 'image create'",
        "4",
    ),
    (
        "printf 'FROM busybox\\nRUN hostname\\n' | DOCKER_BUILDKIT=0 docker build --network container:web - 2>&1 | grep -c $(docker inspect -f '{{.Config.Hostname}}' web)",
        "1",
    ),
    (
        "docker run -d --name limited --ulimit nofile=77 --oom-score-adj 500 busybox sleep 1000 >/dev/null; docker exec limited sh -c 'ulimit -n; until grep -qx 500 /proc/$$/oom_score_adj; do :; done; cat /proc/self/oom_score_adj /proc/1/oom_score_adj'",
        "77\n500\n500",
    ),
    (
        "docker exec -u nope limited id; docker run --rm --group-add nope busybox id; docker run --rm --ipc container:limited busybox true",
        "unable to find user nope: no matching entries in passwd file",
    ),
    (
        "docker run --rm -u nope busybox id",
        "Error response from daemon: unable to find user nope: no matching entries in passwd file",
    ),
    (
        "cd /srv; docker exec limited sh -c 'mkdir -p /dir/sub; echo a > /dir/sub/a'; docker cp limited:/dir/. newdir; find newdir | sort; docker cp limited:/etc/passwd/ . 2>&1",
        "newdir\nnewdir/sub\nnewdir/sub/a\nError response from daemon: lstat /etc/passwd/: not a directory",
    ),
    ("docker inspect limited | head -4 | tr -d ' \n' | cut -c1-8", "[{\"Id\":\""),
    (
        "mkdir -p /srv/b; cd /srv/b; printf 'FROM scratch\\nRUN echo hi\\n' > Dockerfile; docker build . 2>&1 | tail -1",
        "process \"/bin/sh -c echo hi\" did not complete successfully: exit code: 1",
    ),
    (
        "echo a > a; printf 'FROM scratch\\nCOPY a /a\\n' > Dockerfile; docker build -q -o out . ; find out | tr '\\n' ' '; printf 'FROM busybox\\nRUN hostname; test ! -e /.dockerenv && echo unmarked\\n' > Dockerfile; docker build --progress plain . 2>&1 | grep -o 'buildkitsandbox\\|unmarked'",
        "out out/a unmarked\nbuildkitsandbox\nunmarked",
    ),
    (
        "printf 'FROM busybox\\n' > Dockerfile; docker build --platform linux/arm64 . 2>&1 | tail -1; docker build --push -q -t localhost:5001/x . >/dev/null 2>&1 || echo refused",
        "failed to resolve source metadata for docker.io/library/busybox:latest: no match for platform in manifest: not found\nrefused",
    ),
    (
        "printf 'FROM busybox\\nRUN echo legacy\\n' > /srv/Df; DOCKER_BUILDKIT=0 docker build -q -f /srv/Df . 2>/dev/null | cut -c1-7; DOCKER_BUILDKIT=0 docker build -q -f - . < /srv/Df 2>/dev/null | cut -c1-7",
        "sha256:\nsha256:",
    ),
    (
        "docker pull busybox; docker push zzz 2>&1; docker pull busybox:nope",
        "The push refers to repository [docker.io/library/zzz]\nAn image does not exist locally with the tag: zzz",
    ),
    // Its input has ended before it starts.
    ("timeout -s KILL 20 docker run --rm -i busybox sh -c 'cat; echo over' < /dev/null", "over"),
    (
        "docker run --rm -e HOME= busybox sh -c 'echo $HOME; mount | grep -c \"^shm on /dev/shm\"; df /dev | tail -1 | cut -c1-5'; docker run --rm --tmpfs /t busybox mount | grep -o '^tmpfs on /t'; docker run -u -1 busybox id 2>&1 | head -1",
        "/root\n1\ntmpfs\ntmpfs on /t\ndocker: Error response from daemon: uids and gids must be in range",
    ),
    (
        "docker run --name vols -v /in busybox sh -c 'echo 1 > /in/f; ln -s f /in/l'; echo 2 > /tmp/two; docker cp /tmp/two vols:/in/l; docker cp vols:/in - | tar t; docker cp vols:/in/f - | tar xO; docker run --name file -v /tmp/two:/two busybox true; docker cp file:/two - | tar xO; docker cp file:/etc/hostname - | tar xO | wc -c",
        "in/\nin/f\nin/l\n2\n2\n13",
    ),
    (
        "docker create --name work -w /made/here/ busybox; docker cp work:/made/here - | tar t; docker inspect -f '{{.Config.WorkingDir}}' work",
        "here/\n/made/here",
    ),
    (
        "docker tag busybox moved; docker run -d --name old moved sleep 1000; docker commit old moved; docker ps --filter name=^old$ --format {{.Image}} | wc -c; docker rm -f old; docker rmi moved",
        "13\n",
    ),
    // Links are to containers, not to names; who shares a network passes it on.
    (
        "docker run -d --name db busybox top; docker create --name app --link db:store busybox ping -c1 store; docker rename db data; docker inspect -f '{{.HostConfig.Links}}' app; docker ps -a --no-trunc --filter name=data --format {{.Names}}; docker stop -t0 data; docker start -a app 2>&1 | head -1; docker start data; docker start -a app | grep -o '1 packets received'",
        "[/data:/app/store]\napp/store,data\ndata\nError response from daemon: Cannot link to a non running container: /data AS /app/store\ndata\n1 packets received",
    ),
    (
        "docker run -d --name hop1 --network container:data busybox top; docker run -d --name hop2 --network container:hop1 busybox top; docker exec hop2 cat /etc/hostname | wc -c; docker run --name me --network container:me busybox 2>&1 | head -1; docker run --network container:nope busybox 2>&1 | head -1; docker run --pid container:nope busybox 2>&1 | head -1; docker run --volumes-from nope busybox 2>&1 | head -1",
        "13\ndocker: Error response from daemon: cannot join own network namespace\ndocker: Error response from daemon: No such container: nope\ndocker: Error response from daemon: No such container: nope\ndocker: Error response from daemon: No such container: nope",
    ),
    // Ports go along when the way out is another network; a hardware address that was asked for stays.
    (
        "docker network create one; docker network create two; docker run -d --name port --network one --mac-address 02:42:ac:11:00:42 -p 8077:80 busybox sh -c 'echo moved > /index.html; httpd -f -h /'; docker restart -t0 port; docker inspect -f '{{.NetworkSettings.Networks.one.MacAddress}} {{.Config.MacAddress}}' port; docker network connect two port; docker network disconnect one port; sleep 0.3; curl -s -m 5 localhost:8077; docker network connect none port 2>&1 | tail -1; docker stop -t0 port; docker network rm two; docker network disconnect -f two port && echo forgotten",
        "port\n02:42:ac:11:00:42 02:42:ac:11:00:42\nmoved\nError response from daemon: container cannot be connected to multiple networks with one of the networks in private (none) mode\nport\ntwo\nforgotten",
    ),
    (
        "mkdir -p /srv/m/below; mount -t tmpfs t /srv/m/below; touch /srv/m/below/y; docker run --rm --mount type=bind,src=/srv/m,dst=/v,bind-recursive=disabled busybox ls /v/below | wc -l; docker run --rm --mount type=bind,src=/srv/m,dst=/v,readonly,bind-recursive=writable busybox sh -c 'touch /v/x || touch /v/below/z && echo written'; umount /srv/m/below",
        "0\nwritten",
    ),
    (
        "mkdir -p /srv/s; mount -t tmpfs t /srv/s; mount --make-shared /srv/s; mkdir /srv/s/out /srv/s/in; docker run -d --name sl -v /srv/s:/v:slave busybox top; mount -t tmpfs t /srv/s/in; touch /srv/s/in/late; docker exec sl ls /v/in; docker run --rm --privileged -v /srv/s:/v:shared busybox sh -c 'mount -t tmpfs t /v/out && touch /v/out/back'; ls /srv/s/out; docker rm -f sl; umount -R /srv/s",
        "late\nback",
    ),
    (
        "docker volume create kept; docker run --name parent -v kept:/k -v /gone busybox true; docker run --name child --volumes-from parent busybox true; gone=$(docker inspect -f '{{range .Mounts}}{{.Name}} {{end}}' child | tr ' ' '\\n' | grep -v kept); docker rm parent; docker rm -v child; docker volume ls -q | grep -c -e kept -e $gone; docker run --rm --tmpfs /t:shared busybox grep -c ' /t .* shared:' /proc/self/mountinfo",
        "child\n1\n1",
    ),
    (
        "docker run --rm --ipc none busybox ls -d /dev/shm 2>&1; docker run -d --name wired busybox sh -c 'echo begin; sleep 60' >/dev/null; timeout 1 curl -sN --unix-socket /run/docker.sock 'ws://d/v1.51/containers/wired/attach/ws?stream=1&stdout=1&logs=1'; docker rm -f wired",
        "ls: /dev/shm: No such file or directory\nbegin\nwired",
    ),
    (
        "docker run -d --name reader --mount type=image,src=busybox,dst=/x,image-subpath=etc busybox sleep 60 >/dev/null; docker exec reader sh -c 'ls /x/passwd; touch /x/y 2>&1'; docker inspect -f '{{range .Mounts}}{{.Type}} {{.Name}} {{.RW}}{{end}}' reader; docker rm -f reader; docker run --rm --mount type=image,src=busybox,dst=/x,image-subpath=../x busybox true 2>&1 | grep -c 'subpath must be a relative path'",
        "/x/passwd\ntouch: /x/y: Read-only file system\nimage busybox false\nreader\n1",
    ),
    (
        "docker run --rm -v parts:/v busybox mkdir /v/sub; docker run --rm --mount type=volume,src=parts,dst=/etc,volume-subpath=sub busybox ls /etc/passwd; docker run --rm -v parts:/v busybox ls /v",
        "/etc/passwd\nsub",
    ),
    (
        "docker rm -f $(docker ps -aq) >/dev/null; docker ps -aq; ls /var/lib/docker/containers; mount | grep -c overlay2; ip link | grep -c veth",
        "0\n0",
    ),
];

/// A session with one node and the images of the catalogue.
fn with_session(work: impl FnOnce(&Session<'_>)) {
    let host = Host::new();
    let cache = PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/drydock/catalogue");
    let catalogue = std::env::var_os("DRYDOCK_CATALOGUE").map_or(cache, PathBuf::from);
    let copied =
        Command::new("cp").arg("-aT").arg(catalogue).arg(host.state().join("catalogue")).status().unwrap();
    assert!(copied.success());
    let session = host.create_with(1, Limits { memory: 1 << 30, pids: 1000, disk: 1 << 30, ..host::small() });
    work(&session);
    println!(
        "{}",
        std::fs::read_to_string(host.state().join("log").join(format!("{}.log", session.id)))
            .unwrap_or_default()
    );
}
