//! How glibc's heap is kept (mallopt(3), malloc_trim(3)).

/// Has small pieces that are freed joined with their neighbours at once. Otherwise the next large piece that is asked for has all of them
/// looked through: in a process that answers requests that is a tenth of its time, and in the forked child of one each that is touched
/// is a page to copy. Inherited by forks.
pub fn join_at_once() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two integers; a parameter that this version does not know is refused.
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

/// Gives free pages back to the kernel, wherever in the heap they are; by itself glibc does so at the heap's end only.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches nothing but what is free, under the allocator's own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of memory that belong to this process alone.
    fn own() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_is_free_below_what_is_not_is_given_back() {
        const PIECES: usize = 32 * 1024;
        let mut pieces: Vec<Vec<u8>> = (0..PIECES).map(|_| vec![1; 1024]).collect();
        let last = pieces.pop();
        drop(pieces);
        let before = own();
        give_back();
        let after = own();
        assert!(after + 16 * 1024 < before, "{before} KiB, then {after}");
        drop(last);
    }
}
