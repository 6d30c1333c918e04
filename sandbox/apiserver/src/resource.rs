//! A resource as the engine sees it, whether it is a row of the table of built-in kinds or comes from a CustomResourceDefinition, and the
//! list of all that are served now.

use crate::custom::CustomKind;
use drydock_apimachinery::crd;
use drydock_apimachinery::field::{ErrorList, Path};
use drydock_apimachinery::status::GroupResource;
use drydock_apis::{Cell, Column, Conversion, Generation, KINDS, Kind, Scope, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, RwLock};

type Text = Cow<'static, str>;

/// A resource in one version.
#[derive(Debug)]
pub struct Resource {
    /// Empty: core.
    pub group: Text,
    /// Such as `v1`.
    pub version: Text,
    /// Such as `Deployment`.
    pub kind: Text,
    /// Such as `DeploymentList`.
    pub list_kind: Text,
    /// Such as `deployments`.
    pub plural: Text,
    /// Such as `deployment`.
    pub singular: Text,
    /// Such as `deploy`.
    pub short: Vec<Text>,
    /// Such as `all`.
    pub categories: Vec<Text>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Verbs that it answers.
    pub verbs: &'static [&'static str],
    /// What there is below an object.
    pub subresources: Vec<Below>,
    /// `apiVersion` of its objects.
    pub api_version: String,
    /// Where its objects are in the store: `/registry/pods/`.
    pub prefix: String,
    /// What else there is to know.
    pub form: Form,
}

/// Something below an object: `pods/NAME/log`.
#[derive(Debug, Clone)]
pub struct Below {
    /// Such as `status`.
    pub name: Text,
    /// Group and version of its kind, where they are not the parent's.
    pub group_version: Option<(Text, Text)>,
    /// Its kind.
    pub kind: Text,
    /// Verbs that it answers.
    pub verbs: &'static [&'static str],
}

impl From<&Subresource> for Below {
    fn from(sub: &Subresource) -> Self {
        Self {
            name: sub.name.into(),
            group_version: sub.group_version.map(|(group, version)| (group.into(), version.into())),
            kind: sub.kind.into(),
            verbs: sub.verbs,
        }
    }
}

impl Below {
    /// Group and version of its kind.
    pub fn of<'a>(&'a self, parent: &'a Resource) -> (&'a str, &'a str) {
        match &self.group_version {
            Some((group, version)) => (group, version),
            None => (&parent.group, &parent.version),
        }
    }
}

/// Where a resource comes from.
#[derive(Debug)]
pub enum Form {
    /// From the table of kinds.
    Builtin(&'static Kind),
    /// From a CustomResourceDefinition.
    Custom(Box<CustomKind>),
}

/// Verbs of an ordinary resource.
pub const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Verbs of `status`, `scale` and the like.
pub const GET_PATCH_UPDATE: &[&str] = &["get", "patch", "update"];

impl Resource {
    /// From a row of the table.
    pub fn builtin(kind: &'static Kind) -> Self {
        Self {
            group: kind.group.into(),
            version: kind.version.into(),
            kind: kind.kind.into(),
            list_kind: format!("{}List", kind.kind).into(),
            plural: kind.plural.into(),
            singular: kind.singular.into(),
            short: kind.short.iter().map(|&name| name.into()).collect(),
            categories: kind.categories.iter().map(|&name| name.into()).collect(),
            namespaced: kind.scope == Scope::Namespaced,
            verbs: kind.verbs,
            subresources: kind.subresources.iter().map(Below::from).collect(),
            api_version: api_version(kind.group, kind.version),
            prefix: crate::storage::keys::builtin_prefix(kind),
            form: Form::Builtin(kind),
        }
    }

    /// Group and plural, for messages.
    pub fn group_resource(&self) -> GroupResource<'_> {
        GroupResource { group: &self.group, resource: &self.plural }
    }

    /// Group and kind, for messages of validation.
    pub fn group_kind(&self) -> GroupResource<'_> {
        GroupResource { group: &self.group, resource: &self.kind }
    }

    /// The row, if it is built in.
    pub fn builtin_kind(&self) -> Option<&'static Kind> {
        match &self.form {
            Form::Builtin(kind) => Some(kind),
            Form::Custom(_) => None,
        }
    }

    /// The definition, if it has one.
    pub fn custom(&self) -> Option<&CustomKind> {
        match &self.form {
            Form::Builtin(_) => None,
            Form::Custom(custom) => Some(custom),
        }
    }

    /// True if this is the built-in resource of this group and name.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Whether the object is stored as another version of a built-in kind.
    pub fn conversion(&self) -> Option<&Conversion> {
        self.builtin_kind()?.stored_as.as_ref()
    }

    /// A subresource.
    pub fn subresource(&self, name: &str) -> Option<&Below> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// Whether writes to the object leave its status alone.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether changes of the specification are counted.
    pub fn counts_generations(&self) -> bool {
        self.builtin_kind().is_none_or(|kind| kind.generation != Generation::None)
    }

    /// Whether an update without resource version overwrites.
    pub fn takes_unconditional_updates(&self) -> bool {
        self.builtin_kind().is_some_and(|kind| kind.unconditional_update)
    }

    /// Whether an update may create.
    pub fn creates_on_update(&self) -> bool {
        self.builtin_kind().is_some_and(|kind| kind.create_on_update)
    }

    /// Fills in what the object does not say.
    pub fn default(&self, object: &mut Value) {
        match &self.form {
            Form::Builtin(kind) => (kind.defaults)(object),
            Form::Custom(custom) => custom.default(object),
        }
    }

    /// Changes what a writer may not decide.
    pub fn prepare(&self, object: &mut Value, old: Option<&Value>) {
        match &self.form {
            Form::Builtin(kind) => (kind.prepare)(object, old),
            Form::Custom(custom) => custom.prepare(object, old),
        }
    }

    /// What is wrong with the object, after what is wrong with its metadata.
    pub fn validate(&self, object: &Value, old: Option<&Value>, mut before: ErrorList) -> ErrorList {
        match &self.form {
            Form::Builtin(_) if self.is("apiextensions.k8s.io", "customresourcedefinitions") => {
                before.extend(crd::validate_definition(object, old));
                before
            }
            Form::Builtin(kind) => {
                before.extend((kind.validate)(object, old));
                before
            }
            Form::Custom(custom) => custom.validate(object, old, before),
        }
    }

    /// What is wrong with its new status, after what is wrong with its metadata.
    pub fn validate_status(&self, object: &Value, old: &Value, mut before: ErrorList) -> ErrorList {
        match &self.form {
            Form::Builtin(kind) => {
                before.extend((kind.validate_status)(object, old));
                before
            }
            Form::Custom(custom) => custom.validate(object, Some(old), before),
        }
    }

    /// From the stored version to this one.
    pub fn load(&self, mut tree: Value) -> Value {
        match &self.form {
            Form::Builtin(kind) => match &kind.stored_as {
                Some(conversion) => (conversion.load)(tree),
                None => tree,
            },
            // It may be as it was when another version was the stored one.
            Form::Custom(_) => {
                if let Some(map) = tree.as_object_mut() {
                    map.insert("apiVersion".into(), self.api_version.clone().into());
                }
                tree
            }
        }
    }

    /// And back.
    pub fn store(&self, mut tree: Value) -> Value {
        match &self.form {
            Form::Builtin(kind) => match &kind.stored_as {
                Some(conversion) => (conversion.store)(tree),
                None => tree,
            },
            Form::Custom(custom) => {
                if custom.stored_version != self.api_version
                    && let Some(map) = tree.as_object_mut()
                {
                    map.insert("apiVersion".into(), custom.stored_version.clone().into());
                }
                tree
            }
        }
    }

    /// Whether objects lie in the store in another version than they are served.
    pub fn is_converted(&self) -> bool {
        match &self.form {
            Form::Builtin(kind) => kind.stored_as.is_some(),
            Form::Custom(custom) => custom.stored_version != self.api_version,
        }
    }

    /// What is wrong with a write to a subresource other than its status.
    pub fn validate_subresource(&self, name: &str, object: &Value, old: &Value) -> ErrorList {
        match &self.form {
            Form::Builtin(kind) => (kind.validate_subresource)(name, object, old),
            // A scale is a write to the whole object.
            Form::Custom(custom) => custom.validate(object, Some(old), ErrorList::default()),
        }
    }

    /// What is wrong with a name, or the beginning of one.
    pub fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        match &self.form {
            Form::Builtin(kind) => (kind.validate_name)(name, prefix),
            Form::Custom(_) => drydock_apimachinery::names::name_is_dns_subdomain(name, prefix),
        }
    }

    /// Texts for the client to show.
    pub fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        match &self.form {
            Form::Builtin(kind) => (kind.warnings)(object, old),
            Form::Custom(_) => Vec::new(),
        }
    }

    /// The value of a field that field selectors may name; none if they may not.
    pub fn field(&self, object: &Value, name: &str) -> Option<String> {
        match (name, &self.form) {
            ("metadata.name", _) => Some(drydock_apimachinery::object::name(object).into()),
            ("metadata.namespace", _) if self.namespaced => {
                Some(drydock_apimachinery::object::namespace(object).into())
            }
            (_, Form::Builtin(kind)) => kind
                .fields
                .iter()
                .find(|(label, _)| *label == name)
                .map(|(_, value)| value(object).into_owned()),
            (_, Form::Custom(custom)) => custom.field(object, name),
        }
    }

    /// Whether field selectors may name a field.
    pub fn knows_field(&self, name: &str) -> bool {
        match (name, &self.form) {
            ("metadata.name", _) => true,
            ("metadata.namespace", _) => self.namespaced || self.custom().is_none(),
            (_, Form::Builtin(kind)) => kind.fields.iter().any(|(label, _)| *label == name),
            (_, Form::Custom(custom)) => custom.knows_field(name),
        }
    }

    /// The columns of its tables.
    pub fn columns(&self) -> Vec<ColumnText> {
        match &self.form {
            Form::Builtin(kind) => kind.columns.iter().map(ColumnText::from).collect(),
            Form::Custom(custom) => custom.columns(),
        }
    }

    /// An object's cells.
    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        match &self.form {
            Form::Builtin(kind) => (kind.row)(object, now),
            Form::Custom(custom) => custom.served.row(object, now),
        }
    }

    /// What an object's row says of its state apart from its cells.
    pub fn row_conditions(&self, object: &Value) -> Option<Value> {
        (self.builtin_kind()?.row_conditions)(object)
    }

    /// What is said to whoever still uses it.
    pub fn deprecation(&self) -> Option<String> {
        match &self.form {
            Form::Builtin(kind) => kind.deprecated.map(Into::into),
            Form::Custom(custom) => custom.deprecation().map(Into::into),
        }
    }

    /// `metadata` as a path.
    pub fn metadata_path() -> Path<'static> {
        Path::new("metadata")
    }
}

/// A column whose texts may come from a CustomResourceDefinition.
#[derive(Debug, Clone)]
pub struct ColumnText {
    /// The head line.
    pub name: Text,
    /// `string`, `integer`, `date`, …
    pub type_: Text,
    /// `name` or empty.
    pub format: Text,
    /// For people.
    pub description: Text,
    /// 0: always shown.
    pub priority: i64,
}

impl From<&Column> for ColumnText {
    fn from(column: &Column) -> Self {
        Self {
            name: column.name.into(),
            type_: column.type_.into(),
            format: column.format.into(),
            description: column.description.into(),
            priority: column.priority.into(),
        }
    }
}

/// `v1`, `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { format!("{group}/{version}") }
}

/// `apps/v1` taken apart.
pub fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

type Key = (Text, Text, Text);

/// What is served at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In the order of discovery: built in ones first.
    pub all: Vec<Arc<Resource>>,
    by_name: HashMap<Key, usize>,
    /// Grows with each change.
    pub generation: u64,
}

impl Snapshot {
    fn new(all: Vec<Arc<Resource>>, generation: u64) -> Self {
        let key = |one: &Resource| (one.group.clone(), one.version.clone(), one.plural.clone());
        let by_name = all.iter().enumerate().map(|(index, one)| (key(one), index)).collect();
        Self { all, by_name, generation }
    }

    /// A resource by its place in a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        // The tuple's parts are borrowed for the time of the look-up only; `Cow` lets them be.
        let key: (Cow<'_, str>, Cow<'_, str>, Cow<'_, str>) = (group.into(), version.into(), plural.into());
        let index = self.by_name.get(&key as &(Cow<'_, str>, Cow<'_, str>, Cow<'_, str>))?;
        self.all.get(*index)
    }

    /// A resource by the kind of its objects.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.all.iter().find(|one| one.group == group && one.version == version && one.kind == kind)
    }

    /// A resource in whatever version, the first that discovery tells of.
    pub fn any_version(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.all.iter().find(|one| one.is(group, plural))
    }
}

/// All that is served, now and later.
#[derive(Debug)]
pub struct Registry {
    now: RwLock<Arc<Snapshot>>,
    builtin: Vec<Arc<Resource>>,
}

impl Registry {
    /// The built-in kinds.
    pub fn new() -> Self {
        let builtin: Vec<_> = KINDS.iter().map(|&kind| Arc::new(Resource::builtin(kind))).collect();
        Self { now: RwLock::new(Arc::new(Snapshot::new(builtin.clone(), 0))), builtin }
    }

    /// Serves these besides, always.
    pub fn add(&mut self, more: impl IntoIterator<Item = Arc<Resource>>) {
        self.builtin.extend(more);
        self.replace_custom(Vec::new());
    }

    /// What is served now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        // A writer that panicked has not changed anything: it only puts a whole new snapshot.
        self.now.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Serves these beside the built-in ones, in place of those before.
    pub fn replace_custom(&self, custom: Vec<Arc<Resource>>) {
        let mut now = self.now.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let all = self.builtin.iter().cloned().chain(custom).collect();
        *now = Arc::new(Snapshot::new(all, now.generation + 1));
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}
