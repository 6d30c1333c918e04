//! Options of requests as their query tells them, checked with upstream's words (k8s.io/apimachinery
//! `pkg/apis/meta/v1/validation/validation.go` and `pkg/apis/meta/internalversion/validation/validation.go`).

use crate::admission::Operation;
use crate::http::Query;
use drydock_apimachinery::Status;
use drydock_apimachinery::field::{ErrorKind, ErrorList, Path};
use drydock_apimachinery::status::GroupResource;
use serde_json::{Value, json};

/// What is done with fields that the schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// They are dropped without a word.
    Ignore,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// They are refused.
    Strict,
}

/// `CreateOptions`, `UpdateOptions`, `PatchOptions`.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Everything but the write itself happens.
    pub dry_run: bool,
    /// Who writes, as `managedFields` tells; empty: what the `User-Agent` says.
    pub field_manager: String,
    /// See there.
    pub field_validation: FieldValidation,
    /// Server-side apply takes fields that others own.
    pub force: bool,
    /// What was asked for.
    pub writing: Writing,
}

/// Which options are read: it decides their name in refusals, and a detail or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writing {
    /// `CreateOptions`.
    Create,
    /// `UpdateOptions`.
    #[default]
    Update,
    /// `PatchOptions` of a server-side apply.
    Apply,
    /// `PatchOptions` of any other patch.
    Patch,
}

impl WriteOptions {
    /// Reads and checks them.
    pub fn new(query: &Query, writing: Writing) -> Result<Self, Status> {
        let mut errors = ErrorList::default();
        let manager = query.text("fieldManager");
        match writing {
            Writing::Apply if manager.is_empty() => {
                errors.required(&Path::new("fieldManager"), "is required for apply patch");
            }
            Writing::Patch if query.get("force").is_some() => {
                errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
            }
            _ => {}
        }
        check_manager(&mut errors, manager, &Path::new("fieldManager"));
        let dry_run = dry_run(&mut errors, query.all("dryRun"));
        let field_validation = match query.text("fieldValidation") {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                let supported = "supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
                let path = Path::new("fieldValidation");
                errors.push(ErrorKind::NotSupported, &path, Some(other.into()), supported);
                FieldValidation::Warn
            }
        };
        invalid(writing.kind(), &errors)?;
        let force = query.flag("force");
        Ok(Self { dry_run, field_manager: manager.into(), field_validation, force, writing })
    }

    /// As an object, as admission is told of them.
    fn to_value(&self, operation: Operation) -> Value {
        // Whatever was asked for, if it makes an object it is a creation.
        let writing = if operation == Operation::Create { Writing::Create } else { self.writing };
        let mut tree = json!({"kind": writing.kind(), "apiVersion": "meta.k8s.io/v1"});
        if self.dry_run {
            tree["dryRun"] = json!(["All"]);
        }
        if self.force && writing == Writing::Apply {
            tree["force"] = true.into();
        }
        if !self.field_manager.is_empty() {
            tree["fieldManager"] = self.field_manager.clone().into();
        }
        match self.field_validation {
            FieldValidation::Ignore => tree["fieldValidation"] = "Ignore".into(),
            FieldValidation::Strict => tree["fieldValidation"] = "Strict".into(),
            // What was not said is not told.
            FieldValidation::Warn => {}
        }
        tree
    }
}

impl Writing {
    fn kind(self) -> &'static str {
        match self {
            Self::Create => "CreateOptions",
            Self::Update => "UpdateOptions",
            Self::Apply | Self::Patch => "PatchOptions",
        }
    }
}

/// The options of a request that changes something.
#[derive(Debug, Clone, Copy)]
pub enum Options<'a> {
    /// There are none.
    None,
    /// Of a write.
    Write(&'a WriteOptions),
    /// Of a deletion.
    Delete(&'a DeleteOptions),
}

impl Options<'_> {
    /// Nothing may have an effect.
    pub fn dry_run(self) -> bool {
        match self {
            Self::None => false,
            Self::Write(options) => options.dry_run,
            Self::Delete(options) => options.dry_run,
        }
    }

    /// As an object, as admission is told of them.
    pub fn to_value(self, operation: Operation) -> Option<Value> {
        match self {
            Self::None => None,
            Self::Write(options) => Some(options.to_value(operation)),
            Self::Delete(options) => Some(options.to_value()),
        }
    }
}

/// Length and characters of a field manager (`ValidateFieldManager`).
pub fn check_manager(errors: &mut ErrorList, manager: &str, path: &Path) {
    if manager.len() > 128 {
        errors.too_long(path, 128);
    }
    for (index, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {index})", u32::from(c));
        errors.invalid(path, manager, why);
    }
}

fn dry_run<'a>(errors: &mut ErrorList, values: impl Iterator<Item = &'a str>) -> bool {
    let values: Vec<_> = values.collect();
    if values.iter().any(|value| *value != "All") {
        let path = Path::new("dryRun");
        errors.push(ErrorKind::NotSupported, &path, Some(json!(values).into()), "supported values: \"All\"");
    }
    !values.is_empty()
}

fn invalid(kind: &str, errors: &ErrorList) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GroupResource { group: "meta.k8s.io", resource: kind }, "", errors))
}

/// What becomes of what an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// It goes first.
    Foreground,
    /// It goes afterwards.
    Background,
    /// It stays.
    Orphan,
}

/// `DeleteOptions`.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Everything but the write itself happens.
    pub dry_run: bool,
    /// Seconds that a pod gets; none: what the pod says.
    pub grace: Option<i64>,
    /// Nothing is deleted unless the object has this uid.
    pub uid: Option<String>,
    /// Nothing is deleted unless the object has this resource version.
    pub resource_version: Option<String>,
    /// What becomes of what it owns; none: what is usual for the kind.
    pub propagation: Option<Propagation>,
    /// The deprecated form of the same.
    pub orphan: Option<bool>,
}

impl DeleteOptions {
    /// Of the query, for requests without body.
    pub fn of_query(query: &Query) -> Result<Self, Status> {
        let policy = query.get("propagationPolicy").map(Value::from);
        let options = Self {
            grace: query.int("gracePeriodSeconds")?,
            orphan: query.flag_given("orphanDependents"),
            ..Self::default()
        };
        options.checked(policy, query.all("dryRun"))
    }

    /// Of a decoded body.
    pub fn of_object(body: &Value) -> Result<Self, Status> {
        let text = |value: &Value| value.as_str().map(str::to_string);
        let options = Self {
            grace: body["gracePeriodSeconds"].as_i64(),
            orphan: body["orphanDependents"].as_bool(),
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            ..Self::default()
        };
        let policy = Some(body["propagationPolicy"].clone()).filter(|policy| !policy.is_null());
        let dry_run = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str);
        options.checked(policy, dry_run)
    }

    fn to_value(&self) -> Value {
        let mut tree = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(seconds) = self.grace {
            tree["gracePeriodSeconds"] = seconds.into();
        }
        for (name, wanted) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(wanted) = wanted {
                tree["preconditions"][name] = wanted.clone().into();
            }
        }
        if let Some(orphan) = self.orphan {
            tree["orphanDependents"] = orphan.into();
        }
        if let Some(policy) = self.propagation {
            tree["propagationPolicy"] = format!("{policy:?}").into();
        }
        if self.dry_run {
            tree["dryRun"] = json!(["All"]);
        }
        tree
    }

    fn checked<'a>(
        mut self,
        policy: Option<Value>,
        dry: impl Iterator<Item = &'a str>,
    ) -> Result<Self, Status> {
        let mut errors = ErrorList::default();
        let path = Path::new("propagationPolicy");
        if let (Some(_), Some(policy)) = (self.orphan, &policy) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.invalid(&path, policy.clone(), why);
        }
        self.propagation = match policy.as_ref().map(|policy| policy.as_str()) {
            None => None,
            Some(Some("Foreground")) => Some(Propagation::Foreground),
            Some(Some("Background")) => Some(Propagation::Background),
            Some(Some("Orphan")) => Some(Propagation::Orphan),
            Some(_) => {
                let supported = "supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"";
                errors.push(ErrorKind::NotSupported, &path, policy.map(Into::into), supported);
                None
            }
        };
        self.dry_run = dry_run(&mut errors, dry);
        invalid("DeleteOptions", &errors)?;
        Ok(self)
    }
}

/// How a list's resource version is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// That one and no other.
    Exact,
    /// That one or a newer one.
    NotOlderThan,
}

/// `ListOptions`, selectors apart.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Absent: the newest.
    pub resource_version: Option<i64>,
    /// Absent: as tradition has it.
    pub version_match: Option<Match>,
    /// 0: all.
    pub limit: usize,
    /// Where an earlier list ended; empty: from the start.
    pub continue_: String,
    /// The client wants bookmarks.
    pub bookmarks: bool,
    /// A watch begins with what there is.
    pub send_initial_events: Option<bool>,
    /// A watch ends by itself after so many seconds.
    pub timeout_seconds: Option<i64>,
}

impl ListOptions {
    /// Reads and checks them.
    pub fn new(query: &Query, watch: bool) -> Result<Self, Status> {
        let text = query.text("resourceVersion");
        let wanted = query.text("resourceVersionMatch");
        let mut options = Self {
            limit: usize::try_from(query.int("limit")?.unwrap_or(0)).unwrap_or(0),
            continue_: query.text("continue").into(),
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events: query.flag_given("sendInitialEvents"),
            timeout_seconds: query.int("timeoutSeconds")?,
            ..Self::default()
        };
        let path = Path::new("resourceVersionMatch");
        let mut errors = ErrorList::default();
        if watch {
            options.check_watch(&mut errors, &path, wanted);
        } else {
            options.check_list(&mut errors, &path, wanted, text);
        }
        invalid("ListOptions", &errors)?;
        options.version_match = match wanted {
            "Exact" => Some(Match::Exact),
            "NotOlderThan" => Some(Match::NotOlderThan),
            _ => None,
        };
        options.resource_version = resource_version(text)?;
        Ok(options)
    }

    fn check_list(&self, errors: &mut ErrorList, path: &Path, wanted: &str, version: &str) {
        if !wanted.is_empty() {
            if version.is_empty() {
                errors
                    .forbidden(path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if !self.continue_.is_empty() {
                errors.forbidden(path, "resourceVersionMatch is forbidden when continue is provided");
            }
            if !matches!(wanted, "Exact" | "NotOlderThan") {
                let supported = "supported values: \"Exact\", \"NotOlderThan\", \"\"";
                errors.push(ErrorKind::NotSupported, path, Some(wanted.into()), supported);
            }
            if wanted == "Exact" && version == "0" {
                errors
                    .forbidden(path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
        }
        if self.send_initial_events.is_some() {
            errors.forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
        }
    }

    fn check_watch(&self, errors: &mut ErrorList, path: &Path, wanted: &str) {
        if self.send_initial_events.is_some() && wanted != "NotOlderThan" {
            errors.forbidden(path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        if !wanted.is_empty() {
            if self.send_initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.forbidden(path, why);
            }
            if wanted != "NotOlderThan" {
                let supported = "supported values: \"NotOlderThan\"";
                errors.push(ErrorKind::NotSupported, path, Some(wanted.into()), supported);
            }
            if !self.continue_.is_empty() {
                errors.forbidden(path, "resourceVersionMatch is forbidden when continue is provided");
            }
        }
    }
}

/// A resource version of a query; none: none was given.
pub fn resource_version(text: &str) -> Result<Option<i64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse::<u64>().ok().and_then(|number| i64::try_from(number).ok());
    number.map(Some).ok_or_else(|| {
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: \
             strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_those_of_a_real_server() {
        let list = |query: &str| ListOptions::new(&Query::parse(query), false).expect_err(query).message;
        let watch = |query: &str| ListOptions::new(&Query::parse(query), true).expect_err(query).message;
        let write =
            |query: &str, writing| WriteOptions::new(&Query::parse(query), writing).expect_err(query).message;
        assert_eq!(list("limit=abc"), "strconv.ParseInt: parsing \"abc\": invalid syntax");
        assert_eq!(
            list("resourceVersion=abc"),
            "invalid resource version: resourceVersion: Invalid value: \"abc\": \
             strconv.ParseUint: parsing \"abc\": invalid syntax"
        );
        assert_eq!(
            list("resourceVersionMatch=Exact"),
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
             resourceVersionMatch is forbidden unless resourceVersion is provided"
        );
        assert_eq!(
            watch("sendInitialEvents=true"),
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
             sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        );
        assert_eq!(
            write("dryRun=Foo", Writing::Create),
            "CreateOptions.meta.k8s.io \"\" is invalid: \
             dryRun: Unsupported value: [\"Foo\"]: supported values: \"All\""
        );
        assert_eq!(
            write("", Writing::Apply),
            "PatchOptions.meta.k8s.io \"\" is invalid: \
             fieldManager: Required value: is required for apply patch"
        );
        let bogus = DeleteOptions::of_query(&Query::parse("propagationPolicy=Bogus")).expect_err("unknown");
        assert_eq!(
            bogus.message,
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Bogus\": \
             supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
        );
    }
}
