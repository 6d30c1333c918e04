//! The crate embeds directories; a file that is new in one of them must be seen too.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=images");
    // Made by the Makefile. Until then its appearance is a change of this directory.
    println!("cargo::rerun-if-changed={}", if Path::new("gen").exists() { "gen" } else { "." });
}
