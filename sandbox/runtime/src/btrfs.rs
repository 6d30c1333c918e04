//! btrfs subvolumes with quota groups: a disk of its own for each session, made and deleted in milliseconds, whose
//! size the kernel enforces (btrfs-ioctl(2)).

use crate::{Error, Result, error::Context};
use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::Path,
};

const SUBVOL_CREATE: libc::c_ulong = 0x5000_940E;
const SNAP_DESTROY: libc::c_ulong = 0x5000_940F;
const QUOTA_CTL: libc::c_ulong = 0xC010_9428;
const QGROUP_LIMIT: libc::c_ulong = 0x8030_942B;
const QUOTA_ENABLE: u64 = 1;
const LIMIT_MAX_REFERENCED: u64 = 1;

/// `struct btrfs_ioctl_vol_args` of linux/btrfs.h.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// Switches quota groups on for the file system that `path` is on.
pub fn enable_quota(path: &Path) -> Result<()> {
    let mut args = [QUOTA_ENABLE, 0];
    ioctl(path, QUOTA_CTL, args.as_mut_ptr().cast(), "enable btrfs quota")
}

/// Makes the subvolume `parent/name` which may hold `limit` bytes, its own metadata among them.
pub fn create(parent: &Path, name: &str, limit: u64) -> Result<()> {
    let mut args = volume(parent, name)?;
    ioctl(parent, SUBVOL_CREATE, (&raw mut *args).cast(), "make a subvolume")?;
    set_limit(&parent.join(name), limit)
}

/// Sets how many bytes the subvolume at `path` may hold.
pub fn set_limit(path: &Path, limit: u64) -> Result<()> {
    // struct btrfs_ioctl_qgroup_limit_args: group (0: the one of the subvolume itself), then
    // struct btrfs_qgroup_limit: flags, most referenced, most exclusive, and two reservations.
    let mut args = [0, LIMIT_MAX_REFERENCED, limit, 0, 0, 0];
    ioctl(path, QGROUP_LIMIT, args.as_mut_ptr().cast(), "limit a subvolume")
}

/// Deletes the subvolume `parent/name` with all that is in it. The kernel frees the space in the background.
pub fn delete(parent: &Path, name: &str) -> Result<()> {
    let mut args = volume(parent, name)?;
    ioctl(parent, SNAP_DESTROY, (&raw mut *args).cast(), "delete a subvolume")
}

fn volume(parent: &Path, name: &str) -> Result<Box<VolArgs>> {
    let mut args = Box::new(VolArgs { fd: 0, name: [0; 4088] });
    let bytes = std::ffi::OsStr::new(name).as_bytes();
    if bytes.is_empty() || bytes.len() >= 255 || bytes.contains(&b'/') || bytes.contains(&0) {
        let why = io::Error::new(io::ErrorKind::InvalidInput, format!("bad subvolume name {name:?}"));
        return Err(Error::new(parent.display(), why));
    }
    args.name[..bytes.len()].copy_from_slice(bytes);
    Ok(args)
}

fn ioctl(path: &Path, request: libc::c_ulong, args: *mut libc::c_void, what: &str) -> Result<()> {
    let directory = File::open(path).step(|| format!("open {}", path.display()))?;
    // SAFETY: each caller passes the record that its request is defined with, alive and writable across the call.
    if unsafe { libc::ioctl(directory.as_raw_fd(), request, args) } == 0 {
        return Ok(());
    }
    Err(Error::new(format!("{what} in {}", path.display()), io::Error::last_os_error()))
}
