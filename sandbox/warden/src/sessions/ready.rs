//! The session that is kept ready under the id that serve will give out next: all of it but running nodes, also the disk of its first
//! one. Whoever asks for it waits for its nodes only. It is nobody's before: it is in no list, and nothing of it outlives the connection that wanted it.

use super::{Session, Sessions, Wish, check_egress};
use crate::error::Error;
use drydock_protocol::{NodeName, SessionId};
use drydock_runtime::{egress::Egress, limits::Limits, trace::Trace};
use std::os::fd::AsFd;

/// What shall be ready, and what is.
#[derive(Default)]
pub(super) struct Ready {
    /// Wanted and not made yet.
    wanted: Option<Wanted>,
    made: Option<(Session, Egress)>,
}

struct Wanted {
    id: SessionId,
    image: String,
    limits: Limits,
    egress: Egress,
}

impl Ready {
    /// The session, if it is made.
    pub(super) fn session(&self) -> Option<&Session> {
        self.made.as_ref().map(|(session, _)| session)
    }
}

impl Sessions {
    /// From now on this session shall be ready, and no other.
    pub fn keep_ready(
        &mut self,
        id: SessionId,
        image: String,
        limits: Limits,
        egress: Egress,
    ) -> Result<(), Error> {
        limits.check().map_err(|e| Error::Invalid(e.to_string()))?;
        check_egress(&egress)?;
        if self.is_in_use(&id) {
            return Err(Error::SessionExists(id));
        }
        if self.is_ready(&id) {
            return Ok(());
        }
        self.keep_none_ready();
        self.ready.wanted = Some(Wanted { id, image, limits, egress });
        Ok(())
    }

    /// Whether one is wanted that is not made yet.
    pub fn owes_ready(&self) -> bool {
        self.ready.wanted.is_some()
    }

    /// Makes it. What fails here would fail when it is asked for, and is told then.
    pub fn make_ready(&mut self) {
        let Some(wanted) = self.ready.wanted.take() else { return };
        if let Err(e) = self.try_make_ready(wanted) {
            tracing::warn!("no session can be kept ready: {e}");
            self.keep_none_ready();
        }
    }

    fn try_make_ready(&mut self, wanted: Wanted) -> Result<(), Error> {
        let Wanted { id, image, limits, egress } = wanted;
        let layers = self.stores.images.resolve(&image)?;
        let mut session = self.make(&id, limits, &egress, &mut Trace::new())?;
        session.record.nodes.extend(NodeName::new(1));
        session.record.image = image;
        let Session { record, userns, .. } = &session;
        let handed_in = self.hand_in(record, &record.nodes, &layers, userns.as_fd());
        let done = handed_in.and_then(|_| record.save(self.place.state()));
        self.ready.made = Some((session, egress));
        done
    }

    /// Ends it, if it is made, and wants none.
    pub fn keep_none_ready(&mut self) {
        self.ready.wanted = None;
        if let Some((session, _)) = self.ready.made.take() {
            self.abandon(session.record);
        }
    }

    /// Whether this is the id of the one that is ready.
    pub fn is_ready(&self, id: &SessionId) -> bool {
        self.ready.session().is_some_and(|session| session.record.id == *id)
    }

    /// Takes it for somebody who asks for just this. Fails if it is another that has this id.
    pub(super) fn take_ready(&mut self, id: &SessionId, wish: &Wish<'_>) -> Result<Option<Session>, Error> {
        self.ready.wanted.take_if(|wanted| wanted.id == *id);
        if !self.is_ready(id) {
            return Ok(None);
        }
        let fits = |(session, egress): &mut (Session, Egress)| {
            let record = &session.record;
            record.image == wish.image
                && record.limits == wish.limits
                && egress == wish.egress
                && record.runs()
        };
        let made = self.ready.made.take_if(fits).ok_or_else(|| Error::SessionExists(id.clone()))?;
        Ok(Some(made.0))
    }
}
