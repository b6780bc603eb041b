//! `conclave.v1.Control`: what operators call.

use std::{collections::BTreeMap, sync::Arc};

use identity::Role;
use proto::{
    convert,
    error::{ErrorCode, WireError},
    v1::{self, control_server::Control as Service, upload_part::Part},
};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use super::{Reply, Uploads, caller, errors};
use crate::{
    invitations::Invitations,
    registry::{Manifest, WEIGHTS},
    runs::{Command, Runs, Shared, View},
    store::RunRecord,
};

/// The largest job file, in bytes.
const JOB_BYTES_MAX: usize = job::JOB_BYTES_MAX;

/// The most rounds that one call adds.
const ROUNDS_MAX: u32 = 1_000_000;

/// Files that a job may name.
const ATTACHMENTS_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) invitations: Arc<Invitations>,
    pub(crate) uploads: Uploads,
}

#[tonic::async_trait]
impl Service for Control {
    async fn invite(
        &self,
        request: Request<v1::InviteRequest>,
    ) -> Result<Response<v1::InviteResponse>, Status> {
        let operator = caller(&request)?.name;
        let message = request.into_inner();
        let role: Role = message.role.parse().map_err(|_| {
            WireError::invalid(format!(
                "role '{}' cannot be invited: use worker, operator or reader",
                message.role
            ))
        })?;
        let name = convert::name("name", &message.name)?;
        let (token, expires_unix_ms) = self.invitations.invite(role, name.clone(), message.ttl_ms).await?;
        tracing::info!(%operator, %role, %name, "invited");
        Ok(Response::new(v1::InviteResponse { token, expires_unix_ms }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadPart>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let stream = tokio::sync::Mutex::new(request.into_inner());
        let announced = match stream.lock().await.message().await? {
            Some(v1::UploadPart { part: Some(Part::Header(announced)) }) => announced,
            _ => return Err(WireError::invalid("an upload starts with its header").into()),
        };
        let next = || async {
            match stream.lock().await.message().await {
                Ok(None) => Ok(None),
                Ok(Some(v1::UploadPart { part: Some(Part::Chunk(chunk)) })) => Ok(Some(chunk)),
                Ok(Some(_)) => Err(WireError::invalid("after its header an upload has only chunks")),
                Err(status) => Err(status.into()),
            }
        };
        let received = self.uploads.receive(&announced, self.uploads.bytes_max(), next).await?;
        let blobs = self.shared.blobs.clone();
        let put = self.shared.tasks.blocking("store upload", move || blobs.put(&received.bytes)).await;
        let digest = put.map_err(|e| errors::internal(&e))?.map_err(|e| errors::internal(&e))?;
        Ok(Response::new(v1::UploadResponse { digest: digest.as_bytes().to_vec() }))
    }

    async fn start_run(
        &self,
        request: Request<v1::StartRunRequest>,
    ) -> Result<Response<v1::StartRunResponse>, Status> {
        let operator = caller(&request)?.name;
        let message = request.into_inner();
        if message.job.len() > JOB_BYTES_MAX || message.attachments.len() > ATTACHMENTS_MAX {
            return Err(WireError::invalid(format!(
                "job file of {} bytes with {} files, at most {JOB_BYTES_MAX} and {ATTACHMENTS_MAX} are allowed",
                message.job.len(),
                message.attachments.len()
            ))
            .into());
        }
        let mut files = BTreeMap::new();
        for attachment in message.attachments {
            files.insert(attachment.path, convert::digest("attachment", &attachment.digest)?);
        }
        let runs = self.runs.clone();
        let start = async move { runs.start(message.job, files).await };
        let started = self.shared.tasks.finish("start run", start).await.map_err(|e| errors::internal(&e))?;
        let run = started.map_err(errors::from_run)?;
        tracing::info!(%operator, %run, "run started");
        Ok(Response::new(v1::StartRunResponse { run: run.to_string() }))
    }

    async fn list_runs(
        &self,
        _: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        let runs = self.runs.list().await.map_err(errors::from_run)?;
        let runs = runs
            .iter()
            .map(|(record, view)| view.as_deref().map_or_else(|| stored(record), summary))
            .collect();
        Ok(Response::new(v1::ListRunsResponse { runs }))
    }

    async fn show_run(
        &self,
        request: Request<v1::ShowRunRequest>,
    ) -> Result<Response<v1::ShowRunResponse>, Status> {
        let watch = self.runs.watch(&request.get_ref().run).await.map_err(errors::from_run)?;
        let view = watch.borrow().clone();
        Ok(Response::new(v1::ShowRunResponse {
            summary: Some(summary(&view)),
            rounds: view.rounds.iter().map(|m| report(m)).collect(),
            job: view.context.job_text.clone(),
        }))
    }

    type WatchRunStream = Reply<v1::WatchRunResponse>;

    async fn watch_run(
        &self,
        request: Request<v1::WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let mut watch = self.runs.watch(&request.get_ref().run).await.map_err(errors::from_run)?;
        let (send, messages) = tokio::sync::mpsc::channel(4);
        let shutdown = self.shared.tasks.shutdown().clone();
        let follow = async move {
            let (mut rounds, mut events) = (0, 0);
            loop {
                let view = watch.borrow_and_update().clone();
                let message = progress(&view, &mut rounds, &mut events);
                if send.send(Ok(message)).await.is_err() || view.ended {
                    return;
                }
                tokio::select! {
                    changed = watch.changed() => if changed.is_err() { return },
                    () = send.closed() => return,
                    () = shutdown.cancelled() => {
                        let refusal = WireError::new(ErrorCode::Unavailable, "the coordinator shuts down; the run goes on when it is started again");
                        // Nobody may be listening any more.
                        let _ = send.send(Err(refusal.into())).await;
                        return;
                    }
                }
            }
        };
        self.shared.tasks.spawn("watch run", service::task::OnFailure::Log, follow);
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(messages))))
    }

    type RunEventsStream = Reply<v1::RunEvent>;

    async fn run_events(
        &self,
        _: Request<v1::RunEventsRequest>,
    ) -> Result<Response<Self::RunEventsStream>, Status> {
        Err(Status::unimplemented("in progress"))
    }

    async fn pause_run(&self, _: Request<v1::PauseRunRequest>) -> Result<Response<v1::PauseRunResponse>, Status> {
        Err(Status::unimplemented("in progress"))
    }

    async fn resume_run(&self, _: Request<v1::ResumeRunRequest>) -> Result<Response<v1::ResumeRunResponse>, Status> {
        Err(Status::unimplemented("in progress"))
    }

    async fn show_worker(&self, _: Request<v1::ShowWorkerRequest>) -> Result<Response<v1::ShowWorkerResponse>, Status> {
        Err(Status::unimplemented("in progress"))
    }

    async fn drain_worker(&self, _: Request<v1::DrainWorkerRequest>) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        Err(Status::unimplemented("in progress"))
    }

    async fn revoke_worker(&self, _: Request<v1::RevokeWorkerRequest>) -> Result<Response<v1::RevokeWorkerResponse>, Status> {
        Err(Status::unimplemented("in progress"))
    }

    async fn stop_run(
        &self,
        request: Request<v1::StopRunRequest>,
    ) -> Result<Response<v1::StopRunResponse>, Status> {
        let operator = caller(&request)?.name;
        let run = &request.get_ref().run;
        let watch = self.runs.watch(run).await.map_err(errors::from_run)?;
        let name = watch.borrow().context.run.clone();
        let (answer, done) = oneshot::channel();
        let event = round::Event::Stop { reason: format!("stopped by operator {operator}") };
        self.runs.command(&name, Command::Event { event, answer }).await.map_err(errors::from_run)?;
        // An end that came first is an end all the same.
        let _ = done.await;
        Ok(Response::new(v1::StopRunResponse {}))
    }

    async fn start_rounds(
        &self,
        request: Request<v1::StartRoundsRequest>,
    ) -> Result<Response<v1::StartRoundsResponse>, Status> {
        let message = request.into_inner();
        if message.count == 0 || message.count > ROUNDS_MAX {
            return Err(WireError::invalid(format!(
                "count {}: 1 to {ROUNDS_MAX} rounds can be added",
                message.count
            ))
            .into());
        }
        let watch = self.runs.watch(&message.run).await.map_err(errors::from_run)?;
        let name = watch.borrow().context.run.clone();
        let runs = self.runs.clone();
        let add = async move { runs.add_rounds(&name, message.count).await };
        let added = self.shared.tasks.finish("add rounds", add).await.map_err(|e| errors::internal(&e))?;
        let rounds_planned = added.map_err(errors::from_run)?;
        Ok(Response::new(v1::StartRoundsResponse { rounds_planned }))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let now = self.shared.clock.now_ms();
        let active = self.runs.active();
        let workers = self.shared.workers.list();
        let workers = workers.into_iter().map(|worker| {
            let seen_ms_ago = now.saturating_sub(worker.seen);
            let state = match () {
                () if worker.left || seen_ms_ago > self.shared.lease_ms => "away",
                () if active.iter().any(|v| v.work.contains_key(&worker.name)) => "working",
                () => "idle",
            };
            v1::WorkerSummary {
                name: worker.name.to_string(),
                state: state.to_owned(),
                device: worker.device,
                datasets: worker.datasets.iter().map(|d| format!("{} ({} rows)", d.name, d.rows)).collect(),
                seen_ms_ago,
                version: worker.version,
            }
        });
        Ok(Response::new(v1::ListWorkersResponse { workers: workers.collect() }))
    }
}

/// What changed since the last message of a watch.
fn progress(view: &View, rounds_sent: &mut usize, events_sent: &mut u64) -> v1::WatchRunResponse {
    let rounds = view.rounds.get(*rounds_sent..).unwrap_or_default().iter().map(|m| report(m)).collect();
    *rounds_sent = view.rounds.len();
    let (events, next) = view.events.since(*events_sent);
    *events_sent = next;
    let members = view.members.iter().map(|m| v1::Member {
        worker: m.worker.to_string(),
        state: match &m.state {
            round::MemberState::Working { percent } => format!("working {percent} %"),
            round::MemberState::Done => "sent".to_owned(),
            round::MemberState::Lost => "lost".to_owned(),
        },
    });
    v1::WatchRunResponse {
        summary: Some(summary(view)),
        rounds,
        members: members.collect(),
        round: view.round,
        events,
    }
}

fn summary(view: &View) -> v1::RunSummary {
    v1::RunSummary {
        run: view.context.run.to_string(),
        model: view.context.job.name.to_string(),
        state: view.state.to_owned(),
        cause: view.cause.clone(),
        rounds_done: u32::try_from(view.rounds.len()).unwrap_or(u32::MAX),
        rounds_planned: view.planned,
        started_unix_ms: view.context.started_unix_ms,
    }
}

/// A run of an earlier process.
fn stored(record: &RunRecord) -> v1::RunSummary {
    v1::RunSummary {
        run: record.run.clone(),
        model: record.model.clone(),
        state: record.state.word().to_owned(),
        cause: record.cause.clone(),
        rounds_done: record.committed,
        rounds_planned: record.rounds,
        started_unix_ms: record.started_unix_ms,
    }
}

fn report(manifest: &Manifest) -> v1::RoundReport {
    let digest = manifest.files.get(WEIGHTS).and_then(|f| f.digest.parse::<params::Digest>().ok());
    let lineage = &manifest.lineage;
    v1::RoundReport {
        round: lineage.round,
        version: manifest.version,
        digest: digest.map(|d| d.as_bytes().to_vec()).unwrap_or_default(),
        cohort: lineage.cohort.clone(),
        updates: lineage.updates,
        seconds: lineage.seconds,
        bytes_up: lineage.bytes_up,
        bytes_down: lineage.bytes_down,
        metrics: manifest.metrics.clone().into_iter().collect(),
    }
}
