//! An upper bound of what an expression may cost on the values at hand, so that no rule can stall the server.

use crate::expressions::macros::INSERT;
use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use serde_json::Value;

/// Most steps of one run.
const MOST_STEPS: f64 = 1_000_000.0;
/// Most steps of all rules of an object.
pub(super) const BUDGET: f64 = 5_000_000.0;
/// Most bytes of a text that replacing and joining may make.
const MOST_TEXT: f64 = 50_000_000.0;

/// Most values that the objects at hand and what expressions made of them may have together.
const MOST_VALUES: usize = 1_000_000;
/// Most bytes of a text that other expressions may use.
const LONGEST_MADE: usize = 1 << 20;

/// How large values are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extent {
    /// Elements of the longest list or map.
    longest: usize,
    /// All values together.
    all: usize,
    /// Bytes of the longest text.
    text: usize,
}

impl Extent {
    pub fn of(values: &[Option<&Value>]) -> Self {
        let mut extent = Self::default();
        values.iter().flatten().for_each(|value| extent.measure(value));
        extent
    }

    /// Takes in a value that an expression made, for those that use it. False if it is larger than any object: then nobody may use it, since
    /// expressions that double what the last one made would take all memory.
    pub fn take_in(&mut self, value: &cel::Value) -> bool {
        self.all += 1;
        match value {
            cel::Value::List(all) => {
                self.longest = self.longest.max(all.len());
                self.all <= MOST_VALUES && all.iter().all(|one| self.take_in(one))
            }
            cel::Value::Map(map) => {
                self.longest = self.longest.max(map.map.len());
                self.all <= MOST_VALUES && map.map.values().all(|one| self.take_in(one))
            }
            cel::Value::String(text) => {
                self.text = self.text.max(text.len());
                text.len() <= LONGEST_MADE && self.all <= MOST_VALUES
            }
            cel::Value::Bytes(bytes) => bytes.len() <= LONGEST_MADE && self.all <= MOST_VALUES,
            _ => self.all <= MOST_VALUES,
        }
    }

    fn measure(&mut self, value: &Value) {
        self.all += 1;
        match value {
            Value::Array(all) => {
                self.longest = self.longest.max(all.len());
                all.iter().for_each(|one| self.measure(one));
            }
            Value::Object(map) => {
                self.longest = self.longest.max(map.len());
                map.values().for_each(|one| self.measure(one));
            }
            Value::String(text) => self.text = self.text.max(text.len()),
            _ => {}
        }
    }
}

/// Takes from a budget what an expression may cost; refuses it if that is too much.
pub(super) fn charge(expression: &IdedExpr, extent: &Extent, budget: &mut f64) -> Result<(), String> {
    let mut walk = Walk { extent, growing: 0 };
    let steps = walk.cost(expression);
    let text = (extent.text.max(16) as f64).powi(walk.growing + 1);
    if steps > MOST_STEPS.min(*budget) || (walk.growing > 0 && text > MOST_TEXT) {
        return Err(
            "validation failed due to running out of cost budget, no further validation rules will be run"
                .into(),
        );
    }
    *budget -= steps;
    Ok(())
}

/// Whether a call is of a function of sets.
fn of_sets(target: Option<&IdedExpr>) -> bool {
    target.is_some_and(|target| matches!(&target.expr, Expr::Ident(name) if name == "sets"))
}

struct Walk<'e> {
    extent: &'e Extent,
    /// Calls that multiply the length of texts.
    growing: i32,
}

impl Walk<'_> {
    fn cost(&mut self, expression: &IdedExpr) -> f64 {
        match &expression.expr {
            Expr::Call(call) => {
                if matches!(call.func_name.as_str(), "replace" | "join" | "format") {
                    self.growing += 1;
                }
                let own = match call.func_name.as_str() {
                    // As upstream has it: an authorizer may be a program elsewhere.
                    "check" => 350_000.0,
                    "contains" | "equivalent" | "intersects" if of_sets(call.target.as_deref()) => {
                        1.0 + 2.0 * (self.extent.longest as f64).powi(2)
                    }
                    "matches" | "find" | "findAll" | "contains" | "replace" => {
                        1.0 + self.extent.text as f64 / 10.0
                    }
                    "sort" | "sortBy" | "distinct" | "isSorted" | "sum" | "in" | "@in" | INSERT => {
                        1.0 + self.extent.longest as f64
                    }
                    _ => 1.0,
                };
                let target = call.target.as_ref().map_or(0.0, |target| self.cost(target));
                own + target + call.args.iter().map(|arg| self.cost(arg)).sum::<f64>()
            }
            Expr::Comprehension(loop_) => {
                let range = self.cost(&loop_.iter_range);
                let turns = self.size(&loop_.iter_range);
                let inner = self.cost(&loop_.loop_cond) + self.cost(&loop_.loop_step);
                range + turns * inner + self.cost(&loop_.accu_init) + self.cost(&loop_.result)
            }
            Expr::List(list) => 1.0 + list.elements.iter().map(|one| self.cost(one)).sum::<f64>(),
            Expr::Select(select) => 1.0 + self.cost(&select.operand),
            Expr::Map(map) => 1.0 + map.entries.iter().map(|entry| self.entry(&entry.expr)).sum::<f64>(),
            Expr::Struct(fields) => {
                1.0 + fields.entries.iter().map(|entry| self.entry(&entry.expr)).sum::<f64>()
            }
            _ => 1.0,
        }
    }

    fn entry(&mut self, entry: &EntryExpr) -> f64 {
        match entry {
            EntryExpr::StructField(field) => self.cost(&field.value),
            EntryExpr::MapEntry(entry) => self.cost(&entry.key) + self.cost(&entry.value),
        }
    }

    /// How many elements the value of an expression may have.
    fn size(&self, expression: &IdedExpr) -> f64 {
        let longest = self.extent.longest.max(1) as f64;
        match &expression.expr {
            Expr::List(list) => list.elements.len().max(1) as f64,
            Expr::Map(map) => map.entries.len().max(1) as f64,
            Expr::Comprehension(loop_) => {
                let step = self.size(&loop_.loop_step);
                self.size(&loop_.iter_range) * if step > longest { step } else { 1.0 }
            }
            Expr::Call(call) => {
                let below: f64 =
                    call.args.iter().chain(call.target.as_deref()).map(|one| self.size(one)).sum();
                match call.func_name.as_str() {
                    "split" | "findAll" => self.extent.text.max(1) as f64,
                    "flatten" => below * self.extent.all.max(1) as f64,
                    "lists.range" | "range" => 1_000_000.0,
                    _ => below.max(longest),
                }
            }
            _ => longest,
        }
    }
}
