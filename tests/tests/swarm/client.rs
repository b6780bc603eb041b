//! Many workers in one process: each has an identity of its own, and one mutual-TLS connection on which it
//! registers, polls and answers, as `conclave-worker` does. Nothing is kept on disk, and nothing is trained.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use identity::{ClientHome, JoinOptions, Role, Token};
use job::{Job, Task};
use params::{Digest, Rng};
use proto::{
    PROTOCOL, chunks, convert,
    v1::{
        self, InviteRequest, control_client::ControlClient, training_client::TrainingClient,
        update_part::Part,
    },
};
use tokio::{
    sync::{Barrier, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Joins and handshakes at the same time: what the coordinator's listener takes.
const AT_ONCE: usize = 48;

/// How long the coordinator may hold a poll.
const POLL_MS: u64 = 20_000;

/// What the clients did so far.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Registrations: one each, unless a connection was lost.
    pub(crate) registered: AtomicU64,
    /// Updates that were acknowledged.
    pub(crate) acknowledged: AtomicU64,
}

/// The members `site-0000` and so on: invited by the operator, joined with their tokens. Their homes are
/// folders of `homes`.
pub(crate) async fn enrol(operator: Channel, address: &str, homes: &Path, count: usize) -> Vec<ClientHome> {
    let (places, mut joining) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for at in 0..count {
        let (mut control, places) = (ControlClient::new(operator.clone()), places.clone());
        let (address, home) = (address.to_owned(), homes.join(format!("{at:04}")));
        joining.spawn(async move {
            let _place = places.acquire().await.unwrap();
            let name = format!("site-{at:04}");
            let invite = InviteRequest { role: Role::Worker.to_string(), name, ttl_ms: 0 };
            let token = control.invite(invite).await.unwrap().into_inner().token;
            join(token.parse().unwrap(), address, home).await
        });
    }
    joining.join_all().await
}

async fn join(token: Token, address: String, home: PathBuf) -> ClientHome {
    let options = JoinOptions {
        token,
        address: Some(address),
        home: &home,
        expect_role: Some(Role::Worker),
        expect_name: None,
    };
    identity::join(options).await.unwrap()
}

/// Workers that are connected, each with a poll open or work under way.
pub(crate) struct Swarm {
    clients: JoinSet<()>,
    stop: CancellationToken,
    pub(crate) told: Arc<Told>,
}

impl Swarm {
    /// Connects and registers all, and waits until they are.
    pub(crate) async fn connect(homes: Vec<ClientHome>) -> Self {
        let (told, stop, mut clients) = (Arc::<Told>::default(), CancellationToken::new(), JoinSet::new());
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let ready = Arc::new(Barrier::new(homes.len() + 1));
        for home in homes {
            let (places, ready, told, stop) = (places.clone(), ready.clone(), told.clone(), stop.clone());
            clients.spawn(async move {
                let client = {
                    let _place = places.acquire().await.unwrap();
                    Client::register(&home, told).await
                };
                ready.wait().await;
                tokio::select! {
                    () = stop.cancelled() => client.leave().await,
                    () = client.work() => {}
                }
            });
        }
        ready.wait().await;
        Self { clients, stop, told }
    }

    /// Ends all; fails where one of them did.
    pub(crate) async fn leave(self) {
        self.stop.cancel();
        self.clients.join_all().await;
    }
}

struct Client {
    rpc: TrainingClient<Channel>,
    session: u64,
    told: Arc<Told>,
}

impl Client {
    async fn register(home: &ClientHome, told: Arc<Told>) -> Self {
        let channel = identity::connect(home, None).await.unwrap();
        let mut rpc = TrainingClient::new(channel);
        let request = v1::RegisterRequest {
            protocol_min: *PROTOCOL.start(),
            protocol_max: *PROTOCOL.end(),
            datasets: Vec::new(),
            device: "none".to_owned(),
            version: "0".to_owned(),
            encodings: Vec::new(),
        };
        let session = rpc.register(request).await.unwrap().into_inner().session;
        told.registered.fetch_add(1, Ordering::Relaxed);
        Self { rpc, session, told }
    }

    /// Polls and answers; any error but late work is a lost connection, and fails the test.
    async fn work(&self) {
        loop {
            let request = v1::PollRequest { session: self.session, wait_ms: POLL_MS };
            let polled = self.rpc.clone().poll(request).await.unwrap().into_inner();
            if let Some(work) = polled.work {
                self.answer(&work).await;
            }
        }
    }

    async fn answer(&self, work: &v1::Work) {
        let payload = payload(work);
        let header = v1::UpdateHeader {
            session: self.session,
            lease: work.lease,
            examples: 1,
            train_loss: 0.0,
            payload: Some(convert::blob_ref(Digest::of(&payload), payload.len() as u64)),
            offset: 0,
            encoding: String::new(),
        };
        let first = v1::UpdatePart { part: Some(Part::Header(header)) };
        let rest = chunks::split(payload.into(), 0, chunks::Proof::Whole);
        let rest = rest.map(|chunk| v1::UpdatePart { part: Some(Part::Chunk(chunk)) });
        let parts = tokio_stream::iter(std::iter::once(first).chain(rest));
        match self.rpc.clone().submit_update(parts).await {
            Ok(_) => self.told.acknowledged.fetch_add(1, Ordering::Relaxed),
            Err(status) => panic!("round {}: {:?}: {}", work.round, status.code(), status.message()),
        };
    }

    async fn leave(&self) {
        self.rpc.clone().leave(v1::LeaveRequest { session: self.session }).await.unwrap();
    }
}

/// The update that a worker would make, bit for bit.
fn payload(work: &v1::Work) -> Vec<u8> {
    let job = Job::parse(&work.job).unwrap();
    let Task::Synthetic(synthetic) = job.task else { panic!("not a synthetic run") };
    let part = format!("part {}", work.part);
    let mut rng = Rng::new(job.rounds.seed, &["train", &work.round.to_string(), &part]);
    let values = (0..synthetic.parameters).map(|_| (rng.unit() as f32 - 0.5) / 32.0);
    values.flat_map(f32::to_le_bytes).collect()
}
