//! Builds the node image from Debian packages with mmdebstrap. What goes in is data: `node/packages`, `node/files` and
//! the two scripts beside them. Called by `drydock image build`; runs programs of the host as root, with no input from
//! learners.

use crate::{
    Digest, Error, Progress, Result, Store,
    config::{ImageConfig, RootFs, RunConfig},
    mmdebstrap::{self, DOCUMENTATION, DebianRoot, SUITE, now},
    oci::{self, Compression, Descriptor, Manifest},
    store::{Taken, Writer, remove_tree},
};
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};
use tar::{EntryType, Header};

/// The suite that brings the clients for which [`SUITE`] is too old.
const CLIENTS: &str = "forky";
const PACKAGES: &str = include_str!("../node/packages");
const SETUP: &str = include_str!("../node/setup.sh");
const CUSTOMIZE: &str = include_str!("../node/customize.sh");
/// Our own files: path, content. All belong to root with mode 0644; `customize.sh` makes the programs executable.
const FILES: &[(&str, &str)] = &[
    ("root/.bashrc", include_str!("../node/files/root/.bashrc")),
    ("root/.profile", include_str!("../node/files/root/.profile")),
    ("etc/motd", include_str!("../node/files/etc/motd")),
    ("etc/tmux.conf", include_str!("../node/files/etc/tmux.conf")),
    ("etc/default/locale", include_str!("../node/files/etc/locale")),
    ("usr/local/bin/systemctl", include_str!("../node/files/usr/local/bin/systemctl")),
    ("usr/local/bin/journalctl", include_str!("../node/files/usr/local/bin/journalctl")),
    ("usr/local/bin/service", include_str!("../node/files/usr/local/bin/service")),
];
/// Left out beside the documentation: it would load the completions at the start of every login shell, which `.bashrc` avoids.
const COMPLETIONS: &str = "/etc/profile.d/bash_completion.sh";

/// How to build an image.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// URL of a Debian mirror; absent: mmdebstrap's own default.
    pub mirror: Option<String>,
    /// Becomes true when somebody wants an end.
    pub stop: Option<Arc<AtomicBool>>,
}

/// Names everything that the node image is made from here: packages, scripts, files. An image with another recipe is stale
/// ([`Store::recipe`]); newer packages of Debian do not make it so.
pub fn node_recipe() -> Digest {
    let mut all = Vec::new();
    let settings = [SUITE, CLIENTS, PACKAGES, SETUP, CUSTOMIZE, COMPLETIONS];
    let files = FILES.iter().flat_map(|(path, content)| [*path, *content]);
    for part in settings.into_iter().chain(files).chain(DOCUMENTATION.iter().copied()) {
        // With its length, so that nothing can move from one part to the next unseen.
        all.extend_from_slice(&(part.len() as u64).to_le_bytes());
        all.extend_from_slice(part.as_bytes());
    }
    Digest::of(&all)
}

impl Store {
    /// Builds the node image from Debian packages and gives it a name; tells the digest of its manifest. Needs a
    /// Debian mirror in reach.
    pub fn build(
        &self,
        name: &str,
        options: &BuildOptions,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Digest> {
        if !oci::is_name(name) {
            return Err(Error::Name(name.escape_debug().to_string()));
        }
        mmdebstrap::check_host()?;
        let writer = self.writer(progress)?;
        let work = WorkDir::new(&writer)?;
        let layer =
            root(&work.0, options).make(&work.0, progress, |tar| writer.take_tar(tar, Compression::Zstd))?;
        drop(work);

        progress(Progress { stage: "storing", detail: "" });
        writer.keep_tar(&layer)?;
        let now = oci::rfc3339(now());
        let manifest = describe(&writer, layer, &now)?;
        let digest = manifest.digest.clone();
        let mut named = manifest;
        named.annotations.insert(oci::REF_NAME.into(), name.into());
        named.annotations.insert(oci::CREATED.into(), now);
        named.annotations.insert(oci::RECIPE.into(), node_recipe().to_string());
        writer.commit(vec![named])?;
        Ok(digest)
    }
}

/// Where mmdebstrap works: outside of the store, since apt's unprivileged downloader must get in, and on disk rather
/// than in a `/tmp` that may be memory.
struct WorkDir(PathBuf);

impl WorkDir {
    fn new(writer: &Writer<'_>) -> Result<Self> {
        let above = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let dir = above.join(format!("drydock-build-{}-{}", std::process::id(), now()));
        // The note comes first: if this process is killed, the next one finds and deletes the directory.
        let note = writer.tmp.join("outside");
        symlink(&dir, &note).map_err(Error::path("make", &note))?;
        fs::create_dir(&dir).map_err(Error::path("make", &dir))?;
        let work = Self(dir);
        fs::set_permissions(&work.0, Permissions::from_mode(0o755))
            .map_err(Error::path("set the mode of", &work.0))?;
        for (name, content) in [("setup.sh", SETUP), ("customize.sh", CUSTOMIZE)] {
            let path = work.0.join(name);
            fs::write(&path, content).map_err(Error::path("write", &path))?;
        }
        write_files(&work.0.join("files.tar"))?;
        Ok(work)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // If this fails, the next use of the store does it: the note is still there.
        let _ = remove_tree(&self.0);
    }
}

/// Our own files as a tar, which brings owners and modes along whatever the umask is.
fn write_files(path: &Path) -> Result<()> {
    let file = File::create(path).map_err(Error::path("make", path))?;
    let mut tar = tar::Builder::new(file);
    for (name, content) in FILES {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).map_err(Error::path("write", path))?;
    }
    tar.finish().map_err(Error::path("write", path))
}

/// Package names as mmdebstrap takes them.
fn packages() -> String {
    let names =
        PACKAGES.lines().map(|l| l.split('#').next().unwrap_or_default().trim()).filter(|l| !l.is_empty());
    names.collect::<Vec<_>>().join(",")
}

/// How the root of the node image is made.
fn root(work: &Path, options: &BuildOptions) -> DebianRoot {
    let left_out = DOCUMENTATION.iter().chain([&COMPLETIONS]);
    let mut arguments: Vec<_> = left_out.map(|path| format!("--dpkgopt=path-exclude={path}")).collect();
    arguments.push("--setup-hook=sh \"$DRYDOCK_BUILD/setup.sh\" \"$1\"".into());
    arguments.push("--customize-hook=sh \"$DRYDOCK_BUILD/customize.sh\" \"$1\"".into());
    DebianRoot {
        variant: "minbase",
        packages: packages(),
        mirror: options.mirror.clone(),
        arguments,
        env: vec![
            ("DRYDOCK_BUILD", work.into()),
            ("DRYDOCK_SUITE", SUITE.into()),
            ("DRYDOCK_CLIENTS", CLIENTS.into()),
        ],
        stop: options.stop.clone(),
    }
}

fn describe(writer: &Writer<'_>, layer: Taken, created: &str) -> Result<Descriptor> {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = ImageConfig {
        created: Some(created.into()),
        architecture: oci::architecture().into(),
        os: "linux".into(),
        config: RunConfig {
            env: Some(vec![path.into(), "LANG=C.UTF-8".into()]),
            cmd: Some(vec!["/bin/bash".into()]),
            working_dir: "/root".into(),
            ..RunConfig::default()
        },
        rootfs: RootFs { kind: "layers".into(), diff_ids: vec![layer.diff_id] },
        ..ImageConfig::default()
    };
    let config = writer.add_json(oci::CONFIG, &config)?;
    let media_type = Some(oci::MANIFEST.to_owned());
    let manifest = Manifest { schema_version: 2, media_type, config, layers: vec![layer.descriptor] };
    writer.add_json(oci::MANIFEST, &manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_list_has_no_comments_or_blanks() {
        let list = packages();
        assert!(list.starts_with("bash-completion,") && list.contains(",docker-cli/forky,"), "{list}");
        assert!(!list.contains(['#', ' ', '\n']) && !list.contains(",,"));
    }
}
