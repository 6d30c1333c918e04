//! How glibc's heap is kept (mallopt(3)).

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
