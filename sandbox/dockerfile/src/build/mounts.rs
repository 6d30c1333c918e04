//! `RUN --mount`: what the command finds where.

use super::backend::{RunMount, RunSource};
use super::error::BuildError;
use super::stage::{Builder, Source};
use crate::files::{self, Copier, CopyOptions, Tree};
use crate::ignore::Patterns;
use crate::language::go::{clean, quote};
use crate::language::{Mount, MountKind, Run, parse_mount};
use std::path::PathBuf;

type Result<T> = std::result::Result<T, BuildError>;

/// The mounts of one command.
#[derive(Default)]
pub(super) struct Mounted {
    pub mounts: Vec<RunMount>,
    /// Variables that go with them.
    pub env: Vec<String>,
    /// What makes the command another one for the cache.
    pub key: Vec<String>,
    /// Keeps images mounted and caches locked until the command is done.
    held: Vec<Source>,
    /// Caches that are still to be had: index in `mounts`, id.
    caches: Vec<(usize, String, Mount)>,
}

impl Builder<'_> {
    pub fn mounts(&self, run: &Run) -> Result<Mounted> {
        let mut all = Mounted::default();
        let known = self.variables();
        let lexer = self.lexer();
        let expand = |text: &str| lexer.word(text, &known);
        for (number, text) in run.mounts.iter().enumerate() {
            let mount = parse_mount(text, Some(&expand)).map_err(BuildError::invalid)?;
            match mount.kind {
                MountKind::Bind => self.bind(&mount, &mut all)?,
                MountKind::Cache => self.cache_mount(mount, &mut all)?,
                MountKind::Tmpfs => {
                    let target = self.mount_target(&mount.target)?;
                    all.key.push(format!("tmpfs {target}"));
                    let source = RunSource::Tmpfs { size: mount.size };
                    all.mounts.push(RunMount { target, source, read_only: mount.read_only });
                }
                MountKind::Secret => self.secret(&mount, &mut all)?,
                MountKind::Ssh => self.ssh(&mount, number, &mut all)?,
            }
        }
        Ok(all)
    }

    /// What can be said of mounts before anything runs.
    pub fn check_mounts(&self, run: &Run) -> Result<()> {
        let known = self.variables();
        let lexer = self.lexer();
        let expand = |text: &str| lexer.word(text, &known);
        for text in &run.mounts {
            let mount = parse_mount(text, Some(&expand)).map_err(BuildError::invalid)?;
            if let Some(from) = &mount.from {
                self.stage_index(from).map_err(|error| BuildError {
                    message: format!(
                        "cannot mount from stage {} to {}, stage needs to be defined before current command",
                        quote(from),
                        quote(&mount.target)
                    ),
                    ..error
                })?;
            }
            if matches!(mount.kind, MountKind::Bind | MountKind::Cache | MountKind::Tmpfs) {
                self.mount_target(&mount.target)?;
            }
        }
        Ok(())
    }

    fn mount_target(&self, target: &str) -> Result<String> {
        let path = if target.starts_with('/') {
            clean(target)
        } else {
            clean(&format!("/{}/{target}", self.config.working_dir))
        };
        if path == "/" {
            return Err(BuildError::invalid(format!("invalid mount target {}", quote(&path))));
        }
        Ok(path)
    }

    fn bind(&self, mount: &Mount, all: &mut Mounted) -> Result<()> {
        let target = self.mount_target(&mount.target)?;
        let source = self.source(mount.from.as_deref())?;
        let path = clean(&format!("/{}", mount.source));
        let missing = |_| BuildError::failed(super::copy::no_such_source(&path));
        let hash = files::hash(&source.tree, &path, &Patterns::default()).map_err(missing)?;
        let real = source.tree.real_path(&path).map_err(missing)?;
        all.key.push(format!("bind {target} {hash}"));
        let bind = RunSource::Bind { path: real, discard: !mount.read_only };
        all.mounts.push(RunMount { target, source: bind, read_only: mount.read_only });
        all.held.push(source);
        Ok(())
    }

    /// Where it is comes later ([`Self::hold_caches`]): nobody needs to wait for a cache when the step itself is in the cache.
    fn cache_mount(&self, mount: Mount, all: &mut Mounted) -> Result<()> {
        let target = self.mount_target(&mount.target)?;
        let id = if mount.id.is_empty() { clean(&mount.target) } else { mount.id.clone() };
        // Its content is no part of the key: that it changes is its purpose.
        all.key.push(format!("cache {target} {id}"));
        let source = RunSource::Bind { path: PathBuf::new(), discard: false };
        all.mounts.push(RunMount { target, source, read_only: mount.read_only });
        all.caches.push((all.mounts.len() - 1, id, mount));
        Ok(())
    }

    /// Gets the caches of a command, each once and in the order of their names: commands that wait for each other's would wait for
    /// ever.
    pub fn hold_caches(&self, all: &mut Mounted, argv: &[String]) -> Result<()> {
        let mut caches = std::mem::take(&mut all.caches);
        caches.sort_by(|a, b| a.1.cmp(&b.1));
        let mut last: Option<String> = None;
        for (at, id, mount) in caches {
            if last.as_ref() != Some(&id) {
                let what = format!("cached mount {} from exec {}", mount.target, argv.join(" "));
                let held = Source::files(self.shared.backend.cache(&id, mount.sharing, &what)?)?;
                all.held.push(held);
                last = Some(id.clone());
            }
            let Some(held) = all.held.last() else { continue };
            let failed = |e: std::io::Error| {
                BuildError::failed(format!("failed to prepare cache {}: {e}", quote(&id)))
            };
            if held.tree.list("/").map_err(failed)?.is_empty() {
                self.fill_cache(&mount, &held.tree)?;
            }
            let mut path = held.path.clone();
            let source = clean(&format!("/{}", mount.source));
            if mount.from.is_none() && source != "/" {
                held.tree.make_directories(&source, 0o755, (0, 0)).map_err(failed)?;
                path = held.tree.real_path(&source).map_err(failed)?;
            }
            all.mounts[at].source = RunSource::Bind { path, discard: false };
        }
        Ok(())
    }

    /// A new cache: owner and mode, and what `from` has.
    fn fill_cache(&self, mount: &Mount, cache: &Tree) -> Result<()> {
        let failed = |e: std::io::Error| BuildError::failed(format!("failed to prepare cache: {e}"));
        if mount.mode.is_some() || mount.uid.is_some() || mount.gid.is_some() {
            let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
            cache.set_root(mount.mode.unwrap_or(0o755), owner).map_err(failed)?;
        }
        if let Some(from) = &mount.from {
            let source = self.source(Some(from))?;
            let options = CopyOptions::default();
            let path = clean(&format!("/{}", mount.source));
            Copier::new(&options).directory_content(&source.tree, &path, cache, "/").map_err(failed)?;
        }
        Ok(())
    }

    fn secret(&self, mount: &Mount, all: &mut Mounted) -> Result<()> {
        let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or(path).to_owned();
        let id = [&mount.id, &mount.source].into_iter().find(|name| !name.is_empty());
        let id = id.cloned().unwrap_or_else(|| base(&mount.target));
        all.key.push(format!("secret {id} {} {:?}", mount.target, mount.env));
        let Some(data) = self.shared.backend.secret(&id)? else {
            if mount.required {
                return Err(BuildError::failed(format!("secret {id}: not found")));
            }
            return Ok(());
        };
        if let Some(name) = &mount.env {
            let name = if name.is_empty() { &id } else { name };
            all.env.push(format!("{name}={}", String::from_utf8_lossy(&data)));
            if mount.target.is_empty() {
                return Ok(());
            }
        }
        let target = if mount.target.is_empty() {
            format!("/run/secrets/{}", base(&id))
        } else {
            mount.target.clone()
        };
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let source = RunSource::Content { data, mode: mount.mode.unwrap_or(0o400), uid, gid };
        all.mounts.push(RunMount { target: self.mount_target(&target)?, source, read_only: true });
        Ok(())
    }

    fn ssh(&self, mount: &Mount, number: usize, all: &mut Mounted) -> Result<()> {
        let id = if mount.id.is_empty() { "default" } else { &mount.id };
        let target = match mount.target.as_str() {
            "" => format!("/run/buildkit/ssh_agent.{number}"),
            target => self.mount_target(target)?,
        };
        all.key.push(format!("ssh {id} {target}"));
        let Some(path) = self.shared.backend.ssh(id)? else {
            if mount.required {
                return Err(BuildError::failed(format!(
                    "no SSH key {} forwarded from the client",
                    quote(id)
                )));
            }
            return Ok(());
        };
        all.env.push(format!("SSH_AUTH_SOCK={target}"));
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let source = RunSource::Socket { path, mode: mount.mode.unwrap_or(0o600), uid, gid };
        all.mounts.push(RunMount { target, source, read_only: true });
        Ok(())
    }
}
