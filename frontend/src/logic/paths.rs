//! Absolute paths inside a node. Called by the files dock and by uploads.

/// `dir` and `name` as one path.
pub fn join(dir: &str, name: &str) -> String {
    format!("{}/{name}", dir.trim_end_matches('/'))
}

/// The directory above; of `/` it is `/`.
pub fn parent(path: &str) -> String {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) | None => "/".into(),
        Some((dir, _)) => dir.into(),
    }
}

/// The last part of a path.
pub fn name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or("")
}

/// Each part of a path with the path that leads to it: `/`, `root`, `src`.
pub fn crumbs(path: &str) -> Vec<(String, String)> {
    let mut all = vec![("/".to_owned(), "/".to_owned())];
    let mut so_far = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        so_far.push('/');
        so_far.push_str(part);
        all.push((part.to_owned(), so_far.clone()));
    }
    all
}

/// Why a name can't be that of a new file or directory.
pub fn refuse(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("Give it a name."),
        "." | ".." => Some("This name is taken by the directory itself."),
        _ if name.contains('/') => Some("A name can't contain a slash."),
        _ if name.contains('\0') => Some("A name can't contain a zero byte."),
        _ if name.len() > 255 => Some("A name has at most 255 bytes."),
        _ => None,
    }
}

/// What to ask before files are uploaded over those of the same names.
pub fn replace(taken: &[String], directory: &str) -> String {
    format!(
        "Already in {directory}: {}. Replace? (Cancel leaves what is there and uploads the rest.)",
        taken.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_together_and_taken_apart() {
        assert_eq!(join("/", "etc"), "/etc");
        assert_eq!(join("/root/", "a b"), "/root/a b");
        assert_eq!([parent("/"), parent("/etc"), parent("/a/b/")], ["/", "/", "/a"]);
        assert_eq!(name("/a/b"), "b");
        let names: Vec<_> = crumbs("/a/b").into_iter().map(|(name, path)| format!("{name}={path}")).collect();
        assert_eq!(names, ["/=/", "a=/a", "b=/a/b"]);
    }

    #[test]
    fn nothing_is_replaced_unasked() {
        let asked = replace(&["a".into(), "b c".into()], "/root");
        assert!(asked.starts_with("Already in /root: a, b c. Replace?"), "{asked}");
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in ["", ".", "..", "a/b", "x\0", &"n".repeat(256)] {
            assert!(refuse(bad).is_some(), "{bad}");
        }
        assert!(refuse("notes.txt").is_none());
    }
}
