//! What a learner does where the operator has opened a way out. Needs Debian's package mirror; on a machine that does not reach it by HTTP
//! there is nothing to try, and the test says so.

use drydock_e2e::{Lab, Server};
use std::{fs, net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};

const MIRROR: &str = "deb.debian.org:80";
const PATIENCE: Duration = Duration::from_secs(5);

/// Name servers of this machine that a node can reach as well.
fn resolvers() -> Vec<String> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
    let reached = |server: &Ipv4Addr| !server.is_loopback() && !server.to_string().starts_with("192.168.0.");
    servers.filter(reached).map(|server| server.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn d9_an_image_with_packages_and_an_ssh_server() {
    let resolvers = resolvers().join(",");
    let reached = timeout(PATIENCE, TcpStream::connect(MIRROR)).await.is_ok_and(|answer| answer.is_ok());
    if resolvers.is_empty() || !reached {
        eprintln!("not tried: {MIRROR} or a name server is out of reach");
        return;
    }
    let server = Server::start(&["--egress", "any tcp 80", "--resolvers", &resolvers]);
    let server = Arc::new(server);
    let lab = Lab::on(server.clone(), 1).await;
    lab.sh("mkdir /ssh && cd /ssh && cat > Dockerfile <<'EOF'\n\
        FROM debian\n\
        RUN apt-get -o Acquire::Retries=5 update && apt-get -o Acquire::Retries=5 install -y --no-install-recommends openssh-server\n\
        RUN mkdir -p /run/sshd && echo 'root:secret' | chpasswd\n\
        RUN echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/root.conf\n\
        EXPOSE 22\n\
        CMD [\"/usr/sbin/sshd\", \"-D\"]\n\
        EOF\n\
        docker build -q -t eg_sshd . && docker run -d -P --name test_sshd --hostname inside eg_sshd")
        .await;
    let history = lab.sh("docker history --no-trunc --format '{{.CreatedBy}}' eg_sshd").await;
    assert!(history.contains("EXPOSE [22/tcp]") && history.contains("openssh-server"), "{history}");
    // Logs in with the password, by the published port and by the container's address.
    lab.sh("printf '#!/bin/sh\\necho secret\\n' > /answer && chmod +x /answer").await;
    let ssh = "SSH_ASKPASS=/answer SSH_ASKPASS_REQUIRE=force ssh -o StrictHostKeyChecking=no -o ConnectTimeout=10 -o ConnectionAttempts=10";
    let by_port = format!(
        "{ssh} -p $(docker port test_sshd 22 | head -1 | cut -d: -f2) root@localhost 'hostname; id -un'"
    );
    assert_eq!(lab.sh(&by_port).await.trim(), "inside\nroot");
    let by_address =
        format!("{ssh} root@$(docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' test_sshd) hostname");
    assert_eq!(lab.sh(&by_address).await.trim(), "inside");
    // The host forwards packets by now. A node is a machine of its own, and Docker closes what it has opened itself.
    let other = Lab::on(server, 1).await;
    other.sh("docker pull -q busybox && docker run --rm busybox true").await;
    assert!(other.sh("iptables -S FORWARD").await.starts_with("-P FORWARD DROP"));
    other.end().await;
    lab.end().await;
}
