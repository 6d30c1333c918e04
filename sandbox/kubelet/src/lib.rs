//! The kubelet of a node: pods as containers of the node's engine.
