use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use model::Measured;
use params::{Digest, Name, Params};
use proto::error::{ErrorCode, WireError};
use round::{Effect, Event, Lease, Machine, Millis, Note, Outcome, Phase, Refusal, Session};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    DriveError, Shared,
    attempt::{Attempt, Candidate},
    prepare::{Context, put},
    view::{Events, Traffic, View},
};
use crate::{
    api::Share,
    registry::{self, Manifest},
    store::{BlobRecord, RunRecord, RunState},
};

/// A clock tick at the latest after this time, so that silent workers are noticed.
const TICK_MS: Millis = 500;

/// What the API asks of a run.
pub(crate) enum Command {
    /// A verified payload arrived.
    Update {
        worker: Name,
        lease: Lease,
        digest: Digest,
        examples: u64,
        train_loss: f64,
        values: Vec<f32>,
        /// Of the memory budget, until the update is folded or refused.
        share: Share,
        answer: Answer,
    },
    /// Metrics of a candidate arrived.
    Evaluation { worker: Name, lease: Lease, measured: Measured, answer: Answer },
    /// Anything without a payload.
    Event { event: Event, answer: Answer },
}

/// Where the answer to a command goes.
pub(crate) type Answer = oneshot::Sender<Result<(), WireError>>;

/// What came with a command, until an effect takes it.
enum Payload {
    Update { values: Vec<f32>, train_loss: f64 },
    Evaluation(Measured),
    None,
}

/// Executes the effects of one run's machine. Everything that can wait or fail is here, everything
/// that decides is in [`Machine`].
pub(crate) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) context: Arc<Context>,
    pub(super) machine: Machine,
    pub(super) record: RunRecord,
    pub(super) rounds: Vec<Arc<Manifest>>,
    pub(super) base: Params,
    /// The server optimizer's state after the last committed round.
    pub(super) optimizer: Option<Vec<u8>>,
    pub(super) model: (Digest, bytes::Bytes),
    pub(super) attempt: Option<Attempt>,
    pub(super) candidate: Option<(BlobRecord, Candidate)>,
    pub(super) measured: Option<Measured>,
    pub(super) folded: BTreeMap<Name, Lease>,
    pub(super) known: BTreeMap<Name, (Session, Millis)>,
    pub(super) events: Events,
    pub(super) traffic: Arc<Traffic>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) view: watch::Sender<Arc<View>>,
    /// Answers to commands, sent once the view shows what they did.
    pub(super) replies: Vec<(Answer, Result<(), WireError>)>,
}

impl Driver {
    /// Drives the run to its end, or until the process shuts down.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut workers = self.shared.workers.subscribe();
        loop {
            for event in self.sightings() {
                self.step(event, Payload::None, None).await;
            }
            self.step(Event::Tick, Payload::None, None).await;
            self.answer();
            if matches!(self.machine.phase(), Phase::Ended(_)) {
                return;
            }
            let now = self.shared.clock.now_ms();
            let wait = self.machine.next_deadline().map_or(TICK_MS, |at| at.saturating_sub(now).min(TICK_MS));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command).await,
                    None => return,
                },
                _ = workers.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(wait.max(1))) => {}
            }
        }
    }

    async fn take(&mut self, command: Command) {
        match command {
            Command::Update { worker, lease, digest, examples, train_loss, values, share, answer } => {
                let _until_folded = share;
                // A repeated upload of a folded update must be acknowledged, not judged again.
                let again = self.folded.get(&worker) == Some(&lease);
                let (values, fault) = if again { (values, None) } else { self.judge(values, examples).await };
                match fault {
                    Some(fault) => {
                        let refused = WireError::invalid(format!("update refused: {fault}"));
                        let reason = format!("its update was refused: {fault}");
                        self.replies.push((answer, Err(refused)));
                        self.step(Event::Declined { worker, lease, reason }, Payload::None, None).await;
                    }
                    None => {
                        let event = Event::UpdateReceived { worker, lease, digest, examples };
                        self.step(event, Payload::Update { values, train_loss }, Some(answer)).await;
                    }
                }
            }
            Command::Evaluation { worker, lease, measured, answer } => {
                let event = Event::EvaluationReceived { worker, lease };
                self.step(event, Payload::Evaluation(measured), Some(answer)).await;
            }
            Command::Event { event, answer } => self.step(event, Payload::None, Some(answer)).await,
        }
    }

    /// What is wrong with an update, found off the async runtime.
    async fn judge(&mut self, values: Vec<f32>, examples: u64) -> (Vec<f32>, Option<String>) {
        let Some(attempt) = self.attempt.take() else { return (values, None) };
        let context = self.context.clone();
        let judge = move || {
            let fault = attempt.fault(&context, &values, examples);
            (attempt, values, fault)
        };
        match self.shared.tasks.blocking("judge update", judge).await {
            Ok((attempt, values, fault)) => {
                self.attempt = Some(attempt);
                (values, fault)
            }
            Err(error) => (Vec::new(), Some(error.to_string())),
        }
    }

    /// One event, and all that follows from it.
    async fn step(&mut self, event: Event, mut payload: Payload, mut answer: Option<Answer>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.machine.step(self.shared.clock.now_ms(), event) {
                match self.execute(effect, &mut payload, &mut answer).await {
                    Ok(None) => {}
                    Ok(Some(event)) => {
                        // The effect may have taken longer than a lease; workers called meanwhile.
                        events.extend(self.sightings());
                        events.push_back(event);
                    }
                    Err(error) => {
                        tracing::error!(run = %self.context.run, %error, "run failed");
                        self.reply(&mut answer, Err(WireError::internal()));
                        events.push_back(Event::Failed { reason: error.to_string() });
                        break;
                    }
                }
            }
        }
        if self.machine.plan().rounds != self.record.rounds
            && let Err(error) = self.store_record().await
        {
            tracing::error!(run = %self.context.run, %error, "store run");
            self.reply(&mut answer, Err(WireError::internal()));
        }
        self.reply(&mut answer, Ok(()));
    }

    /// Shows what was done, then answers who asked for it: a worker that is acknowledged and asks at
    /// once sees what is next.
    fn answer(&mut self) {
        self.show();
        for (answer, result) in self.replies.drain(..) {
            // The caller may have gone away; what it asked is done all the same.
            let _ = answer.send(result);
        }
    }

    async fn execute(
        &mut self,
        effect: Effect,
        payload: &mut Payload,
        answer: &mut Option<Answer>,
    ) -> Result<Option<Event>, DriveError> {
        match effect {
            Effect::OpenRound { cohort, examples_max, .. } => {
                let now = self.shared.clock.now_ms();
                self.attempt = Some(Attempt::open(&self.context, cohort, examples_max, now)?);
                self.measured = None;
            }
            Effect::Fold { worker, lease, examples, .. } => {
                self.fold(worker, lease, examples, std::mem::replace(payload, Payload::None)).await?;
                self.reply(answer, Ok(()));
            }
            Effect::KeepEvaluation { worker, .. } => {
                if let (Some(attempt), Payload::Evaluation(measured)) = (&mut self.attempt, &*payload) {
                    attempt.keep(worker, *measured);
                }
                self.reply(answer, Ok(()));
            }
            Effect::Acknowledge { .. } => self.reply(answer, Ok(())),
            Effect::Reject { refusal, .. } => self.reply(answer, Err(refused(&refusal))),
            Effect::Aggregate { round } => {
                // Who sent the last update does not wait for what follows.
                self.answer();
                return self.aggregate(round).await.map(Some);
            }
            Effect::EvaluateCentrally { round } => {
                self.answer();
                self.measured = self.measure().await?;
                return Ok(Some(Event::EvaluatedCentrally { round }));
            }
            Effect::Publish { round } => {
                self.publish(round).await?;
                return Ok(Some(Event::Published { round }));
            }
            Effect::Discard { .. } => {
                self.attempt = None;
                self.candidate = None;
            }
            Effect::Tell(note) => self.tell(&note),
            Effect::End(outcome) => self.end(&outcome).await?,
        }
        Ok(None)
    }

    async fn fold(
        &mut self,
        worker: Name,
        lease: Lease,
        examples: u64,
        payload: Payload,
    ) -> Result<(), DriveError> {
        let (Some(mut attempt), Payload::Update { values, train_loss }) = (self.attempt.take(), payload)
        else {
            return Err(DriveError::Defect("an update to fold without its bytes or its round"));
        };
        self.folded.insert(worker.clone(), lease);
        let fold = move || {
            attempt.fold(worker, &values, examples, train_loss);
            attempt
        };
        self.attempt = Some(self.shared.tasks.blocking("fold", fold).await?);
        Ok(())
    }

    async fn aggregate(&mut self, round: u32) -> Result<Event, DriveError> {
        let Some(mut attempt) = self.attempt.take() else {
            return Err(DriveError::Defect("a round to aggregate that is not open"));
        };
        let (context, base, optimizer) = (self.context.clone(), self.base.clone(), self.optimizer.clone());
        let shared = self.shared.clone();
        let work = move || -> Result<_, DriveError> {
            let candidate = attempt.aggregate(&context, base, optimizer.as_deref())?;
            let bytes = candidate.weights.to_safetensors()?;
            let blob = put(&shared.blobs, &bytes)?;
            Ok((attempt, candidate, blob, bytes))
        };
        let (attempt, candidate, blob, bytes) = self.shared.tasks.blocking("aggregate", work).await??;
        let digest = registry::digest(&blob)?;
        self.attempt = Some(attempt);
        self.model = (digest, bytes.into());
        self.candidate = Some((blob, candidate));
        Ok(Event::Aggregated { round, candidate: digest })
    }

    /// Measures the candidate on the coordinator's own holdout.
    async fn measure(&self) -> Result<Option<Measured>, DriveError> {
        let (Some(holdout), Some((_, candidate))) = (self.context.holdout.clone(), &self.candidate) else {
            return Ok(None);
        };
        let (context, weights, device) =
            (self.context.clone(), candidate.weights.clone(), self.shared.device);
        let job = move || model::measure(&device, &context.network, &weights, holdout.examples());
        Ok(Some(self.shared.evaluate.run(job).await??))
    }

    async fn publish(&mut self, round: u32) -> Result<(), DriveError> {
        let (Some(attempt), Some((blob, candidate))) = (self.attempt.take(), self.candidate.take()) else {
            return Err(DriveError::Defect("a round to publish without a candidate"));
        };
        let manifest = self.manifest(round, &attempt, &blob);
        let mut record = self.record.clone();
        record.rounds = self.machine.plan().rounds;
        record.committed = round;
        record.base = blob;
        let ledger = self.machine.committed().shards.iter().map(|(n, s)| (n.to_string(), *s)).collect();
        let (shared, optimizer) = (self.shared.clone(), candidate.optimizer.clone());
        let work = move || -> Result<_, DriveError> {
            record.optimizer = match optimizer.is_empty() {
                true => None,
                false => Some(put(&shared.blobs, &optimizer)?),
            };
            record.ledger = Some(put(&shared.blobs, &encode_ledger(&ledger)?)?);
            let manifest = shared.registry.publish(manifest, &record)?;
            Ok((manifest, record))
        };
        let (manifest, record) = self.shared.tasks.blocking("publish", work).await??;
        tracing::info!(run = %self.context.run, round, version = manifest.version, metrics = ?manifest.metrics, "round committed");
        self.record = record;
        self.rounds.push(Arc::new(manifest));
        self.base = candidate.weights;
        self.optimizer = Some(candidate.optimizer).filter(|state| !state.is_empty());
        Ok(())
    }

    fn reply(&mut self, answer: &mut Option<Answer>, result: Result<(), WireError>) {
        if let Some(answer) = answer.take() {
            self.replies.push((answer, result));
        }
    }

    fn tell(&mut self, note: &Note) {
        let text = note.to_string();
        // A round that closed with everybody is a row of the table; only the others are news.
        if matches!(note, Note::RoundClosed { updates, cohort, .. } if updates == cohort) {
            tracing::debug!(run = %self.context.run, "{text}");
            return;
        }
        tracing::info!(run = %self.context.run, "{text}");
        self.events.push(&text);
    }

    async fn end(&mut self, outcome: &Outcome) -> Result<(), DriveError> {
        let (state, cause) = match outcome {
            Outcome::Completed => (RunState::Completed, ""),
            Outcome::Failed { cause } => (RunState::Failed, cause.as_str()),
            Outcome::Stopped { cause } => (RunState::Stopped, cause.as_str()),
        };
        tracing::info!(run = %self.context.run, ?state, cause, "run ended");
        self.record.state = state;
        // A record fits the index whatever a worker wrote into its reason.
        self.record.cause = cause.chars().take(1024).collect();
        self.store_record().await
    }

    /// Makes the run's record durable as it is now.
    async fn store_record(&mut self) -> Result<(), DriveError> {
        self.record.rounds = self.machine.plan().rounds;
        let (record, shared) = (self.record.clone(), self.shared.clone());
        self.shared
            .tasks
            .blocking("store run", move || super::store_record(&shared.index, &record))
            .await??;
        Ok(())
    }
}

fn refused(refusal: &Refusal) -> WireError {
    let code = match refusal {
        Refusal::Stale => ErrorCode::Stale,
        Refusal::Duplicate => ErrorCode::Conflict,
        Refusal::Weight { .. } => ErrorCode::Invalid,
    };
    WireError::new(code, refusal.to_string())
}

fn encode_ledger(ledger: &BTreeMap<String, u32>) -> Result<Vec<u8>, DriveError> {
    serde_json::to_vec(ledger).map_err(|_| DriveError::Defect("a ledger that cannot be written"))
}
