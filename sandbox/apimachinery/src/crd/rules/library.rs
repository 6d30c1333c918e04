//! The functions that Kubernetes adds to CEL (k8s.io/apiserver `pkg/cel/library`): quantities, lists, regular expressions, URLs,
//! addresses and formats. Strings come from the crate's own extension.

use crate::crd::pattern;
use crate::expressions::macros;
use crate::quantity::Quantity;
use cel::common::types;
use cel::common::value::CowVal;
use cel::extractors::{Arguments, This};
use cel::objects::Opaque;
use cel::{Context, DeclarationError, Env, ExecutionError, Value, extensions};
use std::cmp::Ordering;
use std::sync::Arc;

type Result<T = Value> = std::result::Result<T, ExecutionError>;

/// Where a list holds a value, from its start or its end; -1 if nowhere.
fn index_of(args: &[CowVal<'_, '_>], from_end: bool) -> Result<i64> {
    let [list, wanted] = args else { return fail("indexOf", "no such overload") };
    let Some(list) = list.as_ref().as_iterable() else { return fail("indexOf", "no such overload") };
    let (mut items, mut at, mut found) = (list.iter(), 0, -1);
    while let Some(item) = items.next() {
        if item.equals(wanted.as_ref()) {
            found = at;
            if !from_end {
                break;
            }
        }
        at += 1;
    }
    Ok(found)
}

/// The environment that programs are compiled for.
pub(super) fn environment() -> Env {
    let mut env = Env::stdlib();
    for extension in [extensions::strings, extensions::lists, extensions::math] {
        // They conflict neither with the standard library nor with each other: the tests use them.
        let _never_fails = env.add_extension(extension);
    }
    let _never_fails = env.add_member_overload(
        "indexOf",
        "list.indexOf(dyn)",
        types::LIST_TYPE,
        vec![types::DYN_TYPE],
        |args| Ok(CowVal::owned(types::CelInt::from(index_of(&args, false)?))),
    );
    let _never_fails = env.add_member_overload(
        "lastIndexOf",
        "list.lastIndexOf(dyn)",
        types::LIST_TYPE,
        vec![types::DYN_TYPE],
        |args| Ok(CowVal::owned(types::CelInt::from(index_of(&args, true)?))),
    );
    addresses::add_texts(&mut env);
    super::presence::add(&mut env);
    for one in macros::two_variables(macros::For::Running) {
        let _never_fails = env.add_macro(one);
    }
    env
}

/// Names with functions of Kubernetes to a context.
pub(super) fn add_functions(context: &mut Context<'_, '_>) -> std::result::Result<(), DeclarationError> {
    quantities(context)?;
    lists(context)?;
    collections::add(context)?;
    semver::add(context)?;
    context.add_function("find", |This(text): This<Arc<String>>, pattern: Arc<String>| -> Result {
        let regex = regex(&pattern)?;
        Ok(text_value(regex.find(&text).map_or("", |found| found.as_str())))
    })?;
    context.add_function(
        "findAll",
        |This(text): This<Arc<String>>, Arguments(args): Arguments| -> Result {
            let pattern = string(args.first(), "findAll")?;
            let most = match args.get(1) {
                Some(Value::Int(most)) if *most >= 0 => usize::try_from(*most).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let regex = regex(&pattern)?;
            let found = regex.find_iter(&text).take(most).map(|found| text_value(found.as_str()));
            Ok(Value::List(Arc::new(found.collect())))
        },
    )?;
    urls(context)?;
    addresses::add(context)?;
    formats::add(context)
}

fn text_value(text: &str) -> Value {
    Value::String(Arc::new(text.into()))
}

fn fail<T>(function: &str, message: impl Into<String>) -> Result<T> {
    Err(ExecutionError::function_error(function, message.into()))
}

fn string(value: Option<&Value>, function: &str) -> Result<Arc<String>> {
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => fail(function, "no such overload"),
    }
}

fn regex(expression: &str) -> Result<regex::Regex> {
    pattern::compiled(expression).or_else(|error| fail("regex", error))
}

/// A value of a type that CEL does not know.
macro_rules! opaque {
    ($name:ident, $inner:ty, $type_name:literal) => {
        #[derive(Debug, PartialEq, Eq)]
        struct $name($inner);

        impl Opaque for $name {
            fn runtime_type_name(&self) -> &str {
                $type_name
            }
        }

        impl $name {
            fn value(inner: $inner) -> Value {
                Value::Opaque(Arc::new(Self(inner)))
            }

            fn from<'v>(value: &'v Value, function: &str) -> Result<&'v $inner> {
                match value {
                    Value::Opaque(opaque) => match opaque.downcast_ref::<Self>() {
                        Some(found) => Ok(&found.0),
                        None => fail(function, "no such overload"),
                    },
                    _ => fail(function, "no such overload"),
                }
            }
        }
    };
}

mod addresses;
pub(super) mod authz;
mod collections;
mod formats;
mod semver;

opaque!(QuantityValue, Quantity, "kubernetes.Quantity");
opaque!(UrlValue, Url, "kubernetes.URL");

fn quantities(context: &mut Context<'_, '_>) -> std::result::Result<(), DeclarationError> {
    context.add_function("quantity", |text: Arc<String>| -> Result {
        match text.parse() {
            Ok(quantity) => Ok(QuantityValue::value(quantity)),
            Err(error) => fail("quantity", error.to_string()),
        }
    })?;
    context.add_function("isQuantity", |text: Arc<String>| text.parse::<Quantity>().is_ok())?;
    fn order(this: &Value, other: &Value, function: &str) -> Result<Ordering> {
        if let Some((this, other)) = semver::pair(this, other) {
            return Ok(this.cmp(other));
        }
        Ok(QuantityValue::from(this, function)?.cmp(QuantityValue::from(other, function)?))
    }
    context.add_function("isGreaterThan", |This(this): This<Value>, other: Value| -> Result {
        Ok(Value::Bool(order(&this, &other, "isGreaterThan")?.is_gt()))
    })?;
    context.add_function("isLessThan", |This(this): This<Value>, other: Value| -> Result {
        Ok(Value::Bool(order(&this, &other, "isLessThan")?.is_lt()))
    })?;
    context.add_function("compareTo", |This(this): This<Value>, other: Value| -> Result {
        Ok(Value::Int(order(&this, &other, "compareTo")? as i64))
    })?;
    fn operand(value: &Value, function: &str) -> Result<Quantity> {
        match value {
            Value::Int(number) => Ok(Quantity::new(*number, crate::quantity::Format::DecimalSi)),
            other => QuantityValue::from(other, function).copied(),
        }
    }
    context.add_function("add", |This(this): This<Value>, other: Value| -> Result {
        Ok(QuantityValue::value(QuantityValue::from(&this, "add")?.plus(operand(&other, "add")?)))
    })?;
    context.add_function("sub", |This(this): This<Value>, other: Value| -> Result {
        Ok(QuantityValue::value(QuantityValue::from(&this, "sub")?.minus(operand(&other, "sub")?)))
    })?;
    context.add_function("asApproximateFloat", |This(this): This<Value>| -> Result {
        Ok(Value::Float(QuantityValue::from(&this, "asApproximateFloat")?.as_f64()))
    })?;
    context.add_function("isInteger", |This(this): This<Value>| -> Result {
        Ok(Value::Bool(QuantityValue::from(&this, "isInteger")?.is_whole()))
    })?;
    context.add_function("asInteger", |This(this): This<Value>| -> Result {
        let quantity = QuantityValue::from(&this, "asInteger")?;
        if quantity.is_whole() {
            Ok(Value::Int(quantity.value()))
        } else {
            fail("asInteger", "cannot convert value to integer")
        }
    })?;
    context.add_function("sign", |This(this): This<Value>| -> Result {
        let quantity = QuantityValue::from(&this, "sign")?;
        Ok(Value::Int(if quantity.is_zero() {
            0
        } else if quantity.is_negative() {
            -1
        } else {
            1
        }))
    })
}

fn elements(value: &Value, function: &str) -> Result<Arc<Vec<Value>>> {
    match value {
        Value::List(all) => Ok(all.clone()),
        _ => fail(function, "no such overload"),
    }
}

fn extreme(all: &[Value], wanted: Ordering, function: &str) -> Result {
    let Some((first, rest)) = all.split_first() else {
        return fail(function, format!("{function} called on empty list"));
    };
    let mut found = first;
    for one in rest {
        match one.partial_cmp(found) {
            Some(order) if order == wanted => found = one,
            Some(_) => {}
            None => return fail(function, "no such overload"),
        }
    }
    Ok(found.clone())
}

fn lists(context: &mut Context<'_, '_>) -> std::result::Result<(), DeclarationError> {
    context.add_function("isSorted", |This(this): This<Value>| -> Result {
        let all = elements(&this, "isSorted")?;
        Ok(Value::Bool(all.windows(2).all(|pair| pair[0].partial_cmp(&pair[1]).is_some_and(Ordering::is_le))))
    })?;
    context.add_function("max", |This(this): This<Value>| -> Result {
        extreme(&elements(&this, "max")?, Ordering::Greater, "max")
    })?;
    context.add_function("min", |This(this): This<Value>| -> Result {
        extreme(&elements(&this, "min")?, Ordering::Less, "min")
    })?;
    context.add_function("sum", |This(this): This<Value>| -> Result {
        let mut sum = Value::Int(0);
        for (at, one) in elements(&this, "sum")?.iter().enumerate() {
            sum = match (sum, one) {
                (_, first) if at == 0 => first.clone(),
                (Value::Int(sum), Value::Int(one)) => match sum.checked_add(*one) {
                    Some(sum) => Value::Int(sum),
                    None => return fail("sum", "integer overflow"),
                },
                (Value::UInt(sum), Value::UInt(one)) => Value::UInt(sum.saturating_add(*one)),
                (Value::Float(sum), Value::Float(one)) => Value::Float(sum + one),
                (Value::Duration(sum), Value::Duration(one)) => match sum.checked_add(one) {
                    Some(sum) => Value::Duration(sum),
                    None => return fail("sum", "integer overflow"),
                },
                _ => return fail("sum", "no such overload"),
            };
        }
        Ok(sum)
    })
}

/// A URL in its parts (Go's `net/url`).
#[derive(Debug, PartialEq, Eq)]
struct Url {
    text: String,
    scheme: String,
    host: String,
    path: String,
    query: Vec<(String, String)>,
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        let (rest, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = match rest.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() => (scheme, rest),
            _ if rest.starts_with('/') => ("", rest),
            _ => return None,
        };
        let (authority, path) = if scheme.is_empty() {
            ("", rest)
        } else {
            rest.find('/').map_or((rest, ""), |at| rest.split_at(at))
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let query = query.split('&').filter(|pair| !pair.is_empty());
        let query = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Some(Self {
            text: text.into(),
            scheme: scheme.into(),
            host: host.into(),
            path: path.into(),
            query: query.map(|(name, value)| (name.into(), value.into())).collect(),
        })
    }

    /// The host without its port and brackets, and the port.
    fn host_and_port(&self) -> (&str, &str) {
        if let Some((host, rest)) = self.host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            return (host, rest.trim_start_matches(':'));
        }
        self.host.rsplit_once(':').unwrap_or((&self.host, ""))
    }
}

fn urls(context: &mut Context<'_, '_>) -> std::result::Result<(), DeclarationError> {
    context.add_function("url", |text: Arc<String>| -> Result {
        match Url::parse(&text) {
            Some(url) => Ok(UrlValue::value(url)),
            None => fail(
                "url",
                format!(
                    "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
                ),
            ),
        }
    })?;
    context.add_function("isURL", |text: Arc<String>| Url::parse(&text).is_some())?;
    let part = |name: &'static str, get: fn(&Url) -> String| {
        move |This(this): This<Value>| -> Result { Ok(text_value(&get(UrlValue::from(&this, name)?))) }
    };
    context.add_function("getScheme", part("getScheme", |url| url.scheme.clone()))?;
    context.add_function("getHost", part("getHost", |url| url.host.clone()))?;
    context.add_function("getHostname", part("getHostname", |url| url.host_and_port().0.into()))?;
    context.add_function("getPort", part("getPort", |url| url.host_and_port().1.into()))?;
    context.add_function("getEscapedPath", part("getEscapedPath", |url| url.path.clone()))?;
    context.add_function("getQuery", |This(this): This<Value>| -> Result {
        let mut all = std::collections::HashMap::<String, Vec<Value>>::new();
        for (name, value) in &UrlValue::from(&this, "getQuery")?.query {
            all.entry(name.clone()).or_default().push(text_value(value));
        }
        Ok(Value::from(all))
    })
}
