//! `--platform` of commands for one image. A node's store has an image for one platform under a name, so it says whether that is the one.

use crate::error::{Error, Result};
use crate::http::{ApiVersion, Query};
use drydock_images::config::ImageConfig;
use drydock_images::{AnyReference, local::Image};
use drydock_registry::Platform;

/// The platform of a request, as clients write it since a version of the API: an OCI platform in JSON.
pub fn asked(query: &Query, version: ApiVersion, since: u32) -> Result<Option<Platform>> {
    if !version.at_least(since) {
        return Ok(None);
    }
    query.text("platform").map(decode).transpose()
}

/// The same where more than one is refused.
pub fn asked_once(query: &Query, version: ApiVersion, since: u32) -> Result<Option<Platform>> {
    if version.at_least(since) && query.all("platform").count() > 1 {
        return Err(Error::invalid("multiple platform parameters not supported"));
    }
    asked(query, version, since)
}

/// Those of a removal.
pub fn asked_of_removal(query: &Query, version: ApiVersion) -> Result<Option<Platform>> {
    if !version.at_least(50) {
        return Ok(None);
    }
    let mut all = query.all("platforms").map(decode).collect::<Result<Vec<_>>>()?;
    if all.len() > 1 {
        return Err(Error::invalid("multiple platforms are not supported"));
    }
    Ok(all.pop())
}

/// `httputils.DecodePlatform`
fn decode(text: &str) -> Result<Platform> {
    let platform: Platform = serde_json::from_str(text)
        .map_err(|error| Error::invalid(format!("failed to parse platform: {error}")))?;
    let optional = !platform.variant.is_empty() || !platform.os_version.is_empty();
    if platform.os.is_empty() && platform.architecture.is_empty() && optional {
        return Err(Error::invalid("optional platform fields provided, but OS and Architecture are missing"));
    }
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Error::invalid("both OS and Architecture must be provided"));
    }
    Ok(platform)
}

/// The platform that a configuration names.
fn of(config: &ImageConfig) -> Platform {
    let variant = config.variant.clone().unwrap_or_default();
    Platform {
        variant,
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        ..Platform::default()
    }
}

/// Whether an image is for a platform, or runs on it all the same (moby's `OnlyPlatformWithFallback`).
pub fn fits(config: &ImageConfig, wanted: &Platform) -> bool {
    let (wanted, is) = (wanted.clone().normalised(), of(config));
    if wanted.rank(&is).is_some() {
        return true;
    }
    let variant = is.variant.is_empty();
    let is = is.normalised();
    variant && (wanted.os, wanted.architecture) == (is.os, is.architecture)
}

/// Refuses an image that is for another platform. `text`: how the client named it.
pub fn check(image: &Image, wanted: Option<&Platform>, text: &str) -> Result<()> {
    let Some(wanted) = wanted.filter(|wanted| !fits(&image.config, wanted)) else { return Ok(()) };
    let name = match AnyReference::parse(text) {
        // Only a name that is complete is shortened (`reference.ParseNamed`).
        Ok(AnyReference::Named(name)) if name.to_string() == text => name.familiar(),
        _ => text.to_owned(),
    };
    Err(Error::not_found(format!(
        "image with reference {name} was found but its platform ({}) does not match the specified platform ({})",
        of(&image.config),
        wanted
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_of_requests() {
        let query = |json: &str| {
            Query::parse(
                &form_urlencoded::Serializer::new(String::new()).append_pair("platform", json).finish(),
            )
        };
        let at = ApiVersion { major: 1, minor: 49 };
        let asked = |json: &str| asked(&query(json), at, 48);
        let arm = asked(r#"{"architecture":"arm64","os":"linux"}"#).unwrap().unwrap();
        assert_eq!(arm.to_string(), "linux/arm64");
        assert_eq!(super::asked(&query("{}"), at, 50).unwrap(), None, "an old client");
        for (json, why) in [
            ("linux/arm64", "failed to parse platform: "),
            ("{}", "both OS and Architecture must be provided"),
            (r#"{"variant":"v8"}"#, "optional platform fields provided, but OS and Architecture are missing"),
        ] {
            assert!(asked(json).unwrap_err().message.starts_with(why), "{json}");
        }
    }

    #[test]
    fn variants_that_an_image_does_not_name_fit() {
        let config = |architecture: &str, variant: Option<&str>| ImageConfig {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
            ..ImageConfig::default()
        };
        let wanted = |text: &str| text.parse::<Platform>().unwrap();
        assert!(fits(&config("arm64", None), &wanted("linux/arm64")));
        assert!(fits(&config("arm", None), &wanted("linux/arm/v6")));
        assert!(!fits(&config("arm", Some("v7")), &wanted("linux/arm/v6")));
        assert!(!fits(&config("amd64", None), &wanted("linux/arm64")));
    }
}
