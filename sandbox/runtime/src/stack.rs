//! The stack of a process's first thread.

use std::ffi::c_void;
use std::io;

/// Left below the caller: what is called here takes room, too. Bytes.
const MARGIN: usize = 16 * 1024;

/// Gives back what calls that went deeper have left below the caller. On another thread, whose stack is far below, nothing happens.
///
/// # Errors
///
/// `/proc/self/maps` can't be read.
pub fn give_back() -> io::Result<()> {
    let local = 0_u8;
    let here = std::hint::black_box(&raw const local).addr();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let line = maps.lines().find(|line| line.ends_with("[stack]")).unwrap_or_default();
    let start = line.split_once('-').and_then(|(start, _)| usize::from_str_radix(start, 16).ok());
    // SAFETY: a number that is asked for.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)?;
    let end = here.saturating_sub(MARGIN) / page * page;
    if let Some(start) = start.filter(|start| *start < end) {
        // SAFETY: whole pages of the stack below what is in use, which are zeroes from now on (madvise(2)). A handler of a signal that
        // came meanwhile would have returned by the time the kernel is asked.
        unsafe {
            libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens on the first one: `tests/first_thread.rs`.
    #[test]
    fn another_thread_loses_nothing() {
        let kept = std::hint::black_box([7_u8; 64 * 1024]);
        give_back().unwrap();
        assert!(std::hint::black_box(kept).iter().all(|byte| *byte == 7));
    }
}
