//! `$(VAR)` in commands, arguments and variables (`third_party/forked/golang/expansion`): a name that is not known stays as it is
//! written, and `$$` is a dollar.

use std::collections::{BTreeMap, BTreeSet};

/// Puts in the values of variables.
pub fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    replaced(text, |name| values.get(name).cloned().unwrap_or_else(|| format!("$({name})")))
}

/// Puts in the values of variables, all of which must have one (`ExpandContainerVolumeMounts`).
pub fn expand_all(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let mut missing = BTreeSet::new();
    let expanded = replaced(text, |name| match values.get(name).filter(|value| !value.is_empty()) {
        Some(value) => value.clone(),
        None => {
            missing.insert(name.to_owned());
            String::new()
        }
    });
    match missing.into_iter().collect::<Vec<_>>() {
        none if none.is_empty() => Ok(expanded),
        names => Err(format!("missing value for {}", names.join(", "))),
    }
}

fn replaced(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(left) = after.strip_prefix('$') {
            expanded.push('$');
            rest = left;
        } else if let Some((name, left)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            expanded.push_str(&value(name));
            rest = left;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_cases() {
        let values: BTreeMap<String, String> =
            [("VAR_A", "A"), ("VAR_B", "B"), ("VAR_REF", "$(VAR_A)"), ("VAR_EMPTY", "")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        for (text, wanted) in [
            ("$(VAR_A)", "A"),
            ("___$(VAR_B)___", "___B___"),
            ("$(VAR_A)_$(VAR_B)", "A_B"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
            ("foo$$(VAR_A)bar", "foo$(VAR_A)bar"),
            ("foo\\$(VAR_A)bar", "foo\\Abar"),
            ("$(VAR_EMPTY)", ""),
            ("$(MISSING)", "$(MISSING)"),
            ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
            ("$(VAR_A", "$(VAR_A"),
            ("$VAR_A)", "$VAR_A)"),
            ("$", "$"),
            ("\n", "\n"),
            ("$(foo$$var)", "$(foo$$var)"),
        ] {
            assert_eq!(expand(text, &values), wanted, "{text}");
        }
    }

    #[test]
    fn a_path_needs_all_of_its_variables() {
        let values = [("A", "a"), ("EMPTY", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(expand_all("x/$(A)", &values), Ok("x/a".into()));
        assert_eq!(expand_all("$(A)$(NOPE)$(EMPTY)", &values), Err("missing value for EMPTY, NOPE".into()));
    }
}
