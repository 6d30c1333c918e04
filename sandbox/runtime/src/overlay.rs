//! overlayfs: a node's root file system is the shared image layers with a writable layer of its own.

use crate::{Error, Result, error::Context, mounts};
use nix::unistd::{Gid, Uid, chown};
use rustix::mount::MountAttrFlags;
use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where the layers lie while the overlay is made, below the session's disk.
const LOWER: &str = "lower";

/// Makes `<disk>/<node>/{upper,work}` for `owner` and mounts them over the layers (topmost first). Needs root and changes the
/// working directory, so that the paths that a learner reads in `mount` are short and tell nothing of the host.
pub fn create(
    layers: &[PathBuf],
    userns: BorrowedFd<'_>,
    disk: &Path,
    node: &str,
    owner: u32,
) -> Result<OwnedFd> {
    for part in ["upper", "work"] {
        let dir = disk.join(node).join(part);
        fs::create_dir_all(&dir).step(|| format!("make {}", dir.display()))?;
        chown(&dir, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
            .step(|| format!("give {} to the session", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))
            .step(|| format!("chmod {}", dir.display()))?;
    }
    let lowers: Vec<PathBuf> = (0..layers.len()).map(|i| Path::new(LOWER).join(i.to_string())).collect();
    let old = std::env::current_dir().step(|| "getcwd")?;
    std::env::set_current_dir(disk).step(|| format!("chdir {}", disk.display()))?;
    let mounted = attach_layers(layers, userns, &lowers).and_then(|()| mount(&lowers, node));
    // The overlay keeps the layers by itself; the places where they lay are taken off whether it worked or not.
    for lower in &lowers {
        if mounts::is_mount_point(lower) {
            mounts::detach(lower)?;
        }
    }
    std::env::set_current_dir(&old).step(|| format!("chdir {}", old.display()))?;
    mounted
}

fn attach_layers(layers: &[PathBuf], userns: BorrowedFd<'_>, lowers: &[PathBuf]) -> Result<()> {
    for (layer, place) in layers.iter().zip(lowers) {
        fs::create_dir_all(place).step(|| format!("make {}", place.display()))?;
        mounts::attach_at(mounts::idmapped(layer, userns)?.as_fd(), place)?;
    }
    Ok(())
}

fn mount(lowers: &[PathBuf], node: &str) -> Result<OwnedFd> {
    let lower: Vec<String> = lowers.iter().map(|p| p.display().to_string()).collect();
    if lower.is_empty() {
        return Err(Error::new(
            "an image without layers",
            std::io::Error::from(std::io::ErrorKind::InvalidInput),
        ));
    }
    let options = [
        ("source", "overlay"),
        ("lowerdir", &lower.join(":")),
        ("upperdir", &format!("{node}/upper")),
        ("workdir", &format!("{node}/work")),
        ("redirect_dir", "on"),
        // A playground's disk need not survive a power cut of the host: fsync costs nothing.
        ("volatile", ""),
    ];
    mounts::create("overlay", &options, MountAttrFlags::MOUNT_ATTR_NODEV)
}
