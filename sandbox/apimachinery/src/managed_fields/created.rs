//! What whoever creates an object owns, at once as the text that `FieldsV1` is: [`super::walk::compare`] with nothing, and without the sets
//! that other writes need because they take fields from each other.

use super::place::{Place, Shape};
use super::walk::{Absent, alike, element, is_empty};
use super::{UNOWNED, UNOWNED_METADATA};
use crate::ordered;
use serde_json::Value;
use std::string::FromUtf8Error;

/// Elements as they are written, in their order, one within the other.
#[derive(Debug)]
struct Text(Vec<u8>);

impl Text {
    /// Writes an element and what `below` writes within it. It stays if `below` says that it is a member, or wrote something.
    fn element(&mut self, prefix: &str, name: &str, below: impl FnOnce(&mut Self) -> bool) {
        let start = self.0.len();
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(prefix.as_bytes());
        ordered::escaped(&mut self.0, name);
        self.0.extend_from_slice(b"\":{");
        let within = self.0.len();
        let is_member = below(self);
        if is_member || self.0.len() > within {
            self.0.push(b'}');
        } else {
            self.0.truncate(start);
        }
    }

    /// A field of a map.
    fn field(&mut self, name: &str, below: impl FnOnce(&mut Self) -> bool) {
        self.element("f:", name, below);
    }

    /// The mark of a member, which it needs if there is something else below it: whatever `others` writes.
    fn marked(&mut self, others: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.element(".", "", |_| true);
        let end = self.0.len();
        others(self);
        if self.0.len() == end {
            self.0.truncate(start);
        }
    }
}

/// The fields of a new (sparse) object, but for some that the request can't set, as a JSON object.
pub(super) fn fields(new: &Value, place: Place<'_>, reset: &[&[&str]]) -> Result<String, FromUtf8Error> {
    let mut out = Text(Vec::with_capacity(1024));
    out.0.push(b'{');
    for (name, value) in new.as_object().into_iter().flatten() {
        if reset.contains(&&[name.as_str()][..]) {
            continue;
        }
        let (is_metadata, below) = (name == "metadata", at(place, name));
        let unowned = if is_metadata { &UNOWNED_METADATA[..] } else { &[] };
        out.field(name, |out| match below.own_zero() {
            None if is_metadata => {
                whole(out, value, below, false, unowned);
                false
            }
            zero => changed(out, zero, value, below, unowned) && !UNOWNED.contains(&name.as_str()),
        });
    }
    out.0.push(b'}');
    String::from_utf8(out.0)
}

fn at<'a>(place: Place<'a>, name: &str) -> Place<'a> {
    place.field(name).map_or(Place::Deduced, |found| found.0)
}

/// Writes what is below a value that was zero (none: not there); whether it is owned itself.
fn changed(out: &mut Text, zero: Option<Value>, value: &Value, place: Place<'_>, unowned: &[&str]) -> bool {
    let Some(zero) = zero else {
        whole(out, value, place, true, &[]);
        return true;
    };
    if zero == *value {
        return false;
    }
    match place.shape(Some(&zero), Some(value)) {
        Shape::Leaf => return !alike(&zero, value, place, Absent::Zero),
        _ if is_empty(&zero) && is_empty(value) => return true,
        Shape::Map => {
            for (name, value) in value.as_object().into_iter().flatten() {
                let below = at(place, name);
                let is_owned = !unowned.contains(&name.as_str());
                out.field(name, |out| changed(out, below.own_zero(), value, below, &[]) && is_owned);
            }
        }
        shape => listed(out, value, place, shape, false),
    }
    false
}

/// Writes what is below a value that came as a whole, and itself if it is owned.
fn whole(out: &mut Text, value: &Value, place: Place<'_>, is_member: bool, unowned: &[&str]) {
    match place.shape(Some(value), None) {
        Shape::Leaf => {}
        Shape::Map if is_member => out.marked(|out| entries(out, value, place, unowned)),
        Shape::Map => entries(out, value, place, unowned),
        shape => listed(out, value, place, shape, is_member),
    }
}

/// Writes the entries of a map, with those that Go's encoder always writes.
fn entries(out: &mut Text, map: &Value, place: Place<'_>, unowned: &[&str]) {
    let Some(map) = map.as_object() else { return };
    let mut put = |name: &str, value: &Value, place: Place<'_>| {
        out.field(name, |out| {
            whole(out, value, place, true, &[]);
            !unowned.contains(&name)
        });
    };
    // Both are in the order of names.
    let mut zeros = place.zeros().filter(|(name, ..)| !map.contains_key(*name)).peekable();
    for (name, value) in map {
        while let Some((zero_name, zero, place)) = zeros.next_if(|(zero_name, ..)| *zero_name < name.as_str())
        {
            put(zero_name, &zero, place);
        }
        put(name, value, at(place, name));
    }
    zeros.for_each(|(name, zero, place)| put(name, &zero, place));
}

/// Writes the elements of a list in which they are recognized.
fn listed(out: &mut Text, list: &Value, place: Place<'_>, shape: Shape, is_member: bool) {
    let all = list.as_array().map_or(&[][..], Vec::as_slice);
    let recognized = |one| Some((element(place, shape, one, Absent::Zero).ok()?, one));
    let mut all: Vec<(String, &Value)> = all.iter().filter_map(recognized).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let write = |out: &mut Text| {
        for same in all.chunk_by(|one, other| one.0 == other.0) {
            out.element("", &same[0].0, |out| {
                // What stands twice comes as a whole.
                if let [(_, one)] = same {
                    whole(out, one, place.element(), true, &[]);
                }
                true
            });
        }
    };
    if is_member { out.marked(write) } else { write(out) }
}
