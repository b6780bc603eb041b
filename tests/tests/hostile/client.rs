//! A worker that speaks the protocol by hand, and can break each of its rules.

use std::path::PathBuf;

use bytes::Bytes;
use identity::{ClientHome, JoinOptions, Role};
use proto::{
    PROTOCOL,
    chunks::{self, Proof},
    error::WireError,
    v1::{
        self, Chunk, RunSummary, UpdateHeader, UpdatePart, control_client::ControlClient,
        training_client::TrainingClient, update_part::Part,
    },
};
use tests::Federation;
use tokio_stream::Stream;
use tonic::transport::Channel;

/// One registered worker.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) rpc: TrainingClient<Channel>,
    pub(crate) session: u64,
}

/// An update as it would be sent, to be changed before it is.
pub(crate) struct Upload {
    pub(crate) header: UpdateHeader,
    pub(crate) chunks: Vec<Chunk>,
}

impl Worker {
    /// Joins with a token of its own and registers.
    pub(crate) async fn join(federation: &Federation, name: &str) -> Self {
        let home: PathBuf = federation.path(name);
        let options = JoinOptions {
            token: federation.invite("worker", name).parse().unwrap(),
            address: Some(federation.grpc()),
            home: &home,
            expect_role: Some(Role::Worker),
            expect_name: None,
        };
        let member: ClientHome = identity::join(options).await.unwrap();
        let mut rpc = TrainingClient::new(identity::connect(&member, None).await.unwrap());
        let request = v1::RegisterRequest {
            protocol_min: *PROTOCOL.start(),
            protocol_max: *PROTOCOL.end(),
            device: "none".to_owned(),
            version: "0".to_owned(),
            encodings: update::ENCODINGS.map(str::to_owned).to_vec(),
            ..v1::RegisterRequest::default()
        };
        let session = rpc.register(request).await.unwrap().into_inner().session;
        Self { rpc, session }
    }

    /// Waits for work.
    pub(crate) async fn poll(&mut self) -> v1::Work {
        loop {
            let poll = v1::PollRequest { session: self.session, wait_ms: 20_000 };
            if let Some(work) = self.rpc.poll(poll).await.unwrap().into_inner().work {
                return work;
            }
        }
    }

    /// An update that would be taken.
    pub(crate) fn upload(&self, work: &v1::Work, payload: &[u8]) -> Upload {
        let payload = Bytes::copy_from_slice(payload);
        let header = UpdateHeader {
            session: self.session,
            lease: work.lease,
            examples: 1,
            train_loss: 0.0,
            payload: Some(chunks::announce(&payload)),
            ..UpdateHeader::default()
        };
        Upload { header, chunks: chunks::split(payload, 0, Proof::Whole).collect() }
    }

    /// Sends it; the reason where it is refused.
    pub(crate) async fn send(&mut self, upload: Upload) -> Result<(), WireError> {
        let first = UpdatePart { part: Some(Part::Header(upload.header)) };
        let rest = upload.chunks.into_iter().map(|chunk| UpdatePart { part: Some(Part::Chunk(chunk)) });
        self.stream(tokio_stream::iter(std::iter::once(first).chain(rest).collect::<Vec<_>>())).await
    }

    /// Sends any parts.
    pub(crate) async fn stream(
        &mut self,
        parts: impl Stream<Item = UpdatePart> + Send + 'static,
    ) -> Result<(), WireError> {
        self.rpc.submit_update(parts).await.map(|_| ()).map_err(WireError::from)
    }
}

/// Numbers as they travel in `f32`.
pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Waits until a run has ended.
pub(crate) async fn ended(federation: &Federation, run: &str) -> RunSummary {
    let home = ClientHome::open(&federation.home()).unwrap();
    let channel = identity::connect(&home, Some(&federation.grpc())).await.unwrap();
    let mut control = ControlClient::new(channel);
    let mut look = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        look.tick().await;
        let runs = control.list_runs(v1::ListRunsRequest {}).await.unwrap().into_inner().runs;
        let found = runs.into_iter().find(|summary| summary.run == run).unwrap();
        if matches!(found.state.as_str(), "completed" | "failed" | "stopped") {
            return found;
        }
    }
}
