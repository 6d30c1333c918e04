//! Makes of `schema/v1.35.jsonl` what the crate holds of it: tables of numbers into one string (no pointers, so that the linker has
//! nothing to relocate and all processes share the pages), and for each group and version the schemas of its OpenAPI document, compressed.

#[path = "schema/openapi.rs"]
mod openapi;
#[path = "schema/tables.rs"]
mod tables;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    for input in ["schema/v1.35.jsonl", "schema/openapi.rs", "schema/tables.rs", "build.rs"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("no OUT_DIR"))?);
    let mut types = BTreeMap::new();
    for line in fs::read_to_string("schema/v1.35.jsonl")?.lines() {
        let row: Value = serde_json::from_str(line)?;
        types.insert(row["name"].as_str().unwrap_or_default().to_string(), row);
    }
    fs::write(out.join("tables.rs"), tables::write(&types))?;
    openapi::write(&types, &out)
}
