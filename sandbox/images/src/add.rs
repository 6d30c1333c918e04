//! Adding an image that was made here (by the Dockerfile builder) to the host's store: the catalogue that nodes pull from. Called
//! by `drydock image add` and at a server's first start.

use crate::{
    Digest, Error, Progress, Result, Store,
    config::ImageConfig,
    error::refused,
    oci::{self, Compression, Descriptor, Manifest},
    store::Writer,
};
use std::collections::BTreeMap;
use std::io::Read;

/// A layer of a new image.
pub enum NewLayer<'a> {
    /// Its uncompressed tar.
    Tar(Box<dyn Read + 'a>),
    /// A layer that another image of the store has, by the digest of its uncompressed tar.
    Known(Digest),
}

/// An image to add.
pub struct NewImage<'a> {
    /// Its names (`docker.io/library/busybox:latest`); older images of these names are replaced.
    pub names: &'a [String],
    /// Either says nothing of the layers or exactly what comes.
    pub config: ImageConfig,
    /// Lowest first.
    pub layers: Vec<NewLayer<'a>>,
    /// Names what it was made from ([`Store::recipe`]).
    pub recipe: Option<&'a str>,
    /// What is said of it (`org.opencontainers.image.…`): of the entry in the store, not of the image, whose containers would have it.
    pub facts: BTreeMap<String, String>,
}

impl Store {
    /// Stores an image under one name and tells the digest of its manifest; see [`Store::add`].
    pub fn add_image(
        &self,
        name: &str,
        config: ImageConfig,
        layers: Vec<NewLayer<'_>>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Digest> {
        self.add(
            NewImage { names: &[name.to_owned()], config, layers, recipe: None, facts: BTreeMap::new() },
            progress,
        )
    }

    /// Stores an image and tells the digest of its manifest.
    pub fn add(&self, image: NewImage<'_>, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Digest> {
        let NewImage { names, mut config, layers, recipe, facts } = image;
        let Some(shown) = names.first() else { return refused("it has no name") };
        if let Some(bad) = names.iter().find(|name| !oci::is_name(name)) {
            return Err(Error::Name(bad.escape_debug().to_string()));
        }
        let writer = self.writer(progress)?;
        let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
        for layer in layers {
            progress(Progress { stage: "storing", detail: shown });
            let (descriptor, diff_id) = add_layer(&writer, layer)?;
            descriptors.push(descriptor);
            diff_ids.push(diff_id);
        }
        if !config.rootfs.diff_ids.is_empty() && config.rootfs.diff_ids != diff_ids {
            return refused("its layers are not what its configuration says");
        }
        config.rootfs.diff_ids = diff_ids;
        let created = config.created.clone().unwrap_or_default();
        let config = writer.add_json(oci::CONFIG, &config)?;
        let media_type = Some(oci::MANIFEST.to_owned());
        let manifest = Manifest { schema_version: 2, media_type, config, layers: descriptors };
        let mut entry = writer.add_json(oci::MANIFEST, &manifest)?;
        let digest = entry.digest.clone();
        entry.annotations.extend(facts);
        entry.annotations.insert(oci::CREATED.into(), created);
        entry.annotations.extend(recipe.map(|recipe| (oci::RECIPE.to_owned(), recipe.to_owned())));
        let named = names.iter().map(|name| {
            let mut named = entry.clone();
            named.annotations.insert(oci::REF_NAME.into(), name.clone());
            named
        });
        writer.commit(named.collect())?;
        Ok(digest)
    }

    /// What the image of this name was made from, if that was noted.
    pub fn recipe(&self, name: &str) -> Option<String> {
        let entry = self.index().ok()?.manifests.into_iter().find(|entry| entry.name() == Some(name))?;
        entry.annotations.get(oci::RECIPE).cloned()
    }

    /// Gives an image more names; older images of those names are replaced.
    pub fn name_also(
        &self,
        name: &str,
        more: &[String],
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<()> {
        if let Some(bad) = more.iter().find(|name| !oci::is_name(name)) {
            return Err(Error::Name(bad.escape_debug().to_string()));
        }
        let writer = self.writer(progress)?;
        let mut index = self.index()?.manifests.into_iter();
        let entry = index.find(|entry| entry.name() == Some(name));
        let entry = entry.ok_or_else(|| Error::NotFound(name.into()))?;
        let named = more.iter().map(|name| {
            let mut named = entry.clone();
            named.annotations.insert(oci::REF_NAME.into(), name.clone());
            named
        });
        writer.commit(named.collect())
    }

    /// What is said of an image ([`NewImage::facts`]).
    pub fn facts(&self, name: &str) -> Result<BTreeMap<String, String>> {
        Ok(self.read_image(name)?.0.annotations)
    }

    /// Whether the store has an image of this name whose parts are all there.
    pub fn contains(&self, name: &str) -> bool {
        self.resolve(name).is_ok()
    }
}

fn add_layer(writer: &Writer<'_>, layer: NewLayer<'_>) -> Result<(Descriptor, Digest)> {
    match layer {
        NewLayer::Tar(tar) => {
            // Nodes push these blobs as they are, in images of a kind that has no other compression.
            let mut taken = writer.take_tar(tar, Compression::Gzip)?;
            taken.note_sizes()?;
            writer.keep_tar(&taken)?;
            Ok((taken.descriptor, taken.diff_id))
        }
        NewLayer::Known(diff_id) => {
            for entry in writer.store.index()?.manifests {
                let Some(name) = entry.name() else { continue };
                let (_, manifest, config) = writer.store.read_image(name)?;
                let at = config.rootfs.diff_ids.iter().position(|d| *d == diff_id);
                if let Some(layer) = at.and_then(|at| manifest.layers.get(at)) {
                    return Ok((layer.clone(), diff_id));
                }
            }
            refused(format!("no image of the store has the layer {diff_id}"))
        }
    }
}
