//! Errors of a run in the words of cel-go (`common/types/err.go`, `interpreter/attributes.go`), which the crate has others for.

use crate::crd::pattern;
use cel::common::ast::{Expr, IdedExpr};
use cel::{Context, ExecutionError, Value};

/// What cel-go says where values are of types that a function or an operator does not take.
pub(super) const NO_OVERLOAD: &str = "no such overload";

/// An error of an expression that was run in that context.
pub(super) fn told(error: &ExecutionError, expression: &IdedExpr, context: &Context<'_, '_>) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::IndexOutOfBounds(Value::Int(index)) => format!("index out of bounds: {index}"),
        ExecutionError::DivisionByZero(_) => "division by zero".into(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".into(),
        ExecutionError::Overflow(_, left, right) => overflow(left, right).into(),
        ExecutionError::FunctionError { function, message } => of_function(function, message),
        ExecutionError::NoSuchOverload(overload) if overload.function() == "_._" => {
            match of_nothing(expression, context) {
                Some(field) => format!("no such key: {field}"),
                None => NO_OVERLOAD.into(),
            }
        }
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::NotSupportedAsMethod { .. }
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::InvalidArgumentCount { .. } => NO_OVERLOAD.into(),
        other => other.to_string(),
    }
}

fn overflow(left: &Value, right: &Value) -> &'static str {
    match (left, right) {
        (Value::Timestamp(_), _) | (_, Value::Timestamp(_)) => "timestamp overflow",
        (Value::Duration(_), _) => "duration overflow",
        (Value::UInt(_), _) => "unsigned integer overflow",
        _ => "integer overflow",
    }
}

fn of_function(function: &str, message: &str) -> String {
    let target = match function {
        "int" | "uint" | "double" | "bool" => function,
        "duration" => "google.protobuf.Duration",
        "timestamp" => "google.protobuf.Timestamp",
        "matches" => {
            return match message.strip_prefix('\'').and_then(|rest| rest.split_once("' not a valid regex:\n"))
            {
                Some((expression, why)) => pattern::as_go_says(expression, why),
                None => message.into(),
            };
        }
        _ => return message.into(),
    };
    if message.ends_with("overflow") {
        return message.into();
    }
    if message.ends_with("out of range") || message.starts_with("range error parsing timestamp") {
        return "timestamp overflow".into();
    }
    format!("type conversion error from 'string' to '{target}'")
}

/// The first field that is asked of a value that has none: `oldObject.metadata` where there is no old object.
fn of_nothing(expression: &IdedExpr, context: &Context<'_, '_>) -> Option<String> {
    let look = |one: &IdedExpr| of_nothing(one, context);
    match &expression.expr {
        Expr::Select(select) => look(&select.operand).or_else(|| {
            let value = is_path(&select.operand).then(|| Value::resolve(&select.operand, context).ok())??;
            let has_fields = matches!(value, Value::Map(_) | Value::Opaque(_) | Value::Struct(_));
            (!select.test && !has_fields).then(|| select.field.clone())
        }),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).find_map(look),
        Expr::List(list) => list.elements.iter().find_map(look),
        Expr::Comprehension(all) => look(&all.iter_range),
        _ => None,
    }
}

/// Names and fields alone: what costs nothing to look at once more.
fn is_path(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Ident(_) => true,
        Expr::Select(select) => !select.test && is_path(&select.operand),
        _ => false,
    }
}
