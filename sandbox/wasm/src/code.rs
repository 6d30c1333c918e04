//! Modules and components as machine code: compiled here, or taken from a file that was compiled earlier.

use std::path::Path;
use wasmtime::{Config, Engine, Module, Precompiled, Result, bail, component::Component};

/// What can be run.
pub enum Code {
    /// WASI preview 1.
    Module(Module),
    /// WASI preview 2.
    Component(Component),
}

/// What a binary file is (WebAssembly core specification, 5.5.16; component model, Binary.md).
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Module,
    Component,
}

/// The engine of this process. Compiled code fits only an engine that is configured alike.
pub fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config.wasm_component_model(true);
    Engine::new(&config)
}

/// Takes code that [`compile`] made.
#[allow(unsafe_code, reason = "wasmtime cannot know where machine code comes from")]
pub fn load(engine: &Engine, path: &Path) -> Result<Code> {
    // SAFETY: machine code can do whatever its process may. The file is on the node's disk, where the node's root may have put anything;
    // that is why code is loaded in this program only, never in the engine or any other process of the sandbox: this process
    // was executed inside the container and may do no more than any program that the same root could have started there.
    // The container itself has had no way to the file: it gets a descriptor for reading.
    unsafe {
        match Engine::detect_precompiled_file(path)? {
            Some(Precompiled::Module) => Ok(Code::Module(Module::deserialize_file(engine, path)?)),
            Some(Precompiled::Component) => Ok(Code::Component(Component::deserialize_file(engine, path)?)),
            None => bail!("{} holds no compiled code", path.display()),
        }
    }
}

/// Compiles and keeps the code in memory.
pub fn build(engine: &Engine, binary: &[u8]) -> Result<Code> {
    Ok(match kind(binary)? {
        Kind::Module => Code::Module(Module::from_binary(engine, binary)?),
        Kind::Component => Code::Component(Component::from_binary(engine, binary)?),
    })
}

/// Compiles to what [`load`] takes.
pub fn compile(engine: &Engine, binary: &[u8]) -> Result<Vec<u8>> {
    match kind(binary)? {
        Kind::Module => engine.precompile_module(binary),
        Kind::Component => engine.precompile_component(binary),
    }
}

fn kind(binary: &[u8]) -> Result<Kind> {
    match binary.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Ok(Kind::Module),
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(Kind::Component),
        _ => bail!("exec format error: neither a WebAssembly module nor a component"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart() {
        assert_eq!(kind(b"\0asm\x01\0\0\0").unwrap(), Kind::Module);
        assert_eq!(kind(b"\0asm\x0d\0\x01\0").unwrap(), Kind::Component);
        for wrong in [&b"\x7fELF\x02\x01\x01\0"[..], b"\0asm", b"", b"(module)"] {
            assert!(kind(wrong).is_err());
        }
    }

    #[test]
    fn code_that_is_kept_runs_and_rubbish_is_refused() {
        let engine = engine().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        std::fs::write(&kept, compile(&engine, b"\0asm\x01\0\0\0").unwrap()).unwrap();
        assert!(matches!(load(&engine, &kept).unwrap(), Code::Module(_)));
        std::fs::write(&kept, compile(&engine, b"\0asm\x0d\0\x01\0").unwrap()).unwrap();
        assert!(matches!(load(&engine, &kept).unwrap(), Code::Component(_)));
        std::fs::write(&kept, "rubbish").unwrap();
        assert!(load(&engine, &kept).is_err());
    }
}
