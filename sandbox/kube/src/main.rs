//! The program in the images of the control plane: etcd, kube-apiserver, kube-scheduler, kube-controller-manager.

fn main() {}
