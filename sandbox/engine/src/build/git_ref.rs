//! Addresses of repositories in builds: `https://host/x.git#branch:directory`, or, as BuildKit's since Dockerfile 1.18,
//! `https://host/x.git?branch=main&subdir=docs`. (`frontend/dockerfile/dfgitutil/git_ref.go`)

use crate::error::{Error, Result};

/// A repository, and what of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GitRef {
    /// What `git` is given.
    pub remote: String,
    /// A branch, a tag, a commit; empty: the default branch.
    pub reference: String,
    /// Below this directory; empty: all.
    pub directory: String,
    /// Beginning of the commit that it must be.
    pub checksum: String,
    /// `.git` stays, or not, whatever else says.
    pub keep_git_dir: Option<bool>,
    /// Submodules come along.
    pub submodules: bool,
}

/// Whether an address is one of a repository.
pub(super) fn is_git(url: &str) -> bool {
    let address = url.split(['#', '?']).next().unwrap_or(url);
    let web = address.starts_with("http://") || address.starts_with("https://");
    let schemes = ["git://", "git@", "ssh://", "github.com/"];
    (web && address.ends_with(".git")) || schemes.iter().any(|scheme| address.starts_with(scheme))
}

impl GitRef {
    /// Reads an address that [`is_git`].
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (address, fragment) = url.split_once('#').unwrap_or((url, ""));
        let scheme = address.contains("://") || address.starts_with("github.com/");
        let (remote, query) = address.split_once('?').filter(|_| scheme).unwrap_or((address, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let remote =
            if remote.starts_with("github.com/") { format!("https://{remote}") } else { remote.into() };
        let mut parsed = Self {
            remote,
            reference: reference.into(),
            directory: directory.into(),
            submodules: true,
            ..Self::default()
        };
        parsed.read(query)?;
        if parsed.reference.starts_with('-') {
            return Err(Error::invalid(format!("invalid git reference {:?}", parsed.reference)));
        }
        Ok(parsed)
    }

    fn read(&mut self, query: &str) -> Result<()> {
        let mut names: Vec<String> = Vec::new();
        let (mut tag, mut branch) = (String::new(), String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if names.iter().any(|known| *known == name) {
                return Err(Error::invalid(format!("query {name:?} has multiple values")));
            }
            names.push(name.clone().into_owned());
            let flag = ["submodules", "keep-git-dir"].contains(&&*name);
            if value.is_empty() && !flag {
                return Err(Error::invalid(format!("query {name:?} has no value")));
            }
            match &*name {
                "ref" => same("ref", &mut self.reference, &value)?,
                "tag" => tag = value.into_owned(),
                "branch" => branch = value.into_owned(),
                "subdir" => same("subdir", &mut self.directory, &value)?,
                "checksum" | "commit" => self.checksum = value.into_owned(),
                "keep-git-dir" => self.keep_git_dir = Some(boolean(&name, &value)?),
                "submodules" => self.submodules = boolean(&name, &value)?,
                _ => return Err(Error::invalid(format!("unexpected query {name:?}"))),
            }
        }
        if !tag.is_empty() {
            same("ref", &mut self.reference, &format!("refs/tags/{tag}"))?;
        }
        if !branch.is_empty() {
            same("ref", &mut self.reference, &format!("refs/heads/{branch}"))?;
        }
        Ok(())
    }
}

/// Sets what may be said twice, but not in two ways.
fn same(what: &str, known: &mut String, value: &str) -> Result<()> {
    if !known.is_empty() && known != value {
        return Err(Error::invalid(format!("{what} conflicts: {known:?} vs {value:?}")));
    }
    value.clone_into(known);
    Ok(())
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!("invalid {name} value: {value:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_files() {
        for url in [
            "https://example.org/x.git",
            "https://example.org/x.git#main:docs",
            "https://example.org/x.git?branch=main",
            "git://example.org/x",
            "git@example.org:x",
            "github.com/a/b",
        ] {
            assert!(is_git(url), "{url}");
        }
        for url in ["https://example.org/x.tar.gz", "https://example.org/git", "http://github.com/a/b?x=.git"]
        {
            assert!(!is_git(url), "{url}");
        }
    }

    #[test]
    fn addresses_are_read() {
        let read = |url: &str| {
            let git = GitRef::parse(url).unwrap();
            [git.remote, git.reference, git.directory, git.checksum]
        };
        assert_eq!(read("github.com/a/b"), ["https://github.com/a/b", "", "", ""]);
        assert_eq!(read("https://h/x.git#v1:docs"), ["https://h/x.git", "v1", "docs", ""]);
        assert_eq!(
            read("https://h/x.git?tag=v1&subdir=a%2Fb&commit=abc"),
            ["https://h/x.git", "refs/tags/v1", "a/b", "abc"]
        );
        assert_eq!(
            read("https://h/x.git?branch=b#refs/heads/b"),
            ["https://h/x.git", "refs/heads/b", "", ""]
        );
        let flags = GitRef::parse("https://h/x.git?keep-git-dir&submodules=0").unwrap();
        assert_eq!((flags.keep_git_dir, flags.submodules), (Some(true), false));
        for (url, why) in [
            ("https://h/x.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("https://h/x.git?tag=a&branch=a", "ref conflicts: \"refs/tags/a\" vs \"refs/heads/a\""),
            ("https://h/x.git?x=1", "unexpected query \"x\""),
            ("https://h/x.git?ref=", "query \"ref\" has no value"),
            ("https://h/x.git?ref=a&ref=b", "query \"ref\" has multiple values"),
            ("https://h/x.git?submodules=maybe", "invalid submodules value: \"maybe\""),
            ("https://h/x.git#--upload-pack=x", "invalid git reference \"--upload-pack=x\""),
        ] {
            assert_eq!(GitRef::parse(url).unwrap_err().message, why, "{url}");
        }
    }
}
