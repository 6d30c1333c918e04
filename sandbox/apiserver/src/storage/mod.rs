//! Between objects and the store's records: keys, encoding, and writes that depend on what was read.

pub mod keys;
pub mod object;

pub use object::{Naming, decode, encode, facts, shared};
