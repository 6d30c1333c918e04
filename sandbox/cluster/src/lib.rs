//! What a cluster is set up with: certificates, kubeconfigs, static pods.
