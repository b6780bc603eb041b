//! The network edge: who may call what ([`authorize`]), one handler per service, HTTP prediction.
//! Handlers validate, call a handle, and translate; they hold no domain logic.

pub(crate) mod authorize;
mod buffers;
pub(crate) mod control;
pub(crate) mod direct;
pub(crate) mod enrolment;
pub(crate) mod errors;
pub(crate) mod http;
pub(crate) mod inference;
pub(crate) mod registry;
pub(crate) mod training;
mod turns;
mod uploads;

use std::pin::Pin;

use proto::v1::Chunk;
use tokio_stream::Stream;
use tonic::{Request, Status};

pub(crate) use authorize::Caller;
pub(crate) use buffers::Buffer;
use uploads::Resume;
pub(crate) use uploads::Uploads;

/// A streamed answer.
type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Who calls: put there by [`authorize`], which lets no call through without it.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::unauthenticated("no identity on this connection"))
}

/// The chunks of stored bytes from an offset.
fn chunks(bytes: bytes::Bytes, offset: u64) -> Reply<Chunk> {
    Box::pin(tokio_stream::iter(proto::chunks::split(bytes, offset, proto::chunks::Proof::Chunks).map(Ok)))
}
