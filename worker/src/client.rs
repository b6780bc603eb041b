//! The calls of one registered worker process, each with a time limit, and what their failures mean.

use std::{error::Error, future::Future, io, time::Duration};

use bytes::Bytes;
use proto::{
    PROTOCOL,
    chunks::Proof,
    error::{ErrorCode, WireError},
    v1::{self, training_client::TrainingClient},
};
use service::dial::{self, DialError};
use tonic::{Response, Status, Streaming, transport::Channel};

/// The first protocol with encodings, and with chunks that have no digest of their own.
const ENCODINGS_PROTOCOL: u32 = 3;

/// How long one call may take that neither waits nor carries a payload.
const CALL: Duration = Duration::from_secs(20);

/// How long the coordinator may hold a poll.
const POLL_WAIT: Duration = Duration::from_secs(20);

/// How long to wait for the answer to the announcement that this process ends.
const LEAVE: Duration = Duration::from_secs(2);

/// The longest reason that is sent, in bytes.
const REASON_BYTES_MAX: usize = 2048;

/// Why a call did not work, by what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no connection, or it broke: connect again.
    #[error("{0}")]
    Broken(String),
    /// One side does not accept the other: trying again does not help.
    #[error(transparent)]
    Dial(DialError),
    /// The coordinator refuses, with a code.
    #[error(transparent)]
    Refused(WireError),
}

impl CallError {
    /// The code of a refusal.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.code),
            _ => None,
        }
    }

    /// The work, or this session, is over.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::Stale | ErrorCode::NotFound))
    }
}

impl From<DialError> for CallError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Unreachable { .. } => Self::Broken(error.to_string()),
            error => Self::Dial(error),
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        if let Some(error) = dial::classify(&status) {
            return error.into();
        }
        let error = WireError::from(status.clone());
        // A status without details was made by the transport, not by a coordinator.
        let transport = matches!(error.code, ErrorCode::Unavailable | ErrorCode::Internal);
        if status.details().is_empty() && transport {
            return Self::Broken(cause(&status));
        }
        Self::Refused(error)
    }
}

/// A trained update, as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    /// The weight.
    pub(crate) examples: u64,
    /// Mean over the examples.
    pub(crate) train_loss: f64,
    /// The name of the encoding of the payload.
    pub(crate) encoding: &'static str,
    /// Digest and length of the payload.
    pub(crate) announced: v1::BlobRef,
    /// As `crates/update` lays it out.
    pub(crate) payload: Bytes,
}

/// A registered worker process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    rpc: TrainingClient<Channel>,
    channel: Channel,
    session: u64,
    lease: Duration,
    protocol: u32,
}

impl Client {
    /// Announces this process on `channel`; it speaks the protocols up to `protocol_max`.
    pub(crate) async fn register(
        channel: Channel,
        datasets: Vec<v1::Dataset>,
        device: &str,
        protocol_max: u32,
    ) -> Result<Self, CallError> {
        let spoken = *PROTOCOL.start()..=protocol_max.min(*PROTOCOL.end());
        let mut rpc = TrainingClient::new(channel.clone());
        let request = v1::RegisterRequest {
            protocol_min: *spoken.start(),
            protocol_max: *spoken.end(),
            datasets,
            device: device.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            encodings: match *spoken.end() {
                ENCODINGS_PROTOCOL.. => update::ENCODINGS.map(str::to_owned).to_vec(),
                _ => Vec::new(),
            },
        };
        let answer = within(CALL, rpc.register(request)).await?;
        if !spoken.contains(&answer.protocol) {
            let message = format!(
                "the coordinator chose protocol {}, this worker speaks {} to {}: upgrade the older one",
                answer.protocol,
                spoken.start(),
                spoken.end()
            );
            return Err(CallError::Refused(WireError::new(ErrorCode::Version, message)));
        }
        let lease = Duration::from_millis(answer.lease_ms);
        Ok(Self { rpc, channel, session: answer.session, lease, protocol: answer.protocol })
    }

    /// Names this process in calls.
    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    /// The protocol that both sides speak.
    pub(crate) fn protocol(&self) -> u32 {
        self.protocol
    }

    /// How long the coordinator keeps work for a worker that it does not hear of.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// Waits for work, at most [`POLL_WAIT`].
    pub(crate) async fn poll(&self) -> Result<Option<v1::Work>, CallError> {
        let wait_ms = u64::try_from(POLL_WAIT.as_millis()).unwrap_or(u64::MAX);
        let request = v1::PollRequest { session: self.session, wait_ms };
        Ok(within(POLL_WAIT + CALL, self.rpc.clone().poll(request)).await?.work)
    }

    /// Tells how far the work is and renews its lease; `true`: the work is no longer wanted.
    pub(crate) async fn progress(&self, lease: u64, percent: u32) -> Result<bool, CallError> {
        let request = v1::ProgressRequest { session: self.session, lease, percent };
        Ok(within(CALL, self.rpc.clone().progress(request)).await?.abandon)
    }

    /// Opens a blob of the present work at an offset.
    pub(crate) async fn fetch(
        &self,
        digest: Vec<u8>,
        offset: u64,
    ) -> Result<Streaming<v1::Chunk>, CallError> {
        let request = v1::FetchRequest { session: self.session, digest, offset };
        within(CALL, self.rpc.clone().fetch(request)).await
    }

    /// How much of this payload is with the coordinator. Since protocol 2.
    pub(crate) async fn update_status(
        &self,
        lease: u64,
        payload: v1::BlobRef,
    ) -> Result<v1::UpdateStatusResponse, CallError> {
        let request = v1::UpdateStatusRequest { session: self.session, lease, payload: Some(payload) };
        within(CALL, self.rpc.clone().update_status(request)).await
    }

    /// Sends a trained update from `offset` on, within `limit`.
    pub(crate) async fn submit_update(
        &self,
        lease: u64,
        update: Upload,
        offset: u64,
        limit: Duration,
    ) -> Result<(), CallError> {
        // What an older coordinator does not know it does not get.
        let (encoding, proof) = match self.protocol {
            ENCODINGS_PROTOCOL.. => (update.encoding, Proof::Whole),
            _ => ("", Proof::Chunks),
        };
        let header = v1::UpdateHeader {
            session: self.session,
            lease,
            examples: update.examples,
            train_loss: update.train_loss,
            payload: Some(update.announced),
            offset,
            encoding: encoding.to_owned(),
        };
        let submit = proto::submit::submit(self.channel.clone(), header, update.payload, proof);
        within(limit, async { submit.await.map(Response::new) }).await?;
        Ok(())
    }

    /// Sends the metrics of a candidate: mean loss and right answers over `examples` rows.
    pub(crate) async fn submit_evaluation(
        &self,
        lease: u64,
        examples: u64,
        loss: f64,
        correct: u64,
    ) -> Result<(), CallError> {
        let request = v1::SubmitEvaluationRequest { session: self.session, lease, examples, loss, correct };
        within(CALL, self.rpc.clone().submit_evaluation(request)).await?;
        Ok(())
    }

    /// Hands work back; a longer reason than the protocol allows is cut.
    pub(crate) async fn decline(&self, lease: u64, reason: &str) -> Result<(), CallError> {
        let reason = reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned();
        let request = v1::DeclineRequest { session: self.session, lease, reason };
        within(CALL, self.rpc.clone().decline(request)).await?;
        Ok(())
    }

    /// Says that this process ends.
    pub(crate) async fn leave(&self) -> Result<(), CallError> {
        let request = v1::LeaveRequest { session: self.session };
        within(LEAVE, self.rpc.clone().leave(request)).await?;
        Ok(())
    }
}

/// Asks for work in the name of a session that cannot exist, to see whether the role is accepted
/// without disturbing a worker that runs with the same identity.
pub(crate) async fn probe(channel: Channel) -> Result<(), CallError> {
    let request = v1::PollRequest { session: 0, wait_ms: 0 };
    match within(CALL, TrainingClient::new(channel).poll(request)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_over() => Ok(()),
        Err(error) => Err(error),
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => {
            Err(CallError::Broken(format!("the coordinator did not answer within {} s", limit.as_secs())))
        }
    }
}

/// Why the transport failed, in few words: the innermost cause, which the others repeat.
fn cause(status: &Status) -> String {
    let mut innermost: &(dyn Error + 'static) = status;
    while let Some(error) = innermost.source() {
        innermost = error;
    }
    let closed = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    match innermost.downcast_ref::<io::Error>() {
        Some(error) if closed.contains(&error.kind()) => "the coordinator closed the connection".to_owned(),
        _ if innermost.is::<Status>() => status.message().to_owned(),
        _ => innermost.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_what_to_do() {
        let ours = |code| CallError::from(Status::from(WireError::new(code, "why")));
        assert!(ours(ErrorCode::Stale).is_over() && ours(ErrorCode::NotFound).is_over());
        assert!(!ours(ErrorCode::Busy).is_over());
        assert_eq!(ours(ErrorCode::Internal).code(), Some(ErrorCode::Internal));
        assert_eq!(ours(ErrorCode::Unavailable).code(), Some(ErrorCode::Unavailable));
        for status in [Status::unavailable("gone"), Status::unknown("h2"), Status::cancelled("reset")] {
            assert!(matches!(CallError::from(status), CallError::Broken(_)));
        }
        let eof = Status::from_error(Box::new(io::Error::from(io::ErrorKind::UnexpectedEof)));
        assert_eq!(CallError::from(eof).to_string(), "the coordinator closed the connection");
        assert_eq!(CallError::from(Status::unavailable("gone")).to_string(), "gone");
        assert_eq!(CallError::from(Status::permission_denied("no")).code(), Some(ErrorCode::Forbidden));
    }

    #[test]
    fn an_unreachable_coordinator_may_come_back_and_an_untrusted_one_may_not() {
        let address = "h:1".to_owned();
        let cause = "x".to_owned();
        let down = DialError::Unreachable { address: address.clone(), cause: cause.clone() };
        assert!(matches!(CallError::from(down), CallError::Broken(_)));
        let foreign = DialError::Untrusted { address, cause };
        assert!(matches!(CallError::from(foreign), CallError::Dial(_)));
    }
}
