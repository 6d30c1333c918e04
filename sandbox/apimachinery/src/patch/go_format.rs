//! Values as Go's `%v` and `%#v` print them, since some of Kubernetes' errors show them so.

use serde_json::{Map, Number, Value};

/// `map[a:1 b:[x y]]`, keys in order.
pub(super) fn map(map: &Map<String, Value>) -> String {
    let entries: Vec<_> = map.iter().map(|(key, one)| format!("{key}:{}", value(one))).collect();
    format!("map[{}]", entries.join(" "))
}

/// Any value.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(all) => {
            let all: Vec<_> = all.iter().map(self::value).collect();
            format!("[{}]", all.join(" "))
        }
        Value::Object(all) => map(all),
    }
}

/// Any value with `%#v`; numbers are floats.
pub(crate) fn syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => float(number),
        Value::String(text) => format!("{text:?}"),
        Value::Array(all) => {
            let all: Vec<_> = all.iter().map(syntax).collect();
            format!("[]interface {{}}{{{}}}", all.join(", "))
        }
        Value::Object(all) => {
            let all: Vec<_> = all.iter().map(|(key, one)| format!("{key:?}:{}", syntax(one))).collect();
            format!("map[string]interface {{}}{{{}}}", all.join(", "))
        }
    }
}

/// A number as Go prints a `float64`: with an exponent if that is less than -4 or more than 5 (`strconv`, format `g`).
fn float(number: &Number) -> String {
    let shown = format!("{:e}", number.as_f64().unwrap_or_default());
    let (digits, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.as_f64().unwrap_or_default().to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_shown_as_go_shows_them() {
        for (value, shown) in [
            (json!(8080), "8080"),
            (json!(1.5), "1.5"),
            (json!(1_234_567), "1.234567e+06"),
            (json!(0.000_01), "1e-05"),
            (
                json!({"a": [true, "x\"", null]}),
                r#"map[string]interface {}{"a":[]interface {}{true, "x\"", interface {}(nil)}}"#,
            ),
        ] {
            assert_eq!(syntax(&value), shown);
        }
    }
}
