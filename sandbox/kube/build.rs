//! Has the linker put the functions that an idle cluster needs side by side. A page of the program that is touched brings those around
//! it along, so that functions that are strewn over twenty megabytes have nearly all of these in memory.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=functions.order");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|is| is == value);
    // Where LLD links (it is rustc's own on this target), and the symbols are those that were recorded: their names tell the profile, too.
    let linked_so = is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("PROFILE", "release");
    if let Some(here) = env::var_os("CARGO_MANIFEST_DIR").filter(|_| linked_so) {
        let order = Path::new(&here).join("functions.order");
        println!(
            "cargo::rustc-link-arg-bins=-Wl,--symbol-ordering-file={},--no-warn-symbol-ordering",
            order.display()
        );
    }
}
