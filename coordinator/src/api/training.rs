//! `conclave.v1.Training`: what workers call.

mod words;

use std::{sync::Arc, time::Duration};

use model::Measured;
use params::Name;
use proto::{
    chunks::Proof,
    convert,
    error::{ErrorCode, WireError},
    v1::{self, training_server::Training as Service},
};
use round::Event;
use tokio::{sync::oneshot, time::timeout};
use tonic::{Request, Response, Status, Streaming};

use self::words::{awaited, datasets, encodings, loss, named, negotiate, shorten, to_wire};
use super::{Buffer, Caller, Reply, Resume, Uploads, caller, direct::Parts, errors, uploads::Piece};
use crate::{
    runs::{Command, Context, Found, Offer, Refused, Runs, Shared, Update},
    workers::Worker,
};

/// The longest a poll waits.
pub(super) const POLL_MAX: Duration = Duration::from_secs(30);

/// How often the bytes of an upload renew a lease, in milliseconds.
const RENEW_MS: u64 = 50;

/// From this protocol on, chunks need no digest of their own.
const WHOLE_PROTOCOL: u32 = 3;

/// The longest reason of a decline.
const REASON_BYTES_MAX: usize = 2048;

/// Updates up to this size are read where they are: that takes less time than to wake a thread.
const INLINE_BYTES_MAX: u64 = 64 * 1024;

/// The most examples that one worker may count for: what the sum can weigh one update with.
const EXAMPLES_MAX: u64 = aggregate::WEIGHT_MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Training {
    pub(crate) shared: Arc<Shared>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) uploads: Uploads,
}

impl Training {
    /// The caller, if `session` is its present one; renews what it holds.
    fn seen<T>(&self, request: &Request<T>, session: u64) -> Result<Caller, Status> {
        let caller = caller(request)?;
        self.renew(&caller.name, session)?;
        Ok(caller)
    }

    fn renew(&self, worker: &Name, session: u64) -> Result<(), WireError> {
        if self.shared.workers.seen(worker, session, self.shared.clock.now_ms()) {
            return Ok(());
        }
        Err(WireError::new(ErrorCode::Stale, "this session is not known (any more): register again"))
    }

    /// The next work of a worker: of all runs that have some, the one that has waited longest, so that
    /// runs which share workers take turns.
    fn work(&self, worker: &Name) -> Option<v1::Work> {
        let offers = self.runs.offers(worker);
        let opened = |(found, offer): &(Found, Offer)| {
            let length = found.context.job.rounds.deadline.as_millis();
            (u128::from(offer.assignment.deadline).saturating_sub(length), found.context.run.clone())
        };
        let (found, offer) = offers.into_iter().min_by_key(opened)?;
        let mut work = to_wire(&found, &offer);
        if self.shared.workers.protocol(worker) >= Some(WHOLE_PROTOCOL) {
            let (posted, model) = (found.board.read(), &offer.assignment.model);
            if posted.is_differing(model, self.shared.clock.now_ms()) {
                // The worker is woken when the difference is there.
                return None;
            }
            posted.name_difference(model, &mut work);
        }
        Some(work)
    }

    /// Waits for `work` and renews the worker's leases meanwhile: waiting for us is not silence.
    async fn renewing<T>(
        &self,
        worker: &Name,
        session: u64,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let mut work = std::pin::pin!(work);
        let each = Duration::from_millis((self.shared.lease_ms / 3).max(1));
        loop {
            if let Ok(done) = timeout(each, &mut work).await {
                return done;
            }
            self.renew(worker, session)?;
        }
    }

    async fn ask(
        &self,
        worker: &Name,
        lease: u64,
        make: impl FnOnce(crate::runs::Answer) -> Command,
    ) -> Result<(), Status> {
        let stale = || match self.shared.tasks.shutdown().is_cancelled() {
            true => WireError::new(ErrorCode::Unavailable, "the coordinator shuts down")
                .retry_after(Duration::from_secs(1)),
            false => WireError::new(ErrorCode::Stale, "this work is no longer open, poll for new work"),
        };
        let found = self.runs.expecting(worker, lease).ok_or_else(stale)?;
        let (answer, result) = oneshot::channel();
        self.runs.command(&found.context.run, make(answer)).await.map_err(|_| stale())?;
        Ok(result.await.map_err(|_| stale())??)
    }

    /// Takes an update in, from its header on.
    pub(super) async fn receive(
        &self,
        worker: &Name,
        header: &v1::UpdateHeader,
        parts: &mut Parts,
    ) -> Result<(), Status> {
        self.renew(worker, header.session)?;
        let payload = Box::pin(self.receive_payload(worker, header, parts));
        self.renewing(worker, header.session, payload).await
    }

    async fn receive_payload(
        &self,
        worker: &Name,
        header: &v1::UpdateHeader,
        parts: &mut Parts,
    ) -> Result<(), Status> {
        let view = self.runs.expecting(worker, header.lease).ok_or_else(|| {
            WireError::new(ErrorCode::Stale, "this work is no longer open, poll for new work")
        })?;
        self.shared.store.admit(0, self.shared.disk_reserve).map_err(|full| errors::no_room(&full))?;
        let announced = convert::required("update header: payload", header.payload.clone())?;
        let expected = awaited(&view, header, &announced)?;
        let train_loss = loss("train_loss", header.train_loss)?;
        let digest = convert::digest("update digest", &announced.digest)?;
        let parts = tokio::sync::Mutex::new((parts, self.shared.clock.now_ms()));
        let next = || async {
            let (parts, renewed) = &mut *parts.lock().await;
            let piece = parts.piece().await?;
            if let Some(Piece::Data { piece, .. }) = &piece {
                view.traffic.add_up(piece.len() as u64);
                // Bytes are progress: they renew the lease, but not each time, as all uploads share a lock for it.
                let now = self.shared.clock.now_ms();
                if now.saturating_sub(*renewed) >= RENEW_MS {
                    self.renew(worker, header.session)?;
                    *renewed = now;
                }
            }
            Ok(piece)
        };
        let from = Resume { worker: worker.clone(), offset: header.offset };
        let received = self.uploads.receive(&announced, expected, Some(from), next).await?;
        // A worker has one update in memory: its turn ends when that is taken in.
        let _turn = received.turn;
        let update = Box::new(self.verify(&view.context, received.bytes).await?);
        let ask = self.ask(worker, header.lease, |answer| Command::Update {
            worker: worker.clone(),
            lease: header.lease,
            digest,
            examples: header.examples,
            train_loss,
            update,
            answer,
        });
        ask.await
    }
}

impl Training {
    /// Looks at every number of an update, off the async runtime where that takes long.
    async fn verify(
        &self,
        context: &Arc<Context>,
        payload: Buffer,
    ) -> Result<Result<Update, String>, WireError> {
        let (context, store, reserve) =
            (context.clone(), self.shared.store.clone(), self.shared.disk_reserve);
        let inline = payload.len() as u64 <= INLINE_BYTES_MAX && context.exchange.reduction.is_none();
        let verify = move || Update::verify(&context, &store.spill, payload);
        let verified = match inline {
            true => verify(),
            false => {
                let verified = self.shared.tasks.blocking("verify update", verify).await;
                verified.map_err(|e| errors::internal(&e))?
            }
        };
        match verified {
            Ok(update) => Ok(Ok(update)),
            Err(Refused::Fault(fault)) => Ok(Err(fault.to_string())),
            Err(Refused::Store(error)) if error.is_full() => {
                let full = self.shared.store.admit(u64::MAX / 4, reserve).err();
                Err(full.map_or_else(WireError::internal, |full| errors::no_room(&full)))
            }
            Err(Refused::Store(error)) => Err(errors::internal(&error)),
        }
    }
}

#[tonic::async_trait]
impl Service for Training {
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let protocol = negotiate(message.protocol_min, message.protocol_max)?;
        if self.shared.workers.mark_of(&caller.name).revoked {
            let message = format!(
                "worker '{}' was revoked; ask the operator for an invitation under another name",
                caller.name
            );
            return Err(WireError::new(ErrorCode::Forbidden, message).into());
        }
        let session = service::random::u64().map_err(|e| errors::internal(&e))?;
        let worker = Worker {
            name: caller.name,
            session,
            datasets: datasets(message.datasets)?,
            encodings: encodings(message.encodings)?,
            device: shorten(&message.device),
            version: shorten(&message.version),
            protocol,
            seen: self.shared.clock.now_ms(),
            left: false,
        };
        let offers: Vec<String> =
            worker.datasets.iter().map(|d| format!("{} ({} rows)", d.name, d.rows)).collect();
        tracing::info!(worker = %worker.name, device = worker.device, ?offers, "worker registered");
        if self.shared.workers.replaces(&worker.name, worker.seen, self.shared.lease_ms) {
            tracing::warn!(worker = %worker.name, "a process of this worker was heard of just now: if two hosts share its identity, each ends the other's session");
        }
        self.shared.workers.register(worker);
        Ok(Response::new(v1::RegisterResponse { protocol, session, lease_ms: self.shared.lease_ms }))
    }

    async fn poll(&self, request: Request<v1::PollRequest>) -> Result<Response<v1::PollResponse>, Status> {
        let message = *request.get_ref();
        let caller = self.seen(&request, message.session)?;
        let wait = Duration::from_millis(message.wait_ms).min(POLL_MAX);
        // A worker that waits is alive: its lease is renewed while the poll is open.
        let renewal = Duration::from_millis((self.shared.lease_ms / 3).max(1));
        let unknown =
            || WireError::new(ErrorCode::Stale, "this session is not known (any more): register again");
        let alarm = self.shared.workers.alarm(&caller.name).ok_or_else(unknown)?;
        let found = timeout(wait, async {
            loop {
                let woken = alarm.notified();
                tokio::pin!(woken);
                // Before looking, so that nothing that comes in between is missed.
                woken.as_mut().enable();
                if let Some(work) = self.work(&caller.name) {
                    return Ok(work);
                }
                // Either way the loop looks again.
                let _ = timeout(renewal, woken).await;
                self.renew(&caller.name, message.session)?;
            }
        });
        let closing = self.shared.tasks.shutdown().cancelled();
        let work = tokio::select! {
            found = found => match found {
                Ok(found) => Some(found.map_err(|e: WireError| Status::from(e))?),
                Err(_) => None,
            },
            () = closing => {
                let refusal = WireError::new(ErrorCode::Unavailable, "the coordinator shuts down");
                return Err(refusal.retry_after(Duration::from_secs(1)).into());
            }
        };
        Ok(Response::new(v1::PollResponse { work }))
    }

    async fn progress(
        &self,
        request: Request<v1::ProgressRequest>,
    ) -> Result<Response<v1::ProgressResponse>, Status> {
        let message = *request.get_ref();
        let caller = self.seen(&request, message.session)?;
        let event =
            Event::Progress { worker: caller.name.clone(), lease: message.lease, percent: message.percent };
        let told = self.ask(&caller.name, message.lease, |answer| Command::Event { event, answer }).await;
        let abandon = match told.map_err(WireError::from) {
            Ok(()) => false,
            Err(refusal) if refusal.code == ErrorCode::Stale => true,
            Err(refusal) => return Err(refusal.into()),
        };
        Ok(Response::new(v1::ProgressResponse { abandon }))
    }

    type FetchStream = Reply<v1::Chunk>;

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let caller = self.seen(&request, request.get_ref().session)?;
        let message = request.into_inner();
        let digest = convert::digest("digest", &message.digest)?;
        let refused = || {
            WireError::new(ErrorCode::Stale, "no work of yours names this file (any more), poll for new work")
        };
        let offers = self.runs.offers(&caller.name);
        let (view, kept) = offers
            .iter()
            .find_map(|(found, offer)| named(found, offer, &digest).map(|kept| (found.clone(), kept)))
            .ok_or_else(refused)?;
        let bytes = match kept {
            Some(bytes) => bytes,
            None => {
                let blobs = self.shared.store.blobs.clone();
                let read = self.shared.tasks.blocking("read blob", move || blobs.map(&digest)).await;
                read.map_err(|e| errors::internal(&e))?.map_err(|e| errors::internal(&e))?
            }
        };
        let proof = match self.shared.workers.protocol(&caller.name) {
            Some(WHOLE_PROTOCOL..) => Proof::Whole,
            _ => Proof::Chunks,
        };
        // Bytes are progress: they renew the lease.
        let (shared, traffic) = (self.shared.clone(), view.traffic.clone());
        let sent = proto::chunks::split(bytes, message.offset, proof).map(move |chunk| {
            shared.workers.seen(&caller.name, message.session, shared.clock.now_ms());
            traffic.add_down(chunk.data.len() as u64);
            Ok(chunk)
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(sent))))
    }

    async fn update_status(
        &self,
        request: Request<v1::UpdateStatusRequest>,
    ) -> Result<Response<v1::UpdateStatusResponse>, Status> {
        let name = self.seen(&request, request.get_ref().session)?.name;
        let message = request.into_inner();
        let announced = convert::required("update status: payload", message.payload)?;
        let digest = convert::digest("update digest", &announced.digest)?;
        let (lease, worker) = (message.lease, name.clone());
        let known = self.ask(&name, lease, |answer| Command::Known { worker, lease, digest, answer }).await;
        let accepted = match known.map_err(WireError::from) {
            Ok(()) => true,
            Err(refusal) if refusal.code == ErrorCode::NotFound => false,
            Err(refusal) => return Err(refusal.into()),
        };
        let offset = self.uploads.offset(&name, &announced).await;
        Ok(Response::new(v1::UpdateStatusResponse { offset, accepted }))
    }

    async fn submit_update(
        &self,
        _: Request<Streaming<v1::UpdatePart>>,
    ) -> Result<Response<v1::SubmitUpdateResponse>, Status> {
        // `Direct` serves this call; the generated trait asks for it nevertheless.
        Err(errors::internal(&"an update came to the generated service").into())
    }

    async fn submit_evaluation(
        &self,
        request: Request<v1::SubmitEvaluationRequest>,
    ) -> Result<Response<v1::SubmitEvaluationResponse>, Status> {
        let message = *request.get_ref();
        let worker = self.seen(&request, message.session)?.name;
        let loss = loss("loss", message.loss)?;
        if message.examples == 0 || message.examples > EXAMPLES_MAX || message.correct > message.examples {
            return Err(WireError::invalid(format!(
                "{} correct of {} examples: 1 to {EXAMPLES_MAX} examples are allowed, and no more correct than that",
                message.correct, message.examples
            ))
            .into());
        }
        let found = self.runs.expecting(&worker, message.lease);
        let allowed = found.and_then(|f| Some(f.board.read().work(&worker)?.assignment.examples_max));
        if let Some(allowed) = allowed.filter(|allowed| message.examples > *allowed) {
            return Err(WireError::invalid(format!(
                "an evaluation on {} examples, this worker offered {allowed}",
                message.examples
            ))
            .into());
        }
        let measured = Measured { loss, correct: message.correct, examples: message.examples };
        let lease = message.lease;
        self.ask(&worker.clone(), lease, |answer| Command::Evaluation { worker, lease, measured, answer })
            .await?;
        Ok(Response::new(v1::SubmitEvaluationResponse {}))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        let worker = self.seen(&request, request.get_ref().session)?.name;
        let message = request.into_inner();
        if message.reason.len() > REASON_BYTES_MAX {
            return Err(WireError::invalid(format!(
                "reason of {} bytes, at most {REASON_BYTES_MAX} are allowed",
                message.reason.len()
            ))
            .into());
        }
        let event = Event::Declined { worker: worker.clone(), lease: message.lease, reason: message.reason };
        self.ask(&worker, message.lease, |answer| Command::Event { event, answer }).await?;
        Ok(Response::new(v1::DeclineResponse {}))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        let worker = caller(&request)?.name;
        self.shared.workers.leave(&worker, request.get_ref().session);
        tracing::info!(%worker, "worker left");
        Ok(Response::new(v1::LeaveResponse {}))
    }
}
