//! A container that has come can be reached at once: its packets pass, and its neighbours learn which link-layer address its address has now. Addresses are given out again at once,
//! link-layer addresses are random: without this, those who knew the address's last owner send to nobody until they ask
//! again, which takes them seconds (libnetwork's `advertiseAddrs`).

use crate::{Endpoint, Networks, Result, inside::Namespace};
use drydock_runtime::{neighbours, netlink};
use nix::net::if_::if_nametoindex;
use std::{net::IpAddr, time::Duration};

/// A port is looked at this often, and so many times, until the bridge lets it pass something (libnetwork's `waitForBridgePort`). It is
/// asked and not waited for: the kernel's own word of it comes up to a second late, and is brought forward by being asked
/// (net/core/link_watch.c).
const LOOKS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

impl Networks {
    /// Waits until the bridges let a container's packets pass, whose interfaces are up; what is sent before is lost, and sent again
    /// after a second. Then its neighbours are told, for which nobody has to wait. That one of this fails is no reason to refuse a
    /// container.
    pub async fn settle(&self, container: &str) {
        let (endpoints, inside) = {
            let state = self.state();
            let plugged = state.endpoints_of(container).filter(|endpoint| endpoint.plugged);
            let inside = state.containers.get(container).and_then(|known| known.inside.clone());
            (plugged.cloned().collect::<Vec<_>>(), inside)
        };
        for endpoint in &endpoints {
            self.wait_for_port(endpoint).await;
        }
        let Some(inside) = inside.filter(|_| !endpoints.is_empty()) else { return };
        let namespace = match Namespace::of(&inside) {
            Ok(namespace) => namespace,
            Err(error) => return tracing::debug!(%error, "neighbours learn later"),
        };
        let networks = self.clone();
        tokio::spawn(async move {
            let told = networks.blocking(move |_| endpoints.iter().try_for_each(|e| tell(e, &namespace)));
            if let Err(error) = told.await {
                tracing::debug!(%error, "neighbours learn later");
            }
        });
    }

    async fn wait_for_port(&self, endpoint: &Endpoint) {
        if endpoint.host_interface.is_empty() {
            return;
        }
        for _ in 0..LOOKS {
            match netlink::forwards(&endpoint.host_interface) {
                Ok(false) => tokio::time::sleep(PAUSE).await,
                Ok(true) => return,
                Err(error) => return tracing::debug!(%error, "a port can't be looked at"),
            }
        }
    }
}

fn tell(endpoint: &Endpoint, namespace: &Namespace) -> Result<()> {
    let Some(mac) = endpoint.mac else { return Ok(()) };
    let name = endpoint.interface();
    let ipv6 = endpoint.ipv6.as_ref().map(|ipv6| IpAddr::V6(ipv6.address));
    namespace.run(|| {
        let failed = |e| crate::Error::io(&format!("announce the addresses of {name}"), &e);
        let index = if_nametoindex(name.as_str()).map_err(|e| failed(e.into()))?;
        let mut addresses = endpoint.address.map(IpAddr::V4).into_iter().chain(ipv6);
        addresses.try_for_each(|address| neighbours::announce(index, mac.0, address)).map_err(failed)
    })
}
