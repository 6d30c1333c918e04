//! The program that [`drydock_wasm`] is, linked statically.

use std::process::ExitCode;

fn main() -> ExitCode {
    drydock_wasm::main()
}
