//! The types of Kubernetes' API as a table: fields, Go types, protobuf tags and rules of merging of every kind that is served.
//! Made by `build.rs` of `schema/v1.35.jsonl`; all of it is constant data without pointers, so it costs no memory but the pages
//! that are looked at. Decoding, patches, server-side apply and protobuf walk it; nothing in here changes.

// How the generated tables are written.
/// A piece of `TEXT`: where, how long.
struct S(u32, u16);
/// A struct: name, first field, fields, first tag, tags, flags, and those of its fields that are always written: first, how many.
struct T(S, u16, u16, u16, u16, u8, u16, u16);
/// A field: name, type, flags, rule of merging.
struct F(S, u16, u16, u16);
/// A protobuf tag: number, and the field (or, with the highest bit, the struct) behind it.
struct P(u16, u16);
/// Merging: list type, keys, patch strategy, merge key, default.
struct G(u8, S, S, S, S);
mod tables {
    use super::{Elem, F, G, P, S, Struct, T, Type};
    include!(concat!(env!("OUT_DIR"), "/tables.rs"));
}

use smallvec::SmallVec;
use tables::{
    ALWAYS_WRITTEN, FIELDS, GVKS, KINDS, MERGES, ORDER, PLACES, PREFIXES, PROTOS, RANKS, STRUCTS, TEXT,
};

/// Bits of flags: of a field, and of a struct (`schema/tables.rs`).
const ALWAYS: u16 = 32;
const ATOMIC: u8 = 1;

/// Where the search for a field begins in `PLACES`: of its struct and the first bytes of its name. `schema/tables.rs` has the same.
fn place(of: u16, prefix: u64) -> usize {
    let mixed = (prefix ^ u64::from(of)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize & (PLACES.len() - 1)
}

/// The first bytes of a name as a number.
fn prefix(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let word = |four: &[u8; 4]| u64::from(u32::from_be_bytes(*four));
    if let Some(eight) = bytes.first_chunk() {
        return u64::from_be_bytes(*eight);
    }
    match (bytes.first_chunk(), bytes.last_chunk()) {
        // They overlap, and agree where they do.
        (Some(first), Some(last)) => word(first) << 32 | word(last) << (64 - 8 * bytes.len()),
        _ => (0..).zip(bytes).fold(0, |all, (at, byte)| all | u64::from(*byte) << (56 - 8 * at)),
    }
}

fn text(at: &'static S) -> &'static str {
    TEXT.get(at.0 as usize..at.0 as usize + usize::from(at.1)).unwrap_or_default()
}

/// The struct of a kind. Options and other kinds of `meta` (`DeleteOptions`, `Status`, …) are found under `meta.k8s.io`, `v1`.
pub fn find(group: &str, version: &str, kind: &str) -> Option<Struct> {
    let mut wanted = SmallVec::<[u8; 96]>::new();
    for piece in [group, "/", version, "/", kind] {
        wanted.extend_from_slice(piece.as_bytes());
    }
    let at = GVKS.binary_search_by(|(gvk, _)| text(gvk).as_bytes().cmp(&wanted)).ok()?;
    Some(Struct(GVKS[at].1))
}

/// A struct by its name in OpenAPI documents, such as `io.k8s.api.core.v1.PodSpec`.
pub fn find_definition(name: &str) -> Option<Struct> {
    let at = STRUCTS.iter().position(|one| text(&one.0) == name)?;
    Some(Struct(at as u16))
}

/// All kinds: group, version, kind.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    GVKS.iter().filter_map(|(gvk, _)| {
        let (group, rest) = text(gvk).split_once('/')?;
        let (version, kind) = rest.split_once('/')?;
        Some((group, version, kind))
    })
}

/// An object with known fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Struct(u16);

impl Struct {
    fn row(self) -> &'static T {
        &STRUCTS[usize::from(self.0)]
    }

    /// Its name in OpenAPI documents, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn definition(self) -> &'static str {
        text(&self.row().0)
    }

    /// Its name in Go, such as `PodSpec`.
    pub fn name(self) -> &'static str {
        self.definition().rsplit('.').next().unwrap_or_default()
    }

    /// Its fields in JSON, ordered by name.
    pub fn fields(self) -> impl ExactSizeIterator<Item = Field> {
        let row = self.row();
        (row.1..row.1 + row.2).map(Field)
    }

    /// Those of its fields that Go's encoder writes though nobody has set them.
    pub(crate) fn always_written(self) -> impl Iterator<Item = Field> {
        let row = self.row();
        let all = ALWAYS_WRITTEN.get(usize::from(row.6)..usize::from(row.6 + row.7)).unwrap_or_default();
        all.iter().map(|field| Field(*field))
    }

    /// Where one of its fields is in the order in which Go's struct has them.
    pub(crate) fn rank_of(self, field: Field) -> usize {
        RANKS.get(usize::from(field.0)).copied().unwrap_or_default().into()
    }

    /// The field that is there in that order.
    pub(crate) fn ranked(self, rank: usize) -> Option<Field> {
        let row = self.row();
        let place = ORDER.get(usize::from(row.1) + rank).filter(|_| rank < usize::from(row.2))?;
        Some(Field(row.1 + u16::from(*place)))
    }

    /// A field by its name in JSON.
    pub fn field(self, name: &str) -> Option<Field> {
        let (row, wanted) = (self.row(), prefix(name));
        let mut at = place(self.0, wanted);
        loop {
            // What stands nowhere ends at a place where nothing stands: most places are such.
            let field = Field(PLACES[at].checked_sub(1)?);
            let is_ours = (row.1..row.1 + row.2).contains(&field.0);
            if is_ours && PREFIXES[usize::from(field.0)] == wanted && field.is_rest_of(name) {
                return Some(field);
            }
            at = (at + 1) & (PLACES.len() - 1);
        }
    }

    /// The place of one of its fields among them.
    pub(crate) fn index_of(self, field: Field) -> usize {
        usize::from(field.0.saturating_sub(self.row().1))
    }

    /// Whether server-side apply sees it as one value.
    pub fn is_atomic(self) -> bool {
        self.row().5 & ATOMIC != 0
    }

    /// What a protobuf tag means.
    pub fn tag(self, tag: u32) -> Option<Tagged> {
        let row = self.row();
        let tags = PROTOS.get(usize::from(row.3)..usize::from(row.3 + row.4))?;
        let at = tags.binary_search_by(|one| u32::from(one.0).cmp(&tag)).ok()?;
        let target = tags[at].1;
        Some(if target & 0x8000 == 0 {
            Tagged::Field(Field(target))
        } else {
            Tagged::Inlined(Struct(target & 0x7fff))
        })
    }
}

/// What stands behind a protobuf tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagged {
    /// A field.
    Field(Field),
    /// A message whose fields are, in JSON, fields of the struct itself.
    Inlined(Struct),
}

/// A field of a struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Field(u16);

impl Field {
    fn row(self) -> &'static F {
        &FIELDS[usize::from(self.0)]
    }

    fn has(self, flag: u16) -> bool {
        self.row().2 & flag != 0
    }

    fn merge(self) -> &'static G {
        &MERGES[usize::from(self.row().3)]
    }

    /// Whether it has this name, of which the first bytes are known to be the same.
    fn is_rest_of(self, name: &str) -> bool {
        let length = usize::from(self.row().0.1);
        length == name.len()
            && match length {
                0..=8 => true,
                // At once, as a number.
                9..=16 => self.name().as_bytes().last_chunk::<8>() == name.as_bytes().last_chunk(),
                _ => self.name().as_bytes()[8..] == name.as_bytes()[8..],
            }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        text(&self.row().0)
    }

    /// What it holds.
    pub fn type_(self) -> Type {
        Elem(self.row().1).type_()
    }

    /// Whether it is left out when it is empty, as Go's encoder understands that.
    pub fn omit_empty(self) -> bool {
        self.has(1)
    }

    /// Whether it is left out when it is zero.
    pub fn omit_zero(self) -> bool {
        self.has(2)
    }

    /// Whether it is a pointer in Go: its zero value differs from its absence.
    pub fn pointer(self) -> bool {
        self.has(4)
    }

    /// Whether OpenAPI calls it required.
    pub fn required(self) -> bool {
        self.has(8)
    }

    /// Whether Go's encoder writes it though nobody has set it: it is no pointer, and left out neither when it is empty (no struct is)
    /// nor when it is zero.
    pub(crate) fn is_always_written(self) -> bool {
        self.has(ALWAYS)
    }

    /// How server-side apply merges it, if it is a list.
    pub fn list_type(self) -> ListType {
        match self.merge().0 {
            2 => ListType::Set,
            3 => ListType::Map,
            _ => ListType::Atomic,
        }
    }

    /// Whether a list type is declared at all.
    pub fn has_list_type(self) -> bool {
        self.merge().0 != 0
    }

    /// Whether it is a map or struct that server-side apply sees as one value.
    pub fn map_atomic(self) -> bool {
        self.has(16)
    }

    /// `x-kubernetes-list-map-keys`.
    pub fn keys(self) -> impl Iterator<Item = &'static str> {
        text(&self.merge().1).split(',').filter(|key| !key.is_empty())
    }

    /// Whether a strategic merge patch merges its elements (lists) or fields (maps).
    pub fn patch_merges(self) -> bool {
        text(&self.merge().2).split(',').any(|one| one == "merge")
    }

    /// Whether a strategic merge patch replaces it whole.
    pub fn patch_replaces(self) -> bool {
        text(&self.merge().2).split(',').any(|one| one == "replace")
    }

    /// Whether a strategic merge patch looks for `$retainKeys`.
    pub fn patch_retains_keys(self) -> bool {
        text(&self.merge().2).split(',').any(|one| one == "retainKeys")
    }

    /// By which field a strategic merge patch recognizes elements.
    pub fn merge_key(self) -> Option<&'static str> {
        Some(text(&self.merge().3)).filter(|key| !key.is_empty())
    }

    /// The default that the schema declares, as JSON.
    pub fn default(self) -> Option<serde_json::Value> {
        let default = text(&self.merge().4);
        if default.is_empty() { None } else { serde_json::from_str(default).ok() }
    }
}

/// How server-side apply merges a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// As one value.
    Atomic,
    /// As a set of values.
    Set,
    /// As a map by some fields of its elements.
    Map,
}

/// What a list or a map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Elem(u16);

impl Elem {
    /// The type.
    pub fn type_(self) -> Type {
        KINDS[usize::from(self.0)]
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// `string`, or a named string.
    String,
    /// `bool`.
    Bool,
    /// `int32`.
    Int32,
    /// `int64`.
    Int64,
    /// `float64`.
    Float64,
    /// `[]byte`: base64 in JSON.
    Bytes,
    /// `resource.Quantity`.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`: RFC 3339, seconds.
    Time,
    /// `metav1.MicroTime`: RFC 3339, microseconds.
    MicroTime,
    /// `metav1.Duration`: as Go writes it, `1h0m0s`.
    Duration,
    /// `runtime.RawExtension`: any object.
    RawExtension,
    /// `metav1.FieldsV1`: a set of fields.
    FieldsV1,
    /// `apiextensions.JSON`: any value.
    Json,
    /// A schema or a boolean.
    SchemaOrBool,
    /// A schema or a list of them.
    SchemaOrArray,
    /// A schema or a list of strings.
    SchemaOrStringArray,
    /// An object with known fields.
    Struct(Struct),
    /// A list.
    List(Elem),
    /// A list that is a message of its own in protobuf (`Verbs`, `ExtraValue`).
    NamedList(Elem),
    /// A map from strings.
    Map(Elem),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_port_is_what_kubernetes_says() {
        let service = find("", "v1", "Service").unwrap();
        assert_eq!(service.definition(), "io.k8s.api.core.v1.Service");
        let Type::Struct(spec) = service.field("spec").unwrap().type_() else { panic!("spec is a struct") };
        let ports = spec.field("ports").unwrap();
        assert_eq!(ports.list_type(), ListType::Map);
        assert_eq!(ports.keys().collect::<Vec<_>>(), ["port", "protocol"]);
        assert_eq!(ports.merge_key(), Some("port"));
        assert!(ports.patch_merges() && !ports.patch_replaces());
        let Type::List(elem) = ports.type_() else { panic!("a list") };
        let Type::Struct(port) = elem.type_() else { panic!("of structs") };
        assert_eq!(port.name(), "ServicePort");
        assert_eq!(port.field("protocol").unwrap().default(), Some("TCP".into()));
        assert_eq!(port.field("targetPort").unwrap().type_(), Type::IntOrString);
        assert!(port.field("port").unwrap().required());
        assert_eq!(port.tag(5), Some(Tagged::Field(port.field("nodePort").unwrap())));
        assert!(spec.field("selector").unwrap().map_atomic());
    }

    #[test]
    fn inlined_structs_are_fields_in_json_and_messages_in_protobuf() {
        let volume = find_definition("io.k8s.api.core.v1.Volume").unwrap();
        assert!(volume.field("configMap").unwrap().pointer());
        let Some(Tagged::Inlined(source)) = volume.tag(2) else { panic!("tag 2 is inlined") };
        assert_eq!(source.name(), "VolumeSource");
        assert!(volume.tag(3).is_none());
    }

    #[test]
    fn no_struct_has_more_fields_than_the_decoder_marks() {
        assert!(STRUCTS.iter().all(|one| one.2 <= 64));
    }

    #[test]
    fn every_struct_is_ordered_and_found() {
        let mut structs = 0;
        for (group, version, kind) in kinds() {
            let found = find(group, version, kind).unwrap();
            let names: Vec<_> = found.fields().map(Field::name).collect();
            assert!(names.is_sorted());
            assert!(names.iter().all(|name| found.field(name).is_some_and(|field| field.name() == *name)));
            assert!(found.field("kind").is_some(), "{group}/{version} {kind}");
            assert!(["", "kin", "kinds", "metadata2"].iter().all(|name| found.field(name).is_none()));
            structs += 1;
        }
        assert!(structs > 140, "{structs}");
        assert!(find("apps", "v1", "Deploymen").is_none() && find("", "v1", "Deployment").is_none());
    }
}
