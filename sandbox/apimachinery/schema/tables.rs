//! Part of the build: the tables as Rust source. `src/schema.rs` reads them.

use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// Bits of a field's flags; `src/schema.rs` has the same.
const OMIT_EMPTY: u16 = 1;
const OMIT_ZERO: u16 = 2;
const POINTER: u16 = 4;
const REQUIRED: u16 = 8;
const MAP_ATOMIC: u16 = 16;
const ALWAYS: u16 = 32;

/// Bits of a struct's flags.
const ATOMIC: u8 = 1;

/// One string in which every name stands once.
#[derive(Default)]
struct Strings {
    text: String,
    known: HashMap<String, (usize, usize)>,
}

impl Strings {
    fn add(&mut self, text: &str) -> String {
        let at = *self.known.entry(text.into()).or_insert_with(|| {
            let start = self.text.len();
            self.text.push_str(text);
            (start, text.len())
        });
        format!("S({}, {})", at.0, at.1)
    }
}

struct Writer<'a> {
    types: &'a BTreeMap<String, Value>,
    numbers: HashMap<&'a str, usize>,
    strings: Strings,
    kinds: Vec<String>,
    kind_numbers: HashMap<String, usize>,
    merges: Vec<String>,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

impl Writer<'_> {
    /// Number of a type expression such as `[]core.v1.Container`.
    fn kind(&mut self, go: &str) -> usize {
        let go = go.trim_start_matches('*');
        if let Some(&known) = self.kind_numbers.get(go) {
            return known;
        }
        let row = if go == "[]byte" {
            "Type::Bytes".to_string()
        } else if let Some(inner) = go.strip_prefix("![]") {
            format!("Type::NamedList(Elem({}))", self.kind(inner))
        } else if let Some(inner) = go.strip_prefix("[]") {
            format!("Type::List(Elem({}))", self.kind(inner))
        } else if let Some(inner) = go.strip_prefix("map[string]") {
            format!("Type::Map(Elem({}))", self.kind(inner))
        } else if let Some(number) = self.numbers.get(go) {
            format!("Type::Struct(Struct({number}))")
        } else {
            let leaf = match go {
                "string" => "String",
                "bool" => "Bool",
                "int32" => "Int32",
                "int64" => "Int64",
                "float64" => "Float64",
                "JSON" => "Json",
                "JSONSchemaPropsOrBool" => "SchemaOrBool",
                "JSONSchemaPropsOrArray" => "SchemaOrArray",
                "JSONSchemaPropsOrStringArray" => "SchemaOrStringArray",
                "Quantity" | "IntOrString" | "Time" | "MicroTime" | "Duration" | "RawExtension"
                | "FieldsV1" => go,
                _ => panic!("unknown type {go}"),
            };
            format!("Type::{leaf}")
        };
        self.kinds.push(row);
        self.kind_numbers.insert(go.into(), self.kinds.len() - 1);
        self.kinds.len() - 1
    }

    /// Whether Go's encoder writes a field that nobody has set.
    fn is_always_written(&self, field: &Value) -> bool {
        let (go, omits) = (text(field, "y"), text(field, "o"));
        let never_empty = ["Time", "MicroTime", "RawExtension", "Quantity", "IntOrString", "Duration"];
        if go.starts_with('*') || omits.contains('z') {
            return false;
        }
        // `omitempty` leaves no struct out.
        self.numbers.contains_key(go) || never_empty.contains(&go) || !omits.contains('e')
    }

    /// Number of what a field says about merging; 0 for nothing.
    fn merge(&mut self, field: &Value) -> usize {
        let list = match text(field, "list") {
            "atomic" => 1,
            "set" => 2,
            "map" => 3,
            _ => 0,
        };
        let keys: Vec<_> = field["keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let default = field.get("default").map(ToString::to_string).unwrap_or_default();
        let row = format!(
            "G({list}, {}, {}, {}, {})",
            self.strings.add(&keys.join(",")),
            self.strings.add(text(field, "ps")),
            self.strings.add(text(field, "pk")),
            self.strings.add(&default),
        );
        match self.merges.iter().position(|known| *known == row) {
            Some(known) => known,
            None => {
                self.merges.push(row);
                self.merges.len() - 1
            }
        }
    }

    /// All that is a field in JSON: its own and those of what is inlined.
    fn flatten(&self, row: &Value, out: &mut Vec<Value>) {
        for field in row["fields"].as_array().into_iter().flatten() {
            if field.get("n").is_some() {
                let mut field = field.clone();
                let required = row["required"].as_array().is_some_and(|all| all.contains(&field["n"]));
                field["required"] = required.into();
                out.push(field);
            } else {
                let inner = &self.types[text(field, "y").trim_start_matches('*')];
                let mut below = Vec::new();
                self.flatten(inner, &mut below);
                for field in &mut below {
                    field.as_object_mut().map(|field| field.remove("p"));
                }
                out.extend(below);
            }
        }
    }
}

/// The first bytes of a name as a number; `src/schema.rs` has the same.
fn prefix(name: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    u64::from_be_bytes(bytes)
}

/// Places of fields that are four times as many as they: the place of one is the first free one from where the hash of its struct and of
/// its name's first bytes says, and holds its number, counted from 1.
fn places(hashed: &[(u64, u64)]) -> Vec<String> {
    let mut places = vec![0; (4 * hashed.len()).next_power_of_two()];
    for (number, (of, prefix)) in hashed.iter().enumerate() {
        let mixed = (prefix ^ of).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut at = (mixed >> 32) as usize & (places.len() - 1);
        while places[at] != 0 {
            at = (at + 1) & (places.len() - 1);
        }
        places[at] = number + 1;
    }
    places.iter().map(ToString::to_string).collect()
}

/// The tables of all types.
pub fn write(types: &BTreeMap<String, Value>) -> String {
    let numbers = types.keys().enumerate().map(|(number, name)| (name.as_str(), number)).collect();
    let mut w = Writer {
        types,
        numbers,
        strings: Strings::default(),
        kinds: Vec::new(),
        kind_numbers: HashMap::new(),
        merges: Vec::new(),
    };
    w.merge(&Value::Null);
    let (mut structs, mut fields, mut protos, mut gvks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut order, mut ranks, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut hashed, mut always) = (Vec::new(), Vec::new());
    for (number, row) in types.values().enumerate() {
        let mut flat = Vec::new();
        w.flatten(row, &mut flat);
        let mut in_order = flat.clone();
        if matches!(&flat[..], [first, second, ..] if first["n"] == "apiVersion" && second["n"] == "kind" && row["gvk"].is_array())
        {
            // The table has them by name, Go's `TypeMeta` has the kind first.
            in_order.swap(0, 1);
        }
        flat.sort_by(|a, b| text(a, "n").cmp(text(b, "n")));
        let place = |field: &Value| flat.iter().position(|one| one["n"] == field["n"]).unwrap_or_default();
        order.extend(in_order.iter().map(|field| place(field).to_string()));
        let rank = |field: &Value| in_order.iter().position(|one| one["n"] == field["n"]).unwrap_or_default();
        ranks.extend(flat.iter().map(|field| rank(field).to_string()));
        prefixes.extend(flat.iter().map(|field| prefix(text(field, "n")).to_string()));
        hashed.extend(flat.iter().map(|field| (number as u64, prefix(text(field, "n")))));
        let (first, first_proto) = (fields.len(), protos.len());
        let mut tags = Vec::new();
        for field in row["fields"].as_array().into_iter().flatten() {
            let Some(tag) = field["p"].as_u64() else { continue };
            let target = match field.get("n") {
                Some(name) => first + flat.iter().position(|one| one["n"] == *name).unwrap_or_default(),
                None => 0x8000 | w.numbers[text(field, "y").trim_start_matches('*')],
            };
            tags.push((tag, target));
        }
        tags.sort_unstable();
        protos.extend(tags.iter().map(|(tag, target)| format!("P({tag}, {target})")));
        let first_always = always.len();
        for field in &flat {
            if w.is_always_written(field) {
                always.push(fields.len().to_string());
            }
            let mut flags = 0;
            for (on, flag) in [
                (text(field, "o").contains('e'), OMIT_EMPTY),
                (text(field, "o").contains('z'), OMIT_ZERO),
                (text(field, "y").starts_with('*'), POINTER),
                (field["required"] == true, REQUIRED),
                (text(field, "map") == "atomic", MAP_ATOMIC),
                (w.is_always_written(field), ALWAYS),
            ] {
                flags |= if on { flag } else { 0 };
            }
            let (kind, merge) = (w.kind(text(field, "y")), w.merge(field));
            fields.push(format!("F({}, {kind}, {flags}, {merge})", w.strings.add(text(field, "n"))));
        }
        structs.push(format!(
            "T({}, {first}, {}, {first_proto}, {}, {}, {first_always}, {})",
            w.strings.add(text(row, "full")),
            flat.len(),
            tags.len(),
            if text(row, "map") == "atomic" { ATOMIC } else { 0 },
            always.len() - first_always
        ));
        if let Some(gvk) = row["gvk"].as_array() {
            let gvk: Vec<_> = gvk.iter().filter_map(Value::as_str).collect();
            gvks.push((gvk.join("/"), number));
        }
    }
    gvks.sort();
    let gvks: Vec<_> =
        gvks.iter().map(|(gvk, number)| format!("({}, {number})", w.strings.add(gvk))).collect();
    let mut out = String::new();
    let _infallible = writeln!(out, "pub static TEXT: &str = {:?};", w.strings.text);
    for (name, row, rows) in [
        ("STRUCTS", "T", &structs),
        ("FIELDS", "F", &fields),
        ("ORDER", "u8", &order),
        ("RANKS", "u8", &ranks),
        ("PREFIXES", "u64", &prefixes),
        ("PLACES", "u16", &places(&hashed)),
        ("ALWAYS_WRITTEN", "u16", &always),
        ("PROTOS", "P", &protos),
        ("KINDS", "Type", &w.kinds),
        ("MERGES", "G", &w.merges),
        ("GVKS", "(S, u16)", &gvks),
    ] {
        let _infallible = writeln!(out, "pub static {name}: [{row}; {}] = [{}];", rows.len(), rows.join(","));
    }
    out
}
