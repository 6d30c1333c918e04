//! What a schema declares to expressions (k8s.io/apiserver `pkg/cel/common/schemas.go`, `pkg/cel/types.go`): the type of every value, how
//! many elements it may have at most and how few bytes it may take, in a request.

use super::types::Type;
use crate::crd::{Structural, ValueChecks};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most bytes of a request (`MaxRequestSizeBytes`).
pub const MOST_REQUEST: i64 = 3 * 1024 * 1024;
/// Bytes of the shortest and the longest values of formats, in quotes.
const LONGEST_DURATION: i64 = 32;
const LONGEST_TIME: i64 = 32;
const DATE: i64 = 12;
const SHORTEST_DURATION: i64 = 3;
const SHORTEST_TIME: i64 = 21;
const SHORTEST_TEXT: i64 = 2;
const SHORTEST_BOOL: i64 = 4;
const SHORTEST_NUMBER: i64 = 1;

/// What is declared of a value.
#[derive(Debug)]
pub struct Declared {
    what: What,
    /// Most elements of a list or map, most bytes of a text.
    pub most: i64,
    /// Fewest bytes that it takes as JSON.
    pub least_bytes: i64,
}

#[derive(Debug)]
enum What {
    Simple(Type),
    List(Arc<Declared>),
    Map(Arc<Declared>),
    /// Its name, if it has one wherever it is, and its fields, as expressions write them.
    Object(Option<String>, BTreeMap<String, Arc<Declared>>),
}

impl Declared {
    fn simple(type_: Type, most: i64, least_bytes: i64) -> Self {
        Self { what: What::Simple(type_), most, least_bytes }
    }

    /// An object of that name with these fields.
    pub fn object<'f>(name: &str, fields: impl IntoIterator<Item = (&'f str, Type)>) -> Arc<Self> {
        let field = |(name, type_): (&str, Type)| {
            let declared = match type_ {
                Type::Object(object) => object,
                type_ => Arc::new(Self::simple(type_, 0, 1)),
            };
            (name.to_string(), declared)
        };
        let fields = fields.into_iter().map(field).collect();
        Arc::new(Self { what: What::Object(Some(name.into()), fields), most: 0, least_bytes: 2 })
    }

    /// What is declared by a schema; nothing if expressions cannot see it. `root`: it is of a whole object (`SchemaDeclType`).
    pub fn of(schema: &Structural, root: bool) -> Option<Arc<Self>> {
        let root = root || schema.embedded_resource;
        let nothing = ValueChecks::default();
        let checks = schema.checks.as_deref().unwrap_or(&nothing);
        if schema.int_or_string {
            let most = checks.max_length.map_or(MOST_REQUEST - 2, times_four);
            return Some(Arc::new(Self::simple(Type::Dyn, most, 1)));
        }
        let declared = match schema.type_.as_deref()? {
            "array" => {
                let items = Self::of(schema.items.as_deref()?, false)?;
                let most = checks.max_items.map_or((MOST_REQUEST - 2) / (items.least_bytes + 1), limit);
                Self { what: What::List(items), most, least_bytes: 2 }
            }
            "object" if schema.additional.is_some() && !root => {
                let values = Self::of(schema.additional.as_deref()?, false)?;
                let most = checks.max_properties.map_or((MOST_REQUEST - 2) / (values.least_bytes + 6), limit);
                Self { what: What::Map(values), most, least_bytes: 2 }
            }
            "object" => Self::of_fields(schema, checks, root),
            "string" => text(checks),
            "boolean" => Self::simple(Type::Bool, 0, SHORTEST_BOOL),
            "number" => Self::simple(Type::Double, 0, SHORTEST_NUMBER),
            "integer" => Self::simple(Type::Int, 0, SHORTEST_NUMBER),
            _ => return None,
        };
        Some(Arc::new(declared))
    }

    fn of_fields(schema: &Structural, checks: &ValueChecks, root: bool) -> Self {
        // These are there whatever the schema says.
        let replaced = root && !declares_names(schema);
        let (mut fields, mut least_bytes) = (BTreeMap::new(), 2);
        let mut add = |name: &str, field: Arc<Self>, default: bool| {
            // What has a default need not be sent.
            if !default && checks.required.iter().any(|one| one == name) {
                least_bytes += name.len() as i64 + field.least_bytes + 4;
            }
            if let Some(name) = escape(name) {
                fields.insert(name, field);
            }
        };
        for (name, property) in &schema.properties {
            if replaced && NAMES.contains(&name.as_str()) {
                continue;
            }
            if let Some(field) = Self::of(property, false) {
                add(name, field, property.default.is_some());
            }
        }
        if replaced {
            let plain = || Arc::new(text(&ValueChecks::default()));
            let names = ["name", "generateName"].map(|name| (name.to_string(), plain()));
            let metadata = What::Object(None, names.into());
            add("metadata", Arc::new(Self { what: metadata, most: 0, least_bytes: 2 }), false);
            add("kind", plain(), false);
            add("apiVersion", plain(), false);
        }
        Self { what: What::Object(None, fields), most: 0, least_bytes }
    }

    /// The type of such a value.
    pub fn type_of(self: &Arc<Self>) -> Type {
        match &self.what {
            What::Simple(type_) => type_.clone(),
            What::List(items) => Type::list(items.type_of()),
            What::Map(values) => Type::map(Type::Text, values.type_of()),
            What::Object(..) => Type::Object(self.clone()),
        }
    }

    /// A field of an object.
    pub fn get(&self, field: &str) -> Option<&Arc<Self>> {
        match &self.what {
            What::Object(_, fields) => {
                let reserved = || fields.get(&format!("__{field}__")).filter(|_| is_reserved(field));
                fields.get(field).or_else(reserved)
            }
            _ => None,
        }
    }

    /// A field of that very name.
    pub fn get_as_written(&self, field: &str) -> Option<&Arc<Self>> {
        match &self.what {
            What::Object(_, fields) => fields.get(field),
            _ => None,
        }
    }

    /// What is declared of all keys of maps.
    pub fn key() -> Arc<Self> {
        Arc::new(Self::simple(Type::Text, 0, SHORTEST_TEXT))
    }

    /// Elements of a list, values of a map.
    pub fn elements(&self) -> Option<&Arc<Self>> {
        match &self.what {
            What::List(below) | What::Map(below) => Some(below),
            _ => None,
        }
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.what, What::Map(_))
    }

    /// The name that an object has wherever it is.
    pub fn own_name(&self) -> Option<&str> {
        match &self.what {
            What::Object(name, _) => name.as_deref(),
            _ => None,
        }
    }

    /// What an object is called that is somewhere below this one, which is called `root` unless it has a name of its own.
    pub fn name_of(&self, root: &str, object: &Arc<Self>) -> Option<String> {
        let mut way = Vec::new();
        if !self.find(object, &mut way) {
            return None;
        }
        way.push(self.own_name().unwrap_or(root));
        way.reverse();
        Some(object.own_name().map_or_else(|| way.join("."), Into::into))
    }

    /// The way to an object, the last step first.
    fn find<'s>(&'s self, object: &Arc<Self>, way: &mut Vec<&'s str>) -> bool {
        if std::ptr::eq(self, object.as_ref()) {
            return true;
        }
        let below: &mut dyn Iterator<Item = (&'s str, &'s Arc<Self>)> = match &self.what {
            What::Simple(_) => return false,
            What::List(items) => &mut std::iter::once(("@idx", items)),
            What::Map(values) => &mut std::iter::once(("@elem", values)),
            What::Object(_, fields) => &mut fields.iter().map(|(name, field)| (name.as_str(), field)),
        };
        for (step, one) in below {
            if one.find(object, way) {
                way.push(step);
                return true;
            }
        }
        false
    }
}

/// What expressions see of every whole object.
const NAMES: [&str; 3] = ["kind", "apiVersion", "metadata"];

/// Whether a schema of a whole object itself says what its names are.
fn declares_names(schema: &Structural) -> bool {
    let is = |schema: &Structural, name: &str, type_: &str| {
        schema.properties.get(name).is_some_and(|property| property.type_.as_deref() == Some(type_))
    };
    is(schema, "kind", "string")
        && is(schema, "apiVersion", "string")
        && schema.properties.get("metadata").is_some_and(|metadata| {
            metadata.type_.as_deref() == Some("object")
                && is(metadata, "name", "string")
                && is(metadata, "generateName", "string")
        })
}

fn limit(most: u64) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// A limit in characters, in bytes.
fn times_four(most: u64) -> i64 {
    limit(most).saturating_mul(4)
}

fn text(checks: &ValueChecks) -> Declared {
    let unlimited = MOST_REQUEST - 2;
    match checks.format.as_deref() {
        Some("byte") => {
            Declared::simple(Type::Bytes, checks.max_length.map_or(unlimited, limit), SHORTEST_TEXT)
        }
        Some("duration") => Declared::simple(Type::Duration, LONGEST_DURATION, SHORTEST_DURATION),
        Some("date") => Declared::simple(Type::Timestamp, DATE, DATE),
        Some("date-time") => Declared::simple(Type::Timestamp, LONGEST_TIME, SHORTEST_TIME),
        _ => {
            let of_enum = || checks.enum_.iter().filter_map(|one| one.as_str()).map(str::len).max();
            let most = match checks.max_length {
                Some(most) => times_four(most),
                None if checks.enum_.is_empty() => unlimited,
                None => of_enum().unwrap_or_default() as i64,
            };
            Declared::simple(Type::Text, most, SHORTEST_TEXT)
        }
    }
}

/// Words that CEL keeps for itself.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether CEL keeps a word for itself: as a field's name it may stand in an expression all the same.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// A field's name as expressions write it; nothing if they cannot (k8s.io/apiserver `pkg/cel/escaping.go`).
pub fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.-/".contains(&b);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(fine) {
        return None;
    }
    Some(
        name.replace("__", "__underscores__")
            .replace('.', "__dot__")
            .replace('-', "__dash__")
            .replace('/', "__slash__"),
    )
}
