//! Exporters: what becomes of a built image. As in an engine without containerd's image store there are three: `moby` (an image of
//! the engine, named), `local` (files to a directory of the client), `tar` (files to an archive of the client).

use crate::error::failed;
use crate::frontend::{Site, blocking};
use crate::progress::Times;
use crate::proto::control::{Exporter, SolveRequest};
use crate::session::FileTree;
use drydock_dockerfile::build::{Answer, Image};
use drydock_go::io_text;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;
use tonic::Status;

/// Exporters of one build.
const MAX_EXPORTERS: usize = 16;
/// Names of one image.
const MAX_NAMES: usize = 256;

/// What to do with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Export {
    /// It is the engine's.
    Image(Vec<String>),
    /// Its files go to a directory of the client.
    Local,
    /// Its files go to an archive of the client.
    Tar,
}

impl Export {
    /// Reads the exporters of a request.
    ///
    /// # Errors
    /// Docker's, for one that it has not.
    pub fn read(request: &SolveRequest) -> Result<Vec<Self>, Status> {
        let old =
            (request.exporters.is_empty() && !request.exporter_deprecated.is_empty()).then(|| Exporter {
                r#type: request.exporter_deprecated.clone(),
                attrs: request.exporter_attrs_deprecated.clone(),
            });
        if request.exporters.len() > MAX_EXPORTERS {
            return Err(failed("too many exporters"));
        }
        request.exporters.iter().chain(&old).map(Self::one).collect()
    }

    fn one(exporter: &Exporter) -> Result<Self, Status> {
        match exporter.r#type.as_str() {
            "moby" => {
                let names = exporter.attrs.get("name").map_or("", String::as_str);
                let names: Vec<_> = names.split(',').filter(|n| !n.is_empty()).map(full_name).collect();
                if names.len() > MAX_NAMES {
                    return Err(failed("too many names"));
                }
                Ok(Self::Image(names))
            }
            "local" => Ok(Self::Local),
            "tar" => Ok(Self::Tar),
            other => Err(failed(format!("exporter \"{other}\" could not be found"))),
        }
    }
}

/// `docker.io/library/x`; a tag only if there is one.
fn full_name(name: &str) -> String {
    let full = crate::vertices::normalise(name);
    let tagged = name.rsplit('/').next().unwrap_or_default().contains([':', '@']);
    if tagged { full } else { full.strip_suffix(":latest").unwrap_or(&full).to_owned() }
}

/// What becomes of the steps of a build (`--cache-to`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheExport {
    /// They are this engine's alone.
    Nothing,
    /// The image says which made it, so that others can use it as a cache.
    Inline,
}

impl CacheExport {
    /// Reads those of a request. As in an engine without containerd's image store there is one.
    ///
    /// # Errors
    /// BuildKit's, for one that it has not.
    pub fn read(request: &SolveRequest) -> Result<Self, Status> {
        let exports = request.cache.as_ref().map_or(&[][..], |cache| &cache.exports);
        match exports.iter().find(|export| export.r#type != "inline") {
            Some(other) => Err(failed(format!("unknown cache exporter: {:?}", other.r#type))),
            None if exports.is_empty() => Ok(Self::Nothing),
            None => Ok(Self::Inline),
        }
    }
}

/// Exports an image; what the client is told of it.
///
/// # Errors
/// If it can't be named or sent.
pub async fn run(
    site: &Site,
    exports: Vec<Export>,
    cache: CacheExport,
    image: &Image,
) -> Result<HashMap<String, String>, Status> {
    let mut response = HashMap::new();
    for (number, export) in exports.into_iter().enumerate() {
        match export {
            Export::Image(names) => {
                let id = match cache {
                    CacheExport::Nothing => image.id.clone(),
                    CacheExport::Inline => with_cache(site, &image.id).await?,
                };
                response.extend(to_engine(site, names, &id).await?);
            }
            Export::Local => to_directory(site, number, &image.id).await?,
            Export::Tar => to_archive(site, number, &image.id).await?,
        }
    }
    Ok(response)
}

async fn with_cache(site: &Site, image: &str) -> Result<String, Status> {
    let step = site.progress.step("preparing layers for inline cache");
    let (engine, id) = (Arc::clone(&site.engine), image.to_owned());
    let written = blocking(move || step.finish(engine.with_inline_cache(&id)));
    written.await?.map_err(|e| failed(e.to_string()))
}

async fn to_engine(site: &Site, names: Vec<String>, image: &str) -> Result<HashMap<String, String>, Status> {
    let step = site.progress.step("exporting to image");
    let (engine, id) = (Arc::clone(&site.engine), image.to_owned());
    let all = names.join(",");
    let done = blocking(move || -> Answer<()> {
        let work = || {
            // The builder wrote layers and configuration step by step; to keep the image is all that is left.
            step.part("exporting layers", || engine.keep(&id))?;
            step.part(&format!("writing image {id}"), || Answer::Ok(()))?;
            for name in &names {
                step.part(&format!("naming to {name}"), || engine.tag(&id, name))?;
            }
            Ok(())
        };
        let result = work();
        step.finish(result)
    });
    done.await?.map_err(|e| failed(e.to_string()))?;
    let mut response = HashMap::from([
        ("containerimage.config.digest".to_owned(), image.to_owned()),
        ("containerimage.digest".to_owned(), image.to_owned()),
    ]);
    if !all.is_empty() {
        response.insert("image.name".to_owned(), all);
    }
    Ok(response)
}

async fn tree(site: &Site, image: &str) -> Result<FileTree, Status> {
    let (engine, image) = (Arc::clone(&site.engine), image.to_owned());
    let opened = blocking(move || {
        let files = engine.files(&image).map_err(|e| e.to_string())?;
        let path = files.path().to_owned();
        FileTree::open(&path, Box::new(files)).map_err(|e| io_text(&e))
    });
    opened.await?.map_err(failed)
}

async fn to_directory(site: &Site, number: usize, image: &str) -> Result<(), Status> {
    let step = Arc::new(site.progress.step("exporting to client directory"));
    let times = Times::begin("transferring");
    step.status("copying files", 0, 0, times);
    let work = async {
        let session = site.sessions.get(&site.session).await?;
        let (shown, sent) = (Mutex::new(Instant::now()), Arc::new(std::sync::atomic::AtomicU64::new(0)));
        let (progress, total) = (Arc::clone(&step), Arc::clone(&sent));
        let told = move |bytes| {
            total.store(bytes, std::sync::atomic::Ordering::Relaxed);
            if let Ok(mut shown) = shown.lock()
                && shown.elapsed().as_millis() >= 100
            {
                *shown = Instant::now();
                progress.status("copying files", bytes, 0, times);
            }
        };
        session.send_tree(number, tree(site, image).await?, told).await?;
        step.status("copying files", sent.load(std::sync::atomic::Ordering::Relaxed), 0, times.end());
        Ok(())
    };
    let result: Result<(), Status> = work.await;
    if let Some(step) = Arc::into_inner(step) {
        match &result {
            Ok(()) => step.done(),
            Err(status) => step.fail(status.message()),
        }
    }
    result
}

async fn to_archive(site: &Site, number: usize, image: &str) -> Result<(), Status> {
    let step = site.progress.step("exporting to client tarball");
    let times = Times::begin("");
    step.status("sending tarball", 0, 0, times);
    let work = async {
        let session = site.sessions.get(&site.session).await?;
        session.send_tar(number, tree(site, image).await?).await
    };
    let result = work.await;
    step.status("sending tarball", 0, 0, times.end());
    match &result {
        Ok(()) => step.done(),
        Err(status) => step.fail(status.message()),
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::control::{CacheOptions, CacheOptionsEntry};

    fn read(kind: &str, name: &str) -> Result<Vec<Export>, Status> {
        let attrs = HashMap::from([("name".to_owned(), name.to_owned())]);
        let exporters = vec![Exporter { r#type: kind.into(), attrs }];
        Export::read(&SolveRequest { exporters, ..SolveRequest::default() })
    }

    #[test]
    fn names_are_full() {
        let names =
            ["docker.io/library/x", "docker.io/a/b:1", "r.example:5000/c"].map(str::to_owned).to_vec();
        assert_eq!(read("moby", "x,a/b:1,r.example:5000/c").unwrap(), [Export::Image(names)]);
        assert_eq!(read("moby", "").unwrap(), [Export::Image(Vec::new())]);
    }

    #[test]
    fn what_docker_has_not_is_refused() {
        assert_eq!(read("oci", "").unwrap_err().message(), "exporter \"oci\" could not be found");
        assert_eq!(read("tar", "").unwrap(), [Export::Tar]);
    }

    #[test]
    fn the_cache_goes_into_the_image_or_nowhere() {
        let read = |kinds: &[&str]| {
            let entry = |kind: &&str| CacheOptionsEntry { r#type: (*kind).into(), attrs: HashMap::new() };
            let exports = kinds.iter().map(entry).collect();
            let cache = Some(CacheOptions { exports, ..CacheOptions::default() });
            CacheExport::read(&SolveRequest { cache, ..SolveRequest::default() })
        };
        assert_eq!(read(&[]).unwrap(), CacheExport::Nothing);
        assert_eq!(read(&["inline"]).unwrap(), CacheExport::Inline);
        assert_eq!(read(&["inline", "gha"]).unwrap_err().message(), "unknown cache exporter: \"gha\"");
    }

    #[test]
    fn old_clients_have_one_exporter() {
        let request = SolveRequest { exporter_deprecated: "local".into(), ..SolveRequest::default() };
        assert_eq!(Export::read(&request).unwrap(), [Export::Local]);
    }
}
