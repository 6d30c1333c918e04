//! The gRPC services of one connection: control, gateway, health, and traces, which are accepted and dropped.

use crate::BuildKit;
use crate::proto::control::control_server::ControlServer;
use crate::proto::frontend::llb_bridge_server::LlbBridgeServer;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server::{Health, HealthServer};
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// Bytes of a request, as BuildKit limits them.
const MAX_MESSAGE: usize = 16 << 20;

/// All services.
pub fn all(buildkit: &BuildKit) -> Routes {
    let control = ControlServer::new(buildkit.clone()).max_decoding_message_size(MAX_MESSAGE);
    let gateway = LlbBridgeServer::new(buildkit.clone()).max_decoding_message_size(MAX_MESSAGE);
    Routes::new(control).add_service(gateway).add_service(HealthServer::new(Alive)).add_service(Traces)
}

/// Answers that the engine is there.
struct Alive;

#[tonic::async_trait]
impl Health for Alive {
    type WatchStream = Pin<Box<dyn futures_util::Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving as i32 }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("health is not listed"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("health is not watched"))
    }
}

/// `opentelemetry.proto.collector.trace.v1.TraceService`: clients send their spans to the engine they build with; there is nobody to
/// pass them on to.
#[derive(Clone)]
struct Traces;

impl NamedService for Traces {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl UnaryService<()> for Traces {
    type Response = ();
    type Future = std::future::Ready<Result<Response<()>, Status>>;

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(Response::new(())))
    }
}

impl tower_service::Service<http::Request<Body>> for Traces {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // A message without fields takes any message: unknown fields are skipped.
        Box::pin(async move { Ok(Grpc::new(ProstCodec::<(), ()>::default()).unary(Self, request).await) })
    }
}
