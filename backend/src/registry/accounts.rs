//! Accounts of the site's registry. Who may log in is a rule, for the site (`serve --registry-logins`) and for single sessions, where the
//! operator or a lesson sets it: `open`, the first `docker login` of a name in a session makes the account with that password and later
//! ones must have it, so a learner needs no operator and a wrong password is refused as everywhere; `list`, only accounts that
//! somebody has set; `closed`, nobody.

use super::scope::{ACCOUNT, SHARED};
use drydock_protocol::{
    SessionId,
    api::{Logins, RegistryRules, SetRegistryRules},
};
use drydock_registry::server::{Accounts, Action, PasswordError, Policy};
use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Most accounts of one session.
const MAX_ACCOUNTS: usize = 50;
/// Longest name of an account, in bytes.
const MAX_NAME: usize = 64;
/// Beginning of the name of a file that is being written.
const DRAFT: char = '.';
/// The line of a session's file that says who may log in; `#` begins no account.
const RULE: &str = "#logins ";

/// What the operator has set for all sessions.
#[derive(Debug)]
pub struct Site {
    /// Bytes that one session's images may have.
    pub quota: u64,
    /// Who may log in.
    pub logins: Logins,
    /// Accounts that every session has, as `htpasswd` writes them.
    pub accounts: Option<String>,
}

/// Rules that can't be.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Too many accounts.
    #[error("A session has at most {MAX_ACCOUNTS} accounts at the registry.")]
    TooMany,
    /// A name that is too long.
    #[error("The name of an account has at most {MAX_NAME} bytes.")]
    LongName,
    /// A name or password that nobody can have.
    #[error("The account '{name}' can't be made: {why}.")]
    Account {
        /// Its name.
        name: String,
        /// Why.
        why: PasswordError,
    },
    /// The state directory refused.
    #[error("The accounts could not be written: {0}.")]
    Disk(#[source] io::Error),
}

/// One session's rules.
#[derive(Debug, Clone, Default)]
struct Own {
    logins: Option<Logins>,
    /// `htpasswd` lines by name.
    lines: BTreeMap<String, String>,
}

/// The accounts of all sessions, one file of `htpasswd` lines each.
pub struct SiteAccounts {
    dir: PathBuf,
    quota: u64,
    logins: Logins,
    /// What every session has.
    common: BTreeMap<String, String>,
    /// Held for moments only: requests ask it on threads that must not wait.
    sessions: Mutex<HashMap<String, Own>>,
    /// Held while a file is changed.
    writing: Mutex<()>,
}

impl SiteAccounts {
    /// Reads what is there.
    pub fn open(dir: &Path, site: &Site) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut all = HashMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(DRAFT) {
                fs::remove_file(entry.path())?;
                continue;
            }
            all.insert(name, Own::parse(&fs::read_to_string(entry.path())?));
        }
        let common = site.accounts.as_deref().unwrap_or_default();
        Ok(Self {
            dir: dir.to_owned(),
            quota: site.quota,
            logins: site.logins,
            common: Own::parse(common).lines,
            sessions: Mutex::new(all),
            writing: Mutex::default(),
        })
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Own>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sessions that have rules or accounts of their own.
    pub fn owners(&self) -> Vec<String> {
        self.sessions().keys().cloned().collect()
    }

    /// How a session stands.
    pub fn rules(&self, session: &SessionId) -> RegistryRules {
        let own = self.sessions().get(session.as_str()).cloned().unwrap_or_default();
        let mut accounts: Vec<String> = own.lines.keys().chain(self.common.keys()).cloned().collect();
        accounts.sort();
        accounts.dedup();
        RegistryRules { logins: own.logins.unwrap_or(self.logins), accounts }
    }

    /// Replaces a session's rules. May block: each password is hashed.
    pub fn set_rules(&self, session: &SessionId, rules: &SetRegistryRules) -> Result<(), RulesError> {
        if rules.accounts.len() > MAX_ACCOUNTS {
            return Err(RulesError::TooMany);
        }
        let mut own = Own { logins: rules.logins, lines: BTreeMap::new() };
        for account in &rules.accounts {
            if account.name.len() > MAX_NAME {
                return Err(RulesError::LongName);
            }
            let line = Accounts::line(&account.name, &account.password)
                .map_err(|why| RulesError::Account { name: account.name.clone(), why })?;
            own.lines.insert(account.name.clone(), line);
        }
        let _turn = self.writing();
        self.write(session.as_str(), &own).map_err(RulesError::Disk)?;
        self.sessions().insert(session.as_str().to_owned(), own);
        Ok(())
    }

    /// Deletes a session's accounts. May block.
    pub fn forget(&self, session: &str) {
        let _turn = self.writing();
        self.sessions().remove(session);
        let path = self.dir.join(session);
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
        let _turn = self.writing();
        let mut own = self.sessions().get(session).cloned().unwrap_or_default();
        // Somebody may have been faster, or closed the door, while the hash was computed.
        let open = own.logins.unwrap_or(self.logins) == Logins::Open;
        if !open || own.lines.len() >= MAX_ACCOUNTS || own.lines.contains_key(name) {
            return false;
        }
        own.lines.insert(name.to_owned(), line);
        if let Err(e) = self.write(session, &own) {
            tracing::warn!(session, error = %e, "an account lasts only until the server ends");
        }
        self.sessions().insert(session.to_owned(), own);
        true
    }

    fn write(&self, session: &str, own: &Own) -> io::Result<()> {
        let (new, path) = (self.dir.join(format!("{DRAFT}{session}")), self.dir.join(session));
        fs::write(&new, own.text()).and_then(|()| fs::rename(&new, &path))
    }
}

impl Own {
    fn parse(text: &str) -> Self {
        let logins = text.lines().find_map(|line| line.strip_prefix(RULE)).and_then(|rule| match rule {
            "open" => Some(Logins::Open),
            "list" => Some(Logins::List),
            "closed" => Some(Logins::Closed),
            _ => None,
        });
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter_map(|l| Some((l.split_once(':')?.0.to_owned(), l.to_owned())));
        Self { logins, lines: lines.collect() }
    }

    fn text(&self) -> String {
        let rule = self.logins.map(|logins| match logins {
            Logins::Open => format!("{RULE}open\n"),
            Logins::List => format!("{RULE}list\n"),
            Logins::Closed => format!("{RULE}closed\n"),
        });
        rule.into_iter().chain(self.lines.values().map(|line| format!("{line}\n"))).collect()
    }
}

impl Policy for SiteAccounts {
    fn anonymous(&self) -> bool {
        false
    }

    fn check_password(&self, user: &str, password: &str) -> bool {
        let Some((session, name)) = user.split_once(ACCOUNT) else { return false };
        let (logins, line) = {
            let all = self.sessions();
            let own = all.get(session);
            let line = own.and_then(|own| own.lines.get(name)).or_else(|| self.common.get(name)).cloned();
            (own.and_then(|own| own.logins).unwrap_or(self.logins), line)
        };
        match (logins, line) {
            (Logins::Closed, _) => false,
            (Logins::Open, None) => self.sign_up(session, name, password),
            // Without a line it fails all the same, and takes as long.
            (Logins::Open | Logins::List, line) => {
                Accounts::parse(&line.unwrap_or_default()).check_password(name, password)
            }
        }
    }

    fn allows(&self, user: Option<&str>, repository: &str, action: Action) -> bool {
        let session = user.and_then(|user| user.split_once(ACCOUNT)).map(|(session, _)| session);
        match repository.split('/').next() {
            // Nobody can take away what others have shared, nor replace it (`setter`).
            Some(SHARED) => action != Action::Delete,
            owner => owner.is_some() && owner == session,
        }
    }

    fn setter(&self, user: Option<&str>, repository: &str) -> Option<String> {
        let session = user.and_then(|user| user.split_once(ACCOUNT)).map(|(session, _)| session);
        session.filter(|_| repository.split('/').next() == Some(SHARED)).map(str::to_owned)
    }

    fn quota(&self, _owner: &str) -> Option<u64> {
        Some(self.quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_protocol::api::RegistryAccount;

    fn site(logins: Logins, accounts: Option<String>) -> Site {
        Site { quota: 1, logins, accounts }
    }

    fn open(dir: &Path) -> SiteAccounts {
        SiteAccounts::open(dir, &site(Logins::Open, None)).unwrap()
    }

    fn rules(logins: impl Into<Option<Logins>>, accounts: &[(&str, &str)]) -> SetRegistryRules {
        let account = |(name, password): &(&str, &str)| RegistryAccount {
            name: (*name).into(),
            password: (*password).into(),
        };
        SetRegistryRules { logins: logins.into(), accounts: accounts.iter().map(account).collect() }
    }

    #[test]
    fn the_first_login_makes_the_account() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = open(dir.path());
        assert!(accounts.check_password("aaaaaaaaaa+ann", "secret"));
        assert!(accounts.check_password("aaaaaaaaaa+ann", "secret"));
        assert!(!accounts.check_password("aaaaaaaaaa+ann", "other"));
        assert!(!accounts.check_password("aaaaaaaaaa+bob", ""));
        assert!(!accounts.check_password("ann", "secret"));
        // Another session's Ann is somebody else.
        assert!(accounts.check_password("bbbbbbbbbb+ann", "other"));
        // They outlive the server, and go with their session.
        let again = open(dir.path());
        assert!(!again.check_password("aaaaaaaaaa+ann", "other"));
        again.forget("aaaaaaaaaa");
        assert!(again.check_password("aaaaaaaaaa+ann", "other"));
    }

    #[test]
    fn a_draft_of_a_killed_server_is_no_session() {
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).check_password("aaaaaaaaaa+ann", "secret"));
        fs::write(dir.path().join(".bbbbbbbbbb"), "ann:").unwrap();
        assert_eq!(open(dir.path()).owners(), ["aaaaaaaaaa"]);
        assert!(!dir.path().join(".bbbbbbbbbb").exists());
    }

    #[test]
    fn a_sessions_rules_say_who_may_log_in() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = open(dir.path());
        let id: SessionId = "aaaaaaaaaa".parse().unwrap();
        assert!(accounts.check_password("aaaaaaaaaa+early", "bird"));
        accounts.set_rules(&id, &rules(Logins::List, &[("ann", "secret"), ("bob", "word")])).unwrap();
        for accounts in [&accounts, &open(dir.path())] {
            assert!(accounts.check_password("aaaaaaaaaa+ann", "secret"));
            assert!(!accounts.check_password("aaaaaaaaaa+ann", "word"));
            assert!(!accounts.check_password("aaaaaaaaaa+new", "x"), "no account is made by a login");
            assert!(!accounts.check_password("aaaaaaaaaa+early", "bird"), "nor is one kept");
            assert!(accounts.check_password("bbbbbbbbbb+new", "x"), "other sessions are as before");
            let told = accounts.rules(&id);
            assert_eq!((told.logins, told.accounts), (Logins::List, vec!["ann".into(), "bob".into()]));
        }
        accounts.set_rules(&id, &rules(Logins::Closed, &[("ann", "secret")])).unwrap();
        assert!(!accounts.check_password("aaaaaaaaaa+ann", "secret"));
        accounts.set_rules(&id, &rules(None, &[])).unwrap();
        assert!(accounts.check_password("aaaaaaaaaa+new", "x"), "as for all sessions: open");
    }

    #[test]
    fn the_operator_sets_what_all_sessions_have() {
        let dir = tempfile::tempdir().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("# staff\n{}\n", Accounts::line("teacher", "chalk").unwrap()))
            .unwrap();
        let site = site(Logins::List, Some(fs::read_to_string(file.path()).unwrap()));
        let accounts = SiteAccounts::open(dir.path(), &site).unwrap();
        assert!(accounts.check_password("aaaaaaaaaa+teacher", "chalk"));
        assert!(accounts.check_password("bbbbbbbbbb+teacher", "chalk"));
        assert!(!accounts.check_password("aaaaaaaaaa+pupil", "x"));
        let id: SessionId = "aaaaaaaaaa".parse().unwrap();
        assert_eq!(accounts.rules(&id).accounts, ["teacher"]);
        // A session's own account comes first.
        accounts.set_rules(&id, &rules(Logins::Open, &[("teacher", "mine")])).unwrap();
        assert!(accounts.check_password("aaaaaaaaaa+teacher", "mine"));
        assert!(!accounts.check_password("aaaaaaaaaa+teacher", "chalk"));
        assert!(accounts.check_password("aaaaaaaaaa+pupil", "x"));
    }

    #[test]
    fn rules_that_cannot_be_are_refused_whole() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = open(dir.path());
        let id: SessionId = "aaaaaaaaaa".parse().unwrap();
        let refused = |accounts_of: &[(&str, &str)]| {
            accounts.set_rules(&id, &rules(Logins::Closed, accounts_of)).unwrap_err().to_string()
        };
        assert!(refused(&[("ann", "ok"), ("a:b", "x")]).contains("must not have a colon"));
        assert!(refused(&[("ann", "")]).contains("1 to 72 bytes"));
        assert!(refused(&[(&"n".repeat(65), "x")]).contains("at most 64"));
        assert!(refused(&vec![("ann", "x"); 51]).contains("at most 50"));
        assert!(accounts.check_password("aaaaaaaaaa+ann", "x"), "nothing has changed");
    }

    #[test]
    fn a_session_has_its_own_and_what_is_shared() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = open(dir.path());
        let may = |repository, action| accounts.allows(Some("aaaaaaaaaa+ann"), repository, action);
        assert!(may("aaaaaaaaaa/app", Action::Push) && may("aaaaaaaaaa/app", Action::Delete));
        assert!(!may("bbbbbbbbbb/app", Action::Pull));
        assert!(may("shared/app", Action::Pull) && may("shared/app", Action::Push));
        assert!(!may("shared/app", Action::Delete));
        // Its own it may do with as it likes; for what it shares it answers.
        let setter = |repository| accounts.setter(Some("aaaaaaaaaa+ann"), repository);
        assert_eq!((setter("shared/app"), setter("aaaaaaaaaa/app")), (Some("aaaaaaaaaa".into()), None));
        assert_eq!(setter("sharedapp"), None);
        assert!(!accounts.allows(None, "aaaaaaaaaa/app", Action::Pull));
    }
}
