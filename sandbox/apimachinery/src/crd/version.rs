//! The order of versions: `v1` before `v1beta2` before `v1alpha1` before whatever else. The API server serves and recommends by it.

/// The greater, the more a version promises (`pkg/version.CompareKubeAwareVersionStrings`).
pub fn version_order(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let other = (0, 0, 0, std::cmp::Reverse(version.to_string()));
    let Some(rest) = version.strip_prefix('v') else { return other };
    let number = |text: &str| text.parse::<u64>().ok();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Some(major) = number(&rest[..end]) else { return other };
    let none = std::cmp::Reverse(String::new());
    match &rest[end..] {
        "" => (3, major, 0, none),
        tail => {
            match (tail.strip_prefix("beta").and_then(number), tail.strip_prefix("alpha").and_then(number)) {
                (Some(minor), _) => (2, major, minor, none),
                (_, Some(minor)) => (1, major, minor, none),
                _ => other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_what_they_promise() {
        let mut all = ["foo1", "v1", "v10", "v11alpha2", "v11beta2", "v12alpha1", "v2", "v3beta1", "foo10"];
        all.sort_by_key(|version| std::cmp::Reverse(version_order(version)));
        // The list of the documentation on versions of custom resources.
        assert_eq!(
            all,
            ["v10", "v2", "v1", "v11beta2", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
        );
    }
}
