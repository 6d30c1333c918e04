//! The program of a WebAssembly container. A container's child executes it by descriptor when its namespaces, root, limits,
//! capabilities and filter are those of the container (`drydock_runtime::container::process`), so code compiled from a learner's module
//! never runs in a process that shares memory with the sandbox. It is linked statically: the container has no libraries for it.
//!
//! ```text
//! wasmtime run CODE MODULE ARGUMENTS…   CODE: `/proc/self/fd/N`, compiled earlier, or `-`
//! wasmtime compile                      MODULE from standard input, code to standard output
//! ```
//!
//! The engine of a node keeps compiled code (`drydock_engine`, `wasm.rs`); here nothing is written.

mod code;
mod command;
mod serve;
mod signals;

use code::Code;
use std::{
    ffi::OsString,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};
use wasmtime::{Engine, Result, bail, error::Context as _};

/// Largest module, in bytes.
const MAX_MODULE: u64 = 256 << 20;
/// As a shell shows SIGABRT, which is how wasmtime's own program ends after a trap.
const TRAPPED: u8 = 134;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let _only_cosmetic = rustix::thread::set_name(c"wasmtime");
    let mut arguments = std::env::args_os().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let done = match mode.to_str() {
        Some("run") => run(arguments),
        Some("compile") => compile().map(|()| 0),
        _ => Err(wasmtime::format_err!("this program is started by an engine: run CODE MODULE … or compile")),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let _nobody_reads = writeln!(std::io::stderr(), "Error: {error:?}");
            ExitCode::from(if error.is::<wasmtime::Trap>() { TRAPPED } else { 1 })
        }
    }
}

/// Runs a module or component and returns its exit status.
fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<u8> {
    // Before the first thread, since threads inherit the mask.
    signals::end_when_told();
    let code = arguments.next().filter(|code| code != "-").map(PathBuf::from);
    let Some(name) = arguments.next() else { bail!("no module is named") };
    // As a program of a container gets them: the module's name first.
    let words: Vec<String> =
        std::iter::once(name.clone()).chain(arguments).map(|a| a.to_string_lossy().into_owned()).collect();
    let engine = code::engine()?;
    let load = || load(&engine, code.as_deref(), Path::new(&name));
    match load()? {
        Code::Module(module) => single()?.block_on(command::module(&module, &words)),
        Code::Component(component) if serve::is_proxy(&component) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(serve::serve(&component, &words))
        }
        Code::Component(component) => single()?.block_on(command::component(&component, &words)),
    }
}

fn single() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Takes the code that is there, or compiles the module.
fn load(engine: &Engine, code: Option<&Path>, name: &Path) -> Result<Code> {
    // Code of another version of wasmtime, or for another processor, is refused.
    if let Some(code) = code.and_then(|path| code::load(engine, path).ok()) {
        return Ok(code);
    }
    let path = find(name).with_context(|| format!("exec: {name:?}: module not found in $PATH"))?;
    let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    code::build(engine, &read(file)?).with_context(|| format!("exec {}", path.display()))
}

/// A name without a slash is looked for in the working directory, then along PATH.
fn find(name: &Path) -> Option<PathBuf> {
    let is_file = |path: &PathBuf| path.is_file();
    if name.components().count() > 1 || name.is_absolute() {
        return Some(name.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(name.to_owned())
        .chain(std::env::split_paths(&path).map(|dir| dir.join(name)))
        .find(is_file)
}

fn read(file: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file.take(MAX_MODULE + 1).read_to_end(&mut bytes)? as u64 > MAX_MODULE {
        bail!("the module is larger than {} MiB", MAX_MODULE >> 20);
    }
    Ok(bytes)
}

/// Compiles for the engine, which keeps the code.
fn compile() -> Result<()> {
    // If the node has too little memory for this, this is what ends, and not the engine.
    let _best_effort = std::fs::write("/proc/self/oom_score_adj", "1000");
    let module = read(std::io::stdin().lock())?;
    let code = code::compile(&code::engine()?, &module)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&code)?;
    Ok(out.flush()?)
}
