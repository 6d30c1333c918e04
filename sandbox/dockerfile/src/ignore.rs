//! `.dockerignore`: which files of a context are left out. The rules are those of moby/patternmatcher and its `ignorefile`.

use crate::glob::{BadPattern, Glob};
use crate::language::go::clean;

/// Patterns that may be read from one file: matching takes patterns × files.
const MAX_PATTERNS: usize = 10_000;

/// Why patterns can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A pattern is malformed.
    #[error("syntax error in pattern")]
    Syntax(#[from] BadPattern),
    /// Nothing after `!`.
    #[error("illegal exclusion pattern: \"!\"")]
    Exclusion,
    /// More patterns than anybody needs.
    #[error("too many patterns in .dockerignore")]
    TooMany,
}

/// Compiled patterns.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    list: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    glob: Glob,
    exclusion: bool,
}

/// The patterns of a `.dockerignore` file, normalised.
pub fn read(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut patterns = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let (mark, pattern) = line.strip_prefix('!').map_or(("", line), |rest| ("!", rest.trim()));
        let mut pattern = if pattern.is_empty() { String::new() } else { clean(pattern) };
        if pattern.len() > 1 && pattern.starts_with('/') {
            pattern.remove(0);
        }
        patterns.push(format!("{mark}{pattern}"));
    }
    patterns
}

impl Patterns {
    /// Compiles patterns in order.
    ///
    /// # Errors
    /// If one is malformed.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, Error> {
        if patterns.len() > MAX_PATTERNS {
            return Err(Error::TooMany);
        }
        let mut list = Vec::new();
        for pattern in patterns.iter().map(|p| p.as_ref().trim()).filter(|p| !p.is_empty()) {
            let pattern = clean(pattern);
            let (exclusion, pattern) =
                pattern.strip_prefix('!').map_or((false, pattern.as_str()), |rest| (true, rest));
            if exclusion && pattern.is_empty() {
                return Err(Error::Exclusion);
            }
            // What Go's filepath.Match refuses is refused.
            Glob::path(pattern)?;
            list.push(Pattern { glob: Glob::ignore(pattern)?, exclusion });
        }
        Ok(Self { list })
    }

    /// No pattern at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether some pattern begins with `!`: then a directory that matches must be looked into all the same.
    pub fn has_exclusions(&self) -> bool {
        self.list.iter().any(|p| p.exclusion)
    }

    /// Whether this file (`a/b/c`), or a directory above it, is matched by a pattern and by no exclusion after it.
    pub fn matches(&self, file: &str) -> bool {
        let mut matched = false;
        for pattern in self.list.iter().filter(|_| !file.is_empty() && file != ".") {
            if pattern.exclusion != matched {
                continue;
            }
            let parents = file.match_indices('/').map(|(at, _)| &file[..at]);
            if pattern.glob.matches(file) || parents.into_iter().any(|parent| pattern.glob.matches(parent)) {
                matched = !pattern.exclusion;
            }
        }
        matched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(patterns: &[&str], file: &str) -> bool {
        Patterns::new(patterns).unwrap().matches(file)
    }

    /// From moby/patternmatcher's own table.
    #[test]
    fn patterns_match_as_mobys_do() {
        for (pattern, file, expected) in [
            ("**", "file", true),
            ("**", "file/", true),
            ("**/", "file", true),
            ("**", "/", true),
            ("**", "dir/file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/file", true),
            ("**file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abc.def", true),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("a\\\\", "a\\", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/foo/bar", true),
            ("abc/**", "abc", false),
            ("abc/**", "abc/def", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("dist/**/*.map", "dist/a/b.map", true),
            ("ab**c", "abxc", false),
        ] {
            assert_eq!(ignored(&[pattern], file), expected, "{pattern} {file}");
        }
    }

    #[test]
    fn the_last_match_decides() {
        let list = ["*.md", "!README*.md", "README-secret.md"];
        for (file, expected) in
            [("a.md", true), ("README.md", false), ("README-secret.md", true), ("x/a.md", false)]
        {
            assert_eq!(ignored(&list, file), expected, "{file}");
        }
        assert!(ignored(&["docs"], "docs/a/b"));
        assert!(!ignored(&["docs", "!docs/a"], "docs/a/b"));
        assert!(!ignored(&["*"], "."));
    }

    #[test]
    fn the_file_is_normalised() {
        let text = "\u{feff}# comment\n\n /a/b/ \n!  ./c\n#x\n/\n!\n";
        assert_eq!(read(text), ["a/b", "!c", "/", "!"]);
        assert_eq!(Patterns::new(&read(text)).unwrap_err(), Error::Exclusion);
        assert_eq!(Patterns::new(&["a["]).unwrap_err().to_string(), "syntax error in pattern");
    }
}
