//! The store of a cluster: MVCC with watches and leases, journalled, spoken to as etcd v3.
