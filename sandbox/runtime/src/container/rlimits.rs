//! Resource limits of processes (getrlimit(2)) by the names of `docker run --ulimit`.

use crate::{Result, error::Context};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Sets limits of the calling process: (name, soft, hard), for the program of user `uid`. How many processes root has is not limited: the
/// kernel exempts the host's root alone (fork(2), `EAGAIN`), and here one in a container would be counted with all of the session.
pub(super) fn set(limits: &[(String, u64, u64)], uid: u32) -> Result<()> {
    for (name, soft, hard) in limits {
        let Some(resource) = resource(name) else { continue };
        if resource == Resource::RLIMIT_NPROC && uid == 0 {
            continue;
        }
        let (_, most) = getrlimit(resource).step(|| format!("getrlimit {name}"))?;
        // The node's own hard limit can't be exceeded.
        let (soft, hard) = ((*soft).min(most), (*hard).min(most));
        setrlimit(resource, soft.min(hard), hard).step(|| format!("error setting rlimit {name}"))?;
    }
    Ok(())
}

/// The most that this process's children can have of a resource (`nofile`); `None` if it is not known or has no bound.
pub fn most(name: &str) -> Option<u64> {
    let (_, most) = getrlimit(resource(name)?).ok()?;
    Some(most).filter(|most| *most != RLIM_INFINITY)
}

/// Whether there is a limit of this name.
pub fn is_known(name: &str) -> bool {
    resource(name).is_some()
}

/// By its name in `docker run --ulimit`.
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}
