//! How one object differs from another, laid out as Go's `cmp.Diff` does, which the API server's refusals carry: removed lines begin
//! with `-`, added ones with `+`, and what is the same is counted.

use super::same;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Deeper than this nothing is compared part by part.
const MOST_DEEP: usize = 16;
/// More lines than this do not help anybody.
const MOST_LINES: usize = 200;

/// The difference between an object of a type before and after.
pub fn of(kind: &str, old: &Value, new: &Value) -> String {
    let mut lines = vec![format!("  {kind}{{")];
    fields(&mut lines, old, new, 1);
    lines.push("  }".into());
    if lines.len() > MOST_LINES {
        lines.truncate(MOST_LINES);
        lines.push("  ... // more differences elided".into());
    }
    let mut out = lines.join("\n");
    out.push('\n');
    out
}

fn go_name(field: &str) -> String {
    let mut letters = field.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn fields(lines: &mut Vec<String>, old: &Value, new: &Value, depth: usize) {
    let tabs = "\t".repeat(depth);
    let keys: BTreeSet<&String> =
        [old, new].into_iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys).collect();
    let mut equal = 0;
    for key in keys {
        let (before, after) = (old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null));
        if same(before, after) {
            equal += 1;
            continue;
        }
        flush(lines, &tabs, &mut equal, "fields");
        let name = go_name(key);
        match (before, after) {
            (Value::Object(_), Value::Object(_)) if depth < MOST_DEEP => {
                lines.push(format!("  {tabs}{name}: {{"));
                fields(lines, before, after, depth + 1);
                lines.push(format!("  {tabs}}},"));
            }
            (Value::Array(a), Value::Array(b)) if depth < MOST_DEEP => {
                lines.push(format!("  {tabs}{name}: {{"));
                elements(lines, a, b, depth + 1);
                lines.push(format!("  {tabs}}},"));
            }
            _ => {
                lines.push(format!("- {tabs}{name}: {},", shown(before)));
                lines.push(format!("+ {tabs}{name}: {},", shown(after)));
            }
        }
    }
    flush(lines, &tabs, &mut equal, "fields");
}

fn elements(lines: &mut Vec<String>, old: &[Value], new: &[Value], depth: usize) {
    let tabs = "\t".repeat(depth);
    let mut equal = 0;
    for index in 0..old.len().max(new.len()) {
        match (old.get(index), new.get(index)) {
            (Some(before), Some(after)) if same(before, after) => equal += 1,
            (Some(before), Some(after)) => {
                flush(lines, &tabs, &mut equal, "elements");
                if before.is_object() && after.is_object() && depth < MOST_DEEP {
                    lines.push(format!("  {tabs}{{"));
                    fields(lines, before, after, depth + 1);
                    lines.push(format!("  {tabs}}},"));
                } else {
                    lines.push(format!("- {tabs}{},", shown(before)));
                    lines.push(format!("+ {tabs}{},", shown(after)));
                }
            }
            (Some(before), None) => {
                flush(lines, &tabs, &mut equal, "elements");
                lines.push(format!("- {tabs}{},", shown(before)));
            }
            (None, Some(after)) => {
                flush(lines, &tabs, &mut equal, "elements");
                lines.push(format!("+ {tabs}{},", shown(after)));
            }
            (None, None) => {}
        }
    }
    flush(lines, &tabs, &mut equal, "elements");
}

fn flush(lines: &mut Vec<String>, tabs: &str, equal: &mut usize, what: &str) {
    if *equal > 0 {
        lines.push(format!("  {tabs}... // {equal} identical {what}"));
        *equal = 0;
    }
}

fn shown(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, 0);
    out
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("nil"),
        Value::Object(_) | Value::Array(_) if depth > MOST_DEEP => out.push_str("..."),
        Value::Object(map) => {
            out.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                let _infallible = write!(out, "{comma}{}: ", go_name(key));
                write_value(out, value, depth + 1);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('{');
            for (index, value) in list.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_value(out, value, depth + 1);
            }
            out.push('}');
        }
        other => {
            let _infallible = write!(out, "{other}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_the_same_is_counted() {
        let old = json!({"a": 1, "b": 2, "containers": [{"name": "c", "image": "i"}], "z": {}});
        let new = json!({"a": 1, "b": 2, "containers": [{"name": "c", "image": "j", "tty": true}]});
        assert_eq!(
            of("core.PodSpec", &old, &new),
            "  core.PodSpec{\n  \t... // 2 identical fields\n  \tContainers: {\n  \t\t{\n- \t\t\tImage: \"i\",\n+ \t\t\tImage: \"j\",\n  \t\t\t... // 1 identical fields\n\
             - \t\t\tTty: nil,\n+ \t\t\tTty: true,\n  \t\t},\n  \t},\n  \t... // 1 identical fields\n  }\n"
        );
    }
}
