//! `RUN`.

use super::backend::{BackendError, RunMount, RunRequest, RunSource};
use super::config::CacheKey;
use super::error::BuildError;
use super::options::Mode;
use super::output::Event;
use super::stage::Builder;
use crate::files::{Kind, Tree};
use crate::language::go::clean;
use crate::language::lines::{chomp, heredoc};
use crate::language::shell::variables;
use crate::language::{CommandLine, Network, Run};

type Result<T> = std::result::Result<T, BuildError>;

impl Builder<'_> {
    pub fn run(&mut self, run: &Run) -> Result<()> {
        if self.shared.dry {
            return self.check_mounts(run);
        }
        let (argv, script) = self.command(&run.command);
        let args = self.args.visible(&variables(&self.config.env));
        let mut mounted = self.mounts(run)?;
        mounted.mounts.extend(script);
        let key = self.run_key(run, &argv, &self.args.recorded(&args), std::mem::take(&mut mounted.key));
        if self.cached(&key)? {
            return Ok(());
        }
        // The script is the last mount, so the indices of the others stay true.
        self.hold_caches(&mut mounted, &argv)?;
        let container = self.running()?;
        let (mut workspace, tree) = self.workspace(&container)?;
        self.mount_volumes(&tree, &mut mounted.mounts)?;
        let missing: Vec<String> = mounted.mounts.iter().flat_map(|m| missing(&tree, &m.target)).collect();
        let mut request = RunRequest {
            argv: self.or_the_images(&argv),
            env: self.config.env.clone(),
            user: self.config.user.clone(),
            workdir: if self.config.working_dir.is_empty() {
                "/".into()
            } else {
                self.config.working_dir.clone()
            },
            mounts: std::mem::take(&mut mounted.mounts),
            network: run.network,
            insecure: run.insecure,
        };
        request.env.retain(|line| !args.contains_key(line.split('=').next().unwrap_or_default()));
        request.env.extend(args.iter().map(|(name, value)| format!("{name}={value}")));
        request.env.append(&mut mounted.env);
        let id = self.id;
        let emit = self.shared.emit;
        let status = workspace.run(&request, &mut |stream, data| emit(Event::Log { id, stream, data }));
        let status = status.map_err(|error| self.not_run(&argv, error))?;
        if status != 0 {
            let removed = self.removed(&container, false);
            workspace.finish(!removed);
            return Err(self.run_failed(&argv, status));
        }
        drop(mounted);
        // What was made for mounts is no part of the image. Innermost first.
        missing.iter().rev().for_each(|path| tree.remove_stub(path));
        let mut words = vec![];
        let declared = self.args.declared(&self.variables());
        if !declared.is_empty() {
            words.push(format!("|{}", declared.len()));
            words.extend(declared);
        }
        words.extend(argv);
        let created_by = self.created_by(&key, &format!("RUN {} # buildkit", words.join(" ")));
        let image = workspace.commit(&self.step(&key, &container, &created_by, true))?;
        self.image = image;
        let removed = self.removed(&container, true);
        workspace.finish(!removed);
        Ok(())
    }

    /// A container of the classic builder has the image's volumes: what a command writes there is lost with the container.
    fn mount_volumes(&self, tree: &Tree, mounts: &mut Vec<RunMount>) -> Result<()> {
        if self.mode() != Mode::Classic {
            return Ok(());
        }
        let volumes = self.config.volumes.iter().flatten().map(|(path, _)| clean(&format!("/{path}")));
        for target in volumes.filter(|path| path != "/") {
            let failed = |e: std::io::Error| BuildError::failed(format!("failed to mount {target}: {e}"));
            match tree.kind(&target).map_err(failed)? {
                Some(Kind::Directory | Kind::Link) => {}
                // The mount point stays in the image, as that of every container does.
                None => drop(tree.make_directories(&target, 0o755, (0, 0)).map_err(failed)?),
                Some(_) => {
                    let text = format!("cannot mount volume over existing file, file exists {target}");
                    return Err(BuildError::failed(text));
                }
            }
            let source = RunSource::Bind { path: tree.real_path(&target).map_err(failed)?, discard: true };
            mounts.push(RunMount { target, source, read_only: false });
        }
        Ok(())
    }

    /// `RUN []` of the classic builder is what the image runs.
    fn or_the_images(&self, argv: &[String]) -> Vec<String> {
        if !argv.is_empty() || self.mode() != Mode::Classic {
            return argv.to_vec();
        }
        [&self.config.entrypoint, &self.config.cmd].into_iter().flatten().flatten().cloned().collect()
    }

    /// The command could not even begin.
    fn not_run(&self, argv: &[String], error: BackendError) -> BuildError {
        match self.mode() {
            Mode::Classic => error.into(),
            Mode::BuildKit => BuildError::failed(format!(
                "process \"{}\" did not complete successfully: {error}",
                argv.join(" ")
            )),
        }
    }

    fn run_failed(&self, argv: &[String], status: i32) -> BuildError {
        let command = argv.join(" ");
        let message = match self.mode() {
            Mode::Classic => format!("The command '{command}' returned a non-zero code: {status}"),
            Mode::BuildKit => {
                format!("process \"{command}\" did not complete successfully: exit code: {status}")
            }
        };
        BuildError { code: Some(status), ..BuildError::failed(message) }
    }

    /// Program and arguments; a here-document that begins with `#!` is a program of its own.
    pub fn command(&self, line: &CommandLine) -> (Vec<String>, Option<RunMount>) {
        let mut words = line.words.clone();
        let mut script = None;
        if let (Some(first), [text], true) = (line.files.first(), line.words.as_slice(), line.shell) {
            let alone = heredoc(text).ok().flatten().is_some();
            let data = if first.chomp { chomp(&first.data) } else { first.data.clone() };
            if alone && data.starts_with("#!") {
                let target = format!("/dev/pipes/{}", first.name.replace('/', "_"));
                words = vec![target.clone()];
                let source = RunSource::Content { data: data.into_bytes(), mode: 0o755, uid: 0, gid: 0 };
                script = Some(RunMount { target, source, read_only: true });
            } else if alone {
                words = vec![data];
            } else {
                // The shell reads the here-documents itself.
                let files = line.files.iter().map(|file| format!("\n{}{}", file.data, file.name));
                words = vec![files.fold(text.clone(), |text, file| text + &file)];
            }
        }
        let mut argv = if line.shell { self.config.shell() } else { Vec::new() };
        argv.extend(words);
        (argv, script)
    }

    /// The command with the values of its ARGs before it, as the classic builder looks it up.
    fn run_key(&self, run: &Run, argv: &[String], args: &[String], mounts: Vec<String>) -> CacheKey {
        let mut cmd = Vec::new();
        if !self.args.visible(&variables(&self.config.env)).is_empty() {
            cmd.push(format!("|{}", args.len()));
            cmd.extend_from_slice(args);
        }
        cmd.extend_from_slice(argv);
        let mut config = self.config.clone();
        (config.cmd, config.entrypoint) = (Some(cmd), None);
        let mut extra = mounts;
        // A script's text is in no argument.
        extra.extend(run.command.files.iter().map(|file| format!("file {} {}", file.name, file.data)));
        if run.network != Network::Default {
            extra.push(format!("network {:?}", run.network));
        }
        if run.insecure {
            extra.push("insecure".into());
        }
        CacheKey { config, extra }
    }
}

/// The directories of a path that are not there, outermost first, and the path itself.
fn missing(tree: &crate::files::Tree, path: &str) -> Vec<String> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    let absent = |path: &&str| matches!(tree.kind(path), Ok(None));
    ends.map(|end| &path[..end]).filter(absent).map(str::to_owned).collect()
}
