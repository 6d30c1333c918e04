//! Manifests and indexes: what of them client and server must understand, from either family (OCI, Docker schema 2).
//!
//! A manifest is kept as the bytes that arrived, since its digest is over them; these types are only a view.

use crate::platform::Platform;
use drydock_images::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest manifest that is taken, as the specification proposes.
pub const MANIFEST_MAX: usize = 4 * 1024 * 1024;
/// More layers than any engine can mount.
const LAYERS_MAX: usize = 512;

/// Media types of both families.
pub mod media_type {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A gzip layer of an OCI image.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A zstd layer of an OCI image.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A Docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A gzip layer of a Docker image.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// What blobs are sent as.
    pub const BINARY: &str = "application/octet-stream";
    /// The signed manifests of schema 1, which nobody takes any more.
    pub(crate) const SCHEMA_1: [&str; 2] = [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ];
}

/// Says what a blob or a manifest is, and which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What it is.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// How long it is.
    pub size: u64,
    /// Its digest.
    pub digest: Digest,
    /// What it runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What the artifact is, in a list of referrers.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// The fields of all forms of manifest; which are there says what it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawManifest {
    #[serde(default)]
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Option<Descriptor>,
    pub layers: Option<Vec<Descriptor>>,
    pub manifests: Option<Vec<Descriptor>>,
    pub fs_layers: Option<serde_json::Value>,
    pub subject: Option<Descriptor>,
    pub artifact_type: Option<String>,
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A manifest that was understood.
#[derive(Debug, Clone)]
pub(crate) enum Manifest {
    Image { config: Box<Descriptor>, layers: Vec<Descriptor> },
    Index(Vec<Descriptor>),
}

/// Why a manifest was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestError {
    /// It is of schema 1.
    Schema1,
    /// It is none, for this reason.
    Invalid(String),
}

impl RawManifest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_MAX {
            return Err(ManifestError::Invalid("manifest exceeds the size limit".into()));
        }
        serde_json::from_slice(bytes).map_err(|e| ManifestError::Invalid(e.to_string()))
    }

    /// Looks at both the media type with which it was sent and the fields; they must agree.
    pub(crate) fn understand(self, sent_as: &str) -> Result<Manifest, ManifestError> {
        let invalid = |why: &str| Err(ManifestError::Invalid(why.to_owned()));
        let said = if self.media_type.is_empty() { sent_as } else { self.media_type.as_str() };
        let signed = media_type::SCHEMA_1.contains(&said) || media_type::SCHEMA_1.contains(&sent_as);
        if signed || self.schema_version == 1 || self.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        if self.schema_version != 2 {
            return invalid("unsupported manifest format");
        }
        let index = matches!(said, media_type::OCI_INDEX | media_type::DOCKER_LIST);
        let image = matches!(said, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST);
        match (self.config, self.layers, self.manifests) {
            (Some(config), layers, None) if !index => {
                let layers = layers.unwrap_or_default();
                if layers.len() > LAYERS_MAX {
                    return invalid("the manifest has too many layers");
                }
                Ok(Manifest::Image { config: Box::new(config), layers })
            }
            (None, None, Some(manifests)) if !image => Ok(Manifest::Index(manifests)),
            _ => invalid("unsupported manifest format"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn understand(value: serde_json::Value, sent_as: &str) -> Result<Manifest, ManifestError> {
        RawManifest::parse(value.to_string().as_bytes()).and_then(|raw| raw.understand(sent_as))
    }

    fn descriptor() -> serde_json::Value {
        json!({"mediaType": "x/y", "size": 3, "digest": Digest::of(b"abc")})
    }

    #[test]
    fn images_and_indexes_of_both_families() {
        let image = json!({"schemaVersion": 2, "config": descriptor(), "layers": [descriptor()]});
        for sent in [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST, "text/plain"] {
            assert!(
                matches!(understand(image.clone(), sent), Ok(Manifest::Image { layers, .. }) if layers.len() == 1)
            );
        }
        let index = json!({"schemaVersion": 2, "manifests": [descriptor()]});
        assert!(
            matches!(understand(index.clone(), media_type::OCI_INDEX), Ok(Manifest::Index(l)) if l.len() == 1)
        );
        assert!(understand(index, media_type::OCI_MANIFEST).is_err(), "said to be an image, is an index");
        assert!(understand(image, media_type::DOCKER_LIST).is_err(), "said to be an index, is an image");
    }

    #[test]
    fn old_and_strange_ones_are_refused() {
        let old = json!({"schemaVersion": 1, "fsLayers": []});
        assert_eq!(understand(old, "application/json").unwrap_err(), ManifestError::Schema1);
        let both = json!({"schemaVersion": 2, "config": descriptor(), "manifests": []});
        assert!(matches!(understand(both, ""), Err(ManifestError::Invalid(_))));
        let many = json!({"schemaVersion": 2, "config": descriptor(), "layers": vec![descriptor(); 513]});
        assert!(matches!(understand(many, ""), Err(ManifestError::Invalid(_))));
        let bad = json!({"schemaVersion": 2, "config": {"size": 1, "digest": "sha256:../../x"}});
        assert!(matches!(understand(bad, ""), Err(ManifestError::Invalid(_))));
        assert!(RawManifest::parse(&vec![b' '; MANIFEST_MAX + 1]).is_err());
    }
}
