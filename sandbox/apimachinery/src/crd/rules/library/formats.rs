//! Formats of texts by name (k8s.io/apiserver `pkg/cel/library/format.go`): `format.dns1123Label().validate(…)`.

use super::{Result, Url, fail, text_value};
use crate::crd::formats;
use crate::names;
use cel::extractors::This;
use cel::objects::{Opaque, OptionalValue};
use cel::{Context, DeclarationError, Value};
use std::sync::Arc;

/// Tells what is wrong with a text.
type Check = fn(&str) -> Vec<String>;

/// All formats, in the order of upstream's table.
const FORMATS: [(&str, Check); 13] = [
    ("dns1123Label", |text| names::name_is_dns_label(text, false)),
    ("dns1123Subdomain", |text| names::name_is_dns_subdomain(text, false)),
    ("dns1035Label", |text| names::name_is_dns1035_label(text, false)),
    ("qualifiedName", names::is_qualified_name),
    ("dns1123LabelPrefix", |text| names::name_is_dns_label(text, true)),
    ("dns1123SubdomainPrefix", |text| names::name_is_dns_subdomain(text, true)),
    ("dns1035LabelPrefix", |text| names::name_is_dns1035_label(text, true)),
    ("labelValue", names::is_valid_label_value),
    ("uri", |text| match Url::parse(text) {
        Some(_) => Vec::new(),
        None => vec![format!("parse {text:?}: invalid URI for request")],
    }),
    ("uuid", |text| fits("uuid", text, "does not match the UUID format")),
    ("byte", |text| fits("byte", text, "invalid base64")),
    ("date", |text| fits("date", text, "invalid date")),
    ("datetime", |text| fits("datetime", text, "invalid datetime")),
];

fn fits(format: &str, text: &str, wrong: &str) -> Vec<String> {
    if formats::fits(format, text).unwrap_or(true) { Vec::new() } else { vec![wrong.into()] }
}

opaque!(FormatValue, &'static str, "kubernetes.NamedFormat");

fn optional(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

/// Names them.
pub fn add(context: &mut Context<'_, '_>) -> std::result::Result<(), DeclarationError> {
    for (name, _) in FORMATS {
        context.add_function(&format!("format.{name}"), move || FormatValue::value(name))?;
    }
    context.add_function("format.named", |wanted: Arc<String>| -> Result {
        let found = FORMATS.iter().find(|(name, _)| *name == wanted.as_str());
        Ok(optional(found.map(|(name, _)| FormatValue::value(name))))
    })?;
    context.add_function("validate", |This(this): This<Value>, text: Arc<String>| -> Result {
        let name = FormatValue::from(&this, "validate")?;
        let check = FORMATS.iter().find(|(one, _)| one == name).map(|(_, check)| check);
        let errors = check.map(|check| check(&text)).unwrap_or_default();
        let told = || Value::List(Arc::new(errors.iter().map(|error| text_value(error)).collect()));
        Ok(optional((!errors.is_empty()).then(told)))
    })
}
