//! Makes of the page's program, as rustc left it, what a browser can load: `NAME.js` and `NAME_bg.wasm` in a directory. It does what
//! `wasm-bindgen --target web --no-typescript` does.

use anyhow::{Context, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, directory] = &arguments[..] else {
        bail!("usage: drydock-bindgen PROGRAM.wasm DIRECTORY");
    };
    Bindgen::new()
        .input_path(program)
        .web(true)?
        .generate(directory)
        .with_context(|| format!("{program} can't be made loadable"))
}
