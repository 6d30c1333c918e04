//! `has(value.field)` where the value is none that has fields: false, as cel-go says (`refQualify` of `interpreter/attributes.go`), and no
//! error, which the crate's own test of presence gives. `has(oldObject.metadata)` of a new object is the common case.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::common::types::{self, CelBool, CelOptional, CelString};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError};

/// The function that stands for the test. No expression can be written that calls it.
const HAS: &str = "@has";

/// Adds the function to an environment.
pub(super) fn add(env: &mut Env) {
    let _never_fails =
        env.add_overload(HAS, "@has(dyn, string)", vec![types::DYN_TYPE, types::STRING_TYPE], |args| {
            let [value, field] = &args[..] else {
                return Err(ExecutionError::no_such_overload(HAS, Vec::new()));
            };
            Ok(CowVal::owned(CelBool::from(has(value.as_ref(), field.as_ref())?)))
        });
}

fn has(value: &dyn Val, field: &dyn Val) -> Result<bool, ExecutionError> {
    if let Some(optional) = value.downcast_ref::<CelOptional<'_>>() {
        return optional.inner().map_or(Ok(false), |inner| has(inner, field));
    }
    match value.as_indexer().map(|fields| fields.get(field)) {
        None | Some(Err(ExecutionError::NoSuchKey(_))) => Ok(false),
        Some(Ok(_)) => Ok(true),
        Some(Err(error)) => Err(error),
    }
}

/// An expression with the function in place of all tests.
pub(super) fn called(expression: &IdedExpr) -> IdedExpr {
    let mut expression = expression.clone();
    walk(&mut expression);
    expression
}

fn walk(expression: &mut IdedExpr) {
    match &mut expression.expr {
        Expr::Select(select) => {
            walk(&mut select.operand);
            if select.test {
                let field = LiteralValue::String(CelString::from(select.field.clone()));
                let field = IdedExpr { id: expression.id, expr: Expr::Literal(field) };
                let args = vec![std::mem::take(&mut *select.operand), field];
                expression.expr = Expr::Call(CallExpr { func_name: HAS.into(), target: None, args });
            }
        }
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).for_each(walk),
        Expr::Comprehension(all) => {
            let all = &mut **all;
            let parts = [&mut all.iter_range, &mut all.accu_init, &mut all.loop_cond, &mut all.loop_step];
            parts.into_iter().chain([&mut all.result]).for_each(walk);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(walk),
        Expr::Map(map) => map.entries.iter_mut().for_each(|one| entry(&mut one.expr)),
        Expr::Struct(made) => made.entries.iter_mut().for_each(|one| entry(&mut one.expr)),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

fn entry(one: &mut EntryExpr) {
    match one {
        EntryExpr::StructField(field) => walk(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            walk(&mut entry.key);
            walk(&mut entry.value);
        }
    }
}
