//! All that requests share, and the chain that each goes through: who asks, what it is about, whether it is allowed, then the handler.

use crate::admission::Admission;
use crate::authn::{Authenticator, impersonation, websocket};
use crate::authz::{Attributes, Authorizer};
use crate::flows::{Flow, Flows};
use crate::http::listener::{Peer, Request};
use crate::http::negotiate::{self, Output};
use crate::http::respond::{self, Answer, Style};
use crate::http::{Query, RequestInfo};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::proxy::KubeletClient;
use crate::resource::Registry;
use crate::router;
use drydock_apimachinery::Status;
use drydock_etcd::Store;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Requests that are worked on at the same time, watches and streams apart (`--max-requests-inflight` and its like together).
const MOST_IN_FLIGHT: usize = 600;

/// A request that takes longer is given up; its client has long gone.
const SLOWEST: Duration = Duration::from_secs(60);

/// The API server.
#[derive(Debug)]
pub struct Server {
    /// Its copy of the store.
    pub store: Store,
    /// Its configuration.
    pub options: Options,
    /// What is served.
    pub registry: Registry,
    /// Who asks.
    pub authenticator: Authenticator,
    /// Who may.
    pub authorizer: Arc<Authorizer>,
    /// How requests are told apart.
    pub flows: Flows,
    /// What is changed or refused before it is stored.
    pub admission: Admission,
    /// How kubelets are reached.
    pub kubelets: KubeletClient,
    /// Addresses and ports of services that are being written.
    pub services: crate::services::Held,
    /// Counts.
    pub metrics: Metrics,
    /// Answers about what is served, made when first asked for.
    pub discovery: crate::discovery::Cache,
    /// The same of OpenAPI.
    pub openapi: crate::openapi::Cache,
    /// Objects in other versions than the stored ones.
    pub conversions: crate::custom::conversion::Cache,
    /// What kubelets said that is used.
    pub usage: crate::usage::Cache,
    in_flight: Semaphore,
}

impl Server {
    /// A server over a store. It serves nobody yet.
    pub fn new(store: Store, options: Options) -> std::io::Result<Arc<Self>> {
        let authenticator = Authenticator::new(&store, &options)?;
        let authorizer = Arc::new(Authorizer::new(&store, &options.authorization_modes));
        let mut registry = Registry::new();
        crate::usage::register(&mut registry);
        Ok(Arc::new(Self {
            flows: Flows::new(store.clone()),
            store,
            registry,
            authenticator,
            authorizer,
            admission: Admission::new(&options),
            kubelets: KubeletClient::new(&options)?,
            services: crate::services::Held::default(),
            metrics: Metrics::default(),
            discovery: crate::discovery::Cache::default(),
            openapi: crate::openapi::Cache::default(),
            conversions: crate::custom::conversion::Cache::default(),
            usage: crate::usage::Cache::default(),
            in_flight: Semaphore::new(MOST_IN_FLIGHT),
            options,
        }))
    }

    /// Answers a request.
    pub async fn serve(self: Arc<Self>, request: Request, peer: Arc<Peer>) -> Answer {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let info = RequestInfo::new(request.method(), request.uri(), &query);
        let pretty = query.flag_given("pretty");
        let plain = Style::new(request.headers(), Output::JSON, pretty);
        let (verb, resource, is_long) = (info.verb, info.resource.clone(), info.is_long_running());
        let mut flow = None;
        let answer = {
            let work = pin!(self.clone().chain(request, &peer, query, info, plain, &mut flow));
            if is_long {
                work.await
            } else {
                let Ok(_permit) = self.in_flight.try_acquire() else { return too_many(plain) };
                tokio::time::timeout(SLOWEST, work).await.unwrap_or_else(|_| Err(timed_out()))
            }
        };
        let mut answer = answer.unwrap_or_else(|status| respond::status(&status, plain));
        if let Some(flow) = flow {
            flow.tell(&mut answer);
        }
        self.metrics.count(verb, &resource, answer.status());
        answer
    }

    async fn chain(
        self: Arc<Self>,
        mut request: Request,
        peer: &Peer,
        query: Query,
        info: RequestInfo,
        plain: Style,
        flow: &mut Option<Flow>,
    ) -> Result<Answer, Status> {
        let user = self.authenticator.authenticate(request.headers(), peer)?;
        websocket::forget(request.headers_mut());
        let user = impersonation::apply(&self.authorizer, user, request.headers())?;
        let asked = Attributes::of(&user, &info);
        if info.verb == "watch" || !info.is_long_running() {
            *flow = self.flows.of(&asked);
        }
        self.authorizer.authorize(&asked)?;
        if !info.is_resource {
            return router::non_resource(&self, request.headers(), &query, &info, plain).await;
        }
        let output = negotiate::output(request.headers());
        let style = Style { output: *output.as_ref().unwrap_or(&Output::JSON), ..plain };
        router::resource(self, request, query, info, user, style, output.err()).await
    }
}

fn too_many(style: Style) -> Answer {
    let mut status = Status::failure(429, "TooManyRequests", "Too many requests, please try again later.");
    status.details.get_or_insert_default().retry_after_seconds = 1;
    respond::status(&status, style)
}

fn timed_out() -> Status {
    Status::failure(504, "Timeout", "Timeout: request did not complete within the allotted timeout")
}
