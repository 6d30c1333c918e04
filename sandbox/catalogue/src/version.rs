//! Which version an image has, read from its files, and the tags and facts that follow from it.

use crate::{
    Error, Result,
    recipes::{Recipe, Version},
};
use drydock_images::mmdebstrap::SUITE;
use std::{collections::BTreeMap, fs, path::Path};

/// The fact that is the version.
pub(crate) const VERSION: &str = "org.opencontainers.image.version";
/// The fact that says where its content comes from.
pub(crate) const DESCRIPTION: &str = "org.opencontainers.image.description";

/// What is said of an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// Its tags, `latest` first.
    pub(crate) tags: Vec<String>,
    /// `org.opencontainers.image.…`.
    pub(crate) facts: BTreeMap<String, String>,
}

impl Description {
    /// Of an image that is made, by its recipe and its files.
    pub(crate) fn of(recipe: &Recipe, root: &Path) -> Result<Self> {
        let wrong = |what: String| Error::Recipe { name: recipe.name.into(), what };
        let read = |path: &str| fs::read(root.join(path)).map_err(Error::path("read", root.join(path)));
        let text = |path: &str| Ok::<_, Error>(String::from_utf8_lossy(&read(path)?).into_owned());
        let (version, from, source) = match recipe.version {
            Version::As(version) => {
                let from =
                    format!("Drydock's own program, which takes the part of {} {version}", recipe.name);
                (version.to_owned(), from, None)
            }
            Version::Own => {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                (version.clone(), format!("Drydock's own program {} {version}", recipe.name), None)
            }
            Version::Release => {
                let version = text("etc/debian_version")?.trim().to_owned();
                let from = format!("Debian {SUITE}'s packages (minbase), release {version}");
                (version, from, Some("https://www.debian.org/".to_owned()))
            }
            Version::Package(package) => {
                let version = package_version(&text("var/lib/dpkg/status")?, package)
                    .ok_or_else(|| wrong(format!("it has no package {package}")))?;
                packaged(package, &version)
            }
            Version::Busybox(package) => {
                let version = busybox_version(&read("bin/busybox")?)
                    .ok_or_else(|| wrong("busybox does not tell its version".into()))?;
                packaged(package, &version)
            }
        };
        let tags = recipe.tags(&version);
        let mut facts = BTreeMap::new();
        let mut fact =
            |name: &str, value: String| facts.insert(format!("org.opencontainers.image.{name}"), value);
        fact("title", recipe.name.into());
        fact("version", version);
        fact("description", format!("Built by Drydock from {from}"));
        if let Some(source) = source {
            fact("source", source);
        }
        Ok(Self { tags, facts })
    }
}

fn packaged(package: &str, version: &str) -> (String, String, Option<String>) {
    let from = format!("Debian {SUITE}'s package {package} {version}");
    (upstream(version).to_owned(), from, Some(format!("https://packages.debian.org/{SUITE}/{package}")))
}

/// The version of an installed package, from dpkg's data base.
fn package_version(status: &str, package: &str) -> Option<String> {
    let paragraph =
        status.split("\n\n").find(|p| p.lines().any(|l| l.strip_prefix("Package: ") == Some(package)))?;
    paragraph.lines().find_map(|l| l.strip_prefix("Version: ")).map(str::to_owned)
}

/// From busybox' own words: `BusyBox v1.37.0 (Debian 1:1.37.0-6+b3)`.
fn busybox_version(program: &[u8]) -> Option<String> {
    const BEFORE: &[u8] = b"BusyBox v";
    let mut places = (0..program.len()).filter(|at| program[*at..].starts_with(BEFORE));
    places.find_map(|at| {
        let line = program[at..program.len().min(at + 100)].split(|b| *b == 0).next()?;
        let line = String::from_utf8_lossy(line);
        let (_, version) = line.split_once("(Debian ")?;
        Some(version.split_once(')')?.0.to_owned())
    })
}

/// `5:8.0.2-3+deb13u1` is 8.0.2 by those who wrote it (deb-version(7)).
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let version = version.rsplit_once('-').map_or(version, |(upstream, _)| upstream);
    version.split(['+', '~']).next().unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipes::find;

    #[test]
    fn versions() {
        assert_eq!(upstream("5:8.0.2-3+deb13u1"), "8.0.2");
        assert_eq!(upstream("2.8.3+ds1-1"), "2.8.3");
        assert_eq!(upstream("20.19.2+dfsg-1"), "20.19.2");
        let program = b"\0x: BusyBox v1.37.0\0BusyBox v1.37.0 (Debian 1:1.37.0-6+b3)\0more (Debian 2)";
        assert_eq!(busybox_version(program).unwrap(), "1:1.37.0-6+b3");
        assert_eq!(busybox_version(b"BusyBox v1"), None);
    }

    #[test]
    fn a_description_says_where_the_content_comes_from() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib/dpkg")).unwrap();
        let status = "Package: nginx-common\nVersion: 9\n\nPackage: nginx\nStatus: install ok installed\nVersion: 1.26.3-3\n";
        fs::write(root.path().join("var/lib/dpkg/status"), status).unwrap();
        let described = Description::of(find("nginx").unwrap(), root.path()).unwrap();
        assert_eq!(described.tags, ["latest", "1", "1.26", "1.26.3", "stable"]);
        let fact = |name: &str| described.facts[&format!("org.opencontainers.image.{name}")].as_str();
        assert_eq!(fact("description"), "Built by Drydock from Debian trixie's package nginx 1.26.3-3");
        assert_eq!(fact("version"), "1.26.3");
        assert!(Description::of(find("redis").unwrap(), root.path()).is_err());
    }
}
