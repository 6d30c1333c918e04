//! `moby.buildkit.v1.frontend.LLBBridge`: what a client that drives its build itself calls. buildx asks for capabilities (`Ping`),
//! lets the Dockerfile frontend solve (`Solve`) and ends with `Return`. LLB of the client's own is not built.

use crate::error::failed;
use crate::frontend::{self, Attributes};
use crate::job::{Job, Reference, referred, returned_error};
use crate::proto::frontend::llb_bridge_server::LlbBridge;
use crate::proto::frontend::{
    EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse, NewContainerRequest,
    NewContainerResponse, PingRequest, PongResponse, ReadDirRequest, ReadDirResponse, ReadFileRequest,
    ReadFileResponse, Ref, ReleaseContainerRequest, ReleaseContainerResponse, ResolveImageConfigRequest,
    ResolveImageConfigResponse, ResolveSourceMetaRequest, ResolveSourceMetaResponse, Result as Solved,
    ReturnRequest, ReturnResponse, SolveRequest, SolveResponse, StatFileRequest, StatFileResponse,
    WarnRequest, WarnResponse, result,
};
use crate::proto::{ApiCap, pb};
use crate::{BuildKit, subrequests};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

type Answer<T> = Result<Response<T>, Status>;

/// Capabilities of the gateway that this has.
const GATEWAY: [&str; 11] = [
    "solve.base",
    "resolveimage",
    "return",
    "returnmap",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "frontend.caps",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.warnings",
];
/// Capabilities of sources, commands and exporters that the Dockerfile frontend has here.
const BUILDER: [&str; 39] = [
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "source.local.differ",
    "source.git",
    "source.git.keepgitdir",
    "source.git.fullurl",
    "source.http",
    "source.http.checksum",
    "exec.meta.base",
    "exec.meta.cgroup.parent",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.secretenv",
    "file.base",
    "gc.freespacefilter",
    "constraints",
    "platform",
    "meta.ignorecache",
    "meta.description",
    "exporter.multiple",
    "history.filter",
];
/// Warnings that a client adds to its own build.
const MAX_WARNING: usize = 64 << 10;

/// What a frontend made.
pub struct Frontend {
    /// What can be built.
    pub reference: Option<Arc<Reference>>,
    /// What the client asked for instead (`docker build --call`).
    pub metadata: HashMap<String, Vec<u8>>,
}

impl BuildKit {
    /// Solves with a frontend.
    pub(crate) async fn frontend(
        &self,
        job: &Job,
        name: &str,
        attributes: &HashMap<String, String>,
        inputs: &HashMap<String, pb::Definition>,
    ) -> Result<Frontend, Status> {
        let dockerfile = |source: &String| {
            let source = source.trim_start_matches("docker.io/");
            source == "docker/dockerfile" || source.starts_with("docker/dockerfile:")
        };
        match name {
            "dockerfile.v0" => {}
            // `BUILDKIT_SYNTAX` names the image of a frontend; that of Dockerfiles is built in.
            "gateway.v0" if attributes.get("source").is_some_and(dockerfile) => {}
            _ => return Err(failed(format!("frontend {name} not supported"))),
        }
        let own = |(name, definition): (&String, _)| Some((name.clone(), referred(definition)?));
        let attributes = Attributes::read(attributes, inputs.iter().filter_map(own).collect())?;
        let request = attributes.request.clone();
        let prepared = frontend::prepare(self.site(job), attributes).await?;
        if let Some(request) = request {
            let metadata = subrequests::answer(&request, &prepared)?;
            return Ok(Frontend { reference: None, metadata });
        }
        Ok(Frontend { reference: Some(self.jobs.refer(job, prepared)), metadata: HashMap::new() })
    }

    async fn job_of(&self, metadata: &MetadataMap) -> Result<Arc<Job>, Status> {
        let name = metadata.get("buildkit-controlapi-buildid").and_then(|name| name.to_str().ok());
        let name = name.ok_or_else(|| failed("no buildid found in context"))?.to_owned();
        self.jobs.running(&name).await
    }
}

fn to_result(frontend: Frontend) -> Solved {
    let reference = frontend.reference.map_or_else(Ref::default, |reference| Ref {
        id: reference.id.clone(),
        def: Some(reference.definition()),
    });
    Solved {
        metadata: frontend.metadata,
        attestations: HashMap::new(),
        result: Some(result::Result::Ref(reference)),
    }
}

/// The reference that a client returns.
fn returned(result: Solved) -> Result<Option<String>, Status> {
    let id = match result.result {
        None => return Ok(None),
        Some(result::Result::Ref(reference)) => reference.id,
        Some(result::Result::RefDeprecated(id)) => id,
        Some(result::Result::Refs(map)) => {
            let mut refs = map.refs.into_values();
            let first = refs.next().map(|reference| reference.id).unwrap_or_default();
            if refs.next().is_some() {
                return Err(failed("exporting multiple references to image store is currently unsupported"));
            }
            first
        }
        Some(result::Result::RefsDeprecated(map)) => map.refs.into_values().next().unwrap_or_default(),
    };
    Ok((!id.is_empty()).then_some(id))
}

fn capabilities(names: &[&str]) -> Vec<ApiCap> {
    let one = |name: &&str| ApiCap { id: (*name).to_owned(), enabled: true, ..ApiCap::default() };
    names.iter().map(one).collect()
}

fn no_files<T>() -> Answer<T> {
    Err(Status::unimplemented(
        "the files of a result can't be read through the gateway; export them with --output",
    ))
}

fn no_containers<T>() -> Answer<T> {
    Err(Status::unimplemented("containers can't be started through the gateway"))
}

#[tonic::async_trait]
impl LlbBridge for BuildKit {
    type ExecProcessStream = Pin<Box<dyn futures_util::Stream<Item = Result<ExecMessage, Status>> + Send>>;

    async fn ping(&self, _: Request<PingRequest>) -> Answer<PongResponse> {
        Ok(Response::new(PongResponse {
            frontend_api_caps: capabilities(&GATEWAY),
            llb_caps: capabilities(&BUILDER),
            workers: vec![self.worker_record().await?],
        }))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Answer<SolveResponse> {
        let job = self.job_of(request.metadata()).await?;
        let request = request.into_inner();
        let definition = request.definition.as_ref().filter(|definition| !definition.def.is_empty());
        let frontend = match definition {
            Some(definition) => {
                let id = referred(definition).ok_or_else(crate::no_llb)?;
                Frontend { reference: Some(self.jobs.reference(&id)?), metadata: HashMap::new() }
            }
            None if request.frontend.is_empty() => Frontend { reference: None, metadata: HashMap::new() },
            None => {
                let inputs = &request.frontend_inputs;
                self.frontend(&job, &request.frontend, &request.frontend_opt, inputs).await?
            }
        };
        if let Some(reference) = frontend.reference.as_ref().filter(|_| request.evaluate) {
            reference.evaluate(&self.jobs).await?;
        }
        let result = to_result(frontend);
        Ok(Response::new(SolveResponse { result: Some(result), ..SolveResponse::default() }))
    }

    async fn r#return(&self, request: Request<ReturnRequest>) -> Answer<ReturnResponse> {
        let job = self.job_of(request.metadata()).await?;
        let request = request.into_inner();
        job.give_back(match (request.error, request.result) {
            (Some(error), _) => Err(returned_error(&error)),
            (None, Some(result)) => returned(result),
            (None, None) => Ok(None),
        });
        Ok(Response::new(ReturnResponse {}))
    }

    async fn evaluate(&self, request: Request<EvaluateRequest>) -> Answer<EvaluateResponse> {
        let id = request.into_inner().r#ref;
        if !id.is_empty() {
            self.jobs.reference(&id)?.evaluate(&self.jobs).await?;
        }
        Ok(Response::new(EvaluateResponse {}))
    }

    async fn inputs(&self, request: Request<InputsRequest>) -> Answer<InputsResponse> {
        let job = self.job_of(request.metadata()).await?;
        Ok(Response::new(InputsResponse { definitions: job.inputs() }))
    }

    async fn warn(&self, request: Request<WarnRequest>) -> Answer<WarnResponse> {
        let job = self.job_of(request.metadata()).await?;
        let warning = request.into_inner();
        let size = warning.detail.iter().map(Vec::len).sum::<usize>() + warning.short.len();
        if size > MAX_WARNING {
            return Err(Status::invalid_argument("warning too long"));
        }
        job.progress.warning(crate::proto::control::VertexWarning {
            vertex: warning.digest,
            level: warning.level,
            short: warning.short,
            detail: warning.detail,
            url: warning.url,
            info: warning.info,
            ranges: warning.ranges,
        });
        Ok(Response::new(WarnResponse {}))
    }

    async fn resolve_image_config(
        &self,
        _: Request<ResolveImageConfigRequest>,
    ) -> Answer<ResolveImageConfigResponse> {
        Err(crate::no_llb())
    }

    async fn resolve_source_meta(
        &self,
        _: Request<ResolveSourceMetaRequest>,
    ) -> Answer<ResolveSourceMetaResponse> {
        Err(crate::no_llb())
    }

    async fn read_file(&self, _: Request<ReadFileRequest>) -> Answer<ReadFileResponse> {
        no_files()
    }

    async fn read_dir(&self, _: Request<ReadDirRequest>) -> Answer<ReadDirResponse> {
        no_files()
    }

    async fn stat_file(&self, _: Request<StatFileRequest>) -> Answer<StatFileResponse> {
        no_files()
    }

    async fn new_container(&self, _: Request<NewContainerRequest>) -> Answer<NewContainerResponse> {
        no_containers()
    }

    async fn release_container(
        &self,
        _: Request<ReleaseContainerRequest>,
    ) -> Answer<ReleaseContainerResponse> {
        no_containers()
    }

    async fn exec_process(&self, _: Request<Streaming<ExecMessage>>) -> Answer<Self::ExecProcessStream> {
        no_containers()
    }

    async fn read_file_container(&self, _: Request<ReadFileRequest>) -> Answer<ReadFileResponse> {
        no_containers()
    }

    async fn read_dir_container(&self, _: Request<ReadDirRequest>) -> Answer<ReadDirResponse> {
        no_containers()
    }

    async fn stat_file_container(&self, _: Request<StatFileRequest>) -> Answer<StatFileResponse> {
        no_containers()
    }
}
