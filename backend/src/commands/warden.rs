//! `drydock warden`: the root process, started by `drydock serve` and not by people. Nothing here may start a thread: the
//! warden forks sessions.

use crate::{
    space::{self, LEAST_DISKS},
    wasm_program,
};
use anyhow::Context;
use clap::Args;
use drydock_runtime::launch::Mains;
use drydock_warden::Config;
use std::path::{Path, PathBuf};

/// What serve tells its warden.
#[derive(Debug, Args)]
pub struct Options {
    /// Directory of the node images; without it `images` in the state directory.
    #[arg(long, env = "DRYDOCK_IMAGES", value_name = "DIR")]
    images: Option<PathBuf>,
    /// Directory of the container images that all sessions share; without it `catalogue` in the state directory.
    #[arg(long, env = "DRYDOCK_CATALOGUE", value_name = "DIR")]
    catalogue: Option<PathBuf>,
    /// Size of the file that holds all sessions' disks, in bytes; it takes only what is used. Without it, most of the free space.
    #[arg(long, env = "DRYDOCK_DISK_BYTES", value_name = "BYTES")]
    disk_bytes: Option<u64>,
    /// What the site's registry may take of the free space, in bytes.
    #[arg(long, value_name = "BYTES", default_value = "0")]
    registry_bytes: u64,
    /// Say on standard input, which is the write end of a pipe, that requests are taken.
    #[arg(long)]
    tell_ready: bool,
}

/// `drydock image --catalogue DIR add --if-missing`, to which a name is added.
fn image_command(catalogue: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let arguments = ["image", "--catalogue"].map(PathBuf::from);
    let end = ["add", "--if-missing", "--"].map(PathBuf::from);
    Ok([program].into_iter().chain(arguments).chain([catalogue.to_path_buf()]).chain(end).collect())
}

/// How large the file of the disks may become. One that sessions of an earlier warden use stays as it is.
fn disk_bytes(state_dir: &Path, options: &Options) -> anyhow::Result<u64> {
    let bytes = space::of_disks(state_dir, options.registry_bytes, options.disk_bytes)
        .context("cannot see the free disk space")?;
    let records = std::fs::read_dir(state_dir.join("run/warden"));
    let goes_on =
        records.into_iter().flatten().flatten().any(|e| e.path().extension() == Some("json".as_ref()));
    anyhow::ensure!(
        goes_on || bytes >= LEAST_DISKS,
        "{} MiB are left for the sessions' disks in {}, {} are the least: make room there, or choose another --state-dir",
        bytes >> 20,
        state_dir.display(),
        LEAST_DISKS >> 20
    );
    if let Some(wished) = options.disk_bytes.filter(|wished| *wished > bytes && !goes_on) {
        tracing::warn!(wished, bytes, "the sessions' disks get no more than what is free");
    }
    Ok(bytes)
}

/// Runs the warden until neither a server nor a session needs it.
pub fn run(state_dir: &Path, options: Options) -> anyhow::Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "the warden must be root");
    // Away from the terminal and the process group that serve was started from.
    let _leader_already = nix::unistd::setsid();
    std::fs::create_dir_all(state_dir).with_context(|| format!("cannot make {}", state_dir.display()))?;
    let disk_bytes = disk_bytes(state_dir, &options)?;
    let catalogue = options.catalogue.unwrap_or_else(|| state_dir.join("catalogue"));
    let config = Config {
        state_dir: state_dir.to_path_buf(),
        images: options.images.unwrap_or_else(|| state_dir.join("images")),
        image_command: image_command(&catalogue)?,
        catalogue,
        disk_bytes,
        wasm: wasm_program::install(state_dir)?,
        mains: Mains {
            session: drydock_session::run,
            engine: drydock_engine::run,
            kubelet: drydock_kubelet::run,
        },
    };
    drydock_warden::run(&config, || {
        if options.tell_ready {
            let _serve_gone = rustix::io::write(rustix::stdio::stdin(), &[1]);
        }
        // Sessions inherit neither the pipe nor the terminal.
        if let Ok(null) = std::fs::File::open("/dev/null") {
            let _kept = rustix::stdio::dup2_stdin(null);
        }
    })?;
    Ok(())
}
