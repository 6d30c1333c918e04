//! Custom resources: what their definitions declare and what that does to objects. For a definition the API server calls
//! [`default_definition`] and [`validate_definition`], and [`Served::of`] for each version that it serves. For an object of it, in this
//! order: [`Served::prune`] (unknown fields are strict errors), [`Served::fill_defaults`], [`Served::validate`]; for answers
//! [`Served::row`], [`Served::scale`], [`Served::field`].

mod defaults;
mod definition;
mod formats;
mod paths;
pub(crate) mod pattern;
mod prune;
mod rules;
mod served;
mod structural;
mod structure;
mod validate;
mod version;

pub use crate::expressions::is_reserved as is_reserved_word;
pub use definition::{default_definition, validate_definition};
pub use paths::JsonPath;
pub use rules::{CompiledRule, RuleError, policy};
pub use served::{Column, ScalePaths, Served};
pub use structural::{Rule, Structural, ValueChecks};
pub use version::version_order;

use serde_json::Value;

impl Structural {
    /// Drops what the schema does not know, telling it (`unknown field "spec.bogus"`); `metadata` of the object itself, and of embedded
    /// ones, stays.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(object, self)
    }

    /// Fills in defaults, and drops nulls where there is no default and null is no value.
    pub fn fill_defaults(&self, object: &mut Value) {
        prune::default(object, self);
        prune::drop_nulls(object, self);
    }
}
