//! Workers in one process that have their update ready: what is measured is how it is taken in.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use identity::{ClientHome, JoinOptions, Role};
use proto::{
    PROTOCOL,
    chunks::{self, Proof},
    v1::{
        self, BlobRef, InviteRequest, control_client::ControlClient, training_client::TrainingClient,
        update_part::Part,
    },
};
use service::clock::Clock;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Members with identities of their own.
pub(crate) async fn enrol(
    mut control: ControlClient<Channel>,
    address: &str,
    homes: &Path,
    count: usize,
) -> Vec<ClientHome> {
    let mut members = Vec::new();
    for at in 0..count {
        let (name, home) = (format!("site-{at:02}"), homes.join(at.to_string()));
        let invite = InviteRequest { role: Role::Worker.to_string(), name, ttl_ms: 0 };
        let token = control.invite(invite).await.unwrap().into_inner().token;
        let options = JoinOptions {
            token: token.parse().unwrap(),
            address: Some(address.to_owned()),
            home: &home,
            expect_role: Some(Role::Worker),
            expect_name: None,
        };
        members.push(identity::join(options).await.unwrap());
    }
    members
}

/// Connected workers with one update for all of them.
pub(crate) struct Clients {
    each: Vec<(Channel, u64)>,
    payload: Bytes,
    announced: BlobRef,
}

/// What one round of uploads took.
pub(crate) struct Sent {
    bytes: u64,
    ms: u64,
}

impl Sent {
    /// GB per second.
    pub(crate) fn rate(&self) -> f64 {
        self.bytes as f64 / self.ms.max(1) as f64 / 1e6
    }
}

impl Clients {
    /// Connects all, to the coordinator or to another address, and registers them with the coordinator.
    pub(crate) async fn connect(members: &[ClientHome], address: Option<&str>, parameters: usize) -> Self {
        let values = (0..parameters).flat_map(|i| ((i % 1000) as f32 * 1e-5 - 0.005).to_le_bytes());
        let payload: Bytes = values.collect::<Vec<u8>>().into();
        let announced = chunks::announce(&payload);
        let mut each = Vec::new();
        for member in members {
            let channel = identity::connect(member, address).await.unwrap();
            let mut rpc = TrainingClient::new(channel.clone());
            let request = v1::RegisterRequest {
                protocol_min: *PROTOCOL.start(),
                protocol_max: *PROTOCOL.end(),
                device: "none".to_owned(),
                version: "0".to_owned(),
                ..v1::RegisterRequest::default()
            };
            let session = match address {
                None => rpc.register(request).await.unwrap().into_inner().session,
                Some(_) => 0,
            };
            each.push((channel, session));
        }
        Self { each, payload, announced }
    }

    /// Waits until all have work; returns their leases.
    pub(crate) async fn poll(&mut self) -> Vec<u64> {
        let mut leases = Vec::new();
        for (channel, session) in &self.each {
            let mut rpc = TrainingClient::new(channel.clone());
            let lease = loop {
                let poll = v1::PollRequest { session: *session, wait_ms: 20_000 };
                if let Some(work) = rpc.poll(poll).await.unwrap().into_inner().work {
                    break work.lease;
                }
            };
            leases.push(lease);
        }
        leases
    }

    /// Sends the update of each to a service that does not ask what for, by the generated client: both ends are bare.
    pub(crate) async fn send_without_work(&mut self) -> Sent {
        self.send_all(vec![0; self.each.len()], true).await
    }

    /// Sends the update of each, at the same time and as workers do, and waits until all are acknowledged.
    pub(crate) async fn send(&mut self, leases: Vec<u64>) -> Sent {
        self.send_all(leases, false).await
    }

    async fn send_all(&mut self, leases: Vec<u64>, bare: bool) -> Sent {
        let clock = Clock::start();
        let mut sending = JoinSet::new();
        for ((channel, session), lease) in self.each.iter().zip(leases) {
            let header = v1::UpdateHeader {
                session: *session,
                lease,
                examples: 1,
                payload: Some(self.announced.clone()),
                ..v1::UpdateHeader::default()
            };
            sending.spawn(submit(channel.clone(), header, self.payload.clone(), bare));
        }
        sending.join_all().await;
        Sent { bytes: self.announced.bytes * self.each.len() as u64, ms: clock.now_ms() }
    }
}

async fn submit(channel: Channel, header: v1::UpdateHeader, payload: Bytes, bare: bool) {
    loop {
        let (channel, header, payload) = (channel.clone(), header.clone(), payload.clone());
        let sent = match bare {
            true => generated(channel, header, payload).await,
            false => proto::submit::submit(channel, header, payload, Proof::Whole).await,
        };
        match sent {
            Ok(()) => return,
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(status) => panic!("{:?}: {}", status.code(), status.message()),
        }
    }
}

async fn generated(channel: Channel, header: v1::UpdateHeader, payload: Bytes) -> Result<(), tonic::Status> {
    let first = v1::UpdatePart { part: Some(Part::Header(header)) };
    let rest = chunks::split(payload, 0, Proof::Whole);
    let rest = rest.map(|chunk| v1::UpdatePart { part: Some(Part::Chunk(chunk)) });
    let parts = tokio_stream::iter(std::iter::once(first).chain(rest));
    TrainingClient::new(channel).submit_update(parts).await.map(|_| ())
}
