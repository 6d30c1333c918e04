//! Leader election by a Lease (client-go `tools/leaderelection`): of several replicas of a component one works. Called by the
//! components' main functions. Whoever cannot renew in time must stop at once: another may work already.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use crate::errors;
use crate::events::{EventType, Recorder};
use crate::rate::Backoff;

/// How long a lease holds, how long its holder tries to renew, and how often anybody looks (`LeaderElectionConfiguration`'s defaults).
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Others wait so long after the last renewal.
    pub lease: Duration,
    /// The holder gives up so long after its last renewal.
    pub renew: Duration,
    /// Time between two attempts.
    pub retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// One candidate for a lease.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    times: Times,
    /// The record that was last seen, and when by our own clock: clocks of others are not trusted.
    seen: Option<(LeaseSpec, Instant)>,
    /// The lease as it was last written.
    written: Option<Lease>,
    recorder: Recorder,
}

impl Elector {
    /// A candidate called `identity` for the lease `name` (upstream's identity is `host_uuid`), whose events come from `recorder`.
    pub fn new(
        client: Client,
        recorder: Recorder,
        namespace: &str,
        name: &str,
        identity: String,
        times: Times,
    ) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), identity, times, seen: None, written: None, recorder }
    }

    /// Says in an event about the lease what this candidate did.
    fn record(&self, what: &str) {
        if let Some(lease) = &self.written {
            let message = format!("{} {what}", self.identity);
            self.recorder.event(lease, EventType::Normal, "LeaderElection", message);
        }
    }

    /// Waits until this candidate leads.
    pub async fn acquire(&mut self) {
        let mut spread = Backoff::new(self.times.retry, self.times.retry);
        // The API server may only be starting: before its first answer it is asked more often than the lease's rhythm says.
        let mut starting = Backoff::new(Duration::from_millis(20), self.times.retry);
        loop {
            let wait = match self.try_hold().await {
                Ok(true) => {
                    self.record("became leader");
                    tracing::info!(
                        lease = self.name,
                        identity = self.identity,
                        "successfully acquired lease"
                    );
                    return;
                }
                Ok(false) => spread.next(),
                Err(error) if errors::is_answer(&error) => {
                    tracing::warn!(lease = self.name, %error, "error retrieving or updating resource lock");
                    starting.next()
                }
                Err(_) => starting.next(),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Renews for as long as that works; returns when leadership is lost.
    pub async fn hold(&mut self) {
        loop {
            tokio::time::sleep(self.times.retry).await;
            // The time counts from here, as upstream's: who was stopped meanwhile together with all others (a session that sleeps) finds
            // the lease as it was and goes on; if another has it, that is seen at once.
            if !tokio::time::timeout(self.times.renew, self.renew()).await.unwrap_or(false) {
                break;
            }
        }
        self.record("stopped leading");
        tracing::error!(lease = self.name, identity = self.identity, "leader election lost");
    }

    /// Tries to renew until there is an answer. False: another has it.
    async fn renew(&mut self) -> bool {
        loop {
            match self.try_hold().await {
                Ok(held) => return held,
                Err(error) => tracing::warn!(lease = self.name, %error, "failed to renew lease"),
            }
            tokio::time::sleep(self.times.retry).await;
        }
    }

    /// Gives the lease up, so that another need not wait for its end.
    pub async fn release(&self) -> Result<(), kube::Error> {
        let mut lease = self.api.get(&self.name).await?;
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| ())
    }

    /// `tryAcquireOrRenew`.
    async fn try_hold(&mut self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return self.create().await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let ours = holder == self.identity;
        if !ours && !holder.is_empty() && !self.has_expired(&spec) {
            return Ok(false);
        }
        let now = MicroTime(Timestamp::now());
        let transitions = spec.lease_transitions.unwrap_or(0).saturating_add(i32::from(!ours));
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.times.lease.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if ours { spec.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        });
        match self.api.replace(&self.name, &PostParams::default(), &lease).await {
            Ok(lease) => {
                self.seen = Some((lease.spec.clone().unwrap_or_default(), Instant::now()));
                self.written = Some(lease);
                Ok(true)
            }
            Err(error) if errors::is_conflict(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&mut self) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(self.times.lease.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        match self.api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await {
            Ok(lease) => {
                self.written = Some(lease);
                Ok(true)
            }
            Err(error) if errors::is_already_exists(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True if the holder has not renewed for the time that it promised. A lease is new to us when we first see it: only if its own
    /// time lies far back already is it not waited for (the holder's clock is this machine's).
    fn has_expired(&self, spec: &LeaseSpec) -> bool {
        let held = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0));
        let by_our_clock = self.seen.as_ref().is_some_and(|(_, at)| at.elapsed() >= held);
        let by_its_time = spec.renew_time.as_ref().is_none_or(|renewed| {
            Timestamp::now().duration_since(renewed.0)
                > SignedDuration::try_from(held).unwrap_or(SignedDuration::MAX)
        });
        by_our_clock || by_its_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::convert::Infallible;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};

    /// An API server that has one lease, or none.
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<Value>>, Arc<Mutex<Vec<Value>>>);

    impl Server {
        fn lease(&self) -> Value {
            self.0.lock().unwrap().clone()
        }
    }

    impl tower_service::Service<Request<Body>> for Server {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let server = self.clone();
            Box::pin(async move {
                let is_read = request.method() == "GET";
                let is_event = request.uri().path().ends_with("/events");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                tokio::time::sleep(Duration::from_millis(5)).await;
                if is_event {
                    server.1.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                    return Ok(Response::new(body.to_vec().into()));
                }
                if !is_read {
                    *server.0.lock().unwrap() = serde_json::from_slice(&body).unwrap();
                }
                let (code, answer) = match server.lease() {
                    Value::Null => (
                        404,
                        json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}),
                    ),
                    lease => (200, lease),
                };
                Ok(Response::builder().status(code).body(answer.to_string().into_bytes().into()).unwrap())
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_slept_goes_on_unless_another_leads() {
        let server = Server::default();
        let client = Client::new(server.clone(), "kube-system");
        let recorder = Recorder::new(client.clone(), "test", None);
        let mut elector = Elector::new(client, recorder, "kube-system", "x", "me".into(), Times::default());
        elector.acquire().await;
        let holding = tokio::spawn(async move { elector.hold().await });
        tokio::time::sleep(Duration::from_secs(30)).await;
        let before = server.lease();
        // Nobody runs for ten minutes.
        tokio::time::advance(Duration::from_secs(600)).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!holding.is_finished());
        assert_ne!(server.lease()["spec"]["renewTime"], before["spec"]["renewTime"]);
        assert_eq!(server.lease()["spec"]["leaseTransitions"], 0);
        let mut lease = server.lease();
        lease["spec"]["holderIdentity"] = "another".into();
        *server.0.lock().unwrap() = lease;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(holding.is_finished());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let events = server.1.lock().unwrap().clone();
        let told: Vec<_> = events
            .iter()
            .map(|event| (&event["reason"], &event["involvedObject"]["kind"], &event["message"]))
            .collect();
        let (reason, kind) = (json!("LeaderElection"), json!("Lease"));
        let (began, ended) = (json!("me became leader"), json!("me stopped leading"));
        assert_eq!(told, [(&reason, &kind, &began), (&reason, &kind, &ended)]);
        assert_eq!(events[0]["involvedObject"]["name"], "x");
    }
}
