//! Where a server's things lie: its state directory, and its own part of the host's ids.
//!
//! Several servers run beside each other on a host. Each claims a number by a file in [`CLAIMS`] and with it
//! 1,024 id ranges of 65,536 ids: the first is serve's own user, the others are for sessions.

use crate::error::{Error, at};
use drydock_protocol::SessionId;
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::{Gid, Uid, chown},
};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    ops::Range,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

/// Claims of all servers of this host; on a file system that a reboot empties.
const CLAIMS: &str = "/run/drydock/servers";
/// First id that servers use: above what distributions give to users and their subordinate ids.
const FIRST_ID: u32 = 1 << 30;
/// Id ranges of one server.
const RANGES: u32 = 1024;
/// Servers of one host.
const SERVERS: u32 = 32;

/// A state directory and the claim that goes with it.
#[derive(Debug)]
pub struct Place {
    state: PathBuf,
    server: u32,
    // Locked for as long as the warden lives.
    _lock: File,
}

/// Paths below a state directory that serve and warden agree on.
pub mod state_paths {
    use super::{Path, PathBuf, SessionId};

    /// Where the warden listens.
    pub fn warden_socket(state: &Path) -> PathBuf {
        state.join("run/warden.sock")
    }
    /// Where the device files of the nodes are, in the warden's mount namespace, and the container images while a session is made.
    pub fn devices(state: &Path) -> PathBuf {
        state.join("run/devices")
    }
    /// Where a session process listens.
    pub fn session_socket(state: &Path, id: &SessionId) -> PathBuf {
        state.join("run/sessions").join(format!("{id}.sock"))
    }
    /// The directory that belongs to serve's user.
    pub fn web(state: &Path) -> PathBuf {
        state.join("web")
    }
}

/// The number of the server whose web process is this user.
pub fn server_of(web_user: u32) -> Option<u32> {
    let slots = web_user.checked_sub(FIRST_ID)? / drydock_runtime::userns::RANGE;
    (slots.is_multiple_of(RANGES) && slots / RANGES < SERVERS).then_some(slots / RANGES)
}

impl Place {
    /// Takes the state directory for this warden: makes its folders, claims ids. Waits while another warden has it.
    pub fn take(state: &Path) -> Result<Self, Error> {
        fs::create_dir_all(state).map_err(at(state))?;
        let state = state.canonicalize().map_err(at(state))?;
        // A session's socket path must fit into sockaddr_un (unix(7)): 108 bytes with the end mark.
        let longest = state.join("run/sessions/0123456789.sock").as_os_str().len();
        if longest > 107 {
            let why =
                format!("the state directory's path is {} bytes too long for Unix sockets", longest - 107);
            return Err(Error::Host(format!("{}: {why}; choose a shorter one", state.display())));
        }
        make_dir(&state.join("run"), 0o711, 0)?;
        let lock_path = state.join("run/warden.lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        // A record lock (fcntl_locking(2)) is not handed down to forked children, which may outlive a killed warden.
        let whole = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        if nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_SETLK(&whole)).is_err() {
            // Most likely one that is just ending; who started us waits only so long for us to be ready.
            tracing::info!("waiting for another warden of {} to end", state.display());
            nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_SETLKW(&whole))
                .map_err(|_| Error::Running(state.clone()))?;
        }
        let groups = drydock_runtime::cgroup::Hierarchies::detect()?;
        let server = claim(Path::new(CLAIMS), &state, |n| groups.has_sessions(&n.to_string()))?;
        let place = Self { state, server, _lock: lock };
        for (dir, mode, owner) in [
            ("run/sessions", 0o711, 0),
            ("run/warden", 0o700, 0),
            ("run/devices", 0o700, 0),
            ("disk", 0o700, 0),
            ("log", 0o700, 0),
            ("web", 0o700, place.web_user()),
        ] {
            make_dir(&place.state.join(dir), mode, owner)?;
        }
        place.hand_over_web()?;
        Ok(place)
    }

    /// Gives what an earlier server of this state directory has left in `web/` to serve's user of today, whose id depends
    /// on the claim. The directory was that server's own, so only plain files and directories of such users are touched.
    fn hand_over_web(&self) -> Result<(), Error> {
        let id = self.web_user();
        let mut todo = vec![state_paths::web(&self.state)];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir).map_err(at(&dir))? {
                let path = entry.map_err(at(&dir))?.path();
                let meta = fs::symlink_metadata(&path).map_err(at(&path))?;
                if meta.uid() < FIRST_ID || !(meta.is_dir() || meta.is_file() && meta.nlink() == 1) {
                    continue;
                }
                if meta.uid() != id {
                    std::os::unix::fs::lchown(&path, Some(id), Some(id)).map_err(at(&path))?;
                }
                if meta.is_dir() {
                    todo.push(path);
                }
            }
        }
        Ok(())
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The claim's number, below 32.
    pub fn number(&self) -> u32 {
        self.server
    }

    /// The claim's number as a name, for control groups.
    pub fn server(&self) -> String {
        self.server.to_string()
    }

    /// The user (and group) that serve runs as: the owner of `web/`.
    pub fn web_user(&self) -> u32 {
        self.base(0)
    }

    /// First host id of range `slot`. Sessions have 1 … [`Self::slots`].
    pub fn base(&self, slot: u32) -> u32 {
        FIRST_ID + (self.server * RANGES + slot) * drydock_runtime::userns::RANGE
    }

    /// Host ids of the users of range `slot`.
    pub fn users(&self, slot: u32) -> Range<u32> {
        let base = self.base(slot);
        base..base + drydock_runtime::userns::RANGE
    }

    /// How many id ranges there are for sessions.
    pub fn slots(&self) -> u32 {
        RANGES - 1
    }

    /// Gives the claim up; called by a warden that ends without sessions.
    pub fn release(self) {
        let _already_gone = fs::remove_file(Path::new(CLAIMS).join(self.server.to_string()));
    }
}

/// Finds our claim among `claims` or makes one. A claim whose state directory has been deleted is free again,
/// unless its sessions still run (`in_use`). All of it happens under one lock: two servers must never get the same ids.
fn claim(claims: &Path, state: &Path, in_use: impl Fn(u32) -> bool) -> Result<u32, Error> {
    fs::create_dir_all(claims).map_err(at(claims))?;
    let lock_path = claims.join("lock");
    let lock = File::create(&lock_path).map_err(at(&lock_path))?;
    let _held =
        Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| Error::File(lock_path, e.into()))?;
    let path = |n: u32| claims.join(n.to_string());
    let owner = |n: u32| fs::read(path(n)).ok().map(|dir| PathBuf::from(OsString::from_vec(dir)));
    if let Some(n) = (0..SERVERS).find(|n| owner(*n).as_deref() == Some(state)) {
        return Ok(n);
    }
    let free = |n: &u32| owner(*n).is_none_or(|dir| !dir.join("run/warden.lock").exists()) && !in_use(*n);
    let Some(n) = (0..SERVERS).find(free) else {
        return Err(Error::Host(format!(
            "{SERVERS} servers run on this host already ({})",
            claims.display()
        )));
    };
    // Through a rename, so that a crash leaves no claim with half a path, which would look free.
    let draft = claims.join("draft");
    fs::write(&draft, state.as_os_str().as_bytes()).map_err(at(&draft))?;
    fs::rename(&draft, path(n)).map_err(at(path(n)))?;
    Ok(n)
}

/// Makes a directory of the layout. One that is there must be ours: a link, or what somebody else owns, is left as it is.
fn make_dir(path: &Path, mode: u32, owner: u32) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(path).map_err(at(path))?;
            if !meta.is_dir() || (1..FIRST_ID).contains(&meta.uid()) {
                let why = "it is no directory of a Drydock server; choose another state directory";
                return Err(Error::Host(format!("{}: {why}", path.display())));
            }
        }
        made => made.map_err(at(path))?,
    }
    chown(path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
        .map_err(|e| Error::File(path.into(), e.into()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, sync::Barrier, thread};

    fn state(dir: &Path, name: &str) -> PathBuf {
        let state = dir.join(name);
        fs::create_dir_all(state.join("run")).unwrap();
        fs::write(state.join("run/warden.lock"), "").unwrap();
        state
    }

    #[test]
    fn a_web_process_knows_its_server() {
        let user = |server: u32| FIRST_ID + server * RANGES * drydock_runtime::userns::RANGE;
        assert_eq!((server_of(user(0)), server_of(user(31))), (Some(0), Some(31)));
        assert_eq!((server_of(0), server_of(user(3) + 1 + 65_536), server_of(user(32))), (None, None, None));
    }

    #[test]
    fn what_is_not_ours_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", path("web")).unwrap();
        assert!(make_dir(&path("web"), 0o700, FIRST_ID).is_err());
        fs::create_dir(path("run")).unwrap();
        chown(&path("run"), Some(Uid::from_raw(1000)), None).unwrap();
        assert!(make_dir(&path("run"), 0o711, 0).is_err());
        for (name, owner, mode) in [("elsewhere", 0, 0o755), ("run", 1000, 0o755)] {
            let meta = fs::metadata(path(name)).unwrap();
            assert_eq!((meta.uid(), meta.mode() & 0o777), (owner, mode), "{name}");
        }
        make_dir(&path("log"), 0o700, FIRST_ID).unwrap();
        make_dir(&path("log"), 0o711, 0).unwrap();
        assert_eq!(fs::metadata(path("log")).unwrap().mode() & 0o777, 0o711);
    }

    #[test]
    fn servers_that_start_together_never_share_ids() {
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let claims = dir.path().join("claims");
            // A claim that all of them find stale.
            fs::create_dir_all(&claims).unwrap();
            fs::write(claims.join("0"), "/nowhere").unwrap();
            let together = Barrier::new(8);
            let numbers: BTreeSet<u32> = thread::scope(|scope| {
                let one = |n: usize| {
                    let state = state(dir.path(), &n.to_string());
                    let (claims, together) = (&claims, &together);
                    scope.spawn(move || {
                        together.wait();
                        claim(claims, &state, |_| false).unwrap()
                    })
                };
                let threads: Vec<_> = (0..8).map(one).collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            });
            assert_eq!(numbers, (0..8).collect());
        }
    }

    #[test]
    fn a_server_gets_its_own_number_again_and_a_full_host_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let claims = dir.path().join("claims");
        for n in 0..SERVERS {
            assert_eq!(claim(&claims, &state(dir.path(), &n.to_string()), |_| false).unwrap(), n);
        }
        assert_eq!(claim(&claims, &state(dir.path(), "7"), |_| true).unwrap(), 7);
        let error = claim(&claims, &state(dir.path(), "one more"), |_| false).unwrap_err();
        assert!(error.to_string().contains("32 servers"), "{error}");
        fs::remove_dir_all(dir.path().join("3")).unwrap();
        // The directory is gone, but sessions made from it may go on.
        assert!(claim(&claims, &state(dir.path(), "one more"), |n| n == 3).is_err());
        assert_eq!(claim(&claims, &state(dir.path(), "one more"), |_| false).unwrap(), 3);
    }
}
