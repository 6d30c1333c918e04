//! The rows of the Docker part of the curriculum, each by the official client in a node. Names of tests begin with their row.

use drydock_e2e::Lab;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test]
async fn d1_version_and_info() {
    let lab = Lab::docker(1).await;
    let version = lab
        .sh("docker version --format '{{.Client.Version}} {{.Server.Version}} {{.Server.APIVersion}}'")
        .await;
    assert!(version.starts_with("28.") && version.ends_with(" 1.51"), "{version}");
    lab.sh("docker pull -q busybox && docker run -d --name aa busybox sleep 1000 && docker create busybox")
        .await;
    let info = json(&lab.sh("docker info --format '{{json .}}'").await);
    assert_eq!(
        (&info["Containers"], &info["ContainersRunning"], &info["Images"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!((info["Driver"].as_str(), info["Name"].as_str()), (Some("overlay2"), Some("node1")));
    let counted = lab.sh("docker ps -aq | wc -l; docker images -q | wc -l").await;
    assert_eq!(counted, "2\n1");
    assert_eq!(
        info["CgroupVersion"],
        lab.sh("test -e /sys/fs/cgroup/cgroup.controllers && echo 2 || echo 1").await
    );
    assert!(lab.sh("docker info").await.contains("Storage Driver: overlay2"));
    lab.end().await;
}

#[tokio::test]
async fn d2_hello_world() {
    let lab = Lab::docker(1).await;
    let output = lab.try_sh("docker run hello-world").await;
    assert!(output.ok().text().contains("Hello from Docker!"));
    assert!(output.stderr.contains("Unable to find image 'hello-world:latest' locally"), "{}", output.stderr);
    assert!(
        output.stderr.contains("Status: Downloaded newer image for hello-world:latest"),
        "{}",
        output.stderr
    );
    assert!(lab.sh("docker ps -a --format '{{.Status}} {{.Image}}'").await.starts_with("Exited (0)"));
    lab.end().await;
}

#[tokio::test]
async fn d3_images() {
    let lab = Lab::docker(1).await;
    let pulled = lab.sh("docker pull busybox").await;
    for line in [
        "latest: Pulling from library/busybox",
        "Pull complete",
        "Digest: sha256:",
        "docker.io/library/busybox:latest",
    ] {
        assert!(pulled.contains(line), "{line}: {pulled}");
    }
    assert!(lab.sh("docker pull busybox").await.contains("Image is up to date for busybox:latest"));
    let image = json(&lab.sh("docker image inspect busybox").await);
    let (image, layers) = (&image[0], image[0]["RootFS"]["Layers"].as_array().unwrap().len());
    assert!(image["Id"].as_str().unwrap().starts_with("sha256:") && layers >= 1);
    assert!(image["Comment"].as_str().unwrap().starts_with("Built by Drydock from Debian"), "{image}");
    assert_eq!(
        lab.sh("docker images --format '{{.Repository}}:{{.Tag}} {{.ID}}'").await,
        format!("busybox:latest {}", &image["Id"].as_str().unwrap()[7..19])
    );
    assert!(lab.sh("docker history busybox").await.contains("CMD"));
    lab.refused("docker pull nothing-of-this-name", 1, "pull access denied for nothing-of-this-name").await;
    lab.refused("docker pull UPPER", 1, "invalid reference format").await;
    lab.refused("docker image inspect nothing", 1, "No such image: nothing").await;
    lab.end().await;
}

#[tokio::test]
async fn d4_run() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox").await;
    assert_eq!(
        lab.sh("docker run --rm -e A=b -w /tmp -h box busybox sh -c 'echo $A $PWD $(hostname); id -u'").await,
        "b /tmp box\n0"
    );
    assert_eq!(lab.sh("echo hi | docker run --rm -i busybox cat").await, "hi");
    assert_eq!(lab.sh("docker run --rm busybox sh -c 'echo out; echo err >&2' 2>/dev/null").await, "out");
    // A terminal: script(1) gives the client one.
    assert_eq!(
        lab.sh("script -qec 'docker run --rm -it busybox tty' /dev/null | grep -o /dev/pts/0").await,
        "/dev/pts/0"
    );
    for (script, code) in [("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$; sleep 1", 143)] {
        assert_eq!(
            lab.try_sh(&format!("docker run --rm --init busybox sh -c '{script}'")).await.code(),
            code,
            "{script}"
        );
    }
    lab.refused(
        "docker run --rm busybox nothing",
        127,
        "exec: \"nothing\": executable file not found in $PATH",
    )
    .await;
    lab.refused("docker run --rm busybox /etc", 126, "is a directory").await;
    lab.refused("docker run --rm busybox /etc/passwd", 126, "permission denied").await;
    lab.refused("docker run --memory 1m busybox true", 125, "Minimum memory limit allowed is 6MB").await;
    assert_eq!(lab.sh("docker ps -aq --filter status=running | wc -l").await, "0");
    // Names, detached, published.
    let id = lab.sh("docker run -d --name web -p 8080:80 busybox httpd -f -h /etc").await;
    assert_eq!(id.len(), 64);
    assert!(lab.sh("curl -sf localhost:8080/passwd").await.contains("root"));
    assert_eq!(lab.sh("docker port web").await, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
    lab.refused(
        "docker run --name web busybox",
        125,
        "Conflict. The container name \"/web\" is already in use",
    )
    .await;
    lab.refused("docker run --rm -p 8080:80 busybox true", 125, "port is already allocated").await;
    let random = lab.sh("docker run -d --name any -p 80 busybox httpd -f -h /etc && docker port any 80 | head -1 | cut -d: -f2").await;
    let port = random.lines().last().unwrap();
    assert!(lab.sh(&format!("curl -sf localhost:{port}/group")).await.contains("root"));
    lab.end().await;
}

#[tokio::test]
async fn d5_states() {
    let lab = Lab::docker(1).await;
    lab.sh(
        "docker run -d --name cc busybox sh -c 'trap \"echo bye; exit 5\" TERM; while :; do sleep 0.1; done'",
    )
    .await;
    let state = |format: &'static str| lab.sh_on("node1", format);
    let inspect = "docker inspect cc --format '{{.State.Status}} {{.State.ExitCode}} {{.State.Paused}}'";
    assert_eq!(state(inspect).await, "running 0 false");
    lab.sh("docker pause cc").await;
    assert_eq!(state(inspect).await, "paused 0 true");
    assert!(lab.sh("docker ps --format '{{.Status}}'").await.ends_with("(Paused)"));
    lab.sh("docker unpause cc && docker stop cc").await;
    assert_eq!(state(inspect).await, "exited 5 false");
    assert_eq!(lab.sh("docker logs cc").await, "bye");
    lab.refused("docker kill cc", 1, "is not running").await;
    lab.sh("docker start cc && docker restart -t 0 cc && docker rename cc dd && docker kill dd").await;
    assert_eq!(lab.sh("docker wait dd").await, "137");
    assert!(lab.sh("docker ps -a --format '{{.Names}} {{.Status}}'").await.starts_with("dd Exited (137)"));
    lab.refused("docker start nothing", 1, "No such container: nothing").await;
    lab.end().await;
}

#[tokio::test]
async fn d6_inside() {
    let lab = Lab::docker(1).await;
    lab.sh(
        "docker run -d --name cc busybox sh -c 'for i in 1 2 3 4 5; do echo line$i; done; exec sleep 1000'",
    )
    .await;
    assert_eq!(lab.sh("docker exec cc sh -c 'echo $$ > /tmp/pid; ps -o comm | grep -c sleep'").await, "1");
    assert_eq!(lab.try_sh("docker exec cc sh -c 'exit 9'").await.code(), 9);
    assert_eq!(
        lab.sh("docker exec -e X=y -w /etc -u nobody cc sh -c 'echo $X $PWD $(id -un)'").await,
        "y /etc nobody"
    );
    assert_eq!(lab.sh("echo in | docker exec -i cc cat").await, "in");
    lab.refused("docker exec cc nothing", 127, "executable file not found in $PATH").await;
    assert_eq!(lab.sh("docker logs --tail 2 cc").await, "line4\nline5");
    assert_eq!(lab.sh("docker logs -t cc | head -1 | cut -c1-2").await, "20");
    assert_eq!(
        lab.sh("(timeout 20 docker logs -f cc & sleep 0.2; docker kill cc >/dev/null; wait) | wc -l").await,
        "5"
    );
    // One that never prints ends too.
    lab.sh("docker run -d --name silent busybox sleep 1000").await;
    assert_eq!(
        lab.sh(
            "(timeout 20 docker logs -f silent; echo $?) & sleep 0.2; docker kill silent >/dev/null; wait"
        )
        .await,
        "0"
    );
    lab.sh("docker start cc >/dev/null").await;
    assert!(lab.sh("docker top cc").await.contains("sleep 1000"));
    let stats = lab.sh("docker stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}'").await;
    assert!(stats.starts_with("cc 1 "), "{stats}");
    // The figure is the control group's.
    assert_eq!(lab.sh("cat /proc/$(docker inspect -f '{{.State.Pid}}' cc)/comm").await, "sleep");
    lab.end().await;
}

#[tokio::test]
async fn d7_removal() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name cc busybox sleep 1000").await;
    lab.refused("docker rm cc", 1, "cannot remove container \"cc\": container is running: stop the container before removing or force remove").await;
    lab.refused("docker rmi busybox", 1, "container").await;
    lab.sh("docker rm -f cc").await;
    assert!(lab.sh("docker rmi busybox").await.starts_with("Untagged: busybox:latest"));
    lab.sh("for i in 1 2 3; do docker run busybox true; done 2>/dev/null; docker rm $(docker ps -aq)").await;
    assert_eq!(lab.sh("docker ps -aq | wc -l").await, "0");
    assert!(lab.sh("docker system df").await.contains("Local Volumes"));
    lab.sh("docker volume create vv; docker run --name xx busybox true").await;
    assert!(lab.sh("docker system prune -af --volumes").await.contains("Total reclaimed space"));
    assert_eq!(lab.sh("docker images -q | wc -l; docker ps -aq | wc -l").await, "0\n0");
    lab.end().await;
}

#[tokio::test]
async fn d8_build() {
    let lab = Lab::docker(1).await;
    lab.sh(
        "mkdir -p /root/app/sub && cd /root/app && echo one > a.txt && echo secret > ignored && echo ignored > .dockerignore && cat > Dockerfile <<'EOF'
ARG BASE=busybox
FROM $BASE AS build
ARG WORD=hello
ENV WORD=$WORD
WORKDIR /src
COPY . .
RUN ls > list && echo $WORD > word
FROM busybox
LABEL maintainer=me
COPY --from=build /src/word /src/list /out/
ADD a.txt /out/
EXPOSE 80
VOLUME /data
USER nobody
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT [\"sh\", \"-c\"]
CMD [\"cat /out/word /out/list; id -un\"]
EOF",
    )
    .await;
    let built = lab.try_sh("cd /root/app && docker build -t app:1 --build-arg WORD=moin . 2>&1").await;
    assert!(built.ok().text().contains("app:1"), "{}", built.text());
    assert_eq!(lab.sh("docker run --rm app:1").await, "moin\nDockerfile\na.txt\nlist\nsub\nnobody");
    // Only what changed is built anew.
    let again = lab.sh("cd /root/app && docker build -t app:2 --build-arg WORD=moin . 2>&1").await;
    assert!(again.to_lowercase().contains("cache"), "{again}");
    assert_eq!(lab.sh("docker inspect -f '{{.Id}}' app:1 app:2 | uniq | wc -l").await, "1");
    let config = json(&lab.sh("docker inspect app:1").await);
    let config = &config[0]["Config"];
    assert_eq!((&config["User"], &config["StopSignal"]), (&"nobody".into(), &"SIGQUIT".into()));
    assert!(config["ExposedPorts"]["80/tcp"].is_object() && config["Volumes"]["/data"].is_object());
    assert!(lab.sh("docker history app:1").await.contains("EXPOSE"));
    let ids = "docker history -q app:1 | grep -vc missing; docker inspect -f 'parent:{{.Parent}}' app:1";
    assert_eq!(lab.sh(ids).await, "1\nparent:");
    lab.refused("printf 'FROM busybox\\nRUNN x\\n' | docker build - 2>&1", 1, "unknown instruction: RUNN")
        .await;
    lab.refused(
        "printf 'FROM busybox\\nRUN exit 7\\n' | docker build - 2>&1",
        1,
        "did not complete successfully: exit code: 7",
    )
    .await;
    // The classic way, for clients without BuildKit.
    let classic = lab.sh("cd /root/app && DOCKER_BUILDKIT=0 docker build -t app:3 . 2>&1").await;
    assert!(classic.contains("Step 1/") && classic.contains("Successfully tagged app:3"), "{classic}");
    // It leaves an image for each step.
    assert!(lab.sh("docker history -q app:3 | grep -vc missing").await.parse::<u32>().unwrap() > 5);
    lab.refused(
        "printf 'FROM busybox\\nRUN exit 7\\n' | DOCKER_BUILDKIT=0 docker build - 2>&1",
        7,
        "returned a non-zero code: 7",
    )
    .await;
    // What only BuildKit's language has, and compose's own way in.
    lab.sh(
        "mkdir -p /root/kit && cd /root/kit && echo word > key && cat > Dockerfile <<'EOF'
FROM busybox AS made
RUN --mount=type=secret,id=key --mount=type=cache,target=/cache cp /run/secrets/key /seen && date > /cache/x
RUN <<SCRIPT
echo from here > /doc
SCRIPT
FROM busybox
COPY --from=made --chmod=640 /seen /doc /
COPY <<TEXT /text
a text
TEXT
CMD [\"cat\", \"/seen\", \"/doc\", \"/text\"]
EOF
printf 'services: { a: { build: { context: ., secrets: [key] } } }\\nsecrets: { key: { file: key } }\\n' > compose.yaml",
    )
    .await;
    lab.sh("cd /root/kit && docker build --secret id=key,src=key -t kit . 2>&1").await;
    assert_eq!(
        lab.sh("docker run --rm kit; docker run --rm kit stat -c %a /seen").await,
        "word\nfrom here\na text\n640"
    );
    let left = "docker images -f dangling=true -q | wc -l; docker builder prune -af > /dev/null; docker run --rm kit cat /text";
    // One is of the classic build, whose stages are images.
    assert_eq!(lab.sh(left).await, "1\na text");
    assert!(lab.sh("cd /root/kit && docker compose build 2>&1").await.contains("Built"));
    lab.end().await;
}

#[tokio::test]
async fn d8_the_build_cache_is_no_image() {
    let lab = Lab::docker(1).await;
    lab.sh("mkdir /root/c && cd /root/c && cat > Dockerfile <<'EOF'
FROM busybox
RUN head -c 1000000 /dev/zero > /big
ENV A=b
RUN --mount=type=cache,target=/kept head -c 2000000 /dev/zero > /kept/more
EOF")
        .await;
    let build = "docker build --progress plain -t app /root/c 2>&1 | grep -c CACHED";
    assert_eq!(lab.sh(&format!("{build} || true")).await, "0");
    // The steps are in the cache only, also for those who want to see all images.
    assert_eq!(lab.sh("docker images -aq | wc -l; docker info -f {{.Images}}").await, "2\n2");
    let cache = "docker system df --format '{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}' | grep Build";
    assert_eq!(lab.sh(cache).await, "Build Cache 3 0 2MB", "the layer is the image's too");
    assert_eq!(
        lab.sh("docker buildx du | grep -c true; docker system df -v | grep -c exec.cachemount").await,
        "3\n1"
    );
    // The image goes; what it was made of stays, and makes it again.
    let removed = lab.sh("docker rmi app").await;
    assert!(
        removed.starts_with("Untagged: app:latest\nDeleted: sha256:") && removed.lines().count() == 2,
        "{removed}"
    );
    assert_eq!(lab.sh("docker rmi busybox > /dev/null && docker images -aq | wc -l").await, "0");
    assert_eq!(lab.sh(cache).await, "Build Cache 3 0 3MB");
    assert_eq!(lab.sh(build).await, "2");
    // What the image has too stays in the cache unless one wants all of it gone; the image stays in any case.
    let pruned = lab.sh("docker builder prune -f").await;
    assert!(pruned.contains("Total:\t2MB"), "{pruned}");
    assert_eq!(lab.sh(build).await, "2");
    let pruned = lab.sh("docker buildx prune -af --filter type=regular").await;
    assert_eq!(pruned.lines().count(), 4, "{pruned}");
    assert_eq!(lab.sh("docker run --rm app stat -c %s /big").await, "1000000");
    assert_eq!(lab.sh(&format!("{build} || true")).await, "0");
    lab.sh("docker system prune -af > /dev/null").await;
    assert_eq!(lab.sh("docker buildx du | tail -1; docker images -aq | wc -l").await, "Total:\t\t0B\n0");
    lab.end().await;
}

#[tokio::test]
async fn d10_registry() {
    let lab = Lab::docker(2).await;
    lab.sh("docker pull -q busybox && docker tag busybox registry:5000/app:1").await;
    lab.refused("docker push registry:5000/app:1", 1, "no basic auth credentials").await;
    assert!(
        lab.sh("echo secret | docker login -u ann --password-stdin registry:5000")
            .await
            .contains("Login Succeeded")
    );
    assert!(lab.sh("docker push registry:5000/app:1").await.contains("1: digest: sha256:"));
    lab.refused(
        "echo wrong | docker login -u ann --password-stdin registry:5000",
        1,
        "failed with status: 401 Unauthorized",
    )
    .await;
    lab.sh_on(
        "node2",
        "echo secret | docker login -u ann --password-stdin registry:5000 && docker pull registry:5000/app:1",
    )
    .await;
    assert_eq!(lab.sh_on("node2", "docker run --rm registry:5000/app:1 echo there").await, "there");
    lab.refused("docker pull registry:5000/nothing", 1, "not found").await;
    lab.end().await;
}

#[tokio::test]
async fn d10_what_is_shared_is_moved_by_nobody_else() {
    let (lab, other) = (Lab::docker(1).await, Lab::docker(1).await);
    let login = "echo secret | docker login -u ann --password-stdin registry:5000 && docker pull -q busybox";
    lab.sh(&format!(
        "{login} && docker tag busybox registry:5000/shared/d10:1 && docker push registry:5000/shared/d10:1"
    ))
    .await;
    let evil = "docker run --name evil busybox touch /evil && docker commit evil registry:5000/shared/d10:1";
    other
        .sh(&format!("{login} && {evil} && docker tag registry:5000/shared/d10:1 registry:5000/shared/d10:2"))
        .await;
    let refusal = "denied: shared/d10:1 is another session's: push another tag";
    other.refused("docker push registry:5000/shared/d10:1", 1, refusal).await;
    other.sh("docker push registry:5000/shared/d10:2").await;
    lab.sh("docker rmi -f registry:5000/shared/d10:1 && docker run --rm registry:5000/shared/d10:1 test ! -e /evil").await;
    let server = lab.server();
    let shared = server.cli(&["registry", "shared"]).await.ok().text();
    assert!(shared.contains(&format!("shared/d10:1  {}", lab.id)), "{shared}");
    server.cli(&["registry", "delete", "shared/d10:1"]).await.ok();
    other.sh("docker push registry:5000/shared/d10:1").await;
    for tag in ["1", "2"] {
        server.cli(&["registry", "delete", &format!("shared/d10:{tag}")]).await.ok();
    }
    other.end().await;
    lab.end().await;
}

#[tokio::test]
async fn d11_volumes() {
    let lab = Lab::docker(1).await;
    lab.sh("docker volume create vv && docker run --rm -v vv:/app busybox sh -c 'echo kept > /app/f'").await;
    assert_eq!(
        lab.sh(
            "docker run --rm -v vv:/app:ro busybox sh -c 'cat /app/f; touch /app/g 2>/dev/null || echo ro'"
        )
        .await,
        "kept\nro"
    );
    assert_eq!(lab.sh("cat $(docker volume inspect -f '{{.Mountpoint}}' vv)/f").await, "kept");
    assert_eq!(
        lab.sh(
            "mkdir -p /srv/d && docker run --rm -v /srv/d:/d busybox sh -c 'echo x > /d/y' && cat /srv/d/y"
        )
        .await,
        "x"
    );
    assert_eq!(lab.sh("docker run --rm --mount type=tmpfs,target=/t,tmpfs-size=1m busybox sh -c 'df -k /t | tail -1 | awk \"{print \\$2}\"'").await, "1024");
    assert_eq!(
        lab.sh("echo one > /srv/file && docker run --rm -v /srv/file:/deep/er:ro busybox cat /deep/er").await,
        "one"
    );
    lab.refused(
        "docker run --rm --mount type=bind,src=/nowhere,dst=/x busybox true",
        125,
        "bind source path does not exist: /nowhere",
    )
    .await;
    lab.sh("docker run -d --name cc -v vv:/app busybox sleep 1000").await;
    lab.refused("docker volume rm vv", 1, "volume is in use").await;
    lab.sh("docker rm -f cc && docker volume rm vv").await;
    lab.sh("docker run --name anon -v /data busybox true && docker rm -v anon").await;
    assert_eq!(lab.sh("docker volume ls -q | wc -l").await, "0");
    lab.end().await;
}

#[tokio::test]
async fn d12_inspect_is_what_the_kernel_shows() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name cc -v vv:/app busybox sleep 1000").await;
    let inspect = json(&lab.sh("docker inspect cc").await);
    let (c, pid) = (&inspect[0], inspect[0]["State"]["Pid"].as_i64().unwrap());
    let address = c["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap();
    assert_eq!(
        lab.sh(&format!("nsenter -t {pid} -n ip -4 -o addr show eth0 | awk '{{print $4}}' | cut -d/ -f1"))
            .await,
        address
    );
    // A network without IPv6 gives no address of it either.
    assert_eq!(lab.sh("docker exec cc ip addr show eth0 | grep -c inet6; true").await, "0");
    let id = c["Id"].as_str().unwrap();
    assert!(
        lab.sh(&format!("grep -h pids /proc/{pid}/cgroup || cat /proc/{pid}/cgroup"))
            .await
            .ends_with(&format!("/docker/{id}"))
    );
    assert!(lab.sh(&format!("grep ' /app ' /proc/{pid}/mountinfo")).await.contains("/vv/_data"));
    // The layers are real directories, and the container's root is their overlay.
    let data = &c["GraphDriver"]["Data"];
    let merged = data["MergedDir"].as_str().unwrap();
    assert!(lab.sh(&format!("mount | grep ' {merged} '")).await.contains("type overlay"));
    let upper = data["UpperDir"].as_str().unwrap();
    assert_eq!(lab.sh(&format!("docker exec cc sh -c 'echo mine > /own; rm /etc/group' && cat {upper}/own && stat -c %t,%T {upper}/etc/group")).await, "mine\n0,0");
    let lower = data["LowerDir"].as_str().unwrap().split(':').next().unwrap();
    assert!(lab.sh(&format!("ls {lower}")).await.contains("bin"));
    lab.end().await;
}

#[tokio::test]
async fn d13_restart_policies() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name always --restart always busybox sleep 1000
         docker run -d --name unless --restart unless-stopped busybox sleep 1000
         docker run -d --name fails --restart on-failure:2 busybox sh -c 'exit 1'
         docker run -d --name no busybox sleep 1000
         docker run -d --name stopped --restart unless-stopped busybox sleep 1000
         docker stop -t 0 stopped")
        .await;
    let count = "docker inspect -f '{{.RestartCount}}' always";
    lab.sh(&format!("kill -9 $(docker inspect -f '{{{{.State.Pid}}}}' always); until [ $({count}) = 1 ]; do sleep 0.05; done")).await;
    lab.sh("timeout 20 sh -c 'until [ \"$(docker inspect -f \"{{.State.Status}} {{.RestartCount}}\" fails)\" = \"exited 2\" ]; do sleep 0.05; done'").await;
    // A new engine takes the running ones over.
    let pid = lab.sh("docker inspect -f '{{.State.Pid}}' no").await;
    lab.sh("systemctl restart docker").await;
    assert_eq!(lab.sh("docker inspect -f '{{.State.Pid}}' no").await, pid);
    assert_eq!(
        lab.sh("docker inspect -f '{{.Name}}={{.State.Status}}' always unless no stopped fails | xargs")
            .await,
        "/always=running /unless=running /no=running /stopped=exited /fails=exited"
    );
    // The machine goes down: policies decide what comes back.
    lab.server().cli(&["session", "show", lab.id.as_str()]).await.ok();
    lab.end().await;
}

#[tokio::test]
async fn d14_networks() {
    let lab = Lab::docker(1).await;
    lab.sh("docker network create one && docker network create --subnet 10.9.0.0/24 two && docker run -d --name aa --network one busybox sleep 1000 && docker run -d --name bb --network two --network-alias bee busybox sleep 1000").await;
    assert_eq!(lab.sh("docker run --rm --network one busybox sh -c 'ping -c1 -w5 aa >/dev/null && echo yes; grep nameserver /etc/resolv.conf'").await, "yes\nnameserver 127.0.0.11");
    lab.refused("docker run --rm --network one busybox ping -c1 -w2 bb", 1, "bad address").await;
    // Isolated also by address.
    lab.refused("docker exec aa ping -c1 -w2 10.9.0.2", 1, "100% packet loss").await;
    lab.sh("docker network connect two aa && docker exec aa ping -c1 -w5 bee && docker network disconnect two aa").await;
    lab.refused("docker exec aa ping -c1 -w2 bb", 1, "bad address").await;
    lab.refused("docker network rm one", 1, "has active endpoints").await;
    lab.refused("docker network rm bridge", 1, "bridge is a pre-defined network and cannot be removed").await;
    lab.refused("docker network create one", 1, "network with name one already exists").await;
    lab.sh("docker rm -f aa bb && docker network rm one two").await;
    assert_eq!(
        lab.sh("docker network ls --format '{{.Name}} {{.Driver}}' | sort | xargs").await,
        "bridge bridge host host none null"
    );
    lab.end().await;
}

#[tokio::test]
async fn d15_compose() {
    let lab = Lab::docker(1).await;
    lab.sh("mkdir -p /root/shop && cd /root/shop && cat > compose.yaml <<'EOF'
services:
  web:
    image: busybox
    stop_grace_period: 0s
    command: httpd -f -h /data
    volumes: [ \"pages:/data\" ]
    ports: [ \"80\" ]
    depends_on: { db: { condition: service_healthy } }
  db:
    image: busybox
    stop_grace_period: 0s
    command: sh -c 'touch /ready; echo db up; exec sleep 1000'
    healthcheck: { test: test -e /ready, interval: 1s }
    configs: [ greeting ]
configs: { greeting: { content: \"hi\\n\" } }
volumes: { pages: {} }
EOF")
        .await;
    let up = lab.try_sh("cd /root/shop && docker compose up -d").await;
    assert!(up.ok().stderr.contains("Healthy"), "{}", up.stderr);
    assert_eq!(lab.sh("cd /root/shop && docker compose ps --services | sort | xargs").await, "db web");
    assert_eq!(lab.sh("cd /root/shop && docker compose exec -T db cat /greeting").await, "hi");
    assert_eq!(lab.sh("cd /root/shop && echo page > p && docker compose cp p web:/data/index.html 2>/dev/null && curl -sf $(docker compose port web 80)").await, "page");
    assert!(lab.sh("cd /root/shop && docker compose logs db").await.contains("db up"));
    assert_eq!(
        lab.sh("cd /root/shop && docker compose exec -T web ping -c1 -w5 db >/dev/null && echo reached")
            .await,
        "reached"
    );
    // A second copy beside it.
    lab.sh("cd /root/shop && docker compose -p two up -d 2>&1").await;
    assert!(lab.sh("docker compose ls").await.contains("two"));
    assert_eq!(lab.sh("docker ps -q | wc -l").await, "4");
    lab.sh("cd /root/shop && docker compose -p two down -v 2>&1 && docker compose stop 2>&1 && docker compose start 2>&1 && docker compose up -d --scale web=2 2>&1").await;
    assert_eq!(lab.sh("cd /root/shop && docker compose ps -q web | wc -l").await, "2");
    lab.sh("cd /root/shop && docker compose down -v 2>&1").await;
    assert_eq!(
        lab.sh("docker ps -aq | wc -l; docker volume ls -q | wc -l; docker network ls -q | wc -l").await,
        "0\n0\n3"
    );
    lab.end().await;
}

#[tokio::test]
async fn d16_files() {
    let lab = Lab::docker(1).await;
    lab.sh("docker run -d --name cc busybox sleep 1000").await;
    lab.sh("mkdir -p /root/t/d && echo x > /root/t/f && chown 7:8 /root/t/f && chmod 4751 /root/t/f && ln -s f /root/t/l && docker cp -a /root/t cc:/opt && docker cp -a cc:/opt /root/back").await;
    assert_eq!(
        lab.sh("cd /root/back && stat -c '%a %u %g' f && readlink l && test -d d && cat f").await,
        "4751 0 0\nf\nx"
    );
    assert_eq!(
        lab.sh("docker exec cc rm /etc/group; docker diff cc | grep -e group -e '/opt$' | sort").await,
        "A /opt\nD /etc/group"
    );
    lab.refused("docker cp cc:/nothing /tmp", 1, "Could not find the file /nothing in container cc").await;
    // A link of the container leads nowhere outside of it.
    assert_eq!(
        lab.sh("docker exec cc ln -s /etc/shadow /evil; docker cp -L cc:/evil - 2>&1 | grep -c root:; true")
            .await,
        lab.sh("docker exec cc grep -c root: /etc/shadow 2>/dev/null || echo 0").await
    );
    lab.sh("docker commit -m note -c 'CMD [\"cat\",\"/opt/f\"]' cc snap:1").await;
    assert_eq!(lab.sh("docker run --rm snap:1").await, "x");
    let ids = lab.sh("docker save snap:1 busybox > /root/s.tar && docker inspect -f '{{.Id}}' snap:1 && docker rm -f cc >/dev/null && docker rmi -f snap:1 busybox >/dev/null && docker load -i /root/s.tar && docker inspect -f '{{.Id}}' snap:1").await;
    let ids: Vec<&str> = ids.lines().filter(|l| l.starts_with("sha256:")).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(lab.sh("docker run --rm snap:1 stat -c '%a %u' /opt/f").await, "4751 7");
    lab.sh("docker create --name ee snap:1 && docker export ee | docker import - flat:1").await;
    assert_eq!(lab.sh("docker run --rm flat:1 cat /opt/l").await, "x");
    lab.refused("head -c 1000 /root/s.tar | docker load", 1, "").await;
    lab.end().await;
}

#[tokio::test]
async fn d17_limits() {
    let lab = Lab::docker(1).await;
    lab.sh("docker pull -q busybox").await;
    lab.refused("docker run --name oom --memory 16m busybox sh -c 'tail /dev/zero'", 137, "").await;
    assert_eq!(lab.sh("docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' oom").await, "true 137");
    // Another process than the first is killed: that is told at once, and stays true.
    lab.sh("docker run -d --name child --memory 16m busybox sh -c 'tail /dev/zero; exec sleep 1000'").await;
    let events = "docker events --since 1m --until 0s --filter container=child --filter event=oom --format '{{.Action}}'";
    let first = format!("for i in $(seq 200); do {events} | grep . && exit; sleep 0.1; done; exit 1");
    assert_eq!(lab.sh(&first).await, "oom");
    let state = "docker inspect -f '{{.State.OOMKilled}} {{.State.Status}} {{.State.ExitCode}}' child";
    assert_eq!(lab.sh(state).await, "true running 0");
    lab.sh("docker kill -s INT child; docker stop -t 0 child").await;
    assert!(lab.sh(state).await.starts_with("true exited"));
    assert!(lab.sh("docker run --rm --pids-limit 5 busybox sh -c 'for i in 1 2 3 4 5 6 7; do sleep 1 & done' 2>&1; true").await.contains("can't fork"));
    lab.sh("docker run -d --name half --cpus 0.5 --memory 64m busybox sh -c 'while :; do :; done'").await;
    let group = "d=/sys/fs/cgroup; id=$(docker inspect -f '{{.Id}}' half);";
    let quota = lab.sh(&format!("{group} cat $d/docker/$id/cpu.max 2>/dev/null || cat $d/cpu*/docker/$id/cpu.cfs_quota_us | head -1")).await;
    assert!(quota.starts_with("50000"), "{quota}");
    let memory = lab.sh(&format!("{group} cat $d/docker/$id/memory.max 2>/dev/null || cat $d/memory/docker/$id/memory.limit_in_bytes")).await;
    assert_eq!(memory, "67108864");
    let cpu = lab.sh("docker stats --no-stream --format '{{.CPUPerc}}' half").await;
    let cpu: f64 = cpu.trim_end_matches('%').parse().unwrap();
    // How much it gets depends on what else runs here; more than its quota it never gets.
    assert!(cpu > 0.0 && cpu < 65.0, "{cpu}");
    lab.sh("docker update --memory 96m --memory-swap 96m half").await;
    assert_eq!(lab.sh("docker inspect -f '{{.HostConfig.Memory}}' half").await, "100663296");
    lab.end().await;
}

#[tokio::test]
async fn two_hundred_containers_start_and_leave_nothing() {
    let server = std::sync::Arc::new(drydock_e2e::Server::start(&[
        "--session-pids",
        "3000",
        "--session-memory",
        "4GiB",
    ]));
    let lab = Lab::on(server, 1).await;
    lab.sh("docker pull -q busybox; docker run --rm busybox true").await;
    let count = "echo $(mount | grep -c ' /var/lib/docker/overlay2') $(ip -o link | grep -c veth) \
                 $(find /sys/fs/cgroup -path '*/docker/ready' -prune -o -path '*/docker/*' -name cgroup.procs -print | wc -l) \
                 $(ls /var/lib/docker/overlay2 /var/lib/docker/containers | wc -l) $(pgrep -cx sleep)";
    // The kernel takes its time over interfaces of a namespace that has ended.
    lab.sh("for i in $(seq 100); do ip -o link | grep -q veth || exit 0; sleep 0.1; done; exit 1").await;
    let before = lab.sh(count).await;
    lab.sh("for i in $(seq 200); do echo $i; done | xargs -P 8 -I{} docker run -d --name c{} busybox sleep 10000 > /dev/null").await;
    assert_eq!(lab.sh("docker ps -q | wc -l").await, "200");
    // Each is a process with an address of its own.
    assert_eq!(lab.sh("pgrep -xc sleep; docker ps -q | xargs docker inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' | sort -u | wc -l").await, "200\n200");
    assert_eq!(lab.sh("docker exec c200 ping -c1 -w5 $(docker inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' c1) > /dev/null && echo there").await, "there");
    lab.sh("docker ps -aq | xargs docker rm -f > /dev/null").await;
    lab.sh(&format!(
        "for i in $(seq 100); do [ \"$({count})\" = '{before}' ] && exit; sleep 0.1; done; {count}; exit 1"
    ))
    .await;
    lab.end().await;
}
