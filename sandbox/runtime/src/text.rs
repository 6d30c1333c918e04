//! The program's own text and constants, as a process has them mapped.

use std::ffi::{c_int, c_void};

/// Leaves the pages of the program to the kernel: those that are needed again are mapped again from the page cache, most others were for
/// the start alone. (A fault maps all that is cached around it, so a process has much more of its program than it runs.)
pub fn give_back() {
    // SAFETY: the callback is called before this returns, and reads what it is given.
    unsafe {
        libc::dl_iterate_phdr(Some(leave_read_only), std::ptr::null_mut());
    }
}

unsafe extern "C" fn leave_read_only(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    _data: *mut c_void,
) -> c_int {
    // SAFETY: the C library passes an object that is loaded, with its program headers (dl_iterate_phdr(3)).
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)))
    };
    for header in headers {
        // What was ever writable may have been written to: relocations are.
        let is_read_only = header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
        // Whole pages: at its edges are those of other segments.
        let (start, end) =
            ((base + header.p_vaddr).next_multiple_of(PAGE), base + header.p_vaddr + header.p_memsz);
        let length = (end - end % PAGE).saturating_sub(start);
        if is_read_only && length > 0 {
            // SAFETY: pages of the program's file, which the process can't change (a debugger's breakpoints are lost); the kernel reads
            // them from there again (madvise(2)).
            unsafe {
                libc::madvise(start as *mut c_void, length as usize, libc::MADV_DONTNEED);
            }
        }
    }
    // The first is the program itself; the others are libraries.
    1
}

/// Bytes; a multiple of every page size that there is.
const PAGE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of this program's text that are mapped.
    fn mapped() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let own = std::env::current_exe().unwrap();
        let own = own.to_str().unwrap();
        let mut is_text = false;
        let mut sum = 0;
        for line in maps.lines() {
            if line.contains(own) || line.contains("-p ") {
                is_text = line.contains(" r-xp ") && line.ends_with(own);
            } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| is_text) {
                sum += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        sum
    }

    #[test]
    fn the_program_goes_on_with_less_of_it_mapped() {
        let before = mapped();
        give_back();
        let after = mapped();
        assert!(after < before, "{before} KiB, then {after}");
    }
}
