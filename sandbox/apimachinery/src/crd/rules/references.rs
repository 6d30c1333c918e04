//! Which variables an expression refers to that no macro of it declares.

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use std::collections::BTreeSet;

/// All free variables. A qualified name such as `format.dns1123Label` counts as its first part.
pub(super) fn free(expression: &IdedExpr) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(expression, &mut Vec::new(), &mut found);
    found
}

fn walk<'e>(expression: &'e IdedExpr, bound: &mut Vec<&'e str>, found: &mut BTreeSet<String>) {
    match &expression.expr {
        Expr::Ident(name) if !bound.contains(&name.as_str()) => {
            found.insert(name.clone());
        }
        Expr::Call(call) => {
            call.args.iter().chain(call.target.as_deref()).for_each(|one| walk(one, bound, found))
        }
        Expr::Comprehension(loop_) => {
            walk(&loop_.iter_range, bound, found);
            walk(&loop_.accu_init, bound, found);
            let before = bound.len();
            bound.extend([loop_.iter_var.as_str(), loop_.accu_var.as_str()]);
            bound.extend(loop_.iter_var2.as_deref());
            for one in [&loop_.loop_cond, &loop_.loop_step, &loop_.result] {
                walk(one, bound, found);
            }
            bound.truncate(before);
        }
        Expr::List(list) => list.elements.iter().for_each(|one| walk(one, bound, found)),
        Expr::Select(select) => walk(&select.operand, bound, found),
        Expr::Map(map) => map.entries.iter().for_each(|one| entry(&one.expr, bound, found)),
        Expr::Struct(fields) => fields.entries.iter().for_each(|one| entry(&one.expr, bound, found)),
        _ => {}
    }
}

fn entry<'e>(one: &'e EntryExpr, bound: &mut Vec<&'e str>, found: &mut BTreeSet<String>) {
    match one {
        EntryExpr::StructField(field) => walk(&field.value, bound, found),
        EntryExpr::MapEntry(entry) => {
            walk(&entry.key, bound, found);
            walk(&entry.value, bound, found);
        }
    }
}
