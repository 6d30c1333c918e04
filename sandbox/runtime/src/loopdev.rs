//! Loop devices (loop(4)): a file as a block device.

use crate::{Error, Result, error::Context};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device of the file. It goes away by itself when nothing uses it any more (keep the returned file until
/// it is mounted). Needs root.
pub fn attach(file: &Path) -> Result<(PathBuf, File)> {
    let backing =
        OpenOptions::new().read(true).write(true).open(file).step(|| format!("open {}", file.display()))?;
    let control =
        File::open("/dev/loop-control").step(|| "open /dev/loop-control (is the loop module there?)")?;
    for direct_io in [LO_FLAGS_DIRECT_IO, 0] {
        // Somebody else may take the free device first: then ask for another.
        for _ in 0..16 {
            // SAFETY: LOOP_CTL_GET_FREE takes no argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            if number < 0 {
                return Err(Error::new("find a free loop device", io::Error::last_os_error()));
            }
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .step(|| format!("open {}", path.display()))?;
            // SAFETY: a plain record of integers and byte arrays; all zeroes is a valid value.
            let mut config: LoopConfig = unsafe { std::mem::zeroed() };
            config.fd = backing.as_raw_fd().cast_unsigned();
            config.info.flags = LO_FLAGS_AUTOCLEAR | direct_io;
            // SAFETY: `config` has the layout that the kernel reads and lives across the call.
            if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
                return Ok((path, device));
            }
            match io::Error::last_os_error() {
                e if e.raw_os_error() == Some(libc::EBUSY) => {}
                // Direct I/O is only a wish: not every file system can.
                e if e.raw_os_error() == Some(libc::EINVAL) && direct_io != 0 => break,
                e => return Err(Error::new(format!("attach {} to {}", file.display(), path.display()), e)),
            }
        }
    }
    Err(Error::new("attach a loop device", io::Error::from(io::ErrorKind::ResourceBusy)))
}

/// The loop device that this file is attached to, if one is.
pub fn find(file: &Path) -> Option<PathBuf> {
    let wanted = fs::metadata(file).ok()?;
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let backing = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        let found = fs::metadata(backing.trim_end()).ok()?;
        let same = (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
        same.then(|| Path::new("/dev").join(entry.file_name()))
    })
}
