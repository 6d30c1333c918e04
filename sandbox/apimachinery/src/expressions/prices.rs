//! What single functions cost (k8s.io/apiserver `pkg/cel/library/cost.go`, cel-go `checker/cost.go`, `ext/{lists,sets}.go`).

use super::cost::{Node, declared, elements};
use super::range::Range;
use super::types::Type;
use cel::common::ast::{Expr, IdedExpr, LiteralValue};

/// A call, and what is known of its parts.
#[derive(Debug)]
pub struct Call<'c> {
    pub function: &'c str,
    pub overload: &'static str,
    pub target: Option<&'c Node<'c>>,
    pub args: &'c [Node<'c>],
}

/// The cost of a call without its arguments', and the size of its result.
#[derive(Debug)]
pub struct Price {
    pub cost: Range,
    pub size: Option<Range>,
}

/// What each character of a regular expression costs.
const PATTERN: f64 = 0.25;
/// Longest name of a format, and longest expression of one.
const LONGEST_FORMAT: u64 = 64;
const LONGEST_PATTERN: f64 = 128.0;

fn cost(cost: Range) -> Option<Price> {
    Some(Price { cost, size: None })
}

fn sized(cost: Range, size: Range) -> Option<Price> {
    Some(Price { cost, size: Some(size) })
}

/// What a call costs; nothing if it depends on more than the sizes of its parts, or is as cheap as most.
pub fn of(call: &Call<'_>) -> Option<Price> {
    of_lists(call).or_else(|| of_kubernetes(call)).or_else(|| of_standard(call))
}

/// cel-go's own lists and sets.
fn of_lists(call: &Call<'_>) -> Option<Price> {
    let allocating = |factor: f64, size: Range| sized(size.times(factor).add(Range::fixed(11)), size);
    let target = call.target.map(Node::size);
    match (call.overload, call.args) {
        ("list_sets_contains_list" | "list_sets_intersects_list", [one, other]) => {
            cost(one.size().multiply(other.size()).add(Range::fixed(1)))
        }
        ("list_sets_equivalent_list", [one, other]) => {
            cost(one.size().multiply(other.size()).times(2.0).add(Range::fixed(1)))
        }
        ("list_slice", [start, end]) => {
            let end = int_of(end.expression, target?.max);
            allocating(1.0, Range::fixed(end.wrapping_sub(int_of(start.expression, 0))))
        }
        ("lists_range", [count]) => allocating(1.0, Range::fixed(int_of(count.expression, u64::MAX))),
        ("list_reverse", []) => allocating(1.0, target?),
        ("list_flatten", []) => allocating(1.0, target?),
        ("list_flatten_int", [depth]) => allocating(int_of(depth.expression, u64::MAX) as f64, target?),
        ("list_distinct", []) => allocating(2.0, target?.multiply(target?)),
        (overload, args) if overload.ends_with("_sort") || overload.ends_with("_sortByAssociatedKeys") => {
            let size = match args {
                [] => target?,
                [keys, ..] => keys.size(),
            };
            let text = overload.starts_with("list_string_") || overload.starts_with("list_bytes_");
            allocating(if text { 2.1 } else { 2.0 }, size.multiply(size))
        }
        _ => None,
    }
}

/// Kubernetes' own functions, and those whose cost it tells itself.
fn of_kubernetes(call: &Call<'_>) -> Option<Price> {
    let first = call.args.first();
    match call.function {
        "check" => cost(Range::fixed(350_000)),
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name"
        | "allowed" | "reason" | "error" | "errored" => cost(Range::fixed(1)),
        "fieldSelector" | "labelSelector" => {
            let length = first?.size();
            cost(Range::fixed(10).add(length.traverse()).add(length.times(0.5).times(50.0)))
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => over_elements(call.target?),
        "url" | "jsonpatch.escapeKey" => sized(first?.size().traverse(), first?.size()),
        "lowerAscii" | "upperAscii" | "substring" | "trim" => {
            let size = call.target?.size();
            sized(size.traverse(), size)
        }
        "replace" => replace(call),
        "split" => {
            let size = call.target?.size();
            let most = call.args.get(1).and_then(|most| literal(most.expression)).map(|most| most as u64);
            sized(size.times(0.2), Range { min: 0, max: most.unwrap_or(size.max) })
        }
        "join" => join(call.target?, first),
        "find" | "findAll" => {
            let size = call.target?.size();
            sized(matching(size, first?.size()), Range { min: 0, max: size.max })
        }
        "ip" if call.overload == "cidr_ip" => cost(Range::fixed(1)),
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
            cost(first?.size().traverse())
        }
        "ip.isCanonical" => cost(first?.size().times(0.2)),
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "format.named"
        | "sign"
        | "asInteger"
        | "isInteger"
        | "asApproximateFloat"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "add"
        | "sub"
        | "major"
        | "minor"
        | "patch"
        | "getScheme"
        | "getHostname"
        | "getHost"
        | "getPort"
        | "getEscapedPath"
        | "getQuery" => cost(Range::fixed(1)),
        "containsIP" | "containsCIDR" => {
            let address = Range { min: 4, max: 16 };
            let mut sum = address.add(address).traverse();
            if call.function == "containsCIDR" {
                sum = sum.add(address.traverse()).add(Range::fixed(1));
            }
            if call.overload.ends_with("_string") {
                sum = sum.add(first?.size().traverse());
            }
            cost(sum)
        }
        "validate" => cost(first?.size().traverse().times(LONGEST_PATTERN * PATTERN)),
        "_==_" => same(call),
        _ => None,
    }
}

/// Whether two values of Kubernetes' types are the same.
fn same(call: &Call<'_>) -> Option<Price> {
    let [one, other] = call.args else { return None };
    let Type::Named(name) = &one.type_ else { return None };
    if !one.type_.is(&other.type_) {
        return None;
    }
    cost(match *name {
        "kubernetes.NamedFormat" => Range { min: 1, max: LONGEST_FORMAT }.traverse(),
        "kubernetes.URL" => Range { min: 1, max: other.size.map_or(1, |size| size.max) }.traverse(),
        _ => Range::fixed(1),
    })
}

/// The standard functions whose cost depends on sizes.
fn of_standard(call: &Call<'_>) -> Option<Price> {
    let size = |at: usize| call.args.get(at).map(Node::size);
    match call.overload {
        "string_format" => cost(call.target?.size().traverse()),
        "string_to_bytes" => {
            let size = size(0)?;
            sized(size.traverse(), Range { min: size.min, max: size.max.wrapping_mul(4) })
        }
        "bytes_to_string" => {
            let size = size(0)?;
            sized(size.traverse(), Range { min: size.min / 4, max: size.max })
        }
        "strings_quote" => {
            let size = size(0)?;
            let max = size.max.wrapping_mul(2).wrapping_add(2);
            sized(size.traverse(), Range { min: size.min.wrapping_add(2), max })
        }
        "starts_with_string" | "ends_with_string" => cost(size(0)?.traverse()),
        "in_list" => cost(size(1)?.times(1.0)),
        "matches_string" => cost(matching(call.target?.size(), size(0)?)),
        "contains_string" => cost(call.target?.size().traverse().multiply(size(0)?.traverse())),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => {
            let max = size(0)?.max.min(size(1)?.max);
            cost(Range { min: u64::from(max > 0), max }.traverse())
        }
        _ => None,
    }
}

/// A text of that size, matched with an expression of that size.
fn matching(text: Range, pattern: Range) -> Range {
    // An empty text is matched, too.
    text.add(Range::fixed(1)).traverse().multiply(pattern.times(PATTERN))
}

/// What looks at all elements of a list, or through a text.
fn over_elements(target: &Node<'_>) -> Option<Price> {
    let Type::Made(made) = &target.type_ else { return cost(target.size().traverse()) };
    let Some(element) = made.of.first() else { return cost(target.size().traverse()) };
    let one = match element {
        Type::Text | Type::Bytes => {
            let size = declared(&elements(&target.way), element).unwrap_or(Range::UNKNOWN);
            Range::fixed(1).add(size.traverse())
        }
        _ => Range::fixed(1),
    };
    cost(target.size().multiply(one))
}

fn join(target: &Node<'_>, separator: Option<&Node<'_>>) -> Option<Price> {
    let count = target.size();
    let one = declared(&elements(&target.way), &Type::Text).unwrap_or(Range::UNKNOWN);
    let mut size = count.multiply(one);
    if let Some(separator) = separator {
        let between = Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
        size = size.add(separator.size().multiply(between));
    }
    sized(size.traverse(), size)
}

fn replace(call: &Call<'_>) -> Option<Price> {
    let (size, [from, to, ..]) = (call.target?.size(), call.args) else { return None };
    let (from, to) = (from.size(), to.size());
    let (mut count, mut kept) = (Range::default(), Range::default());
    if from.min == 0 {
        // Nothing is found before and after each character.
        count.max = size.max.saturating_add(1);
        kept.max = size.max;
    } else if to.max <= from.min {
        kept.max = size.max;
    } else {
        count.max = (size.max as f64 / from.min as f64).ceil() as u64;
    }
    if from.max == 0 {
        count.min = size.min.saturating_add(1);
        kept.min = size.min;
    } else if from.max <= to.min {
        kept.min = size.min;
    } else {
        count.min = (size.min as f64 / from.max as f64).ceil() as u64;
    }
    sized(size.times(0.2), count.multiply(to).add(kept))
}

/// A number that stands in the expression.
fn literal(at: &IdedExpr) -> Option<i64> {
    match &at.expr {
        Expr::Literal(LiteralValue::Int(number)) => Some(*number.inner()),
        _ => None,
    }
}

fn int_of(at: &IdedExpr, otherwise: u64) -> u64 {
    literal(at).map_or(otherwise, |number| u64::try_from(number).unwrap_or(0))
}
