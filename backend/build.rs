//! Makes cargo embed the page anew when it was built anew, and the program of WebAssembly containers likewise. A fresh clone has
//! neither: an empty folder then stands for each, as cargo would otherwise run this at every build.

fn main() {
    for folder in ["../dist", "../sandbox/wasm/gen/debug", "../sandbox/wasm/gen/release"] {
        if let Err(e) = std::fs::create_dir_all(folder) {
            println!("cargo::warning=cannot make {folder}: {e}");
        }
        println!("cargo::rerun-if-changed={folder}");
    }
}
