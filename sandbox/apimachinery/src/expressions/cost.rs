//! What an expression may cost at worst (cel-go `checker/cost.go`): as upstream counts, so that a rule is refused where an API server
//! would refuse it. What single functions cost is `prices`' matter.

use super::Checked;
use super::check::{Place, place};
use super::declared::Declared;
use super::prices::{self, Call};
use super::range::Range;
use super::types::{Kind, Type};
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Of a value that is read.
const READ: u64 = 1;
const NEW_LIST: u64 = 10;
const NEW_MAP: u64 = 30;
const NEW_OBJECT: u64 = 40;

/// What an expression may cost over what is declared.
pub fn of(checked: &Checked, root: &Arc<Declared>) -> Range {
    let mut coster = Coster {
        checked,
        root,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    coster.cost(&checked.expression)
}

/// Where in what is declared a value lies.
#[derive(Debug, Clone, Default)]
pub enum Way {
    /// It is no part of it. A part of such a value counts as what is declared itself; so it is upstream.
    #[default]
    None,
    At(Arc<Declared>),
    /// Nothing is declared there.
    Lost,
}

/// The sizes of a list's or map's keys and values, as far as an expression itself tells.
#[derive(Debug, Clone, Copy)]
pub struct Entries {
    is_list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (one, other) = (one?, other?);
        Some(Self {
            is_list: one.is_list,
            key: one.key.union(other.key),
            value: one.value.union(other.value),
        })
    }
}

/// A part of an expression, as functions' prices need it.
#[derive(Debug)]
pub struct Node<'e> {
    pub expression: &'e IdedExpr,
    pub type_: Type,
    pub way: Way,
    /// Its size, if anything tells.
    pub size: Option<Range>,
}

impl Node<'_> {
    pub fn size(&self) -> Range {
        self.size.unwrap_or(Range::UNKNOWN)
    }
}

struct Local<'e> {
    name: &'e str,
    way: Way,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Coster<'e> {
    checked: &'e Checked,
    root: &'e Arc<Declared>,
    paths: HashMap<Place, Way>,
    sizes: HashMap<Place, Range>,
    entries: HashMap<Place, Entries>,
    locals: Vec<Local<'e>>,
}

impl<'e> Coster<'e> {
    fn type_of(&self, at: &IdedExpr) -> Type {
        self.checked.found.types.get(&place(at)).cloned().unwrap_or(Type::Dyn)
    }

    fn local(&self, at: &IdedExpr) -> Option<&Local<'e>> {
        match &at.expr {
            Expr::Ident(name) => self.locals.iter().rev().find(|local| local.name == name),
            _ => None,
        }
    }

    fn way(&self, at: &IdedExpr) -> Way {
        match self.local(at) {
            Some(local) => local.way.clone(),
            None => self.paths.get(&place(at)).cloned().unwrap_or_default(),
        }
    }

    /// One step on from a way.
    fn step(&self, from: Way, step: Step<'_>) -> Way {
        let declared = match from {
            Way::Lost => return Way::Lost,
            Way::None => return Way::At(self.root.clone()),
            Way::At(declared) => declared,
        };
        let found = match step {
            Step::Elements => declared.elements().cloned(),
            Step::Keys => declared.is_map().then(|| any_key().clone()),
            Step::Indices => None,
            Step::Field(name) => declared.get_as_written(name).cloned(),
        };
        found.map_or(Way::Lost, Way::At)
    }

    fn cost(&mut self, at: &'e IdedExpr) -> Range {
        match &at.expr {
            Expr::Literal(_) | Expr::Unspecified => Range::default(),
            Expr::Ident(_) => {
                let way = match self.local(at) {
                    Some(local) => local.way.clone(),
                    None => Way::At(self.root.clone()),
                };
                self.paths.insert(place(at), way);
                Range::fixed(READ)
            }
            // A name of several parts.
            Expr::Select(_) if self.checked.found.names.contains_key(&place(at)) => {
                self.paths.insert(place(at), Way::At(self.root.clone()));
                Range::fixed(READ)
            }
            Expr::Select(select) => {
                let mut sum = self.cost(&select.operand);
                if select.test {
                    return sum;
                }
                if has_fields(&self.type_of(&select.operand)) {
                    sum = sum.add(Range::fixed(READ));
                }
                let way = self.step(self.way(&select.operand), Step::Field(&select.field));
                self.paths.insert(place(at), way);
                sum
            }
            Expr::Call(call) => self.call(at, call),
            Expr::List(list) => {
                let mut sizes = Sizes::default();
                let mut sum = Range::fixed(NEW_LIST);
                for element in &list.elements {
                    sum = sum.add(self.cost(element));
                    sizes.take(self.size_of(element));
                }
                let entries = Entries { is_list: true, key: Range::fixed(1), value: sizes.all() };
                self.entries.insert(place(at), entries);
                sum
            }
            Expr::Map(map) => {
                let (mut keys, mut values) = (Sizes::default(), Sizes::default());
                let mut sum = Range::fixed(NEW_MAP);
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    sum = sum.add(self.cost(&entry.key)).add(self.cost(&entry.value));
                    keys.take(self.size_of(&entry.key));
                    values.take(self.size_of(&entry.value));
                }
                let entries = Entries { is_list: false, key: keys.all(), value: values.all() };
                self.entries.insert(place(at), entries);
                sum
            }
            Expr::Struct(made) => {
                made.entries.iter().fold(Range::fixed(NEW_OBJECT), |sum, entry| match &entry.expr {
                    EntryExpr::StructField(field) => sum.add(self.cost(&field.value)),
                    EntryExpr::MapEntry(_) => sum,
                })
            }
            Expr::Comprehension(loop_) if is_bind(loop_) => self.bind(at, loop_),
            Expr::Comprehension(loop_) => self.comprehension(at, loop_),
        }
    }

    fn bind(&mut self, at: &'e IdedExpr, loop_: &'e ComprehensionExpr) -> Range {
        let sum = self.cost(&loop_.iter_range).add(self.cost(&loop_.accu_init));
        let before = self.locals.len();
        self.push(&loop_.accu_var, &loop_.accu_init);
        let sum = sum.add(self.cost(&loop_.result));
        self.locals.truncate(before);
        self.copy_sizes(at, &loop_.result);
        sum
    }

    fn push(&mut self, name: &'e str, of: &'e IdedExpr) {
        let entries = self.entries_of(of);
        let local = Local { name, way: self.way(of), size: self.computed(of), entries };
        self.locals.push(local);
    }

    fn comprehension(&mut self, at: &'e IdedExpr, loop_: &'e ComprehensionExpr) -> Range {
        let range = &loop_.iter_range;
        let sum = self.cost(range).add(self.cost(&loop_.accu_init));
        let before = self.locals.len();
        self.push(&loop_.accu_var, &loop_.accu_init);
        self.push_turns(loop_);
        let turn = self.cost(&loop_.loop_cond).add(self.cost(&loop_.loop_step));
        self.locals.truncate(before + 1);
        let sum = sum.add(self.cost(&loop_.result));
        self.locals.truncate(before);
        let turns = self.size_of(range);
        match &loop_.accu_init.expr {
            Expr::Literal(_) => {
                if let Some(size) = self.computed(&loop_.accu_init) {
                    self.sizes.insert(place(at), size);
                }
            }
            Expr::List(_) | Expr::Map(_) => {
                self.sizes.insert(place(at), turns);
                if let Some(entries) = self.entries_of(&loop_.loop_step) {
                    self.entries.insert(place(at), entries);
                }
            }
            _ => {}
        }
        sum.add(turns.multiply(turn))
    }

    /// The variables of a loop's turns.
    fn push_turns(&mut self, loop_: &'e ComprehensionExpr) {
        let range = &loop_.iter_range;
        let entries = self.entries_of(range);
        let is_list = match entries {
            Some(entries) => entries.is_list,
            None => self.type_of(range).element().is_some(),
        };
        let (key, value) = (entries.map(|entries| entries.key), entries.map(|entries| entries.value));
        let keys = if is_list { Step::Indices } else { Step::Keys };
        let way = self.way(range);
        let mut add = |name: &'e str, step: Step<'_>, size: Option<Range>| {
            let way = self.step(way.clone(), step);
            self.locals.push(Local { name, way, size, entries: None });
        };
        match &loop_.iter_var2 {
            None if is_list => add(&loop_.iter_var, Step::Elements, value),
            None => add(&loop_.iter_var, Step::Keys, key),
            Some(second) => {
                add(&loop_.iter_var, keys, key);
                add(second, Step::Elements, value);
            }
        }
    }

    fn call(&mut self, at: &'e IdedExpr, call: &'e CallExpr) -> Range {
        if call.func_name == "dyn"
            && let [arg] = call.args.as_slice()
        {
            let cost = self.cost(arg);
            self.copy_sizes(at, arg);
            return cost.add(Range::fixed(1));
        }
        let (mut args, mut costs) = (Vec::new(), Vec::new());
        for arg in &call.args {
            costs.push(self.cost(arg));
            args.push(self.node(arg));
        }
        let found = &self.checked.found;
        let Some(overloads) = found.overloads.get(&place(at)).filter(|overloads| !overloads.is_empty())
        else {
            return Range::default();
        };
        let whole_name = found.names.get(&place(at));
        let mut sum = Range::default();
        let target = call.target.as_deref().filter(|_| whole_name.is_none()).map(|target| {
            sum = self.cost(target);
            self.node(target)
        });
        let function = whole_name.unwrap_or(&call.func_name);
        let (mut cost, mut size): (Option<Range>, Option<Range>) = (None, None);
        for overload in overloads {
            let asked = Call { function, overload, target: target.as_ref(), args: &args };
            let (own, own_size) = self.price(at, &asked, &costs);
            cost = Some(cost.map_or(own, |cost| cost.union(own)));
            size = match (size, own_size) {
                (Some(size), Some(own)) => Some(size.union(own)),
                (size, own) => size.or(own),
            };
            if matches!(*overload, "index_list" | "index_map")
                && let Some(of) = call.args.first()
            {
                size = self.entries_of(of).map(|entries| entries.value);
                let way = self.step(self.way(of), Step::Elements);
                self.paths.insert(place(at), way);
            }
            size = size.or_else(|| self.computed(at));
        }
        if let Some(size) = size {
            self.sizes.insert(place(at), size);
        }
        sum.add(cost.unwrap_or_default())
    }

    /// What a call costs with its arguments, and how large its result is.
    fn price(&mut self, at: &IdedExpr, call: &Call<'_>, costs: &[Range]) -> (Range, Option<Range>) {
        let all = costs.iter().fold(Range::default(), |sum, cost| sum.add(*cost));
        if let Some(price) = prices::of(call) {
            return (price.cost.add(all), price.size);
        }
        match (call.overload, call.args, costs) {
            ("logical_and" | "logical_or", _, [left, right]) => {
                (Range { min: left.min, max: left.add(*right).max }, None)
            }
            ("conditional", [_, yes, no], [condition, cost_yes, cost_no]) => {
                let entries = Entries::union(self.entries_of(yes.expression), self.entries_of(no.expression));
                if let Some(entries) = entries {
                    self.entries.insert(place(at), entries);
                }
                (condition.add(cost_yes.union(*cost_no)), Some(yes.size().union(no.size())))
            }
            ("add_string" | "add_bytes" | "add_list", [left, right], _) => {
                let entries =
                    Entries::union(self.entries_of(left.expression), self.entries_of(right.expression));
                if let Some(entries) = entries {
                    self.entries.insert(place(at), entries);
                }
                let size = left.size().add(right.size());
                let own = if call.overload == "add_list" { Range::fixed(1) } else { size.traverse() };
                (own.add(all), Some(size))
            }
            _ => (Range::fixed(1).add(all), None),
        }
    }

    fn node(&mut self, at: &'e IdedExpr) -> Node<'e> {
        Node { expression: at, type_: self.type_of(at), way: self.way(at), size: self.computed(at) }
    }

    fn size_of(&mut self, at: &IdedExpr) -> Range {
        self.computed(at).unwrap_or(Range::UNKNOWN)
    }

    fn copy_sizes(&mut self, to: &IdedExpr, from: &IdedExpr) {
        if let Some(size) = self.computed(from) {
            self.sizes.insert(place(to), size);
        }
        if let Some(entries) = self.entries_of(from) {
            self.entries.insert(place(to), entries);
        }
    }

    /// How large a value is, if anything tells.
    fn computed(&mut self, at: &IdedExpr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&place(at)) {
            return Some(*size);
        }
        if let Some(size) = written(at) {
            return Some(Range::fixed(size));
        }
        if let Some(size) = declared(&self.way(at), &self.type_of(at)) {
            self.sizes.insert(place(at), size);
            return Some(size);
        }
        if self.type_of(at).is_scalar() {
            return Some(Range::fixed(1));
        }
        self.local(at)?.size
    }

    fn entries_of(&self, at: &IdedExpr) -> Option<Entries> {
        self.entries.get(&place(at)).copied().or_else(|| self.local(at)?.entries)
    }
}

/// A step into a value.
enum Step<'s> {
    Elements,
    Keys,
    Indices,
    Field(&'s str),
}

/// What is declared of a map's keys: nothing.
fn any_key() -> &'static Arc<Declared> {
    static KEY: OnceLock<Arc<Declared>> = OnceLock::new();
    KEY.get_or_init(Declared::key)
}

#[cfg(test)]
thread_local! {
    /// How long upstream's tests of single functions have all texts be.
    pub static LONGEST_TEXT: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// The size that is declared at the end of a way of a value of this type.
pub fn declared(way: &Way, type_: &Type) -> Option<Range> {
    #[cfg(test)]
    if let (Some(max), Type::Text | Type::Bytes) = (LONGEST_TEXT.get(), type_) {
        return Some(Range { min: 0, max });
    }
    let _ = type_;
    match way {
        Way::At(declared) => Some(Range { min: 0, max: declared.most as u64 }),
        Way::None | Way::Lost => None,
    }
}

/// What elements of a list have as way, if the list has one.
pub fn elements(way: &Way) -> Way {
    match way {
        Way::None => Way::None,
        Way::Lost => Way::Lost,
        Way::At(list) => list.elements().cloned().map_or(Way::Lost, Way::At),
    }
}

/// The size of what stands in the expression itself.
fn written(at: &IdedExpr) -> Option<u64> {
    Some(match &at.expr {
        Expr::Literal(LiteralValue::String(text)) => text.inner().chars().count() as u64,
        Expr::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len() as u64,
        Expr::Literal(_) => 1,
        Expr::List(list) => list.elements.len() as u64,
        Expr::Map(map) => map.entries.len() as u64,
        _ => return None,
    })
}

/// Whether reading a field of it costs something.
fn has_fields(type_: &Type) -> bool {
    match type_ {
        Type::Object(_) | Type::Param(_) => true,
        Type::Named(name) => name.starts_with("kubernetes."),
        other => other.parts_of(Kind::Map).is_some(),
    }
}

/// Whether a loop is none, but gives a value a name.
fn is_bind(loop_: &ComprehensionExpr) -> bool {
    let none = matches!(&loop_.iter_range.expr, Expr::List(list) if list.elements.is_empty());
    let never = matches!(&loop_.loop_cond.expr, Expr::Literal(LiteralValue::Boolean(on)) if !*on.inner());
    none && never && loop_.accu_var != "__result__"
}

/// The sizes of all elements of one list.
#[derive(Default)]
struct Sizes(Option<Range>);

impl Sizes {
    fn take(&mut self, size: Range) {
        self.0 = Some(self.0.map_or(size, |all| all.union(size)));
    }

    fn all(&self) -> Range {
        self.0.unwrap_or_default()
    }
}
