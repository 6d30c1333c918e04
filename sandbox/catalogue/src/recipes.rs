//! The recipes: which images there are, what they are made from, and a digest that changes when any of that does.

use crate::{Error, Result};
use drydock_dockerfile::language;
use drydock_images::{
    Digest,
    mmdebstrap::{DOCUMENTATION, SUITE},
};
use flate2::read::GzDecoder;
use rust_embed::RustEmbed;
use std::{borrow::Cow, collections::BTreeMap, io::Read};

/// `images/NAME/…`.
#[derive(RustEmbed)]
#[folder = "images"]
struct Files;

/// Programs of `programs/`, linked statically by the Makefile. Debug builds read them from the source tree.
#[derive(RustEmbed)]
#[cfg_attr(debug_assertions, folder = "gen/debug")]
#[cfg_attr(not(debug_assertions), folder = "gen/release")]
#[allow_missing = true]
struct Programs;

/// What `drydock image add --basic` adds: small, and made within seconds.
pub const BASIC: &[&str] = &[
    "hello-world",
    "hello-wasm",
    "whoami",
    "busybox",
    "registry.k8s.io/pause",
    "registry.k8s.io/etcd",
    "registry.k8s.io/kube-apiserver",
    "registry.k8s.io/kube-controller-manager",
    "registry.k8s.io/kube-scheduler",
];

/// The version of Kubernetes that the control plane's images have.
const KUBERNETES: &str = "v1.35.0";

/// Added to the digests of all recipes. To be changed when the way of making images changes what comes out.
const WAY: &str = "4";

/// An image that can be made.
#[derive(Debug)]
pub struct Recipe {
    /// Its familiar name (`nginx`); also the directory with its Dockerfile.
    pub name: &'static str,
    /// Another repository that has it too, as the best known place of the image is there.
    pub also: Option<&'static str>,
    /// What comes into the context beside the files of the directory.
    pub(crate) input: Input,
    /// Where the version comes from.
    pub(crate) version: Version,
    /// Its tags. `{1}`, `{1.2}` and `{1.2.3}` are the parts of its version, `{suite}` is Debian's release: a tag that names a version
    /// is only given to an image that has it. No `alpine`: all are Debian's, and have no `apk`.
    pub(crate) tags: &'static [&'static str],
}

/// Made for the context.
#[derive(Debug)]
pub(crate) enum Input {
    /// Nothing.
    None,
    /// One of our programs.
    Program(&'static str),
    /// One of our programs in `bin/`, with links to it under the names that it is called by.
    Multicall { program: &'static str, names: &'static [&'static str] },
    /// A tar made by mmdebstrap: file name, variant, packages.
    Root { file: &'static str, variant: &'static str, packages: &'static str },
}

/// What an image's version is.
#[derive(Debug)]
pub(crate) enum Version {
    /// Drydock's.
    Own,
    /// Drydock's, but with this tag only: that of what the image stands for.
    As(&'static str),
    /// `/etc/debian_version`.
    Release,
    /// That of the Debian package of this name.
    Package(&'static str),
    /// Debian's package with this name, whose version busybox tells itself.
    Busybox(&'static str),
}

/// An image `FROM debian` for a package.
const fn packaged(name: &'static str, package: &'static str, tags: &'static [&'static str]) -> Recipe {
    Recipe { name, also: None, input: Input::None, version: Version::Package(package), tags }
}

/// An image `FROM drydock-kube`: all of the control plane's share one layer.
const fn kubernetes(name: &'static str) -> Recipe {
    Recipe { name, also: None, input: Input::None, version: Version::As(KUBERNETES), tags: &[KUBERNETES] }
}

/// What most images are called.
const NUMBERS: &[&str] = &["latest", "{1}", "{1.2}", "{1.2.3}"];

/// Debian's release has a version with long-term support.
const NODE: &[&str] = &[
    "latest",
    "{1}",
    "{1.2}",
    "{1.2.3}",
    "lts",
    "slim",
    "{1}-slim",
    "{1.2}-slim",
    "{1.2.3}-slim",
    "lts-slim",
];

/// The same, and as images are called that have no compilers: that is what these are.
const SLIM: &[&str] =
    &["latest", "{1}", "{1.2}", "{1.2.3}", "slim", "{1}-slim", "{1.2}-slim", "{1.2.3}-slim"];

static RECIPES: [Recipe; 18] = [
    Recipe {
        name: "hello-world",
        also: None,
        input: Input::Program("hello"),
        version: Version::Own,
        tags: &["latest", "linux"],
    },
    Recipe {
        name: "busybox",
        also: None,
        input: Input::Root { file: "package.tar", variant: "extract", packages: "busybox-static" },
        version: Version::Busybox("busybox-static"),
        // The program is linked with glibc.
        tags: &[
            "latest",
            "{1}",
            "{1.2}",
            "{1.2.3}",
            "stable",
            "glibc",
            "{1}-glibc",
            "{1.2}-glibc",
            "{1.2.3}-glibc",
            "stable-glibc",
        ],
    },
    Recipe {
        name: "whoami",
        also: Some("docker.io/traefik/whoami"),
        input: Input::Program("whoami"),
        version: Version::Own,
        tags: &["latest"],
    },
    Recipe {
        name: "hello-wasm",
        also: None,
        input: Input::Program("hello.wasm"),
        version: Version::Own,
        tags: &["latest"],
    },
    Recipe {
        name: "debian",
        also: None,
        input: Input::Root { file: "rootfs.tar", variant: "minbase", packages: "" },
        version: Version::Release,
        // Documentation and manuals are left out, as in the slim ones.
        tags: &[
            "latest",
            "{1}",
            "{1.2}",
            "{suite}",
            "stable",
            "{1}-slim",
            "{1.2}-slim",
            "{suite}-slim",
            "stable-slim",
        ],
    },
    packaged("nginx", "nginx", &["latest", "{1}", "{1.2}", "{1.2.3}", "stable"]),
    packaged("redis", "redis-server", NUMBERS),
    packaged("httpd", "apache2-bin", NUMBERS),
    packaged("python", "python3", SLIM),
    packaged("registry", "docker-registry", NUMBERS),
    packaged("postgres", "postgresql-17", NUMBERS),
    packaged("node", "nodejs", NODE),
    Recipe {
        name: "registry.k8s.io/pause",
        also: None,
        input: Input::Program("pause"),
        version: Version::As("3.10.1"),
        tags: &["3.10.1"],
    },
    Recipe {
        name: "drydock-kube",
        also: None,
        input: Input::Multicall {
            program: "drydock-kube",
            names: &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"],
        },
        version: Version::Own,
        tags: &["latest"],
    },
    kubernetes("registry.k8s.io/etcd"),
    kubernetes("registry.k8s.io/kube-apiserver"),
    kubernetes("registry.k8s.io/kube-controller-manager"),
    kubernetes("registry.k8s.io/kube-scheduler"),
];

/// All recipes, the small ones first.
pub fn all() -> &'static [Recipe] {
    &RECIPES
}

/// A recipe by its name.
pub fn find(name: &str) -> Result<&'static Recipe> {
    let found = RECIPES.iter().find(|recipe| recipe.name == name);
    found.ok_or_else(|| Error::Unknown(name.escape_debug().to_string()))
}

impl Recipe {
    /// Its repository, normalised: `docker.io/library/nginx`.
    pub fn repository(&self) -> String {
        // A name with a registry is whole.
        if self.name.contains('/') { self.name.into() } else { format!("docker.io/library/{}", self.name) }
    }

    /// The name that it always has, normalised: `docker.io/library/nginx:latest`.
    pub fn reference(&self) -> String {
        let tag = if let Version::As(version) = self.version { version } else { "latest" };
        format!("{}:{tag}", self.repository())
    }

    /// Its tags, if it has this version.
    pub(crate) fn tags(&self, version: &str) -> Vec<String> {
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<&str> = version.split('.').take_while(is_number).collect();
        let numbers = [("{1.2.3}", 3), ("{1.2}", 2), ("{1}", 1)];
        let tag = |tag: &&str| {
            let mut tag = tag.replace("{suite}", SUITE);
            for (place, count) in numbers {
                if tag.contains(place) {
                    tag = tag.replace(place, &parts.get(..count)?.join("."));
                }
            }
            Some(tag)
        };
        self.tags.iter().filter_map(tag).collect()
    }

    /// Its names with these tags, normalised.
    pub(crate) fn names(&self, tags: &[String]) -> Vec<String> {
        let repositories = [Some(self.repository()), self.also.map(str::to_owned)];
        let tagged = |repository: String| tags.iter().map(move |tag| format!("{repository}:{tag}"));
        repositories.into_iter().flatten().flat_map(tagged).collect()
    }

    /// The files of its directory, by their paths in it.
    pub(crate) fn files(&self) -> BTreeMap<String, Cow<'static, [u8]>> {
        let directory = format!("{}/", self.name);
        let ours = |path: &str| path.strip_prefix(&directory).map(str::to_owned);
        Files::iter().filter_map(|path| Some((ours(&path)?, Files::get(&path)?.data))).collect()
    }

    /// Its Dockerfile.
    pub(crate) fn dockerfile(&self) -> Result<language::Dockerfile> {
        let wrong = |what: String| Error::Recipe { name: self.name.into(), what };
        let files = self.files();
        let text = files.get("Dockerfile").ok_or_else(|| wrong("there is no Dockerfile".into()))?;
        let text = std::str::from_utf8(text).map_err(|e| wrong(e.to_string()))?;
        language::parse(text).map_err(|e| wrong(e.to_string()))
    }

    /// The recipes that its Dockerfile begins with, which must be in the catalogue before it.
    pub fn needs(&self) -> Result<Vec<&'static Self>> {
        let stages = self.dockerfile()?.stages;
        let names: Vec<_> = stages.iter().filter_map(|stage| stage.name.clone()).collect();
        let bases = stages.iter().map(|stage| stage.base.as_str());
        bases.filter(|base| *base != "scratch" && !names.iter().any(|name| name == base)).map(find).collect()
    }

    /// Our program that goes into it, if one does.
    pub(crate) fn program(&self) -> Result<Option<Cow<'static, [u8]>>> {
        let Some(embedded) = self.embedded()? else { return Ok(None) };
        if !matches!(self.input, Input::Multicall { .. }) {
            return Ok(Some(embedded));
        }
        let mut program = Vec::new();
        let unpacked = GzDecoder::new(&*embedded).read_to_end(&mut program);
        unpacked.map_err(|e| Error::Recipe { name: self.name.into(), what: format!("its program: {e}") })?;
        Ok(Some(program.into()))
    }

    /// Our program as it is part of this one: the large ones are packed.
    fn embedded(&self) -> Result<Option<Cow<'static, [u8]>>> {
        let file = match self.input {
            Input::Program(name) => name.to_owned(),
            Input::Multicall { program, .. } => format!("{program}.gz"),
            Input::None | Input::Root { .. } => return Ok(None),
        };
        let program = Programs::get(&file).ok_or(Error::NoProgram(file))?;
        Ok(Some(program.data))
    }

    /// Names all that it is made from here: Dockerfile, files, programs, packages, and the recipes below it. Newer packages of Debian
    /// do not change it.
    pub fn digest(&self) -> Result<Digest> {
        let mut all = Vec::new();
        let mut part = |bytes: &[u8]| {
            // With its length, so that nothing can move from one part to the next unseen.
            all.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            all.extend_from_slice(bytes);
        };
        part(WAY.as_bytes());
        part(format!("{:?} {:?} {:?}", self.also, self.input, self.version).as_bytes());
        if matches!(self.input, Input::Root { .. }) {
            part(SUITE.as_bytes());
            DOCUMENTATION.iter().for_each(|path| part(path.as_bytes()));
        }
        for (path, content) in self.files() {
            part(path.as_bytes());
            part(&content);
        }
        part(&self.embedded()?.unwrap_or_default());
        for base in self.needs()? {
            part(base.digest()?.to_string().as_bytes());
        }
        Ok(Digest::of(&all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerfiles_parse_and_what_they_need_comes_before_them() {
        for (at, recipe) in all().iter().enumerate() {
            for base in recipe.needs().unwrap() {
                let before = all().iter().position(|r| r.name == base.name).unwrap();
                assert!(before < at, "{} needs {}", recipe.name, base.name);
            }
        }
        let needs = |name| find(name).unwrap().needs().unwrap().iter().map(|r| r.name).collect::<Vec<_>>();
        assert_eq!(needs("nginx"), ["debian"]);
        assert_eq!(needs("busybox"), [""; 0]);
    }

    #[test]
    fn every_file_that_a_dockerfile_copies_is_there() {
        for recipe in all() {
            let made = match recipe.input {
                Input::None => "",
                Input::Program(name) => name,
                Input::Multicall { .. } => "bin/",
                Input::Root { file, .. } => file,
            };
            let files = recipe.files();
            let stages = recipe.dockerfile().unwrap().stages;
            for instruction in stages.iter().flat_map(|stage| &stage.instructions) {
                let (language::Kind::Copy(copy) | language::Kind::Add(copy)) = &instruction.kind else {
                    continue;
                };
                for source in copy.sources.iter().filter(|_| copy.from.is_none()) {
                    assert!(files.contains_key(source) || source == made, "{}: {source}", recipe.name);
                }
            }
        }
    }

    #[test]
    fn recipes_have_digests_of_their_own_that_follow_what_they_need() {
        let without_programs =
            all().iter().filter(|r| r.embedded().is_ok_and(|p| p.is_none()) && r.digest().is_ok());
        let digests: Vec<_> = without_programs.map(|r| r.digest().unwrap()).collect();
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(digest));
        }
        let nginx = find("nginx").unwrap();
        assert_eq!(nginx.digest().unwrap(), nginx.digest().unwrap());
        let other = Recipe { also: Some("docker.io/x/nginx"), ..packaged("nginx", "nginx", NUMBERS) };
        assert_ne!(nginx.digest().unwrap(), other.digest().unwrap());
    }

    #[test]
    fn a_tag_that_names_a_version_is_given_to_that_version_only() {
        let tags = |name: &str, version: &str| find(name).unwrap().tags(version).join(" ");
        assert_eq!(tags("nginx", "1.26.3"), "latest 1 1.26 1.26.3 stable");
        assert_eq!(tags("python", "3.13.5"), "latest 3 3.13 3.13.5 slim 3-slim 3.13-slim 3.13.5-slim");
        assert_eq!(tags("postgres", "17.12"), "latest 17 17.12");
        assert_eq!(
            tags("debian", "13.8"),
            "latest 13 13.8 trixie stable 13-slim 13.8-slim trixie-slim stable-slim"
        );
        assert_eq!(tags("debian", "forky/sid"), "latest trixie stable trixie-slim stable-slim");
        assert_eq!(tags("registry.k8s.io/etcd", "v1.35.0"), "v1.35.0");
        for recipe in all() {
            let tags = recipe.tags("12.34.56");
            assert!(tags.iter().all(|tag| !tag.contains(['{', '}']) && !tag.contains("alpine")), "{tags:?}");
            assert!(recipe.names(&tags).contains(&recipe.reference()), "{}", recipe.name);
            let distinct: std::collections::BTreeSet<_> = tags.iter().collect();
            assert_eq!(distinct.len(), tags.len(), "{}", recipe.name);
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(matches!(find("windows"), Err(Error::Unknown(name)) if name == "windows"));
    }
}
