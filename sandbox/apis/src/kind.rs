//! A row of the table of kinds.

use crate::printers;
use drydock_apimachinery::field::ErrorList;
use drydock_apimachinery::names;
use jiff::Timestamp;
use serde_json::Value;
use std::borrow::Cow;

/// Verbs of a resource that can do everything.
pub const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Verbs of a resource that is never stored: a question with its answer.
pub const CREATE: &[&str] = &["create"];
/// Verbs of `status`, `scale` and the like.
pub const GET_PATCH_UPDATE: &[&str] = &["get", "patch", "update"];

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
    pub fields: &'static [SelectableField],
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
    /// The same for writes to subresources other than `status`: the name of it, new object, old one.
    pub validate_subresource: fn(&str, &Value, &Value) -> ErrorList,
    /// Checks `metadata.name`: the reasons against it, none if it is fine. (`NameIsDNSSubdomain` and so on.)
    pub validate_name: fn(&str, prefix: bool) -> Vec<String>,
    /// What every answer about it warns of, as nobody should use it any more.
    pub deprecated: Option<&'static str>,
    /// Texts for `Warning:` headers.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Columns of tables, the first for the name.
    pub columns: &'static [Column],
    /// The cells of an object's row, as many as there are columns.
    pub row: fn(&Value, Timestamp) -> Vec<Cell>,
    /// `conditions` of an object's row, if it has any (pods that are done).
    pub row_conditions: fn(&Value) -> Option<Value>,
    /// By what the rows of a list are ordered; absent: by name, as they are stored.
    pub row_order: Option<fn(&Value) -> i64>,
}

impl Kind {
    /// What most kinds have in common; each row of the table says how it differs.
    pub const BASE: Self = Self {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short: &[],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        generation: Generation::None,
        unconditional_update: true,
        create_on_update: false,
        fields: &[],
        stored_as: None,
        defaults: |_| (),
        prepare: |_, _| (),
        validate: |_, _| ErrorList::default(),
        validate_status: |_, _| ErrorList::default(),
        validate_subresource: |_, _, _| ErrorList::default(),
        deprecated: None,
        validate_name: names::name_is_dns_subdomain,
        warnings: |_, _| Vec::new(),
        columns: printers::OBJECT_META,
        row: printers::object_meta,
        row_conditions: |_| None,
        row_order: None,
    };

    /// True if there is something below its objects of this name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The row of the version in which its objects are stored.
    pub fn stored(&'static self) -> &'static Self {
        let other = self.stored_as.as_ref().and_then(|as_| crate::find(as_.group, as_.version, self.plural));
        other.unwrap_or(self)
    }

    /// True if objects are stored (and not only questions that are answered).
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&"get")
    }
}

/// Label of a field selector, and its value of an object.
pub type SelectableField = (&'static str, for<'a> fn(&'a Value) -> Cow<'a, str>);

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

impl Subresource {
    /// `status`, of the parent's own kind.
    pub const fn status(kind: &'static str) -> Self {
        Self::own("status", kind)
    }

    /// Another view of the parent itself that can be read and written.
    pub const fn own(name: &'static str, kind: &'static str) -> Self {
        Self { name, group_version: None, kind, verbs: GET_PATCH_UPDATE }
    }

    /// `scale`.
    pub const SCALE: Self = Self {
        name: "scale",
        group_version: Some(("autoscaling", "v1")),
        kind: "Scale",
        verbs: GET_PATCH_UPDATE,
    };
}

impl Column {
    /// The first column of almost every table.
    pub const NAME: Self = Self {
        name: "Name",
        type_: "string",
        format: "name",
        description: "Name must be unique within a namespace. Is required when creating resources, although some resources \
            may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for \
            creation idempotence and configuration definition. Cannot be updated. More info: \
            https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
        priority: 0,
    };
    /// How long ago it was made.
    pub const AGE: Self = Self::text(
        "Age",
        "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to \
         be set in happens-before order across separate operations. Clients may not set this value. It is represented in \
         RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
         https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
    );

    /// A column of strings.
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, type_: "string", format: "", description, priority: 0 }
    }

    /// A column of whole numbers.
    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Self { name, type_: "integer", format: "", description, priority: 0 }
    }

    /// The same, shown with `-o wide` only.
    #[must_use]
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}
