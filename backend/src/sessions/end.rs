//! The end of sessions: by their owner, by time, by the operator, by themselves; and the comparison of the database
//! with what the warden really runs, after a start or a lost connection. Called by the API, the minder and `follow`.

use super::{
    KEEP_ENDED, Sessions, Tracer,
    live::{End, EndKind, Live, Phase},
    now,
};
use drydock_protocol::{SessionId, api::Status};
use drydock_warden::messages::{Answer, Request};
use std::{collections::HashSet, sync::Arc, time::Instant};

impl Sessions {
    /// Ends a session and deletes everything of it. Returns when that is done, or at once if somebody else does it; false: what runs
    /// of it is deleted when the warden is back. Goes on if the caller goes away.
    pub async fn end(self: &Arc<Self>, live: &Arc<Live>, kind: EndKind, because: &str) -> bool {
        let end = End { kind, because: because.to_owned() };
        // First close the connections, so that nobody sees a dying session.
        if !live.set_phase(Phase::Ended(end.clone())) {
            return true;
        }
        let (sessions, live) = (self.clone(), live.clone());
        let task = tokio::spawn(async move {
            let mut tracer = Tracer::new(Instant::now());
            let destroyed = sessions.warden.call(Request::Destroy { id: live.id.clone() }).await;
            if let Err(e) = &destroyed {
                // The comparison with the warden destroys it when the warden is back.
                tracing::warn!(id = %live.id, error = %e, "cannot destroy a session now");
            }
            let gone = destroyed.is_ok();
            let steps = match destroyed {
                Ok(Answer::Destroyed { trace }) => trace,
                _ => Vec::new(),
            };
            tracer.done("end");
            tracer.merge("warden, end", 0, steps);
            sessions.finish(&live.id, &end, tracer);
            gone
        });
        task.await.unwrap_or_else(|e| {
            tracing::error!(error = %e, "ending a session failed");
            false
        })
    }

    /// A session ended by itself, or for the sake of the host; the warden has deleted everything of it.
    pub(super) fn died(self: &Arc<Self>, id: &SessionId, reason: &str) {
        let Some(live) = self.live(id) else { return };
        let reason: String = reason.chars().take(200).collect();
        let end = End { kind: EndKind::Died, because: format!("It ended: {reason}.") };
        let was_starting = live.now().phase == Phase::Starting;
        if live.set_phase(Phase::Ended(end.clone())) && !was_starting {
            // (One that is being made is cleaned up by its maker.)
            self.finish(id, &end, Tracer::new(Instant::now()));
        }
    }

    fn finish(self: &Arc<Self>, id: &SessionId, end: &End, tracer: Tracer) {
        self.append_trace(id, tracer.steps);
        if let Err(e) = self.store.end_session(id, now(), &end.because) {
            tracing::error!(%id, error = %e, "cannot note the end of a session");
        }
        if let Err(e) = self.store.purge(now().saturating_sub(KEEP_ENDED)) {
            tracing::warn!(error = %e, "cannot forget old sessions");
        }
        self.table().live.remove(id);
        self.registry.forget(id.as_str());
        let sessions = self.clone();
        tokio::spawn(async move { sessions.registry.clean().await });
        self.metrics.ended(end.kind);
        tracing::info!(%id, because = end.because, "session ended");
    }

    /// Ends all sessions and the warden.
    pub async fn stop(self: &Arc<Self>) -> Result<u32, crate::error::Error> {
        let all: Vec<Arc<Live>> = self.table().live.values().cloned().collect();
        for live in &all {
            self.end(live, EndKind::Stopped, "The operator stopped the server.").await;
        }
        // Otherwise the end of this process cuts off what the ends of the sessions have begun.
        self.registry.clean().await;
        self.warden.done(Request::Exit).await?;
        Ok(all.len() as u32)
    }

    /// Makes database, memory and warden agree: sessions that the warden does not run have ended; what it runs
    /// without a row is destroyed; the rest goes on.
    pub(super) async fn reconcile(self: &Arc<Self>) {
        let _one_at_a_time = self.reconciling.lock().await;
        // The rows must be read before the list: a session that is made meanwhile is then in the table only, and
        // left alone.
        let rows = match self.store.live_sessions() {
            Ok(rows) => rows,
            Err(e) => return tracing::error!(error = %e, "cannot read the sessions"),
        };
        let runs: HashSet<SessionId> = match self.warden.call(Request::List).await {
            Ok(Answer::Sessions { sessions }) => sessions.into_iter().collect(),
            Ok(_) => return tracing::error!("the warden gave an answer to another question"),
            // Connecting again brings the next comparison.
            Err(e) => return tracing::warn!(error = %e, "cannot list the warden's sessions"),
        };
        for row in &rows {
            let known = self.live(&row.id);
            match (row.status, known, runs.contains(&row.id)) {
                (Status::Starting, Some(_), _) => {}
                (Status::Starting, None, _) => {
                    // Its making was cut off with the last server; nobody has its token.
                    if let Err(e) = self.store.delete_session(&row.id) {
                        tracing::error!(id = %row.id, error = %e, "cannot delete a half-made session's row");
                    }
                }
                (_, Some(live), false) => {
                    let because = "It ended while the server was away.".to_owned();
                    let end = End { kind: EndKind::Died, because };
                    if live.set_phase(Phase::Ended(end.clone())) {
                        self.finish(&row.id, &end, Tracer::new(Instant::now()));
                    }
                }
                (_, None, false) => {
                    let end =
                        End { kind: EndKind::Died, because: "It ended while the server was away.".into() };
                    self.finish(&row.id, &end, Tracer::new(Instant::now()));
                }
                (_, Some(_), true) => {}
                (_, None, true) => {
                    let live = Arc::new(Live::new(row));
                    self.table().live.insert(row.id.clone(), live.clone());
                    tokio::spawn(self.clone().mind(live));
                }
            }
        }
        let sessions = self.clone();
        // Not awaited: the registry may be large.
        tokio::spawn(async move { sessions.forget_ended().await });
        for id in runs.iter().filter(|id| self.live(id).is_none()) {
            tracing::info!(%id, "destroying a session that nobody knows");
            if let Err(e) = self.warden.call(Request::Destroy { id: id.clone() }).await {
                tracing::warn!(%id, error = %e, "cannot destroy it");
            }
        }
    }

    /// Deletes what is left in the registry of sessions that ended while no server was there. Only once it is known what lives.
    async fn forget_ended(&self) {
        match self.registry.forget_all_but(|id| self.live(id).is_some()).await {
            Ok(false) => {}
            Ok(true) => self.registry.clean().await,
            Err(e) => tracing::warn!(error = %e, "cannot look for images of ended sessions"),
        }
    }
}
