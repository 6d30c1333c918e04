//! Neighbours of a container that has come learn which link-layer address its address has now. Addresses are given out again at once,
//! link-layer addresses are random: without this, those who knew the address's last owner send to nobody until they ask
//! again, which takes them seconds (libnetwork's `advertiseAddrs`).

use crate::{Endpoint, Inside, Networks, Result, inside::Namespace};
use drydock_runtime::{neighbours, netlink};
use nix::net::if_::if_nametoindex;
use std::{net::IpAddr, thread, time::Duration};

/// A port is looked at this often, and so many times, until the bridge lets it pass something (libnetwork's `waitForBridgePort`). It is
/// asked and not waited for: the kernel's own word of it comes up to a second late, and is brought forward by being asked
/// (net/core/link_watch.c).
const LOOKS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(5);

impl Networks {
    /// Tells it on a thread of its own, for nobody has to wait. That it fails is no reason to refuse a container.
    pub(crate) fn announce(&self, endpoints: Vec<Endpoint>, inside: &Inside) {
        if endpoints.is_empty() {
            return;
        }
        let namespace = match Namespace::of(inside) {
            Ok(namespace) => namespace,
            Err(error) => return tracing::debug!(%error, "neighbours learn later"),
        };
        let networks = self.clone();
        tokio::spawn(async move {
            // The child has the interface up by then.
            tokio::time::sleep(PAUSE).await;
            let told = networks.blocking(move |networks| {
                endpoints
                    .iter()
                    .filter(|endpoint| networks.passes(endpoint))
                    .try_for_each(|e| tell(e, &namespace))
            });
            if let Err(error) = told.await {
                tracing::debug!(%error, "neighbours learn later");
            }
        });
    }

    /// Waits until the bridge lets an endpoint's packets pass. Not so if its container has gone in the meantime.
    fn passes(&self, endpoint: &Endpoint) -> bool {
        for _ in 0..LOOKS {
            let known = self.state().endpoints_of(&endpoint.container).any(|known| known.id == endpoint.id);
            match netlink::forwards(&endpoint.host_interface) {
                Ok(passes) if known && !passes => thread::sleep(PAUSE),
                looked => return known && looked.is_ok(),
            }
        }
        false
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
