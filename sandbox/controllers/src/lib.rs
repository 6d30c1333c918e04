//! The controllers of the Kubernetes controller manager.
