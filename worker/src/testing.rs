//! A coordinator for tests: it hands out what a test puts into its queue and keeps what it is sent.
//! Plain TCP on loopback; TLS is tested end to end.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use proto::{
    chunks::{self, Assembler, Proof},
    error::{ErrorCode, WireError},
    v1::{
        self,
        training_server::{Training, TrainingServer},
        update_part::Part,
    },
};
use tokio::sync::Notify;
use tokio_stream::StreamExt;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

/// What was sent, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Registered {
        session: u64,
        datasets: Vec<v1::Dataset>,
        encodings: Vec<String>,
    },
    Update {
        session: u64,
        lease: u64,
        examples: u64,
        train_loss: f64,
        offset: u64,
        encoding: String,
        /// Each chunk had a digest; or none had.
        proven: bool,
        payload: Vec<u8>,
    },
    Evaluation {
        lease: u64,
        examples: u64,
        loss: f64,
        correct: u64,
    },
    Declined {
        lease: u64,
        reason: String,
    },
    Left {
        session: u64,
    },
}

#[derive(Default)]
struct State {
    /// Answers to polls.
    work: VecDeque<Option<v1::Work>>,
    blobs: Vec<Vec<u8>>,
    seen: Vec<Seen>,
    sessions: u64,
    /// The offsets that fetches began at.
    fetches: Vec<u64>,
    /// The next download breaks after this many bytes.
    break_fetch_after: Option<usize>,
    /// Refusals of the next calls of [`Training::submit_update`].
    refuse_updates: VecDeque<WireError>,
    refuse_register: Option<WireError>,
    abandon: bool,
    protocol: Option<u32>,
    /// The next upload breaks after this many bytes.
    break_update_after: Option<u64>,
    /// What arrived of an update that broke.
    partial: Vec<u8>,
    /// Every update is here already.
    accepted: bool,
    /// Uploads wait.
    hold_updates: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl Fake {
    /// Serves; ends with the runtime of the test.
    #[allow(clippy::disallowed_methods)]
    pub(crate) async fn start() -> (Self, Channel) {
        let fake = Self::default();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let incoming = TcpIncoming::bind(any).unwrap();
        let address = incoming.local_addr().unwrap();
        let server = Server::builder().add_service(TrainingServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        (fake, channel)
    }

    pub(crate) fn blob(&self, bytes: Vec<u8>) -> v1::BlobRef {
        let named = chunks::announce(&bytes);
        self.lock().blobs.push(bytes);
        named
    }

    pub(crate) fn give(&self, work: v1::Work) {
        self.change(|state| state.work.push_back(Some(work)));
    }

    /// The next poll is told that nothing is wanted.
    pub(crate) fn give_nothing(&self) {
        self.change(|state| state.work.push_back(None));
    }

    pub(crate) fn speak(&self, protocol: u32) {
        self.change(|state| state.protocol = Some(protocol));
    }

    pub(crate) fn break_next_update_after(&self, bytes: u64) {
        self.change(|state| state.break_update_after = Some(bytes));
    }

    pub(crate) fn accept_all(&self) {
        self.change(|state| state.accepted = true);
    }

    pub(crate) fn hold_updates(&self, hold: bool) {
        self.change(|state| state.hold_updates = hold);
    }

    pub(crate) fn forget_blobs(&self) {
        self.change(|state| state.blobs.clear());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_waiters();
    }

    pub(crate) fn refuse_next_update(&self, error: WireError) {
        self.lock().refuse_updates.push_back(error);
    }

    pub(crate) fn refuse_register(&self, error: WireError) {
        self.lock().refuse_register = Some(error);
    }

    pub(crate) fn abandon(&self) {
        self.lock().abandon = true;
    }

    pub(crate) fn break_next_fetch_after(&self, bytes: usize) {
        self.change(|state| state.break_fetch_after = Some(bytes));
    }

    /// How many fetches there were.
    pub(crate) fn fetches(&self) -> usize {
        self.lock().fetches.len()
    }

    /// Where they began.
    pub(crate) fn fetch_offsets(&self) -> Vec<u64> {
        self.lock().fetches.clone()
    }

    /// All that was sent, once `enough` of it is there.
    pub(crate) async fn seen(&self, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let seen = self.lock().seen.clone();
            if enough(&seen) {
                return seen;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, seen: Seen) {
        self.lock().seen.push(seen);
        self.changed.notify_waiters();
    }
}

#[tonic::async_trait]
impl Training for Fake {
    type FetchStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::Chunk, Status>>>;

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterResponse>, Status> {
        let (session, protocol) = {
            let mut state = self.lock();
            if let Some(error) = &state.refuse_register {
                return Err(error.clone().into());
            }
            state.sessions += 1;
            (state.sessions, state.protocol)
        };
        let request = request.into_inner();
        let protocol = protocol.unwrap_or(request.protocol_max);
        let v1::RegisterRequest { datasets, encodings, .. } = request;
        self.note(Seen::Registered { session, datasets, encodings });
        Ok(Response::new(v1::RegisterResponse { protocol, session, lease_ms: 15_000 }))
    }

    async fn poll(&self, request: Request<v1::PollRequest>) -> Result<Response<v1::PollResponse>, Status> {
        let session = request.into_inner().session;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                if session != state.sessions {
                    return Err(WireError::new(ErrorCode::Stale, "session is over").into());
                }
                if let Some(work) = state.work.pop_front() {
                    return Ok(Response::new(v1::PollResponse { work }));
                }
            }
            changed.await;
        }
    }

    async fn progress(
        &self,
        _: Request<v1::ProgressRequest>,
    ) -> Result<Response<v1::ProgressResponse>, Status> {
        Ok(Response::new(v1::ProgressResponse { abandon: self.lock().abandon }))
    }

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        state.fetches.push(request.offset);
        let blob = state.blobs.iter().find(|blob| chunks::announce(blob).digest == request.digest);
        let blob = blob.cloned().ok_or_else(|| Status::from(WireError::not_found("no such blob")))?;
        let chunks = match state.break_fetch_after.take() {
            None => chunks::split(blob.into(), request.offset, Proof::Chunks).map(Ok).collect(),
            Some(bytes) => {
                let start =
                    chunks::split(blob[..bytes].to_vec().into(), request.offset, Proof::Chunks).map(Ok);
                start.chain([Err(Status::unavailable("the connection broke"))]).collect::<Vec<_>>()
            }
        };
        Ok(Response::new(tokio_stream::iter(chunks)))
    }

    async fn update_status(
        &self,
        _: Request<v1::UpdateStatusRequest>,
    ) -> Result<Response<v1::UpdateStatusResponse>, Status> {
        let state = self.lock();
        Ok(Response::new(v1::UpdateStatusResponse {
            offset: state.partial.len() as u64,
            accepted: state.accepted,
        }))
    }

    async fn submit_update(
        &self,
        request: Request<Streaming<v1::UpdatePart>>,
    ) -> Result<Response<v1::SubmitUpdateResponse>, Status> {
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = parts.next().await.and_then(|part| part.ok()?.part) else {
            return Err(Status::invalid_argument("no header"));
        };
        let mut assembler =
            Assembler::new(header.payload.as_ref().unwrap(), 1 << 20).map_err(Status::from)?;
        let (partial, break_after) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.partial), state.break_update_after.take())
        };
        let offset = usize::try_from(header.offset).unwrap();
        for chunk in chunks::split(partial[..offset].to_vec().into(), 0, Proof::Chunks) {
            assembler.push(&chunk).map_err(Status::from)?;
        }
        let mut digests = Vec::new();
        while let Some(part) = parts.next().await {
            let Some(Part::Chunk(chunk)) = part?.part else {
                return Err(Status::invalid_argument("no chunk"));
            };
            digests.push(!chunk.digest.is_empty());
            if let Some(bytes) = break_after {
                let bytes = usize::try_from(bytes).unwrap();
                self.change(|state| state.partial = chunk.data[..bytes].to_vec());
                return Err(Status::unavailable("the connection broke"));
            }
            assembler.push(&chunk).map_err(Status::from)?;
        }
        let v1::UpdateHeader { session, lease, examples, train_loss, offset, encoding, .. } = header;
        let proven = digests.contains(&true);
        if proven && digests.contains(&false) {
            return Err(Status::invalid_argument("some chunks have a digest"));
        }
        let payload = assembler.finish().map_err(Status::from)?;
        self.note(Seen::Update { session, lease, examples, train_loss, offset, encoding, proven, payload });
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.lock().hold_updates {
                break;
            }
            changed.await;
        }
        match self.lock().refuse_updates.pop_front() {
            Some(error) => Err(error.into()),
            None => Ok(Response::new(v1::SubmitUpdateResponse {})),
        }
    }

    async fn submit_evaluation(
        &self,
        request: Request<v1::SubmitEvaluationRequest>,
    ) -> Result<Response<v1::SubmitEvaluationResponse>, Status> {
        let v1::SubmitEvaluationRequest { lease, examples, loss, correct, .. } = request.into_inner();
        self.note(Seen::Evaluation { lease, examples, loss, correct });
        Ok(Response::new(v1::SubmitEvaluationResponse {}))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        let v1::DeclineRequest { lease, reason, .. } = request.into_inner();
        self.note(Seen::Declined { lease, reason });
        Ok(Response::new(v1::DeclineResponse {}))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        self.note(Seen::Left { session: request.into_inner().session });
        Ok(Response::new(v1::LeaveResponse {}))
    }
}
