//! The sessions that this browser made or entered, so that the start page can list them; kept in localStorage under
//! `drydock.sessions`. No secret is kept: the right to a session is a cookie that the page can't read.

use crate::{
    browser,
    logic::read::{Read, field, objects},
};
use drydock_protocol::SessionId;
use serde::Serialize;
use serde_json::Value;

const KEY: &str = "drydock.sessions";
/// Most sessions that are remembered.
const MOST: usize = 20;

/// A session to come back to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OwnSession {
    /// Its id.
    pub id: SessionId,
    /// Its playground, if this browser knows.
    pub playground: Option<String>,
    /// Its number of nodes.
    pub nodes: Option<u8>,
    /// When it ends, seconds since 1970.
    pub expires_at: u64,
}

objects! { OwnSession { id, playground, nodes, expires_at } }

/// The sessions that have not ended, newest first. Forgets the others and how their terminals were arranged.
pub fn list() -> Vec<OwnSession> {
    let all: Vec<OwnSession> = browser::load(KEY).unwrap_or_default();
    let live = living(all.clone(), browser::wall_clock());
    if live.len() != all.len() {
        browser::save(KEY, &live);
    }
    for key in browser::stored_keys(LAYOUT) {
        let id = key.strip_prefix(LAYOUT).unwrap_or_default();
        if !live.iter().any(|s| id.starts_with(s.id.as_str())) {
            browser::forget(&key);
        }
    }
    live
}

/// Prefix of the keys under which arrangements are kept; the session's id follows.
pub const LAYOUT: &str = "drydock.layout.";

/// What is remembered about one session.
pub fn find(id: &SessionId) -> Option<OwnSession> {
    browser::load::<Vec<OwnSession>>(KEY)?.into_iter().find(|s| s.id == *id)
}

/// Remembers a session, or what is new about it.
pub fn remember(session: OwnSession) {
    browser::save(KEY, &with(browser::load(KEY).unwrap_or_default(), session));
}

/// Forgets a session.
pub fn forget(id: &SessionId) {
    let mut all: Vec<OwnSession> = browser::load(KEY).unwrap_or_default();
    all.retain(|s| s.id != *id);
    browser::save(KEY, &all);
}

fn living(mut all: Vec<OwnSession>, now: u64) -> Vec<OwnSession> {
    all.retain(|s| s.expires_at > now);
    all
}

fn with(mut all: Vec<OwnSession>, mut session: OwnSession) -> Vec<OwnSession> {
    if let Some(at) = all.iter().position(|s| s.id == session.id) {
        let old = all.remove(at);
        session.playground = session.playground.or(old.playground);
        session.nodes = session.nodes.or(old.nodes);
    }
    all.insert(0, session);
    all.truncate(MOST);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, expires_at: u64, nodes: Option<u8>) -> OwnSession {
        OwnSession { id: id.parse().unwrap(), playground: None, nodes, expires_at }
    }

    #[test]
    fn the_newest_is_first_and_nothing_known_is_lost() {
        let all = with(vec![session("aaaaaaaaaa", 5, None)], session("bbbbbbbbbb", 6, Some(3)));
        let all = with(all, session("bbbbbbbbbb", 9, None));
        assert_eq!(all, [session("bbbbbbbbbb", 9, Some(3)), session("aaaaaaaaaa", 5, None)]);
        assert_eq!(living(all, 5).len(), 1);
    }
}
