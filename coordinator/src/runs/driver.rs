use std::{collections::VecDeque, sync::Arc, time::Duration};

use journal::entry::{Aside, Step, What};
use model::Measured;
use params::{Digest, Name};
use proto::error::{ErrorCode, WireError};
use round::{Effect, Event, Lease, Millis, Note, Phase, Refusal};
use service::fault::crash_point;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    DriveError, Shared,
    board::Board,
    gathered::{Gathered, Update},
    meet::Met,
    prepare::Context,
    replay::{Replay, ending, is_news},
    view::{Traffic, View},
    weights::Weights,
};
use crate::{
    registry::Manifest,
    store::{Changes, RunRecord},
};

/// Workers are looked at, at the latest, after this time, so that silent ones are noticed.
const TICK_MS: Millis = 250;

/// What people see is at most this old.
pub(super) const SHOW_MS: Millis = 100;

/// Commands that are taken before the clock is looked at again.
const BURST: usize = 64;

/// What the API asks of a run.
pub(crate) enum Command {
    /// A payload arrived whole; what it holds was verified.
    Update {
        worker: Name,
        lease: Lease,
        digest: Digest,
        examples: u64,
        train_loss: f64,
        /// Or what is wrong with it, as a phrase that names tensor, value and bound.
        update: Box<Result<Update, String>>,
        answer: Answer,
    },
    /// Metrics of a candidate arrived.
    Evaluation { worker: Name, lease: Lease, measured: Measured, answer: Answer },
    /// Whether an update with this digest was acknowledged under this lease: `Ok` if it was.
    Known { worker: Name, lease: Lease, digest: Digest, answer: Answer },
    /// Anything without a payload.
    Event { event: Event, answer: Answer },
}

/// Where the answer to a command goes.
pub(crate) type Answer = oneshot::Sender<Result<(), WireError>>;

/// An answer that waits: until the board shows what was done, and until the journal has entry `after`.
pub(super) struct Reply {
    after: u64,
    answer: Answer,
    result: Result<(), WireError>,
}

/// Executes the effects of one run's machine. Everything that can wait or fail is here, everything
/// that decides is in [`round::Machine`].
pub(crate) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) context: Arc<Context>,
    pub(super) replay: Replay,
    /// The machine's time when the process's clock showed `clock_ms`: durations go on over a restart, and the
    /// time without a coordinator does not count.
    pub(super) time_ms: Millis,
    pub(super) clock_ms: Millis,
    pub(super) record: RunRecord,
    pub(super) rounds: Vec<Arc<Manifest>>,
    pub(super) base: Weights,
    /// What the last committed round left for the next: the server optimizer's state.
    pub(super) state: Option<bytes::Bytes>,
    /// What work names: the base version, or the candidate.
    pub(super) model: (Digest, bytes::Bytes),
    /// The updates of the attempt in progress.
    pub(super) gathered: Option<Gathered>,
    /// Weights and state of the candidate, while this process has them.
    pub(super) made: Option<super::attempt::Made>,
    pub(super) met: Met,
    pub(super) traffic: Arc<Traffic>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) board: Arc<Board>,
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) shown_ms: Millis,
    pub(super) stale: bool,
    /// The last entry that this run added to the journal.
    pub(super) appended: u64,
    /// The time in the entry that commits the round, until the machine has taken it.
    pub(super) committed_at: Option<Millis>,
    /// The entry that opened the round: its work is handed out once that is on the disk. Otherwise a restart could
    /// forget the round, and who polls it too early would be told to give its training up.
    pub(super) post_after: u64,
    pub(super) replies: Vec<Reply>,
}

/// What one command carries through the steps that follow from it.
struct Errand {
    answer: Option<Answer>,
    update: Option<Update>,
    /// The answer waits for this entry.
    after: u64,
}

impl Driver {
    /// Drives the run to its end, or until the process shuts down. Takes `first` before anything else, and says when
    /// that is done.
    pub(crate) async fn run(
        mut self,
        shutdown: CancellationToken,
        first: Option<Event>,
        ready: oneshot::Sender<()>,
    ) {
        if let Err(error) = self.restart().await {
            self.fail(&error).await;
        }
        for event in self.marks() {
            self.step(event).await;
        }
        if let Some(first) = first {
            // A run that is opened again must not count on who was there when it ended.
            for event in self.sightings().into_iter().chain(self.ghosts()) {
                self.step(event).await;
            }
            self.step(first).await;
        }
        self.answer();
        self.show(true);
        // Whoever started the run may have gone away.
        let _ = ready.send(());
        let mut workers = self.shared.workers.subscribe();
        let mut durable = self.shared.store.watch_durable();
        let mut tick_at = 0;
        loop {
            // Somebody came or went: look at once.
            let news = workers.has_changed().is_ok_and(|changed| changed);
            workers.mark_unchanged();
            if news || self.shared.clock.now_ms() >= tick_at {
                self.tick().await;
                tick_at = self.shared.clock.now_ms() + TICK_MS;
            }
            // Who is answered and looks at once sees what was done.
            self.show(false);
            self.answer();
            if matches!(self.replay.machine.phase(), Phase::Ended(_)) && self.replies.is_empty() {
                // Before it is seen as ended: whoever opens it again finds it here.
                self.shared.store.rest_run(self.context.run.clone(), self.replay.clone());
                self.show(true);
                return;
            }
            self.shared.store.room().await;
            let wait = self.patience(tick_at);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.burst(command).await,
                    None => return,
                },
                _ = workers.changed() => tick_at = 0,
                _ = durable.changed(), if !self.replies.is_empty() || self.post_after > *durable.borrow() => {}
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            }
        }
    }

    /// How long there is nothing to do by itself.
    fn patience(&self, tick_at: Millis) -> u64 {
        let now = self.shared.clock.now_ms();
        let due = self.replay.machine.next_deadline().map_or(TICK_MS, |at| at.saturating_sub(self.now()));
        let show = if self.stale { (self.shown_ms + SHOW_MS).saturating_sub(now) } else { TICK_MS };
        due.min(show).min(tick_at.saturating_sub(now)).max(1)
    }

    /// The machine's time.
    pub(super) fn now(&self) -> Millis {
        let now = self.time_ms + self.shared.clock.now_ms().saturating_sub(self.clock_ms);
        now.max(self.replay.machine.now())
    }

    /// Who came, was seen and went; then what time has brought about. In this order: nobody loses a lease while the
    /// driver was busy.
    async fn tick(&mut self) {
        for event in self.sightings() {
            self.step(event).await;
        }
        while let Some(event) = self.replay.machine.overdue(self.now()) {
            self.step(event).await;
        }
    }

    /// This command, and those that wait behind it.
    async fn burst(&mut self, first: Command) {
        let mut next = Some(first);
        for _ in 0..BURST {
            let Some(command) = next.take() else { return };
            self.take(command).await;
            next = self.commands.try_recv().ok();
        }
        if let Some(command) = next {
            self.take(command).await;
        }
    }

    async fn take(&mut self, command: Command) {
        match command {
            Command::Update { worker, lease, digest, examples, train_loss, update, answer } => {
                // A repeated upload of a folded update must be acknowledged, not judged again.
                let again = self.replay.machine.done(&worker) == Some(lease);
                let room = self.gathered.as_ref().filter(|_| !again);
                let room = room.map_or(Ok(()), |gathered| gathered.room(&self.context, examples));
                let judged = update.and_then(|update| match room {
                    Ok(()) => Ok(update),
                    Err(fault) => Err(fault.to_string()),
                });
                let mut errand = Errand { answer: Some(answer), update: None, after: 0 };
                match judged {
                    Err(fault) if !again => {
                        let refused = WireError::invalid(format!("update refused: {fault}"));
                        let reason = format!("its update was refused: {fault}");
                        self.reply(&mut errand, Err(refused));
                        self.run_errand(Event::Declined { worker, lease, reason }, Aside::None, errand).await;
                    }
                    judged => {
                        errand.update = judged.ok();
                        let event = Event::UpdateReceived { worker, lease, digest, examples };
                        self.run_errand(event, Aside::Trained { train_loss, examples }, errand).await;
                    }
                }
            }
            Command::Evaluation { worker, lease, measured, answer } => {
                let Measured { loss, correct, examples } = measured;
                let errand = Errand { answer: Some(answer), update: None, after: 0 };
                let aside = Aside::Measured { loss, correct, examples };
                self.run_errand(Event::EvaluationReceived { worker, lease }, aside, errand).await;
            }
            Command::Known { worker, lease, digest, answer } => {
                let known = self.replay.machine.acknowledged(&worker, lease) == Some(digest);
                let unknown = WireError::new(ErrorCode::NotFound, "no such update was acknowledged");
                let result = if known { Ok(()) } else { Err(unknown) };
                self.replies.push(Reply { after: self.appended, answer, result });
            }
            Command::Event { event, answer } => {
                let errand = Errand { answer: Some(answer), update: None, after: 0 };
                self.run_errand(event, Aside::None, errand).await;
                // Who asks an operator's question next sees what was done.
                self.shown_ms = 0;
            }
        }
    }

    /// One event that nobody waits for.
    pub(super) async fn step(&mut self, event: Event) {
        self.run_errand(event, Aside::None, Errand { answer: None, update: None, after: 0 }).await;
    }

    /// One event, and all that follows from it.
    async fn run_errand(&mut self, event: Event, aside: Aside, mut errand: Errand) {
        let mut events = VecDeque::from([(event, aside)]);
        while let Some((event, aside)) = events.pop_front() {
            match self.record(event, aside) {
                Ok(effects) => {
                    for effect in effects {
                        match self.execute(effect, &mut errand).await {
                            Ok(None) => {}
                            // Before anything else: the entry of a published round is in the journal already, and
                            // replaying must meet the events in the same order.
                            Ok(Some(next)) => events.push_front(next),
                            Err(error) => {
                                events.extend(self.give_up(&error, &mut errand));
                                break;
                            }
                        }
                    }
                }
                Err(error) => {
                    events.extend(self.give_up(&error, &mut errand));
                }
            }
        }
        self.reply(&mut errand, Ok(()));
    }

    /// Takes an event into the machine, and into the journal where it belongs there. The entry of a published round
    /// is there already: it is the commit point.
    fn record(&mut self, event: Event, aside: Aside) -> Result<Vec<Effect>, DriveError> {
        let committed = matches!(event, Event::Published { .. });
        let now = self.committed_at.take().filter(|_| committed).unwrap_or_else(|| self.now());
        let effects = self.replay.step(now, event.clone(), &aside);
        self.stale = true;
        let mut changes = Changes::default();
        let ended = effects.iter().find_map(|effect| match effect {
            Effect::End(outcome) => Some(ending(outcome)),
            _ => None,
        });
        let reopened =
            matches!(event, Event::AddRounds { .. }).then(|| (crate::store::RunState::Active, String::new()));
        if let Some((state, cause)) = ended.or(reopened) {
            (self.record.state, self.record.cause) = (state, cause);
            self.record.rounds = self.replay.machine.plan().rounds;
            changes.put(&format!("run/{}", self.context.run), &self.record)?;
        }
        let now = self.replay.machine.now();
        let step = (!committed && self.replay.machine.changed())
            .then(|| What::Step(Step { run: self.context.run.clone(), now, event, aside }));
        if step.is_some() || !changes.is_empty() {
            let blobs = std::mem::take(&mut self.met.carry);
            self.appended = self.shared.store.append(step, changes, blobs)?;
        }
        Ok(effects)
    }

    /// An effect could not be had: the run fails, unless the process is ending anyway.
    fn give_up(&mut self, error: &DriveError, errand: &mut Errand) -> Option<(Event, Aside)> {
        if self.shared.tasks.shutdown().is_cancelled() {
            let refusal = WireError::new(ErrorCode::Unavailable, "the coordinator shuts down");
            self.reply(errand, Err(refusal.retry_after(Duration::from_secs(1))));
            return None;
        }
        tracing::error!(run = %self.context.run, %error, "run failed");
        self.reply(errand, Err(WireError::internal()));
        let ended = matches!(self.replay.machine.phase(), Phase::Ended(_));
        (!ended).then(|| (Event::Failed { reason: error.to_string() }, Aside::None))
    }

    pub(super) async fn fail(&mut self, error: &DriveError) {
        let mut errand = Errand { answer: None, update: None, after: 0 };
        if let Some((event, aside)) = self.give_up(error, &mut errand) {
            self.run_errand(event, aside, errand).await;
        }
    }

    /// Posts what was done, then answers who asked for it and need not wait for the disk.
    fn answer(&mut self) {
        let durable = *self.shared.store.watch_durable().borrow();
        if self.post_after > durable {
            // Whoever is answered asks for work at once, and the board must have it.
            return;
        }
        self.post();
        let (ready, waiting) =
            std::mem::take(&mut self.replies).into_iter().partition(|r| r.after <= durable);
        self.replies = waiting;
        let ready: Vec<Reply> = ready;
        for Reply { answer, result, .. } in ready {
            crash_point("before-answer");
            // The caller may have gone away; what it asked is done all the same.
            let _ = answer.send(result);
            crash_point("after-answer");
        }
    }

    async fn execute(
        &mut self,
        effect: Effect,
        errand: &mut Errand,
    ) -> Result<Option<(Event, Aside)>, DriveError> {
        match effect {
            Effect::OpenRound { examples_max, cohort, .. } => {
                // Two sums of one run are never in memory at once.
                self.gathered = None;
                self.gathered = Some(Gathered::open(&self.context, examples_max, cohort.len())?);
                self.made = None;
                self.post_after = self.appended;
                crash_point("round-opened");
            }
            Effect::Fold { worker, examples, .. } => {
                let update = errand.update.take();
                let update = update.ok_or(DriveError::Defect("an update to fold without its bytes"))?;
                self.fold(worker, update, examples).await?;
            }
            // Its figures are in the ledger.
            Effect::KeepEvaluation { .. } => {}
            Effect::Persist => errand.after = self.appended,
            Effect::Acknowledge { .. } => self.reply(errand, Ok(())),
            Effect::Reject { refusal, .. } => self.reply(errand, Err(refused(&refusal))),
            Effect::Aggregate { round } => {
                // Who sent the last update does not wait for what follows, where that takes long.
                if self.context.layout.elements() > super::INLINE_ELEMENTS {
                    self.shared.store.durable(self.appended).await?;
                }
                self.answer();
                return self.aggregate(round).await.map(Some);
            }
            Effect::EvaluateCentrally { round } => {
                self.answer();
                return self.measure(round).await.map(Some);
            }
            Effect::Publish { round } => {
                self.answer();
                return self.publish(round).await.map(Some);
            }
            Effect::Discard { .. } => {
                self.gathered = None;
                self.made = None;
                self.show_base();
            }
            Effect::Tell(note) => self.tell(&note),
            Effect::End(outcome) => {
                let (state, cause) = ending(&outcome);
                tracing::info!(run = %self.context.run, ?state, cause, "run ended");
                self.shared.store.durable(self.appended).await?;
            }
        }
        Ok(None)
    }

    async fn fold(&mut self, worker: Name, update: Update, examples: u64) -> Result<(), DriveError> {
        let Some(mut gathered) = self.gathered.take() else {
            return Err(DriveError::Defect("an update to fold without its round"));
        };
        let (context, threads) = (self.context.clone(), self.shared.threads);
        let fold = move || {
            gathered.fold(&context, &worker, update, examples, threads)?;
            Ok::<_, DriveError>(gathered)
        };
        // A thread costs more than looking at a small update.
        let folded = if self.is_small() { fold() } else { self.shared.tasks.blocking("fold", fold).await? };
        self.gathered = Some(folded?);
        Ok(())
    }

    fn reply(&mut self, errand: &mut Errand, result: Result<(), WireError>) {
        if let Some(answer) = errand.answer.take() {
            self.replies.push(Reply { after: errand.after, answer, result });
        }
    }

    fn tell(&mut self, note: &Note) {
        match is_news(note) {
            true => tracing::info!(run = %self.context.run, "{note}"),
            false => tracing::debug!(run = %self.context.run, "{note}"),
        }
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
