//! Dockerfiles and ignore files.
#![no_main]

use drydock_dockerfile::{ignore, language};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _either = language::parse(text);
    let patterns = ignore::read(text);
    if let Ok(patterns) = ignore::Patterns::new(&patterns) {
        patterns.matches("a/b.txt");
    }
});
