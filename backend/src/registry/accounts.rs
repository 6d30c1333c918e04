//! Accounts of the site's registry. The first `docker login` of a name in a session makes the account with that password; later ones
//! must have it. So a learner needs no operator, and a wrong password is refused as everywhere.

use super::scope::{ACCOUNT, SHARED};
use drydock_protocol::SessionId;
use drydock_registry::server::{Accounts, Action, Policy};
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Most accounts of one session.
const MAX_ACCOUNTS: usize = 50;
/// Longest name of an account, in bytes.
const MAX_NAME: usize = 64;

/// The accounts of all sessions, one file of `htpasswd` lines each.
pub struct SiteAccounts {
    dir: PathBuf,
    quota: u64,
    /// By session, then by name: the line.
    lines: Mutex<HashMap<String, HashMap<String, String>>>,
}

impl SiteAccounts {
    /// Reads what is there.
    pub fn open(dir: &Path, quota: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut all = HashMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            let lines = text.lines().filter_map(|l| Some((l.split_once(':')?.0.to_owned(), l.to_owned())));
            all.insert(entry.file_name().to_string_lossy().into_owned(), lines.collect());
        }
        Ok(Self { dir: dir.to_owned(), quota, lines: Mutex::new(all) })
    }

    /// Deletes a session's accounts.
    pub fn forget(&self, session: &SessionId) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(session.as_str());
        let path = self.dir.join(session.as_str());
        if let Err(e) = fs::remove_file(&path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), error = %e, "accounts of an ended session are left");
        }
    }

    /// Makes an account, unless there are too many; true if it is there now with this password.
    fn sign_up(&self, session: &str, name: &str, password: &str) -> bool {
        if name.len() > MAX_NAME {
            return false;
        }
        let Ok(line) = Accounts::line(name, password) else { return false };
        let mut all = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(session.to_owned()).or_default();
        // Somebody may have been faster while the hash was computed.
        if own.len() >= MAX_ACCOUNTS || own.contains_key(name) {
            return false;
        }
        own.insert(name.to_owned(), line);
        let text: String = own.values().map(|line| format!("{line}\n")).collect();
        let (new, path) = (self.dir.join(format!(".{session}")), self.dir.join(session));
        if let Err(e) = fs::write(&new, text).and_then(|()| fs::rename(&new, &path)) {
            tracing::warn!(path = %path.display(), error = %e, "an account lasts only until the server ends");
        }
        true
    }
}

impl Policy for SiteAccounts {
    fn anonymous(&self) -> bool {
        false
    }

    fn check_password(&self, user: &str, password: &str) -> bool {
        let Some((session, name)) = user.split_once(ACCOUNT) else { return false };
        let line = {
            let all = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(session).and_then(|own| own.get(name)).cloned()
        };
        match line {
            Some(line) => Accounts::parse(&line).check_password(name, password),
            None => self.sign_up(session, name, password),
        }
    }

    fn allows(&self, user: Option<&str>, repository: &str, action: Action) -> bool {
        let session = user.and_then(|user| user.split_once(ACCOUNT)).map(|(session, _)| session);
        match repository.split('/').next() {
            // Nobody can take away what others have shared.
            Some(SHARED) => action != Action::Delete,
            owner => owner.is_some() && owner == session,
        }
    }

    fn quota(&self, _owner: &str) -> Option<u64> {
        Some(self.quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_login_makes_the_account() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = SiteAccounts::open(dir.path(), 1).unwrap();
        assert!(accounts.check_password("aaaaaaaaaa+ann", "secret"));
        assert!(accounts.check_password("aaaaaaaaaa+ann", "secret"));
        assert!(!accounts.check_password("aaaaaaaaaa+ann", "other"));
        assert!(!accounts.check_password("aaaaaaaaaa+bob", ""));
        assert!(!accounts.check_password("ann", "secret"));
        // Another session's Ann is somebody else.
        assert!(accounts.check_password("bbbbbbbbbb+ann", "other"));
        // They outlive the server, and go with their session.
        let again = SiteAccounts::open(dir.path(), 1).unwrap();
        assert!(!again.check_password("aaaaaaaaaa+ann", "other"));
        again.forget(&"aaaaaaaaaa".parse().unwrap());
        assert!(again.check_password("aaaaaaaaaa+ann", "other"));
    }

    #[test]
    fn a_session_has_its_own_and_what_is_shared() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = SiteAccounts::open(dir.path(), 1).unwrap();
        let may = |repository, action| accounts.allows(Some("aaaaaaaaaa+ann"), repository, action);
        assert!(may("aaaaaaaaaa/app", Action::Push) && may("aaaaaaaaaa/app", Action::Delete));
        assert!(!may("bbbbbbbbbb/app", Action::Pull));
        assert!(may("shared/app", Action::Pull) && may("shared/app", Action::Push));
        assert!(!may("shared/app", Action::Delete));
        assert!(!accounts.allows(None, "aaaaaaaaaa/app", Action::Pull));
    }
}
