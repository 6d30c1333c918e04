//! The OCI distribution protocol: a client that pulls and pushes, and a registry
