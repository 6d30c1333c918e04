//! The builder against an engine that keeps its images in a temporary directory. Needs root, for owners.

mod checking;
mod copying;
mod files;
mod steps;
mod world;
