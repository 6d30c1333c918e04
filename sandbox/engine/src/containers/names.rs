//! Names: what is allowed, and those that the engine gives: an adjective and a person of science.

use super::Containers;
use crate::error::{Error, Result};

const ADJECTIVES: [&str; 64] = [
    "admiring",
    "amazing",
    "awesome",
    "beautiful",
    "blissful",
    "bold",
    "boring",
    "brave",
    "busy",
    "charming",
    "clever",
    "cool",
    "cranky",
    "crazy",
    "dazzling",
    "determined",
    "dreamy",
    "eager",
    "ecstatic",
    "elastic",
    "elegant",
    "eloquent",
    "epic",
    "exciting",
    "fervent",
    "festive",
    "flamboyant",
    "focused",
    "friendly",
    "frosty",
    "funny",
    "gallant",
    "gifted",
    "goofy",
    "gracious",
    "great",
    "happy",
    "hopeful",
    "hungry",
    "infallible",
    "inspiring",
    "jolly",
    "keen",
    "kind",
    "loving",
    "lucid",
    "magical",
    "mystifying",
    "naughty",
    "nice",
    "nifty",
    "optimistic",
    "peaceful",
    "pensive",
    "practical",
    "quirky",
    "relaxed",
    "serene",
    "sharp",
    "stoic",
    "trusting",
    "upbeat",
    "vibrant",
    "zen",
];
const PEOPLE: [&str; 64] = [
    "archimedes",
    "babbage",
    "banach",
    "bardeen",
    "bell",
    "blackwell",
    "bohr",
    "boyd",
    "cannon",
    "carson",
    "cerf",
    "curie",
    "darwin",
    "davinci",
    "dijkstra",
    "einstein",
    "elion",
    "engelbart",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "franklin",
    "galileo",
    "gates",
    "gauss",
    "goldberg",
    "hamilton",
    "hawking",
    "heisenberg",
    "hopper",
    "hypatia",
    "jackson",
    "jang",
    "johnson",
    "kalam",
    "keller",
    "kepler",
    "knuth",
    "lamarr",
    "leakey",
    "lovelace",
    "mayer",
    "mcclintock",
    "meitner",
    "mendel",
    "moore",
    "morse",
    "neumann",
    "newton",
    "noether",
    "pascal",
    "pasteur",
    "perlman",
    "rhodes",
    "ritchie",
    "shannon",
    "shtern",
    "tesla",
    "torvalds",
    "turing",
    "wozniak",
];

/// Refuses what Docker refuses.
pub fn check(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let mut rest = bytes.clone();
    let long = rest.len() > 0;
    if first && long && rest.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

/// Takes a free name for a container.
pub fn generate(containers: &Containers, id: &str) -> Result<String> {
    for attempt in 0..20u32 {
        let [a, b, digit] = random::<3>();
        let mut name = format!(
            "{}_{}",
            ADJECTIVES[usize::from(a) % ADJECTIVES.len()],
            PEOPLE[usize::from(b) % PEOPLE.len()]
        );
        if attempt > 0 {
            name.push_str(&(digit % 10).to_string());
        }
        if containers.is_free(&name) && containers.reserve(&name, id).is_ok() {
            return Ok(name);
        }
    }
    let name = id[..12].to_string();
    containers.reserve(&name, id).map(|()| name)
}

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Fails only before the system has gathered randomness at boot.
    let _impossible_here = getrandom::fill(&mut bytes);
    bytes
}

/// A new id: 64 hexadecimal digits. Not all of the first twelve are digits, as they also serve as a host name.
pub fn new_id() -> String {
    loop {
        let id = hex(&random::<32>());
        if id.as_bytes()[..12].iter().any(u8::is_ascii_alphabetic) {
            return id;
        }
    }
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::spare::Spare;

    #[test]
    fn names_are_checked_in_dockers_words() {
        assert!(check("web_1.a-b").is_ok());
        for bad in ["", "a", "-ab", "a b", "ä1"] {
            assert!(
                check(bad).unwrap_err().message.starts_with(&format!("Invalid container name ({bad}), only"))
            );
        }
    }

    #[test]
    fn given_names_are_free() {
        let containers = Containers::new("/nonexistent".into(), Spare::new("/nonexistent".into()));
        let names: std::collections::BTreeSet<_> =
            (0..200).map(|n| generate(&containers, &format!("{n:064}")).unwrap()).collect();
        assert_eq!(names.len(), 200);
    }
}
