//! Images as one file: export writes a tar of an OCI image layout, import reads one from anywhere. Import believes
//! nothing: blobs are hashed while they arrive, layers are checked against the configuration, and names appear
//! in the store only when everything else is in place.

use crate::{
    Digest, Error, Progress, Result, Store,
    config::ImageConfig,
    digest::HashReader,
    entries,
    error::refused,
    oci::{self, Compression, Descriptor, Index, Manifest},
    store::{Writer, read_json},
};
use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use tar::{EntryType, Header};

/// Most entries of an image file.
const MAX_ENTRIES: u64 = 4096;
/// Largest image file.
const MAX_FILE: u64 = 32 << 30;
/// Most layers of an image: overlayfs takes 500, and nobody needs as many.
const MAX_LAYERS: usize = 128;

impl Store {
    /// Writes an image as one file: a tar of an OCI image layout, the same bytes each time.
    pub fn export(&self, name: &str, to: &mut dyn Write) -> Result<()> {
        self.export_all(&[name], to)
    }

    /// The same for several images; what they share is written once.
    pub fn export_all(&self, names: &[&str], to: &mut dyn Write) -> Result<()> {
        let mut index = Index::default();
        let mut blobs = BTreeSet::new();
        for name in names {
            let (descriptor, manifest, _) = self.read_image(name)?;
            blobs.extend(manifest.layers.into_iter().map(|l| l.digest));
            blobs.extend([manifest.config.digest, descriptor.digest.clone()]);
            index.manifests.push(descriptor);
        }
        let index = serde_json::to_vec_pretty(&index).map_err(Error::io("cannot write JSON"))?;

        let mut tar = tar::Builder::new(to);
        let mut put = |path: &str, size: u64, content: &mut dyn Read| {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(size);
            tar.append_data(&mut header, path, content).map_err(Error::io("cannot write the image file"))
        };
        put("oci-layout", oci::LAYOUT.len() as u64, &mut oci::LAYOUT.as_bytes())?;
        put("index.json", index.len() as u64, &mut &index[..])?;
        for digest in blobs {
            let path = self.blob(&digest);
            let file = File::open(&path).map_err(Error::path("open", &path))?;
            let size = file.metadata().map_err(Error::path("read", &path))?.len();
            // Hashed on the way: a file that went bad on this disk must not travel on as good.
            let mut content = HashReader::new(file, size);
            put(&format!("blobs/sha256/{}", digest.hex()), size, &mut content)?;
            let (found, _) = content.finish().map_err(Error::path("read", &path))?;
            check(&digest, &found)?;
        }
        tar.into_inner().and_then(|to| to.flush()).map_err(Error::io("cannot write the image file"))
    }

    /// Reads an image file and tells the names of the images that it brought.
    pub fn import(&self, from: &mut dyn Read, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Vec<String>> {
        self.import_checked(from, &|_| Ok(()), progress)
    }

    /// The same if all names in the file are fine with `check`.
    pub fn import_checked(
        &self,
        from: &mut dyn Read,
        check: &dyn Fn(&str) -> Result<()>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Vec<String>> {
        let writer = self.writer(progress)?;
        progress(Progress { stage: "reading the image file", detail: "" });
        let arrived = Arrived::read(from, &writer.tmp)?;
        let Some(index) = arrived.index else {
            return refused("the file is not a tar of an OCI image layout (it has no index.json)");
        };
        index.manifests.iter().filter_map(Descriptor::name).try_for_each(check)?;
        let mut named = Vec::new();
        let mut needed = BTreeSet::new();
        for entry in index.manifests {
            let Some(name) = entry.name() else { continue };
            if !oci::is_name(name) {
                return Err(Error::Name(name.escape_debug().to_string()));
            }
            progress(Progress { stage: "unpacking", detail: name });
            needed.extend(import_one(&writer, &arrived.blobs, &entry)?);
            named.push(entry);
        }
        if named.is_empty() {
            return refused("the file has no image with a name");
        }
        progress(Progress { stage: "storing", detail: "" });
        for digest in needed {
            // Two images of one file may share a blob; each digest is in the set once.
            writer.keep_blob(&arrived.blobs[&digest].0, &digest)?;
        }
        let names = named.iter().filter_map(|d| d.name().map(str::to_owned)).collect();
        writer.commit(named)?;
        Ok(names)
    }
}

/// Checks one image of a file, unpacks its layers and tells the blobs that it needs.
fn import_one(writer: &Writer<'_>, blobs: &Blobs, entry: &Descriptor) -> Result<Vec<Digest>> {
    if entry.media_type != oci::MANIFEST {
        return refused(format!(
            "an image is of the type `{}`, not a manifest",
            entry.media_type.escape_debug()
        ));
    }
    let manifest: Manifest = read_json(find(blobs, entry)?)?;
    let config: ImageConfig = read_json(find(blobs, &manifest.config)?)?;
    // WebAssembly runs on any machine.
    let wasm = config.os.starts_with("wasi") && config.architecture == "wasm";
    if !wasm && (config.os != "linux" || config.architecture != oci::architecture()) {
        return refused(format!(
            "it is made for {}/{}, this machine is linux/{}",
            config.os.escape_debug(),
            config.architecture.escape_debug(),
            oci::architecture()
        ));
    }
    let (layers, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
    if layers.is_empty() || layers.len() > MAX_LAYERS || layers.len() != diff_ids.len() {
        return refused(format!("it has {} layers and {} layer digests", layers.len(), diff_ids.len()));
    }
    let mut needed = vec![entry.digest.clone(), manifest.config.digest.clone()];
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        writer.unpack_blob(find(blobs, layer)?, Compression::of(&layer.media_type)?, diff_id)?;
        needed.push(layer.digest.clone());
    }
    Ok(needed)
}

type Blobs = HashMap<Digest, (PathBuf, u64)>;

/// What an image file held: its index, and its blobs as files below `tmp`.
struct Arrived {
    index: Option<Index>,
    blobs: Blobs,
}

impl Arrived {
    fn read(from: &mut dyn Read, tmp: &Path) -> Result<Self> {
        let mut arrived = Self { index: None, blobs: HashMap::new() };
        let from = HashReader::new(from, MAX_FILE);
        entries::for_each(from, MAX_ENTRIES, |meta, content| {
            let path = std::str::from_utf8(&meta.path).unwrap_or_default();
            let path = path.strip_prefix("./").unwrap_or(path);
            if meta.kind != EntryType::Regular {
                // Directories come along; links and devices have no place in an image layout.
                return if meta.kind.is_dir() {
                    Ok(())
                } else {
                    refused("the file holds other things than files")
                };
            }
            if path == "index.json" {
                let mut bytes = Vec::new();
                content
                    .take(oci::MAX_JSON)
                    .read_to_end(&mut bytes)
                    .map_err(Error::io("cannot read the image file"))?;
                arrived.index =
                    Some(serde_json::from_slice(&bytes).map_err(Error::io("cannot read index.json"))?);
            } else if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                let digest = Digest::from_hex(hex)?;
                let to = tmp.join(digest.hex());
                let mut file = File::create(&to).map_err(Error::path("make", &to))?;
                let mut content = HashReader::new(content, meta.size);
                io::copy(&mut content, &mut file).map_err(Error::path("write", &to))?;
                file.sync_all().map_err(Error::path("write", &to))?;
                let (found, size) = content.finish().map_err(Error::io("cannot read the image file"))?;
                check(&digest, &found)?;
                arrived.blobs.insert(digest, (to, size));
            }
            // Other files, such as the manifest.json that `docker save` adds, say nothing new.
            Ok(())
        })?;
        Ok(arrived)
    }
}

/// The file of a blob that a descriptor speaks of.
fn find<'a>(blobs: &'a Blobs, descriptor: &Descriptor) -> Result<&'a Path> {
    match blobs.get(&descriptor.digest) {
        Some((path, size)) if *size == descriptor.size => Ok(path),
        Some(_) => refused(format!("{} has another size than is told", descriptor.digest)),
        None => refused(format!("the file is not complete: {} is missing", descriptor.digest)),
    }
}

fn check(expected: &Digest, found: &Digest) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Digest { expected: expected.to_string(), found: found.to_string() })
}
