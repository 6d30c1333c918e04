//! What whoever creates an object owns, at once as `FieldsV1` has it: [`super::walk::compare`] with nothing, and without the sets that
//! other writes need because they take fields from each other.

use super::place::{Place, Shape};
use super::walk::{Absent, alike, element, is_empty};
use super::{UNOWNED, UNOWNED_METADATA};
use crate::ordered;
use serde_json::Value;

/// Elements with what is below them, each once.
#[derive(Debug, Default)]
pub(super) struct Elements(Vec<(String, Elements)>);

impl Elements {
    fn with_capacity(elements: usize) -> Self {
        Self(Vec::with_capacity(elements))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, element: String, below: Self) {
        self.0.push((element, below));
    }

    /// The mark of a member that has others below it.
    fn push_itself(&mut self) {
        self.push(".".into(), Self::default());
    }

    /// As a tree.
    pub fn into_json(self) -> Value {
        Value::Object(self.0.into_iter().map(|(element, below)| (element, below.into_json())).collect())
    }

    /// As the text of that tree.
    pub fn into_text(self) -> Result<String, std::string::FromUtf8Error> {
        let mut out = Vec::with_capacity(1024);
        self.write(&mut out);
        String::from_utf8(out)
    }

    fn write(mut self, out: &mut Vec<u8>) {
        self.0.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        out.push(b'{');
        for (index, (element, below)) in self.0.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            ordered::string(out, &element);
            out.push(b':');
            below.write(out);
        }
        out.push(b'}');
    }
}

/// The fields of a new (sparse) object, but for some that the request can't set.
pub(super) fn fields(new: &Value, place: Place<'_>, reset: &[&[&str]]) -> Elements {
    let mut out = Elements::default();
    for (name, value) in new.as_object().into_iter().flatten() {
        if reset.contains(&&[name.as_str()][..]) {
            continue;
        }
        let below = at(place, name);
        match below.own_zero() {
            None if name == "metadata" => {
                put(&mut out, name, false, whole(value, below, false, &UNOWNED_METADATA))
            }
            zero => {
                let unowned = if name == "metadata" { &UNOWNED_METADATA[..] } else { &[] };
                let (member, inner) = changed(zero, value, below, unowned);
                put(&mut out, name, member && !UNOWNED.contains(&name.as_str()), inner);
            }
        }
    }
    out
}

fn at<'a>(place: Place<'a>, name: &str) -> Place<'a> {
    place.field(name).map_or(Place::Deduced, |found| found.0)
}

/// Puts in a field, unless it and all below are somebody else's.
fn put(out: &mut Elements, name: &str, member: bool, below: Elements) {
    if member || !below.is_empty() {
        let mut element = String::with_capacity(name.len() + 2);
        element.push_str("f:");
        element.push_str(name);
        out.push(element, below);
    }
}

/// Whether a value that was zero (none: not there) is owned itself, and what is below it.
fn changed(zero: Option<Value>, value: &Value, place: Place<'_>, unowned: &[&str]) -> (bool, Elements) {
    let Some(zero) = zero else { return (true, whole(value, place, true, &[])) };
    if zero == *value {
        return (false, Elements::default());
    }
    match place.shape(Some(&zero), Some(value)) {
        Shape::Leaf => (!alike(&zero, value, place, Absent::Zero), Elements::default()),
        _ if is_empty(&zero) && is_empty(value) => (true, Elements::default()),
        Shape::Map => {
            let map = value.as_object();
            let mut out = Elements::with_capacity(map.map_or(0, |map| map.len()));
            for (name, value) in map.into_iter().flatten() {
                let below = at(place, name);
                let (member, inner) = changed(below.own_zero(), value, below, &[]);
                put(&mut out, name, member && !unowned.contains(&name.as_str()), inner);
            }
            (false, out)
        }
        shape => (false, listed(value, place, shape, false)),
    }
}

/// What is below a value that came as a whole, and itself if it is owned.
fn whole(value: &Value, place: Place<'_>, member: bool, unowned: &[&str]) -> Elements {
    let map = match place.shape(Some(value), None) {
        Shape::Leaf => return Elements::default(),
        Shape::Map => value.as_object(),
        shape => return listed(value, place, shape, member),
    };
    let Some(map) = map else { return Elements::default() };
    let mut out = Elements::with_capacity(map.len() + 1);
    if member {
        out.push_itself();
    }
    for (name, value) in map {
        put(&mut out, name, !unowned.contains(&name.as_str()), whole(value, at(place, name), true, &[]));
    }
    for (name, zero, place) in place.zeros().filter(|(name, ..)| !map.contains_key(*name)) {
        put(&mut out, name, !unowned.contains(&name), whole(&zero, place, true, &[]));
    }
    // A member without anything below it needs no mark.
    if out.0.len() == usize::from(member) { Elements::default() } else { out }
}

/// The elements of a list in which they are recognized.
fn listed(list: &Value, place: Place<'_>, shape: Shape, member: bool) -> Elements {
    let all = list.as_array().map_or(&[][..], Vec::as_slice);
    let recognized = |one| Some((element(place, shape, one, Absent::Zero).ok()?, one));
    let mut all: Vec<(String, &Value)> = all.iter().filter_map(recognized).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let mut out = Elements::with_capacity(all.len() + 1);
    if member && !all.is_empty() {
        out.push_itself();
    }
    let mut all = all.into_iter().peekable();
    while let Some((element, one)) = all.next() {
        let mut is_twice = false;
        while all.next_if(|next| next.0 == element).is_some() {
            is_twice = true;
        }
        // What stands twice comes as a whole.
        let below = if is_twice { Elements::default() } else { whole(one, place.element(), true, &[]) };
        out.push(element, below);
    }
    out
}
