//! YAML bodies (`application/yaml`, `application/apply-patch+yaml`), with the booleans of YAML 1.1, as upstream's parser has them.
//! Aliases are bounded: what they expand to counts.

use super::{DecodeError, Decoded, json};
use serde_saphyr::{DuplicateKeyPolicy, Options};

/// Most nesting of a document.
const MOST_DEPTH: usize = 100;

/// Reads one document as a tree.
pub(super) fn parse(body: &[u8]) -> Result<Decoded, DecodeError> {
    struct Tree(Decoded);
    impl<'de> serde::Deserialize<'de> for Tree {
        fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
            json::untyped_from(reader).map(Tree)
        }
    }
    serde_saphyr::from_slice_with_options::<Tree>(body, options()).map(|tree| tree.0).map_err(|error| {
        let why = words(&error.to_string());
        DecodeError::unreadable(format!("error converting YAML to JSON: yaml: {why}"))
    })
}

/// What upstream's parser says of too much nesting (go.yaml.in/yaml/v2 `scannerc.go`), of which it allows more; all else as it is told.
fn words(said: &str) -> String {
    if !said.contains("Depth {") && !said.contains("recursion limit") {
        return said.to_owned();
    }
    let line = said.split_once("at line ").and_then(|(_, rest)| rest.split(',').next());
    let at = line.filter(|line| *line != "1").map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{at}exceeded max depth of 10000")
}

fn options() -> Options {
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.strict_booleans = false;
    options.with_snippet = false;
    options.alias_limits.max_total_replayed_events = 100_000;
    options.alias_limits.max_replay_stack_depth = 32;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = MOST_DEPTH;
        budget.max_nodes = super::MOST_VALUES;
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_nesting_is_told_in_upstreams_words() {
        let said = |body: &str| parse(body.as_bytes()).unwrap_err().to_string();
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for levels in [200, 20_000] {
            let wanted = "error converting YAML to JSON: yaml: exceeded max depth of 10000";
            assert_eq!(said(&deep(levels)), wanted);
        }
        let later = said(&format!("a: b\nc: {}", deep(200)));
        assert_eq!(later, "error converting YAML to JSON: yaml: line 2: exceeded max depth of 10000");
    }
}
