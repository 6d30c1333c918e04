//! A row of the table of kinds.

use drydock_apimachinery::field::ErrorList;
use jiff::Timestamp;
use serde_json::Value;

/// A kind in one version of its group, and all that the engine must know of it.
#[derive(Debug)]
pub struct Kind {
    /// Empty: core.
    pub group: &'static str,
    /// Such as `v1`.
    pub version: &'static str,
    /// Such as `Deployment`.
    pub kind: &'static str,
    /// Such as `deployments`.
    pub plural: &'static str,
    /// Such as `deployment`.
    pub singular: &'static str,
    /// Such as `deploy`.
    pub short: &'static [&'static str],
    /// Such as `all`.
    pub categories: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub scope: Scope,
    /// Verbs that it answers, as discovery tells them.
    pub verbs: &'static [&'static str],
    /// What there is below an object.
    pub subresources: &'static [Subresource],
    /// Whether `metadata.generation` counts changes of the specification.
    pub generation: Generation,
    /// Whether an update without a resource version is accepted (`AllowUnconditionalUpdate`).
    pub unconditional_update: bool,
    /// Whether a PUT or an apply may create it (`AllowCreateOnUpdate`).
    pub create_on_update: bool,
    /// Field selectors beside `metadata.name` and `metadata.namespace`: the label and the value of an object.
    pub fields: &'static [(&'static str, fn(&Value) -> String)],
    /// Stored as another version of the same objects; absent: as it is.
    pub stored_as: Option<Conversion>,
    /// Fills in what the object does not say (`SetDefaults_…` and the strategy's `PrepareForCreate`). Idempotent.
    pub defaults: fn(&mut Value),
    /// Changes what a writer may not decide, before validation: new object, old one (absent on creation).
    pub prepare: fn(&mut Value, Option<&Value>),
    /// What is wrong with an object, given the old one on updates. Metadata is checked by the engine.
    pub validate: fn(&Value, Option<&Value>) -> ErrorList,
    /// The same for writes to `status`.
    pub validate_status: fn(&Value, &Value) -> ErrorList,
    /// Checks `metadata.name`: the reasons against it, none if it is fine. (`NameIsDNSSubdomain` and so on.)
    pub validate_name: fn(&str, prefix: bool) -> Vec<String>,
    /// Texts for `Warning:` headers.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Columns of tables, the first for the name.
    pub columns: &'static [Column],
    /// The cells of an object's row, as many as there are columns.
    pub row: fn(&Value, Timestamp) -> Vec<Cell>,
}

/// A cell of a table: a string, a number or null.
pub type Cell = Value;

/// Whether objects live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In one each.
    Namespaced,
    /// In none.
    Cluster,
}

/// When `metadata.generation` grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    None,
    /// With each change of anything but metadata and status.
    Spec,
}

/// Something below an object: `pods/NAME/log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subresource {
    /// Such as `status`.
    pub name: &'static str,
    /// Group and version of its kind, where they are not the parent's (`autoscaling/v1`).
    pub group_version: Option<(&'static str, &'static str)>,
    /// Its kind (`Scale`).
    pub kind: &'static str,
    /// Verbs that it answers.
    pub verbs: &'static [&'static str],
}

/// How a kind is stored that has several versions.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    /// Group and version in which it is stored (its row in the table has `stored_as: None`).
    pub group: &'static str,
    /// See `group`.
    pub version: &'static str,
    /// From this version to the stored one.
    pub store: fn(Value) -> Value,
    /// And back.
    pub load: fn(Value) -> Value,
}

/// `TableColumnDefinition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The head line, such as `Up-to-date`.
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub type_: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    /// For `kubectl explain`-like help.
    pub description: &'static str,
    /// 0: always shown; 1: with `-o wide`.
    pub priority: u8,
}
