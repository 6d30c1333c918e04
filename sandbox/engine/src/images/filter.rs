//! Which images a list shows: `docker images`, its filters and `--all`.

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::filters::Filters;
use drydock_images::Reference;
use drydock_images::local::{Image, LocalStore};
use std::collections::BTreeSet;

/// The images that pass the filters, the newest first, with only those of their names that do.
pub fn select(store: &LocalStore, filters: &Filters, all: bool) -> Result<Vec<Image>> {
    filters.validate(&["dangling", "label", "before", "since", "reference", "until"])?;
    let dangling = filters.truth("dangling")?;
    let mut before: Option<Timestamp> = None;
    let mut since: Option<Timestamp> = None;
    for name in filters.get("before") {
        let time = created(&store.find(name)?);
        before = Some(before.map_or(time, |before| before.min(time)));
    }
    for text in filters.get("until") {
        let time = Timestamp::from_query(text);
        let time = time.ok_or_else(|| Error::internal(format!("failed to parse value as time: {text}")))?;
        before = Some(before.map_or(time, |before| before.min(time)));
    }
    for name in filters.get("since") {
        let time = created(&store.find(name)?);
        since = Some(since.map_or(time, |since| since.max(time)));
    }
    let patterns: Vec<_> = filters.get("reference").collect();
    let mut images = store.images();
    let parents: BTreeSet<_> = images.iter().filter_map(|image| image.shown_parent().cloned()).collect();
    images.retain_mut(|image| {
        let time = created(image);
        if before.is_some_and(|before| time >= before) || since.is_some_and(|since| time <= since) {
            return false;
        }
        let none = std::collections::BTreeMap::new();
        if !filters.labels("label", image.config.config.labels.as_ref().unwrap_or(&none)) {
            return false;
        }
        if !patterns.is_empty() {
            let fits = |name: &String| patterns.iter().any(|pattern| name_fits(pattern, name));
            image.repo_tags.retain(fits);
            image.repo_digests.retain(fits);
        }
        if image.repo_tags.is_empty() && image.repo_digests.is_empty() {
            // A step of another image is shown to those who want all.
            (all || !parents.contains(&image.id)) && dangling != Some(false) && patterns.is_empty()
        } else {
            dangling != Some(true) || image.repo_tags.is_empty()
        }
    });
    Ok(images)
}

fn created(image: &Image) -> Timestamp {
    image.config.created.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether a pattern fits a name as it is shown or in full (`docker.io/library/busybox`, which only newer engines find), with or
/// without its tag.
fn name_fits(pattern: &str, name: &str) -> bool {
    let bare = name.split_once('@').map_or(name, |(bare, _)| bare);
    let bare = match bare.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => bare,
    };
    let fits = |name: &str| path_match(pattern.as_bytes(), name.as_bytes());
    let fits_in_full = || {
        let suffix = name.get(bare.len()..).unwrap_or_default();
        Reference::parse(bare).is_ok_and(|full| fits(&full.name()) || fits(&(full.name() + suffix)))
    };
    fits(name) || fits(bare) || fits_in_full()
}

/// Go's `path.Match`: `*` and `?` stop at a slash, `[a-z]`, `\` takes the next as it is.
fn path_match(pattern: &[u8], text: &[u8]) -> bool {
    // After a mismatch only the last star can take one more, so this is never worse than length × length.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p == pattern.len() && t == text.len() {
            return true;
        }
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if let Some((next, byte)) =
            pattern.get(p..).zip(text.get(t)).and_then(|(rest, byte)| Some((one(rest, *byte)?, byte)))
            && (*byte != b'/' || pattern[p] == b'/' || pattern[p] == b'\\')
        {
            p += next;
            t += 1;
            continue;
        }
        match star {
            Some((after, taken)) if text.get(taken).is_some_and(|byte| *byte != b'/') => {
                star = Some((after, taken + 1));
                (p, t) = (after, taken + 1);
            }
            _ => return false,
        }
    }
}

/// Whether the pattern's next element takes this byte; how long the element is.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'\\' => (pattern.get(1) == Some(&byte)).then_some(2),
        b'[' => {
            let end = 1 + pattern.get(1..)?.iter().position(|byte| *byte == b']')?;
            let class = &pattern[1..end];
            let (negated, class) = match class.strip_prefix(b"^") {
                Some(rest) => (true, rest),
                None => (false, class),
            };
            let mut found = false;
            let mut at = 0;
            while at < class.len() {
                let (low, high) = match class.get(at + 1..at + 3) {
                    Some([b'-', high]) => (class[at], *high),
                    _ => (class[at], class[at]),
                };
                at += if low == high { 1 } else { 3 };
                found |= (low..=high).contains(&byte);
            }
            (found != negated).then_some(end + 1)
        }
        literal => (literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names_as_go_does() {
        for (pattern, name, fits) in [
            ("busybox", "busybox:latest", true),
            ("busybox:latest", "busybox:latest", true),
            ("busy*", "busybox:latest", true),
            ("*box:l?test", "busybox:latest", true),
            ("busybox:1.*", "busybox:latest", false),
            ("*", "team/app:1", false),
            ("*/*", "team/app:1", true),
            ("*/a[o-q]p", "team/app:1", true),
            ("*/a[^o-q]p", "team/app:1", false),
            ("registry:5000/*", "registry:5000/bb:1", true),
            ("a?b", "a/b:1", false),
            ("docker.io/library/busybox", "busybox:latest", true),
            ("docker.io/library/busy*:*", "busybox:latest", true),
            ("docker.io/team/app:2", "team/app:1", false),
            (
                "docker.io/team/app",
                "team/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                true,
            ),
            ("docker.io/registry:5000/bb", "registry:5000/bb:1", false),
            ("\\*", "x", false),
            ("[", "x", false),
        ] {
            assert_eq!(name_fits(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn long_patterns_end() {
        let text = "a".repeat(200);
        assert!(!name_fits(&"a*".repeat(60).replace("a*a*", "a*b*"), &text));
    }
}
