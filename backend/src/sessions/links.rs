//! Links: who may do what. Tokens are compared by hash, in constant time, among the links of one session. Called by
//! `auth` and the API of links.

use super::{Sessions, live::Live, now};
use crate::{
    error::Error,
    store::{LinkRow, SessionRow},
    token,
};
use drydock_protocol::{SessionId, api::Status, state::Role};
use std::sync::Arc;

/// Links of one session, revoked ones too.
const MOST_LINKS: usize = 200;

/// What a token opens.
#[derive(Debug)]
pub enum Opened {
    /// A session that has not ended.
    Live(Arc<Live>, LinkRow),
    /// A session that has.
    Ended(Box<SessionRow>, LinkRow),
}

impl Sessions {
    /// What tokens open: of several, the greatest right that any of them gives. The same error whatever is wrong with them or the id.
    pub fn open(&self, id: &SessionId, tokens: &[&str]) -> Result<Opened, Error> {
        let hashes: Vec<_> = tokens.iter().map(|token| token::hash(token)).collect();
        let links = self.store.links(id).map_err(Error::internal)?;
        let link = links
            .into_iter()
            .filter(|l| hashes.iter().any(|hash| token::same(&l.hash, hash)) && !l.revoked)
            .max_by_key(|l| (!is_over(l), l.role))
            .ok_or_else(Error::no_right)?;
        let live = self.live(id);
        if let Some(live) = live.clone().filter(|live| !live.has_ended()) {
            return if is_over(&link) { Err(Error::no_right()) } else { Ok(Opened::Live(live, link)) };
        }
        let row = self.row(id)?.ok_or_else(Error::no_right)?;
        let row = live.map_or(row.clone(), |live| live.ending(row));
        match row.status {
            // Its holder may learn that it is over even if the link was to end with it.
            Status::Ended if link.expires_at.is_none_or(|t| row.ended_at.is_some_and(|end| t >= end)) => {
                Ok(Opened::Ended(Box::new(row), link))
            }
            Status::Ended => Err(Error::no_right()),
            _ => Err(crate::warden::WardenError::Lost.into()),
        }
    }

    /// What the operator may open.
    pub fn open_as_operator(&self, id: &SessionId) -> Result<Arc<Live>, Error> {
        let live = self.live(id);
        if let Some(live) = live.clone().filter(|live| !live.has_ended()) {
            return Ok(live);
        }
        match self.row(id)?.map(|row| live.map_or(row.clone(), |live| live.ending(row))) {
            Some(row) if row.status == Status::Ended => Err(Error::ended(self.picture(row, Role::Own, None))),
            Some(_) => Err(crate::warden::WardenError::Lost.into()),
            None => Err(Error::not_found(
                "session_not_found",
                format!("There is no session {id}. `drydock session list` shows those that run."),
            )),
        }
    }

    /// Whether a link still opens its session.
    pub fn link_holds(&self, id: &SessionId, link: u64) -> bool {
        let links = self.store.links(id).unwrap_or_default();
        links.iter().any(|l| l.id == link && !l.revoked && !is_over(l))
    }

    /// Makes a link; the token is told only here.
    pub fn make_link(&self, live: &Live, role: Role, ttl: Option<u64>) -> Result<(LinkRow, String), Error> {
        if self.store.links(&live.id).map_err(Error::internal)?.len() >= MOST_LINKS {
            return Err(Error::limit("too_many_links", format!("A session has at most {MOST_LINKS} links.")));
        }
        if ttl == Some(0) {
            return Err(Error::invalid("bad_ttl", "A link must open its session for at least one second."));
        }
        let token = token::new_token().map_err(Error::internal)?;
        let hash = token::hash(&token);
        let expires_at = ttl.map(|t| now().saturating_add(t).min(i64::MAX as u64));
        let id = self.store.insert_link(&live.id, &hash, role, expires_at).map_err(Error::internal)?;
        Ok((LinkRow { id, hash, role, expires_at, revoked: false }, token))
    }

    /// A session's links.
    pub fn links(&self, live: &Live) -> Result<Vec<LinkRow>, Error> {
        self.store.links(&live.id).map_err(Error::internal)
    }

    /// Revokes a link: its connections close at once. Whoever could open ports may have kept their addresses, so
    /// these are made anew.
    pub fn revoke_link(&self, live: &Live, link: u64) -> Result<(), Error> {
        let links = self.links(live)?;
        let Some(row) = links.iter().find(|l| l.id == link) else {
            return Err(Error::not_found("link_not_found", format!("This session has no link {link}.")));
        };
        self.store.revoke_link(&live.id, link).map_err(Error::internal)?;
        if row.role >= Role::Type {
            let secret = token::random().map_err(Error::internal)?;
            self.store.set_port_secret(&live.id, &secret).map_err(Error::internal)?;
            live.port_secret.send_replace(secret);
        }
        live.links_changed.send_modify(|n| *n += 1);
        Ok(())
    }
}

fn is_over(link: &LinkRow) -> bool {
    link.expires_at.is_some_and(|t| t <= now())
}
