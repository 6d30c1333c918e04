//! What is checked of an expression that is right in its types (cel-go `cel/validator.go`): literals of durations, times and regular
//! expressions, and that lists and maps are of one type.

use super::Declarations;
use super::check::{Fault, Findings, place};
use super::types::Type;
use crate::crd::pattern;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr};

/// From the year 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Whose arguments may be lists of anything.
const EXEMPT: &str = "format";

/// Adds what is wrong.
pub fn check(expression: &IdedExpr, found: &mut Findings, declarations: &Declarations<'_>) {
    let mut faults = [const { Vec::new() }; 3];
    walk(expression, false, &mut Walk { found, declarations, faults: &mut faults });
    found.faults.extend(faults.into_iter().flatten());
}

struct Walk<'w> {
    found: &'w Findings,
    declarations: &'w Declarations<'w>,
    /// Of literals, lists and maps.
    faults: &'w mut [Vec<Fault>; 3],
}

fn walk(at: &IdedExpr, exempt: bool, to: &mut Walk<'_>) {
    match &at.expr {
        Expr::Call(call) => {
            to.call(call);
            let exempt = exempt || call.func_name == EXEMPT;
            call.target.as_deref().into_iter().chain(&call.args).for_each(|one| walk(one, exempt, to));
        }
        Expr::Select(select) => walk(&select.operand, exempt, to),
        Expr::List(list) => {
            if !exempt {
                to.list(list);
            }
            list.elements.iter().for_each(|one| walk(one, exempt, to));
        }
        Expr::Map(map) => {
            if !exempt {
                to.map(map);
            }
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    walk(&entry.key, exempt, to);
                    walk(&entry.value, exempt, to);
                }
            }
        }
        Expr::Struct(made) => {
            for entry in &made.entries {
                if let EntryExpr::StructField(field) = &entry.expr {
                    walk(&field.value, exempt, to);
                }
            }
        }
        Expr::Comprehension(loop_) => {
            let parts =
                [&loop_.iter_range, &loop_.accu_init, &loop_.loop_cond, &loop_.loop_step, &loop_.result];
            parts.into_iter().for_each(|one| walk(one, exempt, to));
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

impl Walk<'_> {
    fn type_of(&self, at: &IdedExpr, optional: bool) -> Type {
        let type_ = self.found.types.get(&place(at)).cloned().unwrap_or(Type::Dyn);
        match type_.unwrap_optional().filter(|_| optional) {
            Some(within) => within.clone(),
            None => type_,
        }
    }

    fn call(&mut self, call: &CallExpr) {
        let Some(IdedExpr { id, expr: Expr::Literal(literal) }) = call.args.first() else { return };
        let fine = match (call.func_name.as_str(), call.target.is_some(), literal) {
            ("duration", false, LiteralValue::String(text)) => crate::duration::parse(text.inner()).is_some(),
            ("timestamp", false, LiteralValue::String(text)) => {
                chrono::DateTime::parse_from_rfc3339(text.inner()).is_ok()
            }
            ("timestamp", false, LiteralValue::Int(seconds)) => SECONDS.contains(seconds.inner()),
            ("matches", true, LiteralValue::String(text)) => !pattern::is_wrong(text.inner()),
            _ => true,
        };
        if !fine {
            self.faults[0].push(Fault { id: *id, message: format!("invalid {} argument", call.func_name) });
        }
    }

    fn differ(&mut self, of: usize, at: &IdedExpr, expected: &Type, found: &Type) {
        let (expected, found) = (self.declarations.name(expected), self.declarations.name(found));
        let message = format!("expected type '{expected}' but found '{found}'");
        self.faults[of].push(Fault { id: at.id, message });
    }

    fn list(&mut self, list: &ListExpr) {
        let mut first: Option<Type> = None;
        for (index, element) in list.elements.iter().enumerate() {
            let own = self.type_of(element, list.optional_indices.contains(&index));
            match &first {
                None => first = Some(own),
                Some(first) if first.is_like(&own) => {}
                Some(first) => return self.differ(1, element, first, &own),
            }
        }
    }

    fn map(&mut self, map: &MapExpr) {
        let mut first: Option<(Type, Type)> = None;
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let (key, value) = (self.type_of(&entry.key, false), self.type_of(&entry.value, entry.optional));
            let Some((keys, values)) = &first else {
                first = Some((key, value));
                continue;
            };
            if !keys.is_like(&key) {
                self.differ(2, &entry.key, &keys.clone(), &key);
            }
            if !values.is_like(&value) {
                self.differ(2, &entry.value, &values.clone(), &value);
            }
        }
    }
}
