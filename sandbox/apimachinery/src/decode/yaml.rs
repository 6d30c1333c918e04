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
    serde_saphyr::from_slice_with_options::<Tree>(body, options())
        .map(|tree| tree.0)
        .map_err(|error| DecodeError::unreadable(format!("error converting YAML to JSON: yaml: {error}")))
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
