//! The garbage collector (k8s.io/kubernetes/pkg/controller/garbagecollector). `graph` knows who owns whom, from watches of the metadata of
//! every kind; `decide` says what is to become of an object; `monitors` keeps the watches; `control` asks the API server.

pub mod control;
pub mod decide;
pub mod graph;
pub mod monitors;
