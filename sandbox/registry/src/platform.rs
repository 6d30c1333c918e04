//! Platforms (`linux/amd64`, `linux/arm64/v8`, `wasi/wasm`) and which of the images of an index fits one.
//!
//! The rules are those of containerd's `platforms` package, which dockerd uses.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// An operating system and a processor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Platform {
    /// The processor: `amd64`, `arm64`, `wasm`.
    #[serde(default)]
    pub architecture: String,
    /// The operating system: `linux`, `wasi`.
    #[serde(default)]
    pub os: String,
    /// The kind of processor: `v8`. Empty for most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// The version of the operating system, which only Windows has.
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    pub os_version: String,
}

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// A part has characters that platforms do not have.
    #[error(
        "{0:?} is an invalid component of {1:?}: platform specifier component must match \"^[A-Za-z0-9_.-]+$\""
    )]
    Component(String, String),
    /// There are too many parts.
    #[error("{0:?}: cannot parse platform specifier")]
    Parts(String),
    /// A single word that is neither a known system nor a known processor.
    #[error("{0:?}: unknown operating system or architecture")]
    Unknown(String),
}

impl Platform {
    /// A platform of two parts.
    pub fn new(os: &str, architecture: &str) -> Self {
        Self { os: os.into(), architecture: architecture.into(), ..Self::default() }.normalised()
    }

    /// The platform of this machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self::new("linux", architecture)
    }

    /// Other spellings made one: `x86_64` is `amd64`, `arm64` is `arm64/v8`.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        self.os = self.os.to_lowercase();
        if self.os == "macos" {
            self.os = "darwin".into();
        }
        let (architecture, variant) = (self.architecture.to_lowercase(), self.variant.to_lowercase());
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386" | "386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0" | "") => ("arm64", "v8"),
            ("aarch64" | "arm64", other) => ("arm64", other),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        (self.architecture, self.variant) = (architecture.to_owned(), variant.to_owned());
        self
    }

    /// How well an image for `other` runs on this platform: the smaller the better, `None` if it does not.
    pub fn rank(&self, other: &Platform) -> Option<usize> {
        let other = other.clone().normalised();
        if other.os != self.os {
            return None;
        }
        self.runs().iter().position(|(architecture, variant)| {
            *architecture == other.architecture && *variant == other.variant
        })
    }

    /// What runs on this platform, best first.
    fn runs(&self) -> Vec<(String, String)> {
        let version = |variant: &str| variant.strip_prefix('v').and_then(|v| v.parse::<u8>().ok());
        let mut list = vec![(self.architecture.clone(), self.variant.clone())];
        match self.architecture.as_str() {
            "amd64" => {
                let top = version(&self.variant).unwrap_or(1).min(9);
                list.extend((2..top).rev().map(|v| ("amd64".to_owned(), format!("v{v}"))));
                if top > 1 {
                    list.push(("amd64".to_owned(), String::new()));
                }
                list.push(("386".to_owned(), String::new()));
            }
            "arm64" => {
                if self.variant != "v8" {
                    list.push(("arm64".to_owned(), "v8".to_owned()));
                }
                list.extend((5..=8).rev().map(|v| ("arm".to_owned(), format!("v{v}"))));
            }
            "arm" => {
                let top = version(&self.variant).unwrap_or(7).min(9);
                list.extend((5..top).rev().map(|v| ("arm".to_owned(), format!("v{v}"))));
            }
            _ => {}
        }
        list
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let parts: Vec<&str> = text.split('/').collect();
        if let Some(bad) = parts.iter().find(|p| p.is_empty() || !p.bytes().all(fine)) {
            return Err(PlatformError::Component((*bad).into(), text.into()));
        }
        let of = |os: &str, architecture: &str, variant: &str| {
            let all = Self {
                os: os.into(),
                architecture: architecture.into(),
                variant: variant.into(),
                os_version: String::new(),
            };
            Ok(all.normalised())
        };
        match parts.as_slice() {
            [os] if ["linux", "windows", "darwin", "macos", "freebsd"]
                .contains(&os.to_lowercase().as_str()) =>
            {
                of(os, &Self::host().architecture, "")
            }
            [os] if os.eq_ignore_ascii_case("wasi") => of(os, "wasm", ""),
            [processor] => {
                let named = Self::new("linux", processor);
                let known =
                    ["amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x", "mips64le", "loong64"];
                if known.contains(&named.architecture.as_str()) {
                    Ok(named)
                } else {
                    Err(PlatformError::Unknown(text.into()))
                }
            }
            [os, architecture] => of(os, architecture, ""),
            [os, architecture, variant] => of(os, architecture, variant),
            _ => Err(PlatformError::Parts(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn spellings_are_made_one() {
        for (typed, meant) in [
            ("linux/x86_64", "linux/amd64"),
            ("amd64", "linux/amd64"),
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/arm", "linux/arm/v7"),
            ("wasi/wasm", "wasi/wasm"),
            ("wasi", "wasi/wasm"),
        ] {
            assert_eq!(p(typed).to_string(), meant);
        }
        assert!("a/b/c/d".parse::<Platform>().is_err());
        assert!("linux/".parse::<Platform>().is_err());
        assert!("nonsense".parse::<Platform>().is_err());
    }

    #[test]
    fn the_best_that_runs_is_ranked_first() {
        let rank = |on: &str, image: &str| p(on).rank(&p(image));
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert!(rank("linux/amd64", "linux/386").is_some(), "old programs run");
        assert_eq!(rank("linux/amd64", "linux/amd64/v3"), None, "newer processors' programs do not");
        assert!(rank("linux/amd64/v3", "linux/amd64/v2") < rank("linux/amd64/v3", "linux/amd64"));
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        assert!(rank("linux/arm64", "linux/arm/v7") > rank("linux/arm64", "linux/arm64"));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(rank("wasi/wasm", "wasi/wasm"), Some(0));
    }
}
