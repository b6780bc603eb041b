//! `conclave.v1.Control`: what operators call.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use identity::Role;
use params::Name;
use proto::{
    convert,
    error::{ErrorCode, WireError},
    v1::{self, control_server::Control as Service, upload_part::Part},
};
use round::MemberState;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use super::{Reply, Uploads, caller, errors, uploads::Piece};
use crate::{
    invitations::Invitations,
    registry::{Manifest, WEIGHTS},
    runs::{Command, RunEvent, Runs, Shared, View, describe_member},
    store::{Changes, MemberRecord, RunRecord, StoreError},
    workers::Worker,
};

/// The largest job file, in bytes.
const JOB_BYTES_MAX: usize = job::JOB_BYTES_MAX;

/// The most rounds that one call adds.
const ROUNDS_MAX: u32 = 1_000_000;

/// Files that a job may name.
const ATTACHMENTS_MAX: usize = 16;

/// How often people see how far an upload is.
const SENDING_EVERY: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) invitations: Arc<Invitations>,
    pub(crate) uploads: Uploads,
    /// Held while what is known of a worker changes.
    pub(crate) marking: Arc<tokio::sync::Mutex<()>>,
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
                Ok(Some(v1::UploadPart { part: Some(Part::Chunk(chunk)) })) => Ok(Some(Piece::Chunk(chunk))),
                Ok(Some(_)) => Err(WireError::invalid("after its header an upload has only chunks")),
                Err(status) => Err(status.into()),
            }
        };
        let room = self.shared.store.admit(announced.bytes, self.shared.disk_reserve);
        room.map_err(|full| errors::no_room(&full))?;
        let received = self.uploads.receive(&announced, self.uploads.bytes_max(), None, next).await?;
        let blobs = self.shared.store.blobs.clone();
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
        let room = self.shared.store.admit(0, self.shared.disk_reserve);
        room.map_err(|full| errors::no_room(&full))?;
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
        let uploads = self.uploads.clone();
        let follow = async move {
            let (mut rounds, mut events) = (0, 0);
            loop {
                let view = watch.borrow_and_update().clone();
                let (message, sending) = progress(&view, &uploads, &mut rounds, &mut events);
                if send.send(Ok(message)).await.is_err() || view.ended {
                    return;
                }
                tokio::select! {
                    changed = watch.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(SENDING_EVERY), if sending => {}
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
        request: Request<v1::RunEventsRequest>,
    ) -> Result<Response<Self::RunEventsStream>, Status> {
        let events = self.runs.history(&request.get_ref().run).await.map_err(errors::from_run)?;
        let told = events.into_iter().map(|event| {
            let RunEvent { sequence, at_ms, round, kind, worker, text } = event;
            Ok(v1::RunEvent { sequence, at_ms, round, kind: kind.to_owned(), worker, text })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(told))))
    }

    async fn pause_run(
        &self,
        request: Request<v1::PauseRunRequest>,
    ) -> Result<Response<v1::PauseRunResponse>, Status> {
        let operator = caller(&request)?.name;
        let event = round::Event::Pause { reason: format!("paused by operator {operator}") };
        self.tell(&request.get_ref().run, event).await?;
        Ok(Response::new(v1::PauseRunResponse {}))
    }

    async fn resume_run(
        &self,
        request: Request<v1::ResumeRunRequest>,
    ) -> Result<Response<v1::ResumeRunResponse>, Status> {
        self.tell(&request.get_ref().run, round::Event::Resume).await?;
        Ok(Response::new(v1::ResumeRunResponse {}))
    }

    async fn stop_run(
        &self,
        request: Request<v1::StopRunRequest>,
    ) -> Result<Response<v1::StopRunResponse>, Status> {
        let operator = caller(&request)?.name;
        let event = round::Event::Stop { reason: format!("stopped by operator {operator}") };
        self.tell(&request.get_ref().run, event).await?;
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
        let workers = self.shared.workers.list().iter().map(|worker| self.worker(worker)).collect();
        Ok(Response::new(v1::ListWorkersResponse { workers }))
    }

    async fn show_worker(
        &self,
        request: Request<v1::ShowWorkerRequest>,
    ) -> Result<Response<v1::ShowWorkerResponse>, Status> {
        let name = convert::name("worker", &request.get_ref().worker)?;
        let known = self.shared.workers.list().into_iter().find(|worker| worker.name == name);
        let mark = self.shared.workers.mark_of(&name);
        let runs: Vec<v1::WorkerRun> =
            self.runs.active().iter().filter_map(|view| standing(view, &name)).collect();
        if known.is_none() && !mark.drained && !mark.revoked && runs.is_empty() {
            return Err(unknown_worker(&name).into());
        }
        let absent = || v1::WorkerSummary {
            name: name.to_string(),
            state: state_of(&mark, "away").to_owned(),
            ..v1::WorkerSummary::default()
        };
        let protocol = known.as_ref().map_or(0, |worker| worker.protocol);
        let summary = known.map_or_else(absent, |worker| self.worker(&worker));
        Ok(Response::new(v1::ShowWorkerResponse { summary: Some(summary), protocol, runs }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        let operator = caller(&request)?.name;
        let message = request.into_inner();
        let drained = !message.undo;
        self.mark(&message.worker, move |mark| mark.drained = drained).await?;
        tracing::info!(%operator, worker = message.worker, drained, "worker drained");
        Ok(Response::new(v1::DrainWorkerResponse {}))
    }

    async fn revoke_worker(
        &self,
        request: Request<v1::RevokeWorkerRequest>,
    ) -> Result<Response<v1::RevokeWorkerResponse>, Status> {
        let operator = caller(&request)?.name;
        let message = request.into_inner();
        self.mark(&message.worker, |mark| mark.revoked = true).await?;
        tracing::info!(%operator, worker = message.worker, "worker revoked");
        Ok(Response::new(v1::RevokeWorkerResponse {}))
    }
}

impl Control {
    /// Tells a run in progress something, and waits until it is done and durable.
    async fn tell(&self, run: &str, event: round::Event) -> Result<(), Status> {
        let watch = self.runs.watch(run).await.map_err(errors::from_run)?;
        let name = watch.borrow().context.run.clone();
        let (answer, done) = oneshot::channel();
        self.runs.command(&name, Command::Event { event, answer }).await.map_err(errors::from_run)?;
        match done.await {
            Ok(result) => result.map_err(Status::from),
            // An end that came first is an end all the same.
            Err(_) if watch.borrow().ended => Ok(()),
            Err(_) => {
                let refusal =
                    WireError::new(ErrorCode::Unavailable, "the coordinator shuts down, nothing was changed");
                Err(refusal.retry_after(std::time::Duration::from_secs(1)).into())
            }
        }
    }

    /// Changes what is known of a worker, durably, and lets the runs know. To its end, also when the caller goes away,
    /// and one at a time: two operators must not undo each other.
    async fn mark(
        &self,
        worker: &str,
        change: impl FnOnce(&mut MemberRecord) + Send + 'static,
    ) -> Result<(), Status> {
        let name = convert::name("worker", worker)?;
        let (shared, marking) = (self.shared.clone(), self.marking.clone());
        let work = async move {
            let _one_at_a_time = marking.lock().await;
            let mut mark = shared.workers.mark_of(&name);
            change(&mut mark);
            let mut changes = Changes::default();
            changes.put(&format!("member/worker/{name}"), &mark)?;
            shared.store.commit(changes).await?;
            shared.workers.mark(mark);
            Ok::<_, StoreError>(())
        };
        let done = self.shared.tasks.finish("mark worker", work).await.map_err(|e| errors::internal(&e))?;
        Ok(done.map_err(|e| errors::internal(&e))?)
    }

    fn worker(&self, worker: &Worker) -> v1::WorkerSummary {
        let seen_ms_ago = self.shared.clock.now_ms().saturating_sub(worker.seen);
        let state = match () {
            () if worker.left || seen_ms_ago > self.shared.lease_ms => "away",
            () if self.runs.is_working(&worker.name) => "working",
            () => "idle",
        };
        v1::WorkerSummary {
            name: worker.name.to_string(),
            state: state_of(&self.shared.workers.mark_of(&worker.name), state).to_owned(),
            device: worker.device.clone(),
            datasets: worker.datasets.iter().map(|d| format!("{} ({} rows)", d.name, d.rows)).collect(),
            seen_ms_ago,
            version: worker.version.clone(),
        }
    }
}

/// What operators said of a worker wins over what it does.
fn state_of<'a>(mark: &MemberRecord, state: &'a str) -> &'a str {
    match (mark.revoked, mark.drained) {
        (true, _) => "revoked",
        (false, true) => "drained",
        (false, false) => state,
    }
}

/// What a worker is in one run.
fn standing(view: &View, worker: &Name) -> Option<v1::WorkerRun> {
    let state = view.standings.get(worker)?.clone();
    Some(v1::WorkerRun { run: view.context.run.to_string(), round: view.round, state })
}

fn unknown_worker(name: &Name) -> WireError {
    WireError::not_found(format!(
        "no worker '{name}' is known; `conclave worker ls` lists those that registered since the coordinator started"
    ))
}

/// What changed since the last message of a watch, and whether an upload is under way.
fn progress(
    view: &View,
    uploads: &Uploads,
    rounds_sent: &mut usize,
    events_sent: &mut u64,
) -> (v1::WatchRunResponse, bool) {
    let rounds = view.rounds.get(*rounds_sent..).unwrap_or_default().iter().map(|m| report(m)).collect();
    *rounds_sent = view.rounds.len();
    let (events, next) = view.events.since(*events_sent);
    *events_sent = next;
    let mut any = false;
    let members = view.members.iter().map(|member| {
        let sending = match member.state {
            MemberState::Working { .. } => uploads.percent(&member.worker),
            _ => None,
        };
        any |= sending.is_some();
        let working = || describe_member(&member.state);
        let state = sending.map_or_else(working, |percent| format!("sending {percent} %"));
        v1::Member { worker: member.worker.to_string(), state }
    });
    let members = members.collect();
    let message =
        v1::WatchRunResponse { summary: Some(summary(view)), rounds, members, round: view.round, events };
    (message, any)
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
