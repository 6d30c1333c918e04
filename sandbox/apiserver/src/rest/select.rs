//! Which objects of a collection are wanted: label and field selectors, looked up in what is known of a stored object so that
//! nothing is decoded for them.

use crate::http::Query;
use crate::resource::Resource;
use crate::storage;
use drydock_apimachinery::Status;
use drydock_apimachinery::selectors::{FieldSelector, LabelSelector};
use drydock_etcd::Record;

/// What is asked of an object.
#[derive(Debug, Clone)]
pub struct Selection {
    labels: LabelSelector,
    fields: Vec<FieldTerm>,
}

/// A requirement on a field.
#[derive(Debug, Clone)]
struct FieldTerm {
    place: Place,
    value: String,
    is_equal: bool,
}

/// Where a field's value is found.
#[derive(Debug, Clone)]
enum Place {
    Name,
    Namespace,
    /// In the kind's table.
    Table(usize),
    /// In the object: it must be decoded.
    Object(String),
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`.
    pub fn new(query: &Query, resource: &Resource) -> Result<Self, Status> {
        let labels = LabelSelector::parse(query.text("labelSelector"));
        let labels = labels.map_err(|error| Status::bad_request(error.to_string()))?;
        let fields = FieldSelector::parse(query.text("fieldSelector"));
        let fields = fields.map_err(|error| Status::bad_request(error.to_string()))?;
        let mut terms = Vec::new();
        for term in fields.terms() {
            let place = place(resource, &term.field)?;
            terms.push(FieldTerm { place, value: term.value.clone(), is_equal: term.is_equal });
        }
        Ok(Self { labels, fields: terms })
    }

    /// Only the object of this name is wanted.
    pub fn require_name(&mut self, name: &str) {
        self.fields.push(FieldTerm { place: Place::Name, value: name.into(), is_equal: true });
    }

    /// True if everything is wanted.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can be wanted.
    pub fn name(&self) -> Option<&str> {
        self.exact(|place| matches!(place, Place::Name))
    }

    /// The one namespace that can be wanted.
    pub fn namespace(&self) -> Option<&str> {
        self.exact(|place| matches!(place, Place::Namespace))
    }

    fn exact(&self, wanted: impl Fn(&Place) -> bool) -> Option<&str> {
        let mut terms = self.fields.iter().filter(|term| term.is_equal && wanted(&term.place));
        terms.next().map(|term| term.value.as_str()).filter(|value| !value.is_empty() && !value.contains('/'))
    }

    /// True if the object is wanted.
    pub fn matches(&self, record: &Record, resource: &Resource) -> bool {
        if self.is_everything() {
            return true;
        }
        let facts = storage::facts(record, resource);
        if !self.labels.is_empty() && !self.labels.matches(|key| facts.label(key)) {
            return false;
        }
        self.fields.iter().all(|term| {
            let is = match &term.place {
                Place::Name => key_part(record, 0) == Some(&term.value),
                Place::Namespace => key_part(record, 1) == Some(&term.value),
                Place::Table(index) => facts.field(*index) == Some(&term.value),
                Place::Object(name) => field_of(record, resource, name).as_deref() == Some(&*term.value),
            };
            is == term.is_equal
        })
    }
}

/// A part of a record's key, from the end.
fn key_part(record: &Record, from_end: usize) -> Option<&str> {
    std::str::from_utf8(&record.key).ok()?.rsplit('/').nth(from_end)
}

fn field_of(record: &Record, resource: &Resource, name: &str) -> Option<String> {
    let tree = storage::decode(record).ok()?;
    let tree = resource.load(tree);
    resource.field(&tree, name)
}

fn place(resource: &Resource, field: &str) -> Result<Place, Status> {
    match field {
        "metadata.name" => return Ok(Place::Name),
        "metadata.namespace" if resource.knows_field(field) => return Ok(Place::Namespace),
        _ => {}
    }
    if !resource.knows_field(field) {
        return Err(Status::bad_request(unsupported(resource, field)));
    }
    let index = resource
        .builtin_kind()
        .filter(|kind| kind.stored_as.is_none())
        .and_then(|kind| kind.fields.iter().position(|(label, _)| *label == field));
    Ok(index.map_or_else(|| Place::Object(field.into()), Place::Table))
}

/// The refusal of a field that can't be selected: kinds with fields of their own name themselves (`AddFieldLabelConversionsFor…`),
/// the others don't (`DefaultMetaV1FieldSelectorConversion`).
fn unsupported(resource: &Resource, field: &str) -> String {
    match resource.builtin_kind() {
        Some(kind) if kind.fields.is_empty() => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {field}"),
    }
}
