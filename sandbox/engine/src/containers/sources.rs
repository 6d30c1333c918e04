//! Where the content of a container's mounts comes from: what must be there when it starts, and images that are mounted for reading
//! (`--mount type=image`). Such an image has a root of its own, as a container has, which is there while the container runs.

use super::record::{Mounted, Record};
use crate::{
    engine::Engine,
    error::{Context, Error, Result},
    rootfs::Floor,
};
use drydock_go::io_text;
use drydock_runtime::clear;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// All that can be missing.
pub fn check(record: &Record) -> Result<()> {
    check_binds(record)?;
    check_subpaths(record)
}

/// Sources of binds may have gone since creation. Docker makes those of `-v` again, and refuses those of `--mount`.
fn check_binds(record: &Record) -> Result<()> {
    for mounted in record.mount_points.iter().filter(|m| m.point.kind == "bind") {
        let source = &mounted.point.source;
        if std::fs::metadata(source).is_ok() {
            continue;
        }
        if mounted.spec.is_some() {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {source}"
            )));
        }
        std::fs::create_dir_all(source)
            .doing(|| format!("error while creating mount source path '{source}': mkdir {source}"))?;
    }
    Ok(())
}

/// The part of a volume or an image that is mounted, if it is not the whole.
pub fn subpath(mounted: &Mounted) -> Option<&str> {
    let spec = mounted.spec.as_ref()?;
    let subpath = match mounted.point.kind.as_str() {
        "volume" => &spec.volume_options.as_ref()?.subpath,
        "image" => &spec.image_options.as_ref()?.subpath,
        _ => return None,
    };
    Some(subpath.as_str()).filter(|subpath| !subpath.is_empty())
}

/// What is mounted of a volume or an image must be there, and in it (moby's `internal/safepath`).
fn check_subpaths(record: &Record) -> Result<()> {
    for mounted in &record.mount_points {
        let Some(subpath) = subpath(mounted) else { continue };
        let base = Path::new(&mounted.point.source);
        let path = super::mounts::clean(&base.join(subpath).to_string_lossy());
        let real = std::fs::canonicalize(&path).map_err(|error| {
            let words = io_text(&error);
            Error::not_found(format!("cannot access path {path}: lstat {path}: {words}"))
        })?;
        let base = std::fs::canonicalize(base).doing(|| format!("lstat {}", base.display()))?;
        if !real.starts_with(&base) {
            return Err(Error::invalid(format!(
                "path concatenation escapes the base directory, base: {}, subpath: {}",
                base.display(),
                relative(&base, &real)
            )));
        }
    }
    Ok(())
}

/// Go's `filepath.Rel` of two absolute paths.
fn relative(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| "..".as_ref());
    let down = to.components().skip(common).map(std::path::Component::as_os_str);
    up.chain(down).collect::<PathBuf>().display().to_string()
}

/// Names the root of a mounted image; dockerd makes it so.
fn root_of(container: &str, mounted: &Mounted) -> String {
    let text = format!("{container}-src={}-dst={}", mounted.point.name, mounted.point.destination);
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn images(record: &Record) -> impl Iterator<Item = String> {
    let mounted = record.mount_points.iter().filter(|m| m.point.kind == "image");
    mounted.map(|mounted| root_of(&record.id, mounted))
}

/// Keeps the images that a new container will mount.
pub fn hold_images(engine: &Engine, record: &mut Record) -> Result<()> {
    for mounted in record.mount_points.iter_mut().filter(|m| m.point.kind == "image") {
        let root = root_of(&record.id, mounted);
        let image = engine.images.find(&mounted.point.name)?;
        engine.images.hold(&root, &image.id)?;
        engine.roots.create(&root)?;
        mounted.image = image.id.to_string();
        mounted.point.source = engine.roots.parts(&root).merged.to_string_lossy().into_owned();
    }
    Ok(())
}

/// Mounts them.
pub fn mount_images(engine: &Engine, record: &Record) -> Result<()> {
    for root in images(record) {
        let layers = engine.images.held(&root)?;
        let layers = layers.ok_or_else(|| Error::internal(format!("the layers of image {root} are gone")))?;
        engine.roots.mount_on(Floor::Nothing, &root, &layers)?;
    }
    Ok(())
}

/// The container has ended.
pub fn unmount_images(engine: &Engine, record: &Record) {
    images(record).for_each(|root| engine.roots.unmount(&root));
}

/// The container has outlived an engine.
pub fn adopt_images(engine: &Engine, record: &Record) {
    images(record).for_each(|root| engine.roots.adopt(&root));
}

/// The container has ended while there was no engine.
pub fn detach_images(engine: &Engine, record: &Record) {
    images(record).for_each(|root| engine.roots.detach(&root));
}

/// The container is removed. Answers what is left to delete.
pub fn release_images(engine: &Engine, record: &Record) -> Vec<PathBuf> {
    let release = |root: String| {
        let doomed = engine.roots.discard(&root);
        if let Err(error) = engine.images.release(&root) {
            tracing::warn!(container = record.short(), %error, "the layers of a mounted image are still held");
        }
        doomed.inspect_err(|error| tracing::warn!(%error, "the root of a mounted image stays")).ok()
    };
    images(record).filter_map(release).collect()
}

/// The same for a container that could not be made.
pub fn forget_images(engine: &Engine, record: &Record) {
    for doomed in release_images(engine, record) {
        let _not_made = clear::tree(&doomed);
    }
}
