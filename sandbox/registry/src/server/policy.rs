//! Who may do what, and how much: the host decides by a [`Policy`].

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a password that was right is not computed again: each request of a client carries it.
const REMEMBERED: Duration = Duration::from_secs(60);
/// bcrypt looks at no more of a password.
const PASSWORD_MAX: usize = 72;

/// A hash that no password has.
const NOBODY: &str = "$2b$08$Pz1eEUdbBVBYQuwGA2W0iO1Y7H5BJ9E3Cq3bb7m6tMbvY9E8Aw1sG";

/// What somebody wants to do with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read manifests and blobs; see it in the catalogue.
    Pull,
    /// Write them.
    Push,
    /// Delete them.
    Delete,
}

/// The host's rules. `check_password`, `allows` and `quota` may block: they are called on a thread for that.
///
/// A registry is open to everybody or to accounts only: a Docker client sends a name and a password only to a registry that
/// asks for them at `/v2/`, and then always.
pub trait Policy: Send + Sync + 'static {
    /// Whether requests without a name and a password are taken.
    fn anonymous(&self) -> bool;

    /// Whether that is the account's password.
    fn check_password(&self, user: &str, password: &str) -> bool;

    /// Whether an account (or anybody, where the registry is open) may do something with a repository.
    fn allows(&self, user: Option<&str>, repository: &str, action: Action) -> bool {
        let _ = (user, repository, action);
        true
    }

    /// Whose space a repository takes. It must answer at once.
    fn owner(&self, repository: &str) -> String {
        repository.split('/').next().unwrap_or_default().to_owned()
    }

    /// Who answers for what an account puts into a repository: their space is taken, and only they let a tag that they have set mean
    /// something else. `None`: the repository's owner, and whoever may push. It must answer at once.
    fn setter(&self, user: Option<&str>, repository: &str) -> Option<String> {
        let _ = (user, repository);
        None
    }

    /// How many bytes an owner's repositories may have; `None` for no limit. A blob counts once in each repository.
    fn quota(&self, owner: &str) -> Option<u64> {
        let _ = owner;
        None
    }
}

/// Everybody may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

impl Policy for Open {
    fn anonymous(&self) -> bool {
        true
    }

    fn check_password(&self, _: &str, _: &str) -> bool {
        true
    }
}

/// Accounts with bcrypt hashes, as `htpasswd -B` writes them; accounts may do everything.
#[derive(Default)]
pub struct Accounts {
    hashes: HashMap<String, String>,
}

impl Accounts {
    /// Reads lines `name:hash`. Lines of other kinds of hash are left out, as the reference registry does.
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
        let bcrypt =
            pairs.filter(|(user, hash)| !user.is_empty() && !user.starts_with('#') && hash.starts_with("$2"));
        Self { hashes: bcrypt.map(|(user, hash)| (user.to_owned(), hash.to_owned())).collect() }
    }

    /// The line for an account.
    pub fn line(user: &str, password: &str) -> Result<String, PasswordError> {
        if user.is_empty() || user.contains([':', '\n', '\r']) {
            return Err(PasswordError::Name);
        }
        if password.is_empty() || password.len() > PASSWORD_MAX {
            return Err(PasswordError::Length);
        }
        let hash = bcrypt::hash(password, 8).map_err(|e| PasswordError::Hash(e.to_string()))?;
        Ok(format!("{user}:{hash}"))
    }
}

/// Why there is no account of that kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The name has a colon, a line end or nothing at all.
    #[error("an account's name must not be empty and must not have a colon")]
    Name,
    /// The password is empty or too long.
    #[error("a password has 1 to {PASSWORD_MAX} bytes")]
    Length,
    /// The hash cannot be computed.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

impl Policy for Accounts {
    fn anonymous(&self) -> bool {
        false
    }

    fn check_password(&self, user: &str, password: &str) -> bool {
        // An unknown name costs as much time as a known one, so that names cannot be found by the clock.
        let known = self.hashes.get(user);
        let hash = known.map_or(NOBODY, String::as_str);
        let right = password.len() <= PASSWORD_MAX && bcrypt::verify(password, hash).unwrap_or(false);
        known.is_some() && right
    }
}

/// Passwords that were right a moment ago, as salted digests.
pub(super) struct Remembered {
    salt: [u8; 32],
    right: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Remembered {
    pub(super) fn new() -> io::Result<Self> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        Ok(Self { salt, right: Mutex::default() })
    }

    fn key(&self, user: &str, password: &str) -> [u8; 32] {
        use sha2::{Digest as _, Sha256};
        let mut hash = Sha256::new_with_prefix(self.salt);
        hash.update((user.len() as u64).to_le_bytes());
        hash.update(user);
        hash.update(password);
        hash.finalize().into()
    }

    pub(super) fn knows(&self, user: &str, password: &str) -> bool {
        let key = self.key(user, password);
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(&key).is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    /// Takes nothing for granted any more.
    pub(super) fn forget(&self) {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn remember(&self, user: &str, password: &str) {
        let key = self.key(user, password);
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        if right.len() >= 10_000 {
            right.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        right.insert(key, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_and_checked() {
        let line = Accounts::line("ann", "secret").unwrap();
        let accounts = Accounts::parse(&format!("# people\n{line}\nold:{{SHA}}abc\n:x\n"));
        assert!(accounts.check_password("ann", "secret"));
        assert!(!accounts.check_password("ann", "Secret"));
        assert!(!accounts.check_password("ann", ""));
        assert!(!accounts.check_password("old", "abc"));
        assert!(!accounts.check_password("nobody", "secret"));
        assert_eq!(
            bcrypt::verify("x", NOBODY).ok(),
            Some(false),
            "it is a hash, so it costs the time of one"
        );
        assert!(!accounts.check_password("ann", &"secret".repeat(20)));
        assert_eq!(Accounts::line("a:b", "x"), Err(PasswordError::Name));
        assert_eq!(Accounts::line("a", ""), Err(PasswordError::Length));
    }

    #[test]
    fn only_right_passwords_are_remembered() {
        let remembered = Remembered::new().unwrap();
        remembered.remember("ann", "secret");
        assert!(remembered.knows("ann", "secret"));
        assert!(!remembered.knows("ann", "other"));
        assert!(!remembered.knows("anns", "ecret"));
    }
}
