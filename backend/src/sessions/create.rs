//! Making a session: admission, then row, warden, session process, owner's link. Called by the API. Either all of it
//! is done or nothing of it is left, also when the asker goes away in the middle.

use super::{
    IMAGE, OPERATOR, Sessions, Table, Tracer,
    live::{End, EndKind, Live, Phase},
    now,
    queue::{self, Turn, Want},
};
use crate::{error::Error, playgrounds, store::SessionRow, token, warden::WardenError};
use drydock_protocol::{
    SessionId,
    api::{CreateSession, NodeAddress, Queued, Status},
    pipe::{Control, Reply},
    state::{Role, SessionState},
};
use drydock_warden::messages::{Answer, FailureKind, Request};
use futures_util::FutureExt;
use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Instant,
};
use tokio::sync::oneshot;

/// A session just made.
#[derive(Debug)]
pub struct Made {
    /// The session.
    pub live: Arc<Live>,
    /// The owner's token.
    pub token: String,
    /// Its nodes.
    pub nodes: Vec<NodeAddress>,
    /// Milliseconds from the request's arrival to the first prompt.
    pub ready_ms: f64,
}

/// What became of a wish for a session.
#[derive(Debug)]
pub enum Outcome {
    /// It is there.
    Made(Box<Made>),
    /// The host is full.
    Queued(Queued),
}

impl Sessions {
    /// Checks what a newcomer wants.
    pub fn check(&self, wish: &CreateSession, client: Option<String>) -> Result<Want, Error> {
        let Some(playground) = playgrounds::find(&wish.playground) else {
            let name: String = wish.playground.chars().take(40).collect();
            return Err(Error::invalid(
                "unknown_playground",
                format!("There is no playground '{name}'. There are: {}.", playgrounds::names()),
            ));
        };
        let most = self.config.session_nodes;
        let nodes = wish.nodes.unwrap_or_else(|| playground.nodes.min(most));
        if nodes == 0 || nodes > most {
            return Err(Error::invalid(
                "bad_nodes",
                format!("A session has 1 to {most} nodes, not {nodes}."),
            ));
        }
        let longest = self.config.max_ttl.seconds();
        let ttl = wish.ttl_seconds.unwrap_or(self.config.default_ttl.seconds().min(longest));
        if ttl == 0 || ttl > longest {
            return Err(Error::invalid(
                "bad_ttl",
                format!("A session lives 1 to {longest} seconds, not {ttl}."),
            ));
        }
        Ok(Want { playground: wish.playground.clone(), nodes, ttl, client })
    }

    /// Makes a session or gives a place in the queue.
    pub async fn create(self: &Arc<Self>, want: Want, arrived: Instant) -> Result<Outcome, Error> {
        self.must_have_space(arrived)?;
        let admitted = {
            let mut table = self.table();
            let waiting = table.queue.waiting(arrived);
            self.must_have_share(&mut table, &want, arrived)?;
            let free = self.capacity.saturating_sub(table.live.len() as u32);
            // The operator waits behind nobody.
            let is_operator = want.client.is_none();
            if free > waiting || (is_operator && free > 0) {
                Ok(table.admit(self.new_row(&want)?))
            } else if table.queue.len(arrived) >= self.config.queue_length && !is_operator {
                table.tell_operator(arrived, "newcomers are refused: --queue-length is reached");
                return Err(Error::unavailable(
                    "host_full",
                    "This server is full and so many people wait already that it takes no more. Try again in a few minutes.",
                ));
            } else {
                let ticket = token::new_token().map_err(Error::internal)?;
                let place = table.queue.join(ticket.clone(), want, arrived);
                Err(self.queued(&table, ticket, place))
            }
        };
        match admitted {
            Ok((live, row)) => self.make(live, row, arrived).await.map(|made| Outcome::Made(Box::new(made))),
            Err(queued) => Ok(Outcome::Queued(queued)),
        }
    }

    /// Gives up a place in the queue.
    pub fn leave(&self, ticket: &str) -> Result<(), Error> {
        let left = self.table().queue.leave(ticket);
        left.then_some(()).ok_or_else(|| {
            Error::not_found(
                "no_ticket",
                "This place in the queue is gone already: it was used, or given up.",
            )
        })
    }

    /// Asks about a place in the queue; makes the session when it is its turn.
    pub async fn ask(self: &Arc<Self>, ticket: &str, arrived: Instant) -> Result<Outcome, Error> {
        let admitted = {
            let mut table = self.table();
            let free = match self.is_disk_full() {
                true => 0,
                false => self.capacity.saturating_sub(table.live.len() as u32),
            };
            match table.queue.ask(ticket, free, arrived) {
                Turn::Lost => {
                    return Err(Error::not_found(
                        "no_ticket",
                        "This place in the queue is gone: it was used, or nobody asked about it for a minute. Join the queue again.",
                    ));
                }
                Turn::Wait(place) => Err(self.queued(&table, ticket.to_owned(), place)),
                Turn::Now(want) => Ok(table.admit(self.new_row(&want)?)),
            }
        };
        match admitted {
            Ok((live, row)) => self.make(live, row, arrived).await.map(|made| Outcome::Made(Box::new(made))),
            Err(queued) => Ok(Outcome::Queued(queued)),
        }
    }

    /// Refuses while the host's disk is nearly full: what learners write then would not go there.
    fn must_have_space(&self, arrived: Instant) -> Result<(), Error> {
        if !self.is_disk_full() {
            return Ok(());
        }
        let why = "newcomers are refused: the disk of the state directory is nearly full";
        self.table().tell_operator(arrived, why);
        Err(Error::unavailable(
            "disk_full",
            "The disk of this server is nearly full, so it makes no new sessions. Its operator has to make room.",
        ))
    }

    /// Refuses an address that has its share.
    fn must_have_share(&self, table: &mut Table, want: &Want, arrived: Instant) -> Result<(), Error> {
        let (Some(client), most) = (&want.client, self.config.sessions_per_client) else { return Ok(()) };
        let theirs = table.live.values().filter(|l| l.client.as_ref() == Some(client)).count() as u32;
        if theirs + table.queue.of_client(client) < most {
            return Ok(());
        }
        table.tell_operator(
            arrived,
            "an address has as many sessions as one may have; for a class behind one address raise --sessions-per-client",
        );
        Err(Error::limit(
            "too_many_sessions",
            format!(
                "Your network address has {most} sessions, the most allowed here. End one that you no longer need."
            ),
        ))
    }

    fn queued(&self, table: &Table, ticket: String, place: u32) -> Queued {
        let now = now();
        let left = |live: &Arc<Live>| live.life.borrow().expires_at.saturating_sub(now);
        let free = (self.capacity as usize).saturating_sub(table.live.len());
        let mut remaining: Vec<u64> =
            table.live.values().map(left).chain(std::iter::repeat_n(0, free)).collect();
        queue::queued(ticket, place, &mut remaining, self.config.default_ttl.seconds())
    }

    /// Has the warden keep a session ready for whoever comes next, if there is a place for another.
    pub async fn keep_ready(&self) {
        if !self.config.keep_ready || self.running() >= self.capacity {
            return;
        }
        let id = match self.take_next_id() {
            Ok(id) => id,
            Err(e) => return tracing::error!(error = %e, "no id for the next session"),
        };
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
        let (limits, egress) = (self.config.limits(), self.config.egress());
        if let Err(e) = self.warden.done(Request::KeepReady { id, image: IMAGE.into(), limits, egress }).await
        {
            // The next session is made when somebody asks for it.
            tracing::debug!(error = %e, "no session is kept ready");
        }
    }

    fn take_next_id(&self) -> Result<SessionId, token::NoRandom> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        next.map_or_else(token::new_session_id, Ok)
    }

    /// The session that was kept ready is gone: what is left of it may still be in the way of another under its id.
    pub fn forget_next(&self, is_gone: impl Fn(&SessionId) -> bool) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).take_if(|next| is_gone(next));
    }

    fn new_row(&self, want: &Want) -> Result<SessionRow, Error> {
        let created_at = now();
        Ok(SessionRow {
            id: self.take_next_id().map_err(Error::internal)?,
            playground: want.playground.clone(),
            nodes: want.nodes,
            client: want.client.clone().unwrap_or_else(|| OPERATOR.into()),
            status: Status::Starting,
            created_at,
            expires_at: created_at + want.ttl,
            ended_at: None,
            ended_because: None,
            port_secret: token::random().map_err(Error::internal)?,
            trace: Vec::new(),
        })
    }

    /// Makes an admitted session in a task of its own, so that an asker who goes away does not stop it half-way.
    async fn make(
        self: &Arc<Self>,
        live: Arc<Live>,
        row: SessionRow,
        arrived: Instant,
    ) -> Result<Made, Error> {
        let (tell, told) = oneshot::channel();
        let sessions = self.clone();
        tokio::spawn(async move {
            let result = unless_panicked(sessions.make_steps(&live, row, arrived)).await;
            match &result {
                Ok(made) => {
                    sessions.metrics.created(made.ready_ms);
                    tokio::spawn(sessions.clone().mind(live.clone()));
                }
                Err(error) => {
                    tracing::warn!(id = %live.id, %error, "a session could not be made");
                    sessions.undo(&live).await;
                }
            }
            if let Err(Ok(_)) = tell.send(result) {
                // Nobody knows its token.
                sessions.end(&live, EndKind::Deleted, "Its maker went away while it was made.").await;
            }
            sessions.keep_ready().await;
        });
        told.await.map_err(|_| Error::internal("the task that makes a session panicked"))?
    }

    async fn make_steps(&self, live: &Arc<Live>, row: SessionRow, arrived: Instant) -> Result<Made, Error> {
        let id = &live.id;
        let mut tracer = Tracer::new(arrived);
        tracer.done("admit");
        self.store.insert_session(&row).map_err(Error::internal)?;
        tracer.done("write the row");

        let limits = self.config.limits();
        let request = Request::Create {
            id: id.clone(),
            nodes: row.nodes,
            image: IMAGE.into(),
            limits,
            egress: self.config.egress(),
            cluster: playgrounds::find(&row.playground).is_some_and(|kind| kind.cluster),
        };
        let Answer::Created { trace } = self.warden.call(request).await.map_err(not_made)? else {
            return Err(WardenError::Confused.into());
        };
        // The warden's moment of arrival is also zero of the session's own time line.
        let start = tracer.done("warden");
        tracer.merge("warden", start, trace);

        let reply = self.sockets.control(id, Control::Ready).await?;
        tracer.done("session until its prompt");
        let Reply::Ready { trace } = reply else {
            return Err(crate::pipe::PipeError::Malformed("an answer to another question").into());
        };
        tracer.merge("session", start, trace);
        let ready_ms = arrived.elapsed().as_secs_f64() * 1000.0;

        let nodes = addresses(&self.state(id).await?.0);
        tracer.done("ask for addresses");
        let token = token::new_token().map_err(Error::internal)?;
        self.store.insert_link(id, &token::hash(&token), Role::Own, None).map_err(Error::internal)?;
        if !live.set_phase(Phase::Running) {
            return Err(Error::unavailable(
                "session_died",
                "The session ended while it was made. Try again.",
            ));
        }
        self.store.set_status(id, Status::Running).map_err(Error::internal)?;
        live.nodes.store(nodes.len() as u32, Ordering::Relaxed);
        tracer.done("write the owner's link");
        self.store.set_trace(id, &tracer.steps).map_err(Error::internal)?;
        Ok(Made { live: live.clone(), token, nodes, ready_ms })
    }

    /// Leaves nothing of a session whose making failed.
    async fn undo(&self, live: &Arc<Live>) {
        live.set_phase(Phase::Ended(End { kind: EndKind::Failed, because: "It could not be made.".into() }));
        if let Err(e) = self.warden.call(Request::Destroy { id: live.id.clone() }).await {
            // The comparison with the warden destroys it when the warden is back.
            tracing::warn!(id = %live.id, error = %e, "cannot destroy a half-made session now");
        }
        if let Err(e) = self.store.delete_session(&live.id) {
            tracing::error!(id = %live.id, error = %e, "cannot delete the row of a half-made session");
        }
        self.table().live.remove(&live.id);
        self.metrics.ended(EndKind::Failed);
    }
}

/// A panic as an error, so that what was begun can be undone.
async fn unless_panicked<T>(steps: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    // What the steps have half changed is thrown away.
    let done = AssertUnwindSafe(steps).catch_unwind().await;
    done.unwrap_or_else(|_| Err(Error::internal("making a session panicked")))
}

/// The warden does not know the image: nothing that the asker could mend.
fn not_made(e: WardenError) -> Error {
    match e {
        WardenError::Failed { kind: FailureKind::NotFound, message } => {
            Error::unavailable("no_image", message)
        }
        e => e.into(),
    }
}

/// The addresses of a state's nodes.
pub fn addresses(state: &SessionState) -> Vec<NodeAddress> {
    state
        .nodes
        .iter()
        .take(99)
        .map(|n| NodeAddress { name: n.name, address: n.address.chars().take(45).collect() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_like_others() {
        let broken: Result<u32, Error> = unless_panicked(async { panic!("a step") }).await;
        assert_eq!(broken.unwrap_err().code, "internal");
        assert_eq!(unless_panicked(async { Ok(7) }).await.unwrap(), 7);
    }
}
