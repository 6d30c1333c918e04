//! Networks with the real kernel: each test is a node of its own (a network namespace), its containers are processes with
//! network namespaces of theirs. Nothing is left: a namespace ends with its last process. Needs root.

mod ipv6;
mod macvlan;
mod modes;
mod names;
mod ports;
mod reach;
mod restart;
mod rules;
mod world;
