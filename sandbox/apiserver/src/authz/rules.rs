//! A rule of a role: what it allows, and whether it covers another one (k8s.io/kubernetes `pkg/apis/rbac/v1/evaluation_helpers.go` and
//! k8s.io/component-helpers `auth/rbac/validation/policy_comparator.go`).

use super::Attributes;
use drydock_apimachinery::object::list;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `PolicyRule`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// `apiGroups`.
    pub groups: Vec<String>,
    /// `resources`.
    pub resources: Vec<String>,
    /// `nonResourceURLs`.
    pub urls: Vec<String>,
    /// `resourceNames`.
    pub names: Vec<String>,
    /// `verbs`.
    pub verbs: Vec<String>,
}

/// Everything, to those who hold it in a list.
const ALL: &str = "*";

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == ALL || one == wanted)
}

impl Rule {
    /// From a role.
    pub fn of(tree: &Value) -> Self {
        let strings = |field: &str| -> Vec<String> {
            let mut strings: Vec<String> =
                list(tree, &[field]).iter().filter_map(Value::as_str).map(String::from).collect();
            // Most have one, and are kept for as long as their role.
            strings.shrink_to_fit();
            strings
        };
        Self {
            groups: strings("apiGroups"),
            resources: strings("resources"),
            urls: strings("nonResourceURLs"),
            names: strings("resourceNames"),
            verbs: strings("verbs"),
        }
    }

    /// All rules of a role.
    pub fn all_of(role: &Value) -> Vec<Self> {
        list(role, &["rules"]).iter().map(Self::of).collect()
    }

    /// As an object has it; empty lists are left out.
    pub fn to_value(&self) -> Value {
        let mut tree = json!({"verbs": self.verbs});
        for (field, values) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("nonResourceURLs", &self.urls),
            ("resourceNames", &self.names),
        ] {
            if !values.is_empty() {
                tree[field] = json!(values);
            }
        }
        tree
    }

    /// Whether it allows this.
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !has(&self.verbs, asked.verb) {
            return false;
        }
        if !asked.is_resource {
            return self.urls.iter().any(|url| url_covers(url, asked.path));
        }
        has(&self.groups, asked.group)
            && self.resources.iter().any(|one| resource_covers(one, asked.resource, asked.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }

    /// One for each thing that it allows (`BreakdownRule`).
    fn parts(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for url in &self.urls {
                parts.push(Self { urls: one(url), verbs: one(verb), ..Self::default() });
            }
        }
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let part = Self {
                        groups: one(group),
                        resources: one(resource),
                        verbs: one(verb),
                        ..Self::default()
                    };
                    if self.names.is_empty() {
                        parts.push(part);
                    } else {
                        parts.extend(self.names.iter().map(|name| Self { names: one(name), ..part.clone() }));
                    }
                }
            }
        }
        parts
    }

    /// Whether it allows all that one part allows (`ruleCovers`).
    fn covers(&self, part: &Self) -> bool {
        let all_in = |owner: &[String], part: &[String]| {
            owner.iter().any(|one| one == ALL) || part.iter().all(|one| owner.contains(one))
        };
        let resources = self.resources.iter().any(|one| one == ALL)
            || part.resources.iter().all(|wanted| {
                let sub = wanted.split_once('/').map(|(_, sub)| format!("*/{sub}"));
                self.resources.iter().any(|one| one == wanted || Some(one) == sub.as_ref())
            });
        let names = self.names.is_empty()
            || (!part.names.is_empty() && part.names.iter().all(|name| self.names.contains(name)));
        let urls = part.urls.iter().all(|wanted| self.urls.iter().any(|url| url_covers(url, wanted)));
        all_in(&self.verbs, &part.verbs) && all_in(&self.groups, &part.groups) && resources && names && urls
    }

    /// As the refusal of an escalation names it (`CompactString`).
    fn compact(&self) -> String {
        let quoted = |list: &[String]| {
            let quoted: Vec<String> = list.iter().map(|one| format!("{one:?}")).collect();
            format!("[{}]", quoted.join(" "))
        };
        let parts: Vec<String> = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ]
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quoted(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

fn url_covers(rule: &str, path: &str) -> bool {
    rule == ALL || rule == path || rule.strip_suffix('*').is_some_and(|start| path.starts_with(start))
}

fn resource_covers(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    match rule.split_once('/') {
        Some((head, tail)) => (head == ALL || head == resource) && tail == subresource,
        None => false,
    }
}

/// What of `wanted` is not covered by `held`, one line a rule; empty: nothing.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let lacking =
        wanted.iter().flat_map(Rule::parts).filter(|part| !held.iter().any(|rule| rule.covers(part)));
    let lines: BTreeSet<String> = merged(lacking).iter().map(Rule::compact).collect();
    lines.into_iter().collect()
}

/// Rules for the same group and resource become one (`CompactRules`).
fn merged(parts: impl Iterator<Item = Rule>) -> Vec<Rule> {
    let mut merged: Vec<Rule> = Vec::new();
    for part in parts {
        let is_simple = |rule: &Rule| rule.urls.is_empty();
        let same = merged.iter_mut().find(|one| {
            is_simple(one)
                && is_simple(&part)
                && (&one.groups, &one.resources, &one.names) == (&part.groups, &part.resources, &part.names)
        });
        match same {
            Some(rule) => {
                for verb in part.verbs {
                    if !rule.verbs.contains(&verb) {
                        rule.verbs.push(verb);
                    }
                }
            }
            None => merged.push(part),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str) -> Rule {
        let words = |text: &str| text.split(' ').map(|one| one.trim_matches('-').into()).collect();
        Rule { verbs: words(verbs), groups: words(groups), resources: words(resources), ..Rule::default() }
    }

    /// After upstream's `TestResourceMatches`.
    #[test]
    fn resources_are_matched_as_upstream_does() {
        for (rule, resource, sub, covers) in [
            ("*", "foo", "bar", true),
            ("*", "foo", "", true),
            ("foo/bar", "foo", "bar", true),
            ("foo", "foo", "", true),
            ("foo", "foo", "bar", false),
            ("*/bar", "foo", "bar", true),
            ("*/baz", "foo", "bar", false),
            ("*/bar", "foo", "", false),
            ("foo/*", "foo", "bar", false),
        ] {
            assert_eq!(resource_covers(rule, resource, sub), covers, "{rule} {resource} {sub}");
        }
    }

    #[test]
    fn what_is_missing_is_told_in_upstreams_words() {
        let held = [rule("get list", "-", "pods")];
        assert_eq!(missing(&held, &[rule("get", "-", "pods")]), Vec::<String>::new());
        assert_eq!(
            missing(&held, &[rule("get watch delete", "- apps", "pods")]),
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch" "delete"]}"#,
                r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["get" "watch" "delete"]}"#,
            ]
        );
        assert_eq!(missing(&[rule("*", "*", "*")], &[rule("*", "*", "*/scale")]), Vec::<String>::new());
        let all = Rule { urls: vec!["*".into()], verbs: vec!["*".into()], ..Rule::default() };
        assert_eq!(missing(&held, std::slice::from_ref(&all)), [r#"{NonResourceURLs:["*"], Verbs:["*"]}"#]);
    }
}
