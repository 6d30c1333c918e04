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
