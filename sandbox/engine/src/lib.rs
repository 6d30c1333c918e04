//! The Docker Engine API of a node
