//! What BuildKit's users see of a build, by the official client in a node.

use drydock_e2e::Lab;

/// A build with `--progress=plain`, whatever becomes of it.
async fn build(lab: &Lab, arguments: &str, dockerfile: &str) -> String {
    let script = format!(
        "mkdir -p /b && cd /b && echo content > f && cat > Dockerfile <<'DOCKERFILE'\n{dockerfile}\nDOCKERFILE\n\
         docker build --progress=plain {arguments} . 2>&1 || true"
    );
    lab.sh(&script).await
}

#[tokio::test]
async fn d8_exported_files_keep_their_links() {
    let lab = Lab::docker(1).await;
    build(&lab, "-o /out", "FROM busybox").await;
    build(&lab, "-o type=tar,dest=/out.tar", "FROM busybox").await;
    let same = "[ /out/bin/ls -ef /out/bin/cat ] && test $(stat -c %s /out.tar) -lt 10000000";
    lab.sh(&format!("{same} && mkdir /t && tar xf /out.tar -C /t && [ /t/bin/ls -ef /t/bin/cat ]")).await;
    lab.end().await;
}

#[tokio::test]
async fn d8_steps_are_named_and_numbered_as_by_buildkit() {
    let lab = Lab::docker(1).await;
    build(&lab, "-t triggers", "FROM busybox\nONBUILD RUN echo triggered\nONBUILD COPY f /f").await;
    let output = build(
        &lab,
        "--no-cache -t built",
        "FROM triggers AS base\nARG V=1\nENV E=env\nFROM base\nRUN echo \"$V $E\"\nCOPY <<A /a\ntext\nA",
    )
    .await;
    for line in [
        "[base 2/3] ONBUILD RUN echo triggered",
        "[base 3/3] ONBUILD COPY f /f",
        "[stage-1 1/2] RUN echo \"1 env\"",
        "[internal] preparing inline document",
        "[stage-1 2/2] COPY <<A /a",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    assert!(output.lines().any(|line| line.ends_with(" 1 env")), "{output}");
    let du = lab.sh("docker buildx du --verbose").await;
    assert!(du.contains("mount / from exec /bin/sh -c echo \"$V $E\"\n"), "{du}");
    assert!(du.contains("[stage-1 2/2] COPY <<A /a\n"), "{du}");
    assert!(lab.sh("docker buildx inspect").await.contains("GC Policy rule#3"));
    lab.end().await;
}

#[tokio::test]
async fn d8_a_file_is_checked_before_its_steps_run() {
    let lab = Lab::docker(1).await;
    for (wrong, error) in [
        ("EXPOSE 99999999", "invalid containerPort: 99999999"),
        ("STOPSIGNAL nonsense", "invalid signal: nonsense"),
        ("COPY --from=5 f /", "invalid stage index 5"),
        ("COPY --from=no-such-image f /", "no-such-image: failed to resolve source metadata for"),
    ] {
        let output = build(&lab, "", &format!("FROM busybox\nRUN echo step\n{wrong}")).await;
        assert!(output.contains(&format!("failed to solve: {error}")), "{output}");
        assert!(!output.contains("] RUN echo step\n#"), "{output}");
    }
    let outline = build(&lab, "--call=outline", "# V the version\nARG V=1\nFROM busybox:latest\nARG V").await;
    assert!(outline.contains("V           1       the version"), "{outline}");
    let checked = build(&lab, "--check", "FROM busybox\nRUNN x").await;
    assert!(checked.contains("unknown instruction: RUNN (did you mean RUN?)"), "{checked}");
    lab.end().await;
}

#[tokio::test]
async fn d8_images_have_the_tags_of_course_material() {
    let lab = Lab::docker(1).await;
    for name in ["debian:stable-slim", "debian:trixie-slim", "busybox:stable", "nginx:stable"] {
        lab.sh(&format!("docker pull -q {name}")).await;
    }
    let refused = lab.sh("docker pull busybox:0.1 2>&1 || true").await;
    assert!(refused.contains("manifest unknown") && refused.contains("busybox:stable"), "{refused}");
    lab.end().await;
}

#[tokio::test]
async fn d8_the_classic_builder_goes_on_from_an_image_of_a_registry() {
    let lab = Lab::docker(1).await;
    lab.sh(
        "mkdir app && cd app && echo 1 > a && echo 1 > b && docker pull -q busybox && docker login -u ann -p pw registry:5000 && \
         printf 'FROM busybox\\nENV X=1\\nCOPY a /a\\nRUN date > /made\\nCOPY b /b\\nCMD [\"cat\", \"/made\"]\\n' > Dockerfile",
    )
    .await;
    let build = |more: &str| format!("cd app && DOCKER_BUILDKIT=0 docker build {more} . 2>&1");
    lab.sh(&build("-t registry:5000/ann/app")).await;
    let made = lab.sh("docker run --rm registry:5000/ann/app").await;
    lab.sh("docker push -q registry:5000/ann/app && docker rmi registry:5000/ann/app").await;
    lab.sh("docker pull -q registry:5000/ann/app").await;
    let cached = async |from: &str| lab.sh(&build(from)).await.matches("Using cache").count();
    let from = "--cache-from registry:5000/ann/app";
    assert_eq!(cached(&format!("{from} -t again")).await, 5);
    assert_eq!(
        lab.sh("docker inspect -f '{{.Id}}' again").await,
        lab.sh("docker inspect -f '{{.Id}}' registry:5000/ann/app").await
    );
    lab.sh("echo 2 > app/b").await;
    assert_eq!(cached(&format!("{from} -t other")).await, 3, "up to the file that has changed");
    assert_eq!(lab.sh("docker run --rm other sh -c 'cat /made /b'").await, format!("{made}\n2"));
    assert_eq!(cached("--cache-from nosuch").await, 0, "only those images count");
    lab.end().await;
}

/// `app` in the working directory: three steps that make layers, of which the last needs a file.
const APP: &str = "mkdir -p app && cd app && echo 1 > a && echo 1 > b && docker pull -q busybox && \
    printf 'FROM busybox\\nENV X=1\\nCOPY a /a\\nRUN cat /proc/sys/kernel/random/uuid > /made\\nCOPY b /b\\nCMD [\"cat\", \"/made\"]\\n' > Dockerfile";

#[tokio::test]
async fn d8_an_image_says_which_steps_made_it() {
    let lab = Lab::docker(2).await;
    let image = "registry:5000/inline/app";
    for node in ["node1", "node2"] {
        lab.sh_on(node, &format!("docker login -u inline -p pw registry:5000 && {APP}")).await;
    }
    let build = |more: &str| format!("cd app && docker build --progress=plain {more} . 2>&1");
    let output = lab.sh(&build(&format!("-t {image} --cache-to type=inline"))).await;
    assert!(output.contains("preparing layers for inline cache\n"), "{output}");
    let made = lab.sh(&format!("docker push -q {image} > /dev/null && docker run --rm {image}")).await;

    // Another node, which has the same files and base image.
    let from = format!("--cache-from {image}");
    let output = lab.sh_on("node2", &build(&format!("{from} --cache-to type=inline -t again"))).await;
    assert!(output.contains(&format!("importing cache manifest from {image}\n")), "{output}");
    assert_eq!(output.matches(" CACHED").count(), 3, "{output}");
    assert_eq!(lab.sh_on("node2", "docker run --rm again").await, made);
    let id = |name: &str| format!("docker inspect -f '{{{{.Id}}}}' {name}");
    assert_eq!(lab.sh_on("node2", &id("again")).await, lab.sh(&id(image)).await);
    assert_eq!(
        lab.sh_on("node2", &format!("docker images -q {image}")).await,
        "",
        "only its layers were fetched"
    );
    // The steps are this node's own from now on.
    let output = lab.sh_on("node2", &build("-t plain")).await;
    assert_eq!(output.matches(" CACHED").count(), 3, "{output}");
    assert_eq!(
        lab.sh_on("node2", "docker history plain | wc -l").await,
        lab.sh(&format!("docker history {image} | wc -l")).await
    );

    // Up to the file that has changed, also when the image is here.
    lab.sh_on("node2", "docker rmi -f again plain && docker builder prune -af && docker pull -q registry:5000/inline/app && echo 2 > app/b").await;
    let output = lab.sh_on("node2", &build(&format!("{from} -t other"))).await;
    assert_eq!(output.matches(" CACHED").count(), 2, "{output}");
    assert_eq!(
        lab.sh_on("node2", "docker run --rm other sh -c 'cat /made /b; echo $X'").await,
        format!("{made}\n2\n1")
    );
    lab.end().await;
}

#[tokio::test]
async fn d8_a_cache_that_is_not_there_is_no_hindrance() {
    let lab = Lab::docker(1).await;
    lab.sh(&format!("docker login -u inline -p pw registry:5000 && {APP}")).await;
    let build = |more: &str| format!("cd app && docker build --progress=plain -t x {more} . 2>&1");
    let output = lab.sh(&build("--cache-from registry:5000/inline/none")).await;
    let error =
        "ERROR: failed to configure registry cache importer: registry:5000/inline/none:latest: not found";
    assert!(output.contains(error), "{output}");
    // An image without a word of its steps.
    let output = lab.sh(&build("--cache-from busybox")).await;
    assert!(
        output.contains("importing cache manifest from busybox\n") && !output.contains("ERROR"),
        "{output}"
    );
    let refused = lab.try_sh(&build("--cache-to type=registry,ref=registry:5000/inline/cache")).await;
    let text = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(
        !refused.status.success() && text.contains("Cache export is not supported for the docker driver"),
        "{text}"
    );
    lab.end().await;
}

#[tokio::test]
async fn d8_a_build_that_is_given_up_says_what_was_running() {
    let lab = Lab::docker(1).await;
    let script = "mkdir -p /b && cd /b && printf 'FROM busybox\\nRUN echo begun && sleep 1000\\n' > Dockerfile && mkfifo out && \
        { docker build --progress=plain . > out 2>&1 & } && build=$! && \
        while read -r line; do echo \"$line\"; case $line in *' begun') kill -INT $build;; esac; done < out; \
        wait $build; echo \"exit $?\"; docker ps -aq";
    let output = lab.sh(script).await;
    assert!(output.contains(" CANCELED\n"), "{output}");
    let end = "ERROR: failed to build: failed to solve: Canceled: context canceled\nexit 130";
    assert!(output.ends_with(end), "{output}");
    lab.end().await;
}

#[tokio::test]
async fn d3_what_is_pushed_is_an_image_of_dockers_own_kind() {
    let lab = Lab::docker(1).await;
    lab.sh("docker login -u kind -p pw registry:5000 && mkdir c && printf 'FROM busybox\\nRUN echo x > /x\\n' > c/Dockerfile && \
        docker build -q -t registry:5000/kind/x c && docker push -q registry:5000/kind/x").await;
    let kinds = "docker manifest inspect --insecure registry:5000/kind/x | grep mediaType";
    let docker = "application/vnd.docker";
    let expected = [
        format!("\"mediaType\": \"{docker}.distribution.manifest.v2+json\","),
        format!("\"mediaType\": \"{docker}.container.image.v1+json\","),
        format!("\"mediaType\": \"{docker}.image.rootfs.diff.tar.gzip\","),
        format!("\"mediaType\": \"{docker}.image.rootfs.diff.tar.gzip\","),
    ];
    let kinds = lab.sh(kinds).await;
    let kinds: Vec<_> = kinds.lines().map(str::trim).collect();
    assert_eq!(kinds, expected);
    lab.end().await;
}

#[tokio::test]
async fn d8_the_agent_of_a_client_is_for_whom_the_file_says() {
    let lab = Lab::docker(1).await;
    let file = "FROM busybox\nRUN --mount=type=ssh ls -ln $SSH_AUTH_SOCK\n\
                RUN --mount=type=ssh,uid=1000,gid=1001,mode=0640 ls -ln $SSH_AUTH_SOCK";
    let output = lab
        .sh(&format!(
            "eval $(ssh-agent) > /dev/null; mkdir -p /b && cd /b && printf '{}\\n' > Dockerfile && \
             docker build --progress=plain --ssh default . 2>&1; kill $SSH_AGENT_PID",
            file.replace('\n', "\\n")
        ))
        .await;
    let shown: Vec<Vec<&str>> = output
        .lines()
        .filter(|line| line.contains(" srw"))
        .map(|line| line.split_whitespace().skip(2).take(4).collect())
        .collect();
    assert_eq!(shown, [["srw-------", "1", "0", "0"], ["srw-r-----", "1", "1000", "1001"]], "{output}");
    lab.end().await;
}

#[tokio::test]
async fn d8_another_frontend_than_dockers_is_refused() {
    let lab = Lab::docker(1).await;
    for own in ["docker/dockerfile:1", "docker/dockerfile:1.7-labs", "docker.io/docker/dockerfile:latest"] {
        let output = build(&lab, "", &format!("# syntax={own}\nFROM busybox")).await;
        assert!(!output.contains("ERROR"), "{output}");
    }
    let output = build(&lab, "", "# syntax=foo/bar:1\nwhatever it is").await;
    assert!(output.contains("resolve image config for docker-image://docker.io/foo/bar:1"), "{output}");
    assert!(
        output.contains("failed to solve: failed to resolve source metadata for docker.io/foo/bar:1"),
        "{output}"
    );
    let output = build(&lab, "", "# syntax=busybox\nFROM busybox").await;
    assert!(output.contains("frontend docker.io/library/busybox:latest can't be run here"), "{output}");
    lab.end().await;
}

#[tokio::test]
async fn d8_a_step_that_fails_leaves_nothing() {
    let lab = Lab::docker(1).await;
    let output = build(&lab, "-t none", "FROM busybox\nRUN echo x > /x; exit 3\n").await;
    assert!(output.contains("did not complete successfully: exit code: 3"), "{output}");
    assert_eq!(lab.sh("docker rmi busybox | head -n 1").await, "Untagged: busybox:latest");
    assert!(!lab.sh("docker system prune -f").await.contains("Deleted Containers"));
    lab.end().await;
}

#[tokio::test]
async fn d8_builds_at_the_same_time_make_a_step_once() {
    let lab = Lab::docker(1).await;
    let stages = "FROM busybox AS base\nCOPY f /\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /u\n\
                  FROM base AS x\nRUN echo x > /x\nFROM base AS y\nRUN echo y > /y\n";
    let script = format!(
        "mkdir /s && cd /s && echo content > f && cat > Dockerfile <<'DOCKERFILE'\n{stages}DOCKERFILE\n\
         docker build -q -t of-x --target x . & docker build -q -t of-y --target y . & wait\n\
         for i in of-x of-y; do docker run --rm $i cat /u; done"
    );
    let output = lab.sh(&script).await;
    let seen: Vec<&str> = output.lines().filter(|line| line.len() == 36).collect();
    assert!(seen.len() == 2 && seen[0] == seen[1], "{output}");
    lab.end().await;
}
