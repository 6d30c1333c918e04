//! Builds while they run and for a while after: [`Job`] is one build request (`Control/Solve`), [`Reference`] is one result that a
//! frontend returned through the gateway and that is built when it is first needed.
//!
//! A client that speaks to the gateway sends an empty `Solve`, which waits; meanwhile it calls the gateway's `Solve` (which reads
//! the Dockerfile and returns a reference) and `Return` (which ends the waiting). Several builds of one client (`bake`) can use each
//! other's references.

use crate::error::{cancelled, failed, of_build, of_rpc};
use crate::frontend::{Prepared, blocking};
use crate::progress::Progress;
use crate::proto::control::{BuildHistoryRecord, StatusResponse};
use crate::proto::{now, pb, rpc};
use crate::vertices::Vertices;
use drydock_dockerfile::build::Image;
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Builds at once.
const MAX_JOBS: usize = 64;
/// Builds that are remembered for `docker buildx history`.
const MAX_FINISHED: usize = 32;
/// Internal builds (of buildx for itself) that ended and can still be asked for their progress; they are not in the history. Their
/// `Status` may come when they have ended already. BuildKit keeps a job for 10 s for that reason (`Job.Discard` in
/// `solver/jobs.go`).
const MAX_UNLISTED: usize = 16;
/// Bytes of the logs of each of the two.
const MAX_LOGS: usize = 32 << 20;
/// References that can be built or used.
const MAX_REFERENCES: usize = 64;
/// Bytes of a build's name.
const MAX_NAME: usize = 256;
/// How long a request about a build waits for it to begin.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(6);

/// What a frontend returned.
pub type Returned = Result<Option<String>, Status>;

/// One build request.
pub struct Job {
    /// Its name, chosen by the client.
    pub name: String,
    /// Its progress.
    pub progress: Progress,
    /// Cancelled when the client gives up.
    pub cancel: CancellationToken,
    /// Its session.
    pub session: String,
    /// What it may do beyond the usual.
    pub entitlements: Vec<String>,
    /// What the gateway's `Inputs` answers.
    inputs: Mutex<HashMap<String, pb::Definition>>,
    returned: Mutex<Option<oneshot::Sender<Returned>>>,
    record: Mutex<BuildHistoryRecord>,
}

/// A result of a frontend.
pub struct Reference {
    /// Its name.
    pub id: String,
    /// Until its build has ended: its files are removed with it.
    prepared: Mutex<Option<Arc<Prepared>>>,
    progress: Progress,
    image: OnceCell<Result<Image, Status>>,
}

#[derive(Default)]
struct Table {
    running: HashMap<String, Arc<Job>>,
    finished: VecDeque<Arc<Job>>,
    unlisted: VecDeque<Arc<Job>>,
    references: VecDeque<Arc<Reference>>,
    count: u64,
}

/// All builds of an engine.
#[derive(Default)]
pub struct Jobs {
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one. The receiver gets what its frontend returns.
    ///
    /// # Errors
    /// If there are too many, or one of this name.
    pub fn begin(self: &Arc<Self>, job: NewJob) -> Result<(Running, oneshot::Receiver<Returned>), Status> {
        let NewJob { name, session, entitlements, inputs, record } = job;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(failed("invalid build reference"));
        }
        let (sender, receiver) = oneshot::channel();
        let mut table = self.lock();
        if table.running.contains_key(&name) {
            return Err(failed(format!("job ID {name} exists")));
        }
        if table.running.len() >= MAX_JOBS {
            return Err(Status::resource_exhausted("too many builds"));
        }
        let job = Arc::new(Job {
            progress: Progress::new(&name),
            cancel: CancellationToken::new(),
            session,
            entitlements,
            inputs: Mutex::new(inputs),
            returned: Mutex::new(Some(sender)),
            record: Mutex::new(record),
            name: name.clone(),
        });
        table.running.insert(name, Arc::clone(&job));
        drop(table);
        self.changed.send_modify(|version| *version += 1);
        Ok((Running { jobs: Arc::clone(self), job, internal: false, ended: false }, receiver))
    }

    /// A running build; waits a little for one that is about to begin.
    ///
    /// # Errors
    /// If there is none.
    pub async fn running(&self, name: &str) -> Result<Arc<Job>, Status> {
        self.wait(name, |table| table.running.get(name).cloned()).await
    }

    /// A build, running or ended not long ago.
    ///
    /// # Errors
    /// If there is none.
    pub async fn any(&self, name: &str) -> Result<Arc<Job>, Status> {
        let ended = |table: &Table| {
            table.finished.iter().chain(&table.unlisted).find(|job| job.name == name).cloned()
        };
        self.wait(name, |table| table.running.get(name).cloned().or_else(|| ended(table))).await
    }

    async fn wait(&self, name: &str, find: impl Fn(&Table) -> Option<Arc<Job>>) -> Result<Arc<Job>, Status> {
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                if let Some(job) = find(&self.lock()) {
                    return job;
                }
                // The sender is `self`, so it lives.
                _ = changed.changed().await;
            }
        };
        let missing = |_| Status::not_found(format!("no such job {name}"));
        tokio::time::timeout(BEGIN_TIMEOUT, found).await.map_err(missing)
    }

    /// All builds, the newest last.
    pub fn list(&self) -> Vec<(Arc<Job>, bool)> {
        let table = self.lock();
        let finished = table.finished.iter().map(|job| (Arc::clone(job), false));
        finished.chain(table.running.values().map(|job| (Arc::clone(job), true))).collect()
    }

    /// Forgets a finished build.
    pub fn forget(&self, name: &str) -> bool {
        let mut table = self.lock();
        let before = table.finished.len();
        table.finished.retain(|job| job.name != name);
        table.finished.len() < before
    }

    /// Wakes when builds begin and end.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Makes a reference to what was prepared.
    pub fn refer(&self, job: &Job, prepared: Prepared) -> Arc<Reference> {
        let mut table = self.lock();
        table.count += 1;
        let digest = Sha256::digest(format!("{} {}", job.name, table.count));
        let id: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let prepared = Mutex::new(Some(Arc::new(prepared)));
        let reference =
            Arc::new(Reference { id, prepared, progress: job.progress.clone(), image: OnceCell::new() });
        // The oldest is of no use to anybody any more: its files go when its build has ended.
        if table.references.len() >= MAX_REFERENCES {
            table.references.pop_front();
        }
        table.references.push_back(Arc::clone(&reference));
        reference
    }

    /// A reference by its name.
    ///
    /// # Errors
    /// If there is none.
    pub fn reference(&self, id: &str) -> Result<Arc<Reference>, Status> {
        let table = self.lock();
        let found = table.references.iter().find(|reference| reference.id == id).cloned();
        found.ok_or_else(|| failed(format!("no such ref: {id}")))
    }
}

/// What a build begins with.
pub struct NewJob {
    /// Its name.
    pub name: String,
    /// Its session.
    pub session: String,
    /// What it may do beyond the usual.
    pub entitlements: Vec<String>,
    /// Input definitions.
    pub inputs: HashMap<String, pb::Definition>,
    /// Its entry in the history.
    pub record: BuildHistoryRecord,
}

/// A build that runs. Dropped, it has ended: the client has its answer, or gave up.
pub struct Running {
    jobs: Arc<Jobs>,
    /// The build.
    pub job: Arc<Job>,
    /// It does not belong into the history.
    pub internal: bool,
    ended: bool,
}

impl Running {
    /// How it ended.
    pub fn ended(&mut self, result: &Result<HashMap<String, String>, Status>) {
        self.ended = true;
        self.job.ended(result);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.job.ended(&Err(cancelled()));
        }
        self.job.cancel.cancel();
        self.job.progress.end();
        self.job.record().completed_at = Some(now());
        // What is remembered is small.
        drop(self.job.take_inputs());
        let mut table = self.jobs.lock();
        table.running.remove(&self.job.name);
        // References that were built are only names of images now; others nobody can build any more.
        let own = |r: &Arc<Reference>| r.progress.same(&self.job.progress);
        let prepared: Vec<_> = table.references.iter().filter(|r| own(r)).map(|r| r.take()).collect();
        table.references.retain(|r| r.image.initialized() || !own(r));
        if self.internal {
            remember(&mut table.unlisted, MAX_UNLISTED, &self.job);
        } else {
            remember(&mut table.finished, MAX_FINISHED, &self.job);
        }
        drop(table);
        drop(prepared);
        self.jobs.changed.send_modify(|version| *version += 1);
    }
}

/// Keeps the newest builds, as many as there is room for.
fn remember(ended: &mut VecDeque<Arc<Job>>, most: usize, job: &Arc<Job>) {
    ended.push_back(Arc::clone(job));
    while ended.len() > most || ended.iter().map(|job| job.progress.size()).sum::<usize>() > MAX_LOGS {
        ended.pop_front();
    }
}

impl Job {
    fn record(&self) -> MutexGuard<'_, BuildHistoryRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the gateway's `Inputs` answers.
    pub fn inputs(&self) -> HashMap<String, pb::Definition> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take_inputs(&self) -> HashMap<String, pb::Definition> {
        std::mem::take(&mut self.inputs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The frontend is done.
    pub fn give_back(&self, returned: Returned) {
        let sender = self.returned.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Nobody waits any more if the build was cancelled.
            _ = sender.send(returned);
        }
    }

    fn ended(&self, result: &Result<HashMap<String, String>, Status>) {
        let mut record = self.record();
        match result {
            Ok(response) => record.exporter_response.clone_from(response),
            Err(status) => {
                let (code, message) = (status.code() as i32, status.message().to_owned());
                record.error = Some(rpc::Status { code, message, details: Vec::new() });
            }
        }
    }

    /// Its entry in the history.
    pub fn history(&self) -> BuildHistoryRecord {
        let counts = self.progress.counts();
        BuildHistoryRecord {
            num_total_steps: counts.total,
            num_completed_steps: counts.completed,
            num_cached_steps: counts.cached,
            num_warnings: counts.warnings,
            ..self.record().clone()
        }
    }

    /// Its progress as messages.
    pub fn status(&self) -> impl futures_util::Stream<Item = Result<StatusResponse, Status>> + use<> {
        let (progress, changed) = (self.progress.clone(), self.progress.subscribe());
        futures_util::stream::unfold((progress, changed, 0), |(progress, mut changed, at)| async move {
            loop {
                changed.mark_unchanged();
                let (response, next) = progress.since(at)?;
                if next > at {
                    return Some((Ok(response), (progress, changed, next)));
                }
                // The sender is `progress`, so it lives.
                _ = changed.changed().await;
            }
        })
    }
}

/// What a client returned with `LLBBridge/Return`.
pub fn returned_error(error: &rpc::Status) -> Status {
    of_rpc(error)
}

impl Reference {
    /// Builds it, once; all callers get the same result.
    ///
    /// # Errors
    /// Those of the build.
    pub async fn evaluate(&self, jobs: &Jobs) -> Result<Image, Status> {
        // Inputs are other references; they are built before, by whoever comes first. A cycle can't be made: a reference's inputs
        // are older than itself.
        self.image.get_or_init(|| Box::pin(self.build(jobs))).await.clone()
    }

    fn take(&self) -> Option<Arc<Prepared>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn build(&self, jobs: &Jobs) -> Result<Image, Status> {
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let prepared = prepared.ok_or_else(cancelled)?;
        let mut images = HashMap::new();
        for input in prepared.inputs() {
            let image = Box::pin(jobs.reference(input)?.evaluate(jobs)).await?;
            images.insert(input.to_owned(), image.id);
        }
        let (request, shown) = prepared.request(&|input| images.get(input).cloned()).await?;
        let (file, options) = (&request.dockerfile, &request.options);
        let mut vertices = Vertices::new(self.progress.clone(), file, options, shown);
        let (engine, cancel) = (prepared.engine(), request.cancelled.clone());
        // The thread holds the files: it goes on for a moment when the client has given up.
        let files = Arc::clone(&prepared);
        let built = blocking(move || {
            let built = engine.build(&request, &mut vertices);
            drop((vertices, request, files));
            built
        });
        let built = built.await?;
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        built.map_err(|error| of_build(&error, &prepared.source))
    }

    /// A definition that stands for it, so that clients can give it to another build as an input. To them it is a source like any
    /// other, at an address that only this crate knows.
    pub fn definition(&self) -> pb::Definition {
        let source = pb::SourceOp { identifier: format!("{SCHEME}{}", self.id), ..Default::default() };
        let source = pb::Op { op: Some(pb::op::Op::Source(source)), ..Default::default() };
        let source = source.encode_to_vec();
        let digest: String = Sha256::digest(&source).iter().map(|b| format!("{b:02x}")).collect();
        let digest = format!("sha256:{digest}");
        let last =
            pb::Op { inputs: vec![pb::Input { digest: digest.clone(), index: 0 }], ..Default::default() };
        let metadata = [(digest, pb::OpMetadata::default())].into();
        pb::Definition { def: vec![source, last.encode_to_vec()], metadata, ..Default::default() }
    }
}

/// Addresses of references in definitions.
const SCHEME: &str = "drydock-build://";
/// Operations of a definition that are looked at.
const MAX_OPERATIONS: usize = 16;

/// The reference that a definition stands for; `None`: it is one of another kind (LLB), which is not built here.
pub fn referred(definition: &pb::Definition) -> Option<String> {
    definition.def.iter().take(MAX_OPERATIONS).find_map(|operation| {
        let operation = pb::Op::decode(operation.as_slice()).ok()?;
        let Some(pb::op::Op::Source(source)) = operation.op else { return None };
        source.identifier.strip_prefix(SCHEME).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(jobs: &Arc<Jobs>, name: &str, internal: bool) -> Running {
        let new = NewJob {
            name: name.into(),
            session: String::new(),
            entitlements: vec![],
            inputs: HashMap::new(),
            record: BuildHistoryRecord::default(),
        };
        let (mut running, _) = jobs.begin(new).unwrap();
        running.internal = internal;
        running
    }

    /// buildx asks for both at once: which comes first is chance.
    #[tokio::test(start_paused = true)]
    async fn progress_can_be_asked_for_after_the_end() {
        let jobs = Arc::<Jobs>::default();
        for (name, internal) in [("a", false), ("b", true)] {
            drop(begin(&jobs, name, internal));
            assert!(jobs.any(name).await.is_ok(), "{name}");
            assert!(jobs.running(name).await.is_err(), "{name}");
        }
        let listed: Vec<_> = jobs.list().into_iter().map(|(job, _)| job.name.clone()).collect();
        assert_eq!(listed, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_newest_are_remembered() {
        let jobs = Arc::<Jobs>::default();
        for number in 0..=MAX_UNLISTED.max(MAX_FINISHED) {
            drop(begin(&jobs, &format!("in{number}"), true));
            drop(begin(&jobs, &format!("out{number}"), false));
        }
        assert_eq!(jobs.lock().unlisted.len(), MAX_UNLISTED);
        assert_eq!(jobs.lock().finished.len(), MAX_FINISHED);
        assert!(jobs.any("in0").await.is_err());
        assert!(jobs.any("out0").await.is_err());
    }
}
