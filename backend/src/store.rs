//! The database: sessions, links and traces, in one SQLite file. Called by `sessions` only. Every call is one short
//! statement on a local file (microseconds), so it is made in place. Writes go to the write-ahead log without
//! waiting for the disk: after `kill -9` nothing is lost, after a power cut there are no sessions left anyway.

use crate::token::{PortSecret, TokenHash};
use drydock_protocol::{SessionId, api::Status, pipe::Step, state::Role};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Steps from one version of the schema to the next; `user_version` counts those already taken. Never change one
/// that was released: add another.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE session (
        id TEXT PRIMARY KEY,
        playground TEXT NOT NULL,
        nodes INTEGER NOT NULL,
        client TEXT NOT NULL,
        status TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        ended_at INTEGER,
        ended_because TEXT,
        port_secret BLOB NOT NULL,
        trace TEXT NOT NULL DEFAULT '[]'
    ) STRICT;
    CREATE INDEX session_status ON session (status);
    CREATE TABLE link (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        session TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
        token_hash BLOB NOT NULL,
        role TEXT NOT NULL,
        expires_at INTEGER,
        revoked INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX link_session ON link (session);
"];

/// The database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite said no.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The image registry's files.
    #[error("the image registry below the state directory: {0}")]
    Registry(#[source] std::io::Error),
    /// Written by a newer program.
    #[error(
        "the database has version {found}, this program knows {known}: use a newer drydock or another --state-dir"
    )]
    TooNew {
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
}

/// A session's row.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// The id.
    pub id: SessionId,
    /// Its playground.
    pub playground: String,
    /// Number of nodes.
    pub nodes: u8,
    /// Client address of its maker.
    pub client: String,
    /// How it stands.
    pub status: Status,
    /// Seconds since 1970.
    pub created_at: u64,
    /// Seconds since 1970.
    pub expires_at: u64,
    /// Seconds since 1970.
    pub ended_at: Option<u64>,
    /// A sentence.
    pub ended_because: Option<String>,
    /// Key of its port addresses.
    pub port_secret: PortSecret,
    /// Steps of its start and stop.
    pub trace: Vec<Step>,
}

/// A link's row.
#[derive(Debug, Clone)]
pub struct LinkRow {
    /// Number.
    pub id: u64,
    /// Hash of its token.
    pub hash: TokenHash,
    /// What its holder may do.
    pub role: Role,
    /// Seconds since 1970; absent: as long as the session lives.
    pub expires_at: Option<u64>,
    /// Opens nothing any more.
    pub revoked: bool,
}

/// The open database.
#[derive(Debug)]
pub struct Store(Mutex<Connection>);

impl Store {
    /// Opens the file, makes it if need be, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::prepare(Connection::open(path)?)
    }

    fn prepare(mut db: Connection) -> Result<Self, StoreError> {
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "foreign_keys", true)?;
        let found: usize =
            db.pragma_query_value(None, "user_version", |r| r.get::<_, i64>(0)).map(|v| v.max(0) as usize)?;
        let known = MIGRATIONS.len();
        if found > known {
            return Err(StoreError::TooNew { found, known });
        }
        for (n, sql) in MIGRATIONS.iter().enumerate().skip(found) {
            let step = db.transaction()?;
            step.execute_batch(sql)?;
            step.pragma_update(None, "user_version", (n + 1) as i64)?;
            step.commit()?;
        }
        Ok(Self(Mutex::new(db)))
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic in another thread leaves SQLite itself consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a new session's row.
    pub fn insert_session(&self, row: &SessionRow) -> Result<(), StoreError> {
        self.db()
            .prepare_cached(
                "INSERT INTO session (id, playground, nodes, client, status, created_at, expires_at, port_secret)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                row.id.as_str(),
                row.playground,
                row.nodes,
                row.client,
                status_text(row.status),
                row.created_at as i64,
                row.expires_at as i64,
                &row.port_secret[..],
            ])?;
        Ok(())
    }

    /// Forgets a session as if it had never been (its creation failed).
    pub fn delete_session(&self, id: &SessionId) -> Result<(), StoreError> {
        self.db().prepare_cached("DELETE FROM session WHERE id = ?1")?.execute([id.as_str()])?;
        Ok(())
    }

    /// One session.
    pub fn session(&self, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        let db = self.db();
        let mut query = db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
        Ok(query.query_row([id.as_str()], read_session).optional()?)
    }

    /// All sessions that have not ended, oldest first.
    pub fn live_sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let db = self.db();
        let mut query =
            db.prepare_cached(&format!("{SELECT} WHERE status <> 'ended' ORDER BY created_at, id"))?;
        Ok(query.query_map([], read_session)?.collect::<Result<_, _>>()?)
    }

    /// Sets how a session stands.
    pub fn set_status(&self, id: &SessionId, status: Status) -> Result<(), StoreError> {
        self.db()
            .prepare_cached("UPDATE session SET status = ?2 WHERE id = ?1 AND status <> 'ended'")?
            .execute([id.as_str(), status_text(status)])?;
        Ok(())
    }

    /// Sets when a session ends.
    pub fn set_expiry(&self, id: &SessionId, expires_at: u64) -> Result<(), StoreError> {
        self.db()
            .prepare_cached("UPDATE session SET expires_at = ?2 WHERE id = ?1")?
            .execute(params![id.as_str(), expires_at as i64])?;
        Ok(())
    }

    /// Sets how many nodes a session has.
    pub fn set_nodes(&self, id: &SessionId, nodes: u8) -> Result<(), StoreError> {
        self.db()
            .prepare_cached("UPDATE session SET nodes = ?2 WHERE id = ?1")?
            .execute(params![id.as_str(), nodes])?;
        Ok(())
    }

    /// Replaces a session's trace.
    pub fn set_trace(&self, id: &SessionId, trace: &[Step]) -> Result<(), StoreError> {
        let text = serde_json::to_string(trace).unwrap_or_else(|_| "[]".into());
        self.db()
            .prepare_cached("UPDATE session SET trace = ?2 WHERE id = ?1")?
            .execute([id.as_str(), &text])?;
        Ok(())
    }

    /// Replaces the key of a session's port addresses.
    pub fn set_port_secret(&self, id: &SessionId, secret: &PortSecret) -> Result<(), StoreError> {
        self.db()
            .prepare_cached("UPDATE session SET port_secret = ?2 WHERE id = ?1")?
            .execute(params![id.as_str(), &secret[..]])?;
        Ok(())
    }

    /// Notes a session's end; the first reason stays.
    pub fn end_session(&self, id: &SessionId, at: u64, because: &str) -> Result<(), StoreError> {
        self.db()
            .prepare_cached(
                "UPDATE session SET status = 'ended', ended_at = ?2, ended_because = ?3 WHERE id = ?1 AND status <> 'ended'",
            )?
            .execute(params![id.as_str(), at as i64, because])?;
        Ok(())
    }

    /// Forgets sessions that ended before this time.
    pub fn purge(&self, ended_before: u64) -> Result<usize, StoreError> {
        Ok(self
            .db()
            .prepare_cached("DELETE FROM session WHERE status = 'ended' AND ended_at < ?1")?
            .execute([ended_before as i64])?)
    }

    /// Writes a link and tells its number.
    pub fn insert_link(
        &self,
        session: &SessionId,
        hash: &TokenHash,
        role: Role,
        expires_at: Option<u64>,
    ) -> Result<u64, StoreError> {
        let db = self.db();
        db.prepare_cached(
            "INSERT INTO link (session, token_hash, role, expires_at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            session.as_str(),
            &hash[..],
            role_text(role),
            expires_at.map(|t| t as i64)
        ])?;
        Ok(db.last_insert_rowid() as u64)
    }

    /// A session's links, oldest first.
    pub fn links(&self, session: &SessionId) -> Result<Vec<LinkRow>, StoreError> {
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT id, token_hash, role, expires_at, revoked FROM link WHERE session = ?1 ORDER BY id",
        )?;
        Ok(query.query_map([session.as_str()], read_link)?.collect::<Result<_, _>>()?)
    }

    /// Revokes a link; false if the session has none of that number.
    pub fn revoke_link(&self, session: &SessionId, link: u64) -> Result<bool, StoreError> {
        let n = self
            .db()
            .prepare_cached("UPDATE link SET revoked = 1 WHERE session = ?1 AND id = ?2")?
            .execute(params![session.as_str(), link as i64])?;
        Ok(n > 0)
    }
}

const SELECT: &str =
    "SELECT id, playground, nodes, client, status, created_at, expires_at, ended_at, ended_because,
                      port_secret, trace FROM session";

fn read_session(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let bad = |column, what: &str| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, format!("bad {what}").into())
    };
    Ok(SessionRow {
        id: row.get::<_, String>(0)?.parse().map_err(|_| bad(0, "id"))?,
        playground: row.get(1)?,
        nodes: row.get(2)?,
        client: row.get(3)?,
        status: status_of(&row.get::<_, String>(4)?).ok_or_else(|| bad(4, "status"))?,
        created_at: row.get::<_, i64>(5)?.max(0) as u64,
        expires_at: row.get::<_, i64>(6)?.max(0) as u64,
        ended_at: row.get::<_, Option<i64>>(7)?.map(|t| t.max(0) as u64),
        ended_because: row.get(8)?,
        port_secret: row.get::<_, Vec<u8>>(9)?.try_into().map_err(|_| bad(9, "port secret"))?,
        trace: serde_json::from_str(&row.get::<_, String>(10)?).map_err(|_| bad(10, "trace"))?,
    })
}

fn read_link(row: &Row<'_>) -> rusqlite::Result<LinkRow> {
    let bad = |column, what: &str| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, format!("bad {what}").into())
    };
    Ok(LinkRow {
        id: row.get::<_, i64>(0)?.max(0) as u64,
        hash: row.get::<_, Vec<u8>>(1)?.try_into().map_err(|_| bad(1, "token hash"))?,
        role: role_of(&row.get::<_, String>(2)?).ok_or_else(|| bad(2, "role"))?,
        expires_at: row.get::<_, Option<i64>>(3)?.map(|t| t.max(0) as u64),
        revoked: row.get(4)?,
    })
}

fn status_text(status: Status) -> &'static str {
    match status {
        Status::Starting => "starting",
        Status::Running => "running",
        Status::Asleep => "asleep",
        Status::Ended => "ended",
    }
}

fn status_of(text: &str) -> Option<Status> {
    [Status::Starting, Status::Running, Status::Asleep, Status::Ended]
        .into_iter()
        .find(|s| status_text(*s) == text)
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::View => "view",
        Role::Type => "type",
        Role::Own => "own",
    }
}

fn role_of(text: &str) -> Option<Role> {
    [Role::View, Role::Type, Role::Own].into_iter().find(|r| role_text(*r) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str) -> SessionRow {
        SessionRow {
            id: id.parse().unwrap(),
            playground: "linux".into(),
            nodes: 2,
            client: "127.0.0.1".into(),
            status: Status::Starting,
            created_at: 10,
            expires_at: 20,
            ended_at: None,
            ended_because: None,
            port_secret: [1; 32],
            trace: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("drydock.db");
        let a = row("aaaaaaaaaa");
        {
            let store = Store::open(&path).unwrap();
            store.insert_session(&a).unwrap();
            store.set_status(&a.id, Status::Running).unwrap();
            store.set_trace(&a.id, &[Step { name: "x".into(), start_micros: 1, micros: 2 }]).unwrap();
            store.insert_link(&a.id, &[9; 32], Role::Type, Some(15)).unwrap();
        }
        let store = Store::open(&path).unwrap();
        let live = store.live_sessions().unwrap();
        assert_eq!((live.len(), live[0].status, live[0].trace.len()), (1, Status::Running, 1));
        let links = store.links(&a.id).unwrap();
        assert_eq!((links[0].role, links[0].expires_at, links[0].revoked), (Role::Type, Some(15), false));
        assert!(store.revoke_link(&a.id, links[0].id).unwrap());
        assert!(!store.revoke_link(&a.id, 999).unwrap());
        assert!(store.links(&a.id).unwrap()[0].revoked);
    }

    #[test]
    fn the_first_reason_of_an_end_stays_and_old_ends_are_forgotten() {
        let store = Store::prepare(Connection::open_in_memory().unwrap()).unwrap();
        let a = row("aaaaaaaaaa");
        store.insert_session(&a).unwrap();
        store.insert_link(&a.id, &[9; 32], Role::Own, None).unwrap();
        store.end_session(&a.id, 30, "first").unwrap();
        store.end_session(&a.id, 31, "second").unwrap();
        store.set_status(&a.id, Status::Running).unwrap();
        let read = store.session(&a.id).unwrap().unwrap();
        assert_eq!((read.status, read.ended_because.as_deref()), (Status::Ended, Some("first")));
        assert_eq!(store.purge(30).unwrap(), 0);
        assert_eq!(store.purge(31).unwrap(), 1);
        assert!(store.links(&a.id).unwrap().is_empty());
    }
}
