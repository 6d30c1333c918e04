//! The kubelet of a node: pods as containers of the node's engine.

use drydock_runtime::cluster::KubeletBoot;

/// Runs the kubelet.
pub fn run(_boot: KubeletBoot) -> i32 {
    0
}
