//! Makes cargo embed the page anew when Trunk has built it anew. A fresh clone has no page: an empty folder then
//! stands for it, as cargo would otherwise run this at every build.

fn main() {
    if let Err(e) = std::fs::create_dir_all("../dist") {
        println!("cargo::warning=cannot make ../dist: {e}");
    }
    println!("cargo::rerun-if-changed=../dist");
}
