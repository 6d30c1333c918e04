//! `moby.buildkit.v1.Control`: build requests, their progress, the engine's description, the build cache and the history.

use crate::engine::{CacheRecord, Prune, Worker};
use crate::error::{cancelled, failed};
use crate::export::{self, CacheExport, Export};
use crate::frontend::{NETWORK_HOST, Site, blocking};
use crate::job::{NewJob, Returned, Running};
use crate::proto::control::control_server::Control;
use crate::proto::control::{
    BuildHistoryEvent, BuildHistoryRecord, BuildHistoryRequest, BytesMessage, DiskUsageRequest,
    DiskUsageResponse, Exporter, InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse,
    PruneRequest, SolveRequest, SolveResponse, StatusRequest, StatusResponse, UpdateBuildHistoryRequest,
    UpdateBuildHistoryResponse, UsageRecord,
};
use crate::proto::{BuildkitVersion, GcPolicy, WorkerRecord, now, pb, timestamp};
use crate::{BuildKit, history, tunnel};
use futures_util::StreamExt;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

type Stream<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

/// Bytes of attributes that the history keeps of one build.
const MAX_REMEMBERED: usize = 64 << 10;
/// Labels of the engine's host gateway in moby.
const HOST_GATEWAY: &str = "org.mobyproject.buildkit.worker.moby.host-gateway-ip";

#[tonic::async_trait]
impl Control for BuildKit {
    type PruneStream = Stream<UsageRecord>;
    type StatusStream = Stream<StatusResponse>;
    type SessionStream = Stream<BytesMessage>;
    type ListenBuildHistoryStream = Stream<BuildHistoryEvent>;

    async fn solve(&self, request: Request<SolveRequest>) -> Answer<SolveResponse> {
        let mut request = request.into_inner();
        let what = (Export::read(&request)?, CacheExport::read(&request)?);
        let inputs = std::mem::take(&mut request.frontend_inputs);
        let record = BuildHistoryRecord {
            r#ref: request.r#ref.clone(),
            frontend: request.frontend.clone(),
            frontend_attrs: bounded(&request.frontend_attrs),
            exporters: request.exporters.iter().map(remembered).collect(),
            created_at: Some(now()),
            ..BuildHistoryRecord::default()
        };
        let new = NewJob {
            name: request.r#ref.clone(),
            session: request.session.clone(),
            entitlements: entitlements(&request.entitlements)?,
            inputs: inputs.clone(),
            record,
        };
        // Dropped with this future when the client resets its request, which ends the build.
        let (mut running, returned) = self.jobs.begin(new)?;
        running.internal = request.internal;
        let result = self.run(&running, returned, &request, &inputs, what).await;
        running.ended(&result);
        Ok(Response::new(SolveResponse { exporter_response: result? }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<Self::StatusStream> {
        let job = self.jobs.any(&request.into_inner().r#ref).await?;
        Ok(Response::new(job.status().boxed()))
    }

    async fn session(&self, request: Request<Streaming<BytesMessage>>) -> Answer<Self::SessionStream> {
        let (metadata, _, stream) = request.into_parts();
        let (io, out) = tunnel::open(stream);
        let (buildkit, headers) = (self.clone(), metadata.into_headers());
        tokio::spawn(async move {
            if let Err(error) = buildkit.serve_session(io, &headers).await {
                tracing::debug!(%error, "session");
            }
        });
        Ok(Response::new(out.boxed()))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Answer<ListWorkersResponse> {
        let record = vec![self.worker_record().await?];
        Ok(Response::new(ListWorkersResponse { record }))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Answer<InfoResponse> {
        let buildkit_version = self.worker_record().await?.buildkit_version;
        Ok(Response::new(InfoResponse { buildkit_version }))
    }

    async fn disk_usage(&self, request: Request<DiskUsageRequest>) -> Answer<DiskUsageResponse> {
        let (engine, filters) = (Arc::clone(&self.engine), request.into_inner().filter);
        let records = blocking(move || engine.disk_usage(&filters)).await?;
        let record = records.map_err(|e| failed(e.to_string()))?.into_iter().map(usage).collect();
        Ok(Response::new(DiskUsageResponse { record }))
    }

    async fn prune(&self, request: Request<PruneRequest>) -> Answer<Self::PruneStream> {
        let request = request.into_inner();
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let prune = Prune {
            filters: request.filter,
            all: request.all,
            keep_duration: Duration::from_nanos(number(request.keep_duration)),
            reserved_space: number(request.reserved_space),
            max_used_space: number(request.max_used_space),
            min_free_space: number(request.min_free_space),
        };
        let engine = Arc::clone(&self.engine);
        let removed = blocking(move || engine.prune(&prune)).await?.map_err(|e| failed(e.to_string()))?;
        let records = removed.into_iter().map(|record| Ok(usage(record)));
        Ok(Response::new(futures_util::stream::iter(records).boxed()))
    }

    async fn listen_build_history(
        &self,
        request: Request<BuildHistoryRequest>,
    ) -> Answer<Self::ListenBuildHistoryStream> {
        Ok(Response::new(history::listen(Arc::clone(&self.jobs), request.into_inner()).boxed()))
    }

    async fn update_build_history(
        &self,
        request: Request<UpdateBuildHistoryRequest>,
    ) -> Answer<UpdateBuildHistoryResponse> {
        let request = request.into_inner();
        if request.delete && !self.jobs.forget(&request.r#ref) {
            return Err(Status::not_found(format!("{} not found", request.r#ref)));
        }
        Ok(Response::new(UpdateBuildHistoryResponse {}))
    }
}

impl BuildKit {
    async fn run(
        &self,
        running: &Running,
        returned: oneshot::Receiver<Returned>,
        request: &SolveRequest,
        inputs: &HashMap<String, pb::Definition>,
        (exports, cache): (Vec<Export>, CacheExport),
    ) -> Result<HashMap<String, String>, Status> {
        let job = &running.job;
        let mut metadata = HashMap::new();
        let reference = if !request.frontend.is_empty() {
            let solved = self.frontend(job, &request.frontend, &request.frontend_attrs, inputs).await?;
            let texts =
                solved.metadata.iter().map(|(k, v)| (k.clone(), String::from_utf8_lossy(v).into_owned()));
            metadata.extend(texts);
            solved.reference.map(|reference| reference.id.clone())
        } else if let Some(definition) = &request.definition {
            crate::job::referred(definition).map(Some).ok_or_else(crate::no_llb)?
        } else {
            // The sender is in the job, which lives as long as this.
            returned.await.unwrap_or_else(|_| Err(cancelled()))?
        };
        let Some(reference) = reference else { return Ok(metadata) };
        let image = self.jobs.reference(&reference)?.evaluate(&self.jobs).await?;
        let mut response = export::run(&self.site(job), exports, cache, &image).await?;
        response.extend(metadata);
        Ok(response)
    }

    /// Where a job happens.
    pub(crate) fn site(&self, job: &crate::job::Job) -> Site {
        Site {
            engine: Arc::clone(&self.engine),
            sessions: Arc::clone(&self.sessions),
            session: job.session.clone(),
            entitlements: job.entitlements.clone(),
            progress: job.progress.clone(),
            cancel: job.cancel.clone(),
        }
    }

    pub(crate) async fn worker_record(&self) -> Result<WorkerRecord, Status> {
        let engine = Arc::clone(&self.engine);
        let worker: Worker = blocking(move || engine.worker()).await?;
        let mut labels: HashMap<String, String> = worker.labels.into_iter().collect();
        if let Some(address) = worker.host_gateway {
            labels.insert(HOST_GATEWAY.into(), address.to_string());
        }
        let platform = |platform: drydock_dockerfile::build::Platform| pb::Platform {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            ..pb::Platform::default()
        };
        Ok(WorkerRecord {
            id: worker.id,
            labels,
            platforms: worker.platforms.into_iter().map(platform).collect(),
            gc_policy: worker.gc.into_iter().map(rule).collect(),
            buildkit_version: Some(BuildkitVersion {
                package: "github.com/moby/buildkit".into(),
                version: worker.buildkit_version,
                revision: String::new(),
            }),
            ..WorkerRecord::default()
        })
    }
}

/// What is remembered of attributes: all, unless they are more than anybody reads.
fn bounded(attributes: &HashMap<String, String>) -> HashMap<String, String> {
    let bytes: usize = attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_REMEMBERED { HashMap::new() } else { attributes.clone() }
}

fn remembered(exporter: &Exporter) -> Exporter {
    Exporter { r#type: exporter.r#type.clone(), attrs: bounded(&exporter.attrs) }
}

/// What Docker's builder grants by default.
fn entitlements(wanted: &[String]) -> Result<Vec<String>, Status> {
    match wanted.iter().find(|name| name.as_str() != NETWORK_HOST) {
        Some(name) => {
            Err(failed(format!("granting entitlement {name} is not allowed by build daemon configuration")))
        }
        None => Ok(wanted.iter().take(1).cloned().collect()),
    }
}

fn rule(prune: Prune) -> GcPolicy {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    GcPolicy {
        all: prune.all,
        keep_duration: i64::try_from(prune.keep_duration.as_nanos()).unwrap_or(i64::MAX),
        filters: prune.filters,
        reserved_space: number(prune.reserved_space),
        max_used_space: number(prune.max_used_space),
        min_free_space: number(prune.min_free_space),
    }
}

fn usage(record: CacheRecord) -> UsageRecord {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    UsageRecord {
        id: record.id,
        mutable: record.mutable,
        in_use: record.in_use,
        size: number(record.size),
        parents: record.parents,
        created_at: record.created.map(timestamp),
        last_used_at: record.last_used.map(timestamp),
        usage_count: number(record.usage_count),
        description: record.description,
        record_type: record.kind,
        shared: record.shared,
        ..UsageRecord::default()
    }
}
