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
