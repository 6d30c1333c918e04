//! etcd's v3 API over gRPC, for `etcdctl` and whoever else speaks it. A path names a method; each method is a function of a message
//! (or a stream of them) to a message (or a stream). The service descriptions are few and small, so they are written down here
//! instead of being generated.

mod kv;
mod maintenance;
mod proto;
mod watch;

use crate::{Error, Store};
use proto::ResponseHeader;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// The version that is told to clients: the API's, which is that of the etcd which Kubernetes 1.35 brings along.
pub(crate) const VERSION: &str = "3.6.6";

/// The API of one store. Clones are the same.
#[derive(Clone)]
pub(crate) struct Api {
    store: Store,
    member: Arc<Member>,
}

/// What is told of the one member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
}

type Answer<T> = Result<Response<T>, Status>;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Messages<T> = ReceiverStream<Result<T, Status>>;

impl Api {
    pub fn new(store: Store, member: Member) -> Self {
        Self { store, member: Arc::new(member) }
    }

    fn header(&self) -> ResponseHeader {
        self.header_at(self.store.revision())
    }

    fn header_at(&self, revision: i64) -> ResponseHeader {
        let id = self.store.id();
        ResponseHeader { cluster_id: id, member_id: self.member_id(), revision, raft_term: 2 }
    }

    /// The one member is as much itself as the store is.
    fn member_id(&self) -> u64 {
        self.store.id().rotate_left(32) | 1
    }

    /// Answers a call.
    pub async fn call(self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let Some(method) = path.strip_prefix("/etcdserverpb.") else { return unknown() };
        match method {
            "KV/Range" => unary(request, |message| async move { self.range(&message) }).await,
            "KV/Put" => unary(request, |message| async move { self.put(message).await }).await,
            "KV/DeleteRange" => {
                unary(request, |message| async move { self.delete_range(message).await }).await
            }
            "KV/Txn" => unary(request, |message| async move { self.txn(message).await }).await,
            "KV/Compact" => unary(request, |message| async move { self.compact(&message).await }).await,
            "Watch/Watch" => streaming(request, |messages| async move { Ok(self.watch(messages)) }).await,
            "Lease/LeaseGrant" => unary(request, |message| async move { self.grant(&message).await }).await,
            "Lease/LeaseRevoke" => unary(request, |message| async move { self.revoke(&message).await }).await,
            "Lease/LeaseKeepAlive" => {
                streaming(request, |messages| async move { Ok(self.keep_alive(messages)) }).await
            }
            "Lease/LeaseTimeToLive" => {
                unary(request, |message| async move { self.time_to_live(&message) }).await
            }
            "Lease/LeaseLeases" => {
                unary(request, |_: proto::Empty| async move { Ok(self.all_leases()) }).await
            }
            "Cluster/MemberList" => unary(request, |_: proto::Empty| async move { Ok(self.members()) }).await,
            "Maintenance/Status" => unary(request, |_: proto::Empty| async move { Ok(self.status()) }).await,
            "Maintenance/Alarm" | "Maintenance/Defragment" => {
                // There is nothing that could raise an alarm, and nothing to defragment: the journal is written anew by itself.
                unary(request, |_: proto::Empty| async move {
                    Ok(proto::HeaderOnly { header: Some(self.header()) })
                })
                .await
            }
            "Maintenance/HashKV" => unary(request, |message| async move { self.hash_kv(&message) }).await,
            "Maintenance/Snapshot" => {
                server_streaming(request, |_: proto::Empty| async move { Ok(self.snapshot()) }).await
            }
            _ => unknown(),
        }
    }
}

fn unknown() -> http::Response<Body> {
    Status::unimplemented("this store is one process: there are no such members, users or roles").into_http()
}

async fn unary<M, R, F>(
    request: http::Request<Body>,
    method: impl FnOnce(M) -> F + Send,
) -> http::Response<Body>
where
    M: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
    F: Future<Output = Result<R, Status>> + Send + 'static,
{
    Grpc::new(ProstCodec::<R, M>::default())
        .max_decoding_message_size(2 * Store::MAX_REQUEST)
        .unary(Once(Some(method)), request)
        .await
}

async fn server_streaming<M, R, F>(
    request: http::Request<Body>,
    method: impl FnOnce(M) -> F + Send,
) -> http::Response<Body>
where
    M: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
    F: Future<Output = Result<Messages<R>, Status>> + Send + 'static,
{
    Grpc::new(ProstCodec::<R, M>::default()).server_streaming(Once(Some(method)), request).await
}

async fn streaming<M, R, F>(
    request: http::Request<Body>,
    method: impl FnOnce(Streaming<M>) -> F + Send,
) -> http::Response<Body>
where
    M: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
    F: Future<Output = Result<Messages<R>, Status>> + Send + 'static,
{
    Grpc::new(ProstCodec::<R, M>::default()).streaming(Once(Some(method)), request).await
}

/// A method as tonic wants one. It is called once: each request has its own.
struct Once<F>(Option<F>);

impl<F> Once<F> {
    fn take(&mut self) -> Result<F, Status> {
        self.0.take().ok_or_else(|| Status::internal("called twice"))
    }
}

fn answered<R, F>(call: Result<F, Status>) -> Boxed<Answer<R>>
where
    F: Future<Output = Result<R, Status>> + Send + 'static,
    R: Send + 'static,
{
    match call {
        Ok(call) => Box::pin(async move { call.await.map(Response::new) }),
        Err(status) => Box::pin(std::future::ready(Err(status))),
    }
}

impl<M, R, C, F> UnaryService<M> for Once<C>
where
    C: FnOnce(M) -> F,
    F: Future<Output = Result<R, Status>> + Send + 'static,
    R: Send + 'static,
{
    type Response = R;
    type Future = Boxed<Answer<R>>;

    fn call(&mut self, request: Request<M>) -> Self::Future {
        answered(self.take().map(|method| method(request.into_inner())))
    }
}

impl<M, R, C, F> ServerStreamingService<M> for Once<C>
where
    C: FnOnce(M) -> F,
    F: Future<Output = Result<Messages<R>, Status>> + Send + 'static,
    R: Send + 'static,
{
    type Response = R;
    type ResponseStream = Messages<R>;
    type Future = Boxed<Answer<Messages<R>>>;

    fn call(&mut self, request: Request<M>) -> Self::Future {
        answered(self.take().map(|method| method(request.into_inner())))
    }
}

impl<M, R, C, F> StreamingService<M> for Once<C>
where
    C: FnOnce(Streaming<M>) -> F,
    F: Future<Output = Result<Messages<R>, Status>> + Send + 'static,
    R: Send + 'static,
{
    type Response = R;
    type ResponseStream = Messages<R>;
    type Future = Boxed<Answer<Messages<R>>>;

    fn call(&mut self, request: Request<Streaming<M>>) -> Self::Future {
        answered(self.take().map(|method| method(request.into_inner())))
    }
}

/// Codes as etcd's (api/v3rpc/rpctypes/error.go).
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Compacted { .. } | Error::FutureRevision { .. } | Error::LeaseTtl => {
                Self::out_of_range(text)
            }
            Error::DuplicateKey
            | Error::EmptyKey
            | Error::TooManyOps
            | Error::TooLarge
            | Error::KeyNotFound => Self::invalid_argument(text),
            Error::LeaseNotFound => Self::not_found(text),
            Error::LeaseExists => Self::failed_precondition(text),
            Error::NoSpace(_) => Self::resource_exhausted(text),
            Error::Unavailable(_) => Self::unavailable(text),
            Error::Corrupt(_) => Self::data_loss(text),
        }
    }
}
