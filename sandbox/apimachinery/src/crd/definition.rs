//! Definitions of custom resources themselves: defaults, and what is refused (apiextensions-apiserver
//! `pkg/apis/apiextensions/validation` and `pkg/apiserver/schema/validation.go`).

use super::{JsonPath, Structural, defaults, rules, structure};
use crate::field::{ErrorKind, ErrorList, Path};
use crate::names::{is_dns1035_label, is_dns1123_subdomain};
use crate::object::{list, text};
use serde_json::{Value, json};

/// Most selectable fields of a version, as upstream.
const MOST_SELECTABLE: usize = 8;
const APPROVED: &str = "api-approved.kubernetes.io";

/// Fills in what a definition does not say (`SetDefaults_CustomResourceDefinition`) and, if it is new, its first status.
pub fn default_definition(definition: &mut Value) {
    let spec = &mut definition["spec"];
    if !spec.is_object() {
        return;
    }
    let kind = text(spec, &["names", "kind"]).to_string();
    if !kind.is_empty() {
        let names = &mut spec["names"];
        for (name, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
            if names[name].as_str().is_none_or(str::is_empty) {
                names[name] = value.into();
            }
        }
    }
    if !spec["conversion"].is_object() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    let storage = list(spec, &["versions"]).iter().find(|version| version["storage"] == true);
    let storage = storage.and_then(|version| version["name"].as_str()).map(String::from);
    if definition.pointer("/status/storedVersions").and_then(Value::as_array).is_none_or(Vec::is_empty)
        && let Some(storage) = storage
    {
        let status = crate::object::map_mut(definition, &["status"]);
        status.insert("storedVersions".into(), json!([storage]));
    }
}

/// What is wrong with a definition; `old` is the one that an update replaces.
pub fn validate_definition(definition: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::default();
    let spec = &definition["spec"];
    let path = Path::new("spec");
    let (group, plural) = (text(spec, &["group"]), text(spec, &["names", "plural"]));
    let name = crate::object::name(definition);
    if name != format!("{plural}.{group}") {
        errors.invalid(
            &Path::new("metadata").child("name"),
            name,
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    group_and_scope(spec, &path, &mut errors);
    approval(definition, group, &mut errors);
    versions(spec, &path, old, &mut errors);
    names(&spec["names"], &path.child("names"), &mut errors);
    conversion(&spec["conversion"], &path.child("conversion"), &mut errors);
    if spec["preserveUnknownFields"] == true {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&path.child("preserveUnknownFields"), true, detail);
    }
    if let Some(old) = old {
        update(definition, old, &path, &mut errors);
    }
    stored_versions(definition, &mut errors);
    errors
}

fn group_and_scope(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let group = text(spec, &["group"]);
    let reasons = is_dns1123_subdomain(group);
    if group.is_empty() {
        errors.required(&path.child("group"), "");
    } else if !reasons.is_empty() {
        errors.invalid(&path.child("group"), group, reasons.join(","));
    } else if !group.contains('.') {
        errors.invalid(&path.child("group"), group, "should be a domain with at least one dot");
    }
    match text(spec, &["scope"]) {
        "Cluster" | "Namespaced" => {}
        "" => errors.required(&path.child("scope"), ""),
        other => {
            let detail = "supported values: \"Cluster\", \"Namespaced\"";
            errors.push(ErrorKind::NotSupported, &path.child("scope"), Some(other.into()), detail);
        }
    }
}

/// Kubernetes' own groups need an annotation.
fn approval(definition: &Value, group: &str, errors: &mut ErrorList) {
    let protected =
        [".k8s.io", ".kubernetes.io"].iter().any(|end| group.ends_with(end) || group == &end[1..]);
    if !protected {
        return;
    }
    let metadata = Path::new("metadata");
    let path = metadata.entry("annotations", APPROVED);
    let annotation = text(definition, &["metadata", "annotations", APPROVED]);
    if annotation.is_empty() {
        let detail = format!(
            "protected groups must have approval annotation {APPROVED:?}, see https://github.com/kubernetes/enhancements/pull/1111"
        );
        errors.required(&path, &detail);
    } else if !annotation.starts_with("http") && !annotation.starts_with("unapproved") {
        let detail = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", \
             see https://github.com/kubernetes/enhancements/pull/1111"
        );
        errors.invalid(&path, annotation, detail);
    }
}

fn versions(spec: &Value, path: &Path, old: Option<&Value>, errors: &mut ErrorList) {
    let versions = list(spec, &["versions"]);
    let (mut names, mut unique, mut storage) = (Vec::new(), true, 0);
    for (index, version) in versions.iter().enumerate() {
        let at = path.element("versions", index);
        let name = text(version, &["name"]);
        unique &= !names.contains(&name);
        names.push(name);
        let reasons = is_dns1035_label(name);
        if !reasons.is_empty() {
            errors.invalid(&at.child("name"), name, reasons.join(","));
        }
        storage += usize::from(version["storage"] == true);
        one_version(versions, index, path, old, errors);
    }
    let shown = || spec["versions"].clone();
    if !unique {
        errors.invalid(&path.child("versions"), shown(), "must contain unique version names");
    }
    if storage != 1 {
        errors.invalid(
            &path.child("versions"),
            shown(),
            "must have exactly one version marked as storage version",
        );
    }
}

/// Where errors of a part of a version are told; none: they were already. What all versions have alike is told once, of the definition
/// (`Convert_v1_CustomResourceDefinitionSpec_To_apiextensions_…`).
fn place(versions: &[Value], index: usize, part: &str, path: &Path) -> Option<String> {
    let of = |version: &'_ Value| version.get(part).filter(|value| !value.is_null()).cloned();
    let first = versions.first().and_then(of);
    if versions.iter().any(|version| of(version) != first) {
        return Some(path.element("versions", index).child(part).to_string());
    }
    (index == 0).then(|| path.child(if part == "schema" { "validation" } else { part }).to_string())
}

fn one_version(versions: &[Value], index: usize, path: &Path, old: Option<&Value>, errors: &mut ErrorList) {
    let version = &versions[index];
    match version.pointer("/schema/openAPIV3Schema").filter(|schema| !schema.is_null()) {
        None => {
            let at = path.element("versions", index);
            errors.required(&at.child("schema").child("openAPIV3Schema"), "schemas are required");
        }
        Some(schema) => {
            if let Some(at) = place(versions, index, "schema", path) {
                let at = Path::new(&at);
                let status = version.pointer("/subresources/status").is_some();
                let before = old.map(|old| {
                    let versions = list(&old["spec"], &["versions"]);
                    let known = versions
                        .iter()
                        .any(|one| one["name"] == version["name"] && one["schema"] == version["schema"]);
                    Before { known }
                });
                of_schema(schema, status, &at, before.as_ref(), errors);
            }
        }
    }
    if let Some(at) = place(versions, index, "additionalPrinterColumns", path) {
        let at = Path::new(&at);
        for (index, column) in list(version, &["additionalPrinterColumns"]).iter().enumerate() {
            printer_column(column, &at.index(index), errors);
        }
    }
    if let Some(at) = place(versions, index, "subresources", path) {
        let at = Path::new(&at);
        subresources(&version["subresources"], &at, errors);
    }
    if let Some(at) = place(versions, index, "selectableFields", path) {
        let at = Path::new(&at);
        selectable(version, &at, errors);
    }
}

/// What an update finds.
struct Before {
    /// The same schema.
    known: bool,
}

fn of_schema(
    schema: &Value,
    has_status: bool,
    path: &Path,
    update_of: Option<&Before>,
    errors: &mut ErrorList,
) {
    if has_status && schema.get("type").is_some_and(|type_| type_ != "object") {
        let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.invalid(&path.child("openAPIV3Schema.type"), schema["type"].clone(), detail);
    }
    if schema["nullable"] == true {
        errors.forbidden(&path.child("openAPIV3Schema.nullable"), "nullable cannot be true at the root");
    }
    let at = path.child("openAPIV3Schema");
    let before = errors.iter().len();
    structure::check(schema, &at, errors);
    if errors.iter().len() == before {
        let structural = Structural::read(schema);
        // An update may keep what was once allowed.
        defaults::check(&structural, &at, update_of.is_none(), errors);
        if errors.iter().len() == before {
            rules::written::check(&structural, &at, update_of.is_some_and(|old| old.known), errors);
        }
    }
}

fn printer_column(column: &Value, path: &Path, errors: &mut ErrorList) {
    if text(column, &["name"]).is_empty() {
        errors.required(&path.child("name"), "");
    }
    let types = ["boolean", "date", "integer", "number", "string"];
    let detail = format!("must be one of {}", types.join(","));
    match text(column, &["type"]) {
        "" => errors.required(&path.child("type"), &detail),
        type_ if !types.contains(&type_) => errors.invalid(&path.child("type"), type_, detail),
        _ => {}
    }
    let formats = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    let format = text(column, &["format"]);
    if !format.is_empty() && !formats.contains(&format) {
        errors.invalid(&path.child("format"), format, format!("must be one of {}", formats.join(",")));
    }
    json_path(text(column, &["jsonPath"]), &path.child("jsonPath"), errors);
}

fn json_path(written: &str, path: &Path, errors: &mut ErrorList) {
    if written.is_empty() {
        errors.required(path, "");
    } else if let Err(error) = JsonPath::parse(written) {
        errors.invalid(path, written, format!("is an invalid path: {error}"));
    } else if !written.starts_with('.') {
        errors.invalid(path, written, "must be a simple json path starting with .");
    }
}

fn subresources(value: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(scale) = value.get("scale").filter(|scale| !scale.is_null()) else { return };
    let below = |written: &str, starts: &[&str]| {
        let simple = JsonPath::parse(written).is_ok_and(|path| path.fields().is_some());
        simple && starts.iter().any(|start| written.starts_with(start))
    };
    for (name, starts, detail, required) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec", true),
        ("statusReplicasPath", &[".status."], "should be a json path under .status", true),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
            false,
        ),
    ] {
        let path = path.child("scale");
        let path = path.child(name);
        match text(scale, &[name]) {
            "" if required => errors.required(&path, ""),
            "" => {}
            written if !below(written, starts) => errors.invalid(&path, written, detail),
            _ => {}
        }
    }
}

fn selectable(version: &Value, path: &Path, errors: &mut ErrorList) {
    let all = list(version, &["selectableFields"]);
    let mut seen = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let path = path.index(index);
        let path = path.child("jsonPath");
        let written = text(one, &["jsonPath"]);
        let parsed = JsonPath::parse(written);
        let fields = parsed.as_ref().ok().and_then(JsonPath::fields);
        match fields {
            _ if written.is_empty() => errors.required(&path, ""),
            None => {
                let error = parsed.err().unwrap_or_else(|| "must be a path of fields".into());
                errors.invalid(&path, written, format!("is an invalid path: {error}"));
            }
            Some(fields) if fields.first() == Some(&"metadata") => {
                errors.invalid(&path, written, "must not point to fields in metadata");
            }
            Some(fields) => {
                let schema = fields.iter().try_fold(&version["schema"]["openAPIV3Schema"], |at, name| {
                    at.get("properties")?.get(name)
                });
                let type_ = schema.and_then(|schema| schema["type"].as_str());
                if !matches!(type_, Some("string" | "boolean" | "integer")) {
                    let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                                  are allowed.";
                    errors.invalid(&path, written, detail);
                }
            }
        }
        if seen.contains(&written) {
            errors.duplicate(&path, written);
        }
        seen.push(written);
    }
    if all.len() > MOST_SELECTABLE {
        errors.push(
            ErrorKind::TooMany,
            path,
            Some(all.len().into()),
            format!("must have at most {MOST_SELECTABLE} items"),
        );
    }
}

fn names(names: &Value, path: &Path, errors: &mut ErrorList) {
    let mixed = "may have mixed case, but should otherwise match: ";
    for (name, prefix) in [("plural", ""), ("singular", ""), ("kind", mixed), ("listKind", mixed)] {
        let value = text(names, &[name]);
        let reasons =
            is_dns1035_label(&if prefix.is_empty() { value.to_string() } else { value.to_lowercase() });
        if value.is_empty() {
            errors.required(&path.child(name), "");
        } else if !reasons.is_empty() {
            errors.invalid(&path.child(name), value, format!("{prefix}{}", reasons.join(",")));
        }
    }
    for field in ["shortNames", "categories"] {
        for (index, one) in list(names, &[field]).iter().enumerate() {
            let value = one.as_str().unwrap_or_default();
            let reasons = is_dns1035_label(value);
            if !reasons.is_empty() {
                errors.invalid(&path.element(field, index), value, reasons.join(","));
            }
        }
    }
    let (kind, list_kind) = (text(names, &["kind"]), text(names, &["listKind"]));
    if !kind.is_empty() && kind == list_kind {
        errors.invalid(&path.child("listKind"), list_kind, "kind and listKind may not be the same");
    }
}

fn conversion(value: &Value, path: &Path, errors: &mut ErrorList) {
    match text(value, &["strategy"]) {
        "" | "None" => {
            if !value["webhook"].is_null() {
                errors.forbidden(
                    &path.child("webhook"),
                    "should not be set when strategy is not set to Webhook",
                );
            }
        }
        "Webhook" => {
            if value.pointer("/webhook/clientConfig").is_none_or(Value::is_null) {
                errors.required(
                    &path.child("webhook").child("clientConfig"),
                    "required when strategy is set to Webhook",
                );
            }
            review_versions(value, &path.child("conversionReviewVersions"), errors);
        }
        other => {
            let detail = "supported values: \"None\", \"Webhook\"";
            errors.push(ErrorKind::NotSupported, &path.child("strategy"), Some(other.into()), detail);
        }
    }
}

/// The forms of questions that a webhook knows (`validateConversionReviewVersions`).
fn review_versions(value: &Value, path: &Path, errors: &mut ErrorList) {
    let given = list(value, &["webhook", "conversionReviewVersions"]);
    if given.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut seen = Vec::new();
    for (index, one) in given.iter().enumerate() {
        if seen.contains(&one) {
            errors.invalid(&path.index(index), one.clone(), "duplicate version");
        }
        seen.push(one);
    }
    if !given.iter().any(|one| one == "v1" || one == "v1beta1") {
        errors.invalid(path, given.to_vec(), "must include at least one of v1, v1beta1");
    }
}

/// What an update may not change.
fn update(new: &Value, old: &Value, path: &Path, errors: &mut ErrorList) {
    let established = list(old, &["status", "conditions"])
        .iter()
        .any(|one| one["type"] == "Established" && one["status"] == "True");
    let mut immutable = vec![&["group"][..], &["names", "plural"]];
    if established {
        immutable.extend([&["scope"][..], &["names", "kind"]]);
    }
    for fields in immutable {
        let value = text(&new["spec"], fields);
        if value != text(&old["spec"], fields) {
            errors.invalid(&path.child(&fields.join(".")), value, "field is immutable");
        }
    }
}

/// `ValidateCustomResourceDefinitionStoredVersions`.
fn stored_versions(definition: &Value, errors: &mut ErrorList) {
    let versions = list(&definition["spec"], &["versions"]);
    let status = Path::new("status");
    let path = status.child("storedVersions");
    let stored = list(definition, &["status", "storedVersions"]);
    if stored.is_empty() {
        return errors.invalid(&path, json!([]), "must have at least one stored version");
    }
    for version in versions.iter().filter(|version| version["storage"] == true) {
        if !stored.contains(&version["name"]) {
            let detail = format!("must have the storage version {}", text(version, &["name"]));
            errors.invalid(&path, stored.to_vec(), detail);
        }
    }
    for (index, one) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *one) {
            let one = one.as_str().unwrap_or_default();
            let detail = format!(
                "missing from spec.versions; {one} was previously a storage version, and must remain in spec.versions until a storage \
                 migration ensures no data remains persisted in {one} and removes {one} from status.storedVersions"
            );
            errors.invalid(&path.index(index), one, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(schema: Value) -> Value {
        let mut definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
        default_definition(&mut definition);
        definition
    }

    fn told(definition: &Value) -> Vec<String> {
        validate_definition(definition, None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_definition_is_completed_and_valid() {
        let definition = definition(
            json!({"type": "object", "properties": {"metadata": {"type": "object"}, "spec": {"type": "object",
            "properties": {"port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "any": {"x-kubernetes-preserve-unknown-fields": true}}}}}),
        );
        assert_eq!(told(&definition), Vec::<String>::new());
        assert_eq!(definition["spec"]["names"]["listKind"], "WidgetList");
        assert_eq!(definition["spec"]["names"]["singular"], "widget");
        assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
        assert_eq!(definition["spec"]["conversion"], json!({"strategy": "None"}));
    }

    #[test]
    fn wrong_schemas_are_refused_in_upstreams_words() {
        let at = "spec.validation.openAPIV3Schema";
        for (schema, error) in [
            (json!({}), format!("{at}.type: Required value: must not be empty at the root")),
            (
                json!({"type": "string"}),
                format!("{at}.type: Invalid value: \"string\": must be object at the root"),
            ),
            (
                json!({"type": "object", "properties": {"a": {}}}),
                format!(
                    "{at}.properties[a].type: Required value: must not be empty for specified object fields"
                ),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array"}}}),
                format!("{at}.properties[a].items: Required value: must be specified"),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
                format!(
                    "{at}.properties[a].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: "
                ),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}}),
                format!("{at}.properties[a].anyOf[0].type: Forbidden: must be empty to be structural"),
            ),
            (
                json!({"type": "object", "additionalProperties": true}),
                format!("{at}.additionalProperties: Forbidden: must not be used at the root"),
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}}}}}}),
                format!(
                    "{at}.properties[a].items.properties[k].default: Required value: this property is in \
                         x-kubernetes-list-map-keys, so it must have a default or be a required property"
                ),
            ),
            (
                json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.a =="}]}),
                format!(
                    "{at}.x-kubernetes-validations[0].rule: Invalid value: {{\"Rule\":\"self.a ==\",\"Message\":\"\",\
                     \"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: compilation failed: \
                     ERROR: <input>:1:10: Syntax error: mismatched input '<EOF>' expecting "
                ),
            ),
            (
                json!({"type": "object", "$ref": "#/x"}),
                format!("{at}.$ref: Forbidden: $ref is not supported"),
            ),
        ] {
            let told = told(&definition(schema.clone()));
            assert!(told.len() == 1 && told[0].starts_with(&error), "{schema}: {told:?}");
        }
    }

    #[test]
    fn what_versions_have_alike_is_told_once() {
        let wrong = json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}});
        let mut two = definition(wrong);
        let mut other = two["spec"]["versions"][0].clone();
        other["name"] = "v2".into();
        other["storage"] = false.into();
        two["spec"]["versions"].as_array_mut().expect("versions").push(other);
        let starts = |definition: &Value| -> Vec<String> {
            let told = told(definition).into_iter();
            told.map(|one| one.split(": ").next().unwrap_or_default().to_string()).collect()
        };
        assert_eq!(starts(&two), ["spec.validation.openAPIV3Schema.properties[a].default"]);
        two["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["description"] = "other".into();
        let at =
            |index: usize| format!("spec.versions[{index}].schema.openAPIV3Schema.properties[a].default");
        assert_eq!(starts(&two), [at(0), at(1)]);
        let mut none = definition(json!({"type": "object"}));
        none["spec"]["versions"][0]["storage"] = false.into();
        none["status"]["storedVersions"] = json!([]);
        assert_eq!(
            told(&none).last().map(String::as_str),
            Some("status.storedVersions: Invalid value: []: must have at least one stored version")
        );
    }

    #[test]
    fn names_groups_and_versions_are_checked() {
        let mut wrong = definition(json!({"type": "object"}));
        wrong["metadata"]["name"] = "x".into();
        wrong["spec"]["group"] = "example".into();
        wrong["spec"]["scope"] = "World".into();
        wrong["spec"]["names"]["plural"] = "Widgets".into();
        wrong["spec"]["versions"][0]["storage"] = false.into();
        let told = told(&wrong);
        assert_eq!(
            told[0],
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"
        );
        assert_eq!(
            told[1],
            "spec.group: Invalid value: \"example\": should be a domain with at least one dot"
        );
        assert_eq!(
            told[2],
            "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\""
        );
        assert!(
            told.iter()
                .any(|error| error.ends_with("must have exactly one version marked as storage version"))
        );
        assert!(told.iter().any(|error| {
            error.starts_with("spec.names.plural: Invalid value: \"Widgets\": a DNS-1035 label")
        }));
        let mut protected = definition(json!({"type": "object"}));
        protected["spec"]["group"] = "x.k8s.io".into();
        protected["metadata"]["name"] = "widgets.x.k8s.io".into();
        assert_eq!(validate_definition(&protected, None).iter().count(), 1);
    }

    #[test]
    fn established_definitions_keep_their_kind() {
        let mut old = definition(json!({"type": "object"}));
        old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
        let mut new = old.clone();
        new["spec"]["scope"] = "Cluster".into();
        let errors = validate_definition(&new, Some(&old));
        assert_eq!(errors.aggregate(), "spec.scope: Invalid value: \"Cluster\": field is immutable");
    }
}
