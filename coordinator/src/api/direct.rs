//! `SubmitUpdate`, read from the frames of its request: payloads go from a frame into the buffer of their upload, and
//! nowhere else in between. Every other call of the service goes on to the generated one. Who calls is decided outside,
//! by [`authorize`](super::authorize).

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use params::Name;
use proto::{
    error::WireError,
    parts::{Decoder, Event},
    submit::PATH,
    v1::training_server::TrainingServer,
};
use tokio::time::timeout;
use tonic::{Status, body::Body, server::NamedService};

use super::{
    Caller,
    training::{POLL_MAX, Training},
    uploads::Piece,
};

/// An empty message in gRPC's framing.
const EMPTY: &[u8] = &[0; 5];

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    inner: TrainingServer<Training>,
    training: Arc<Training>,
}

impl Direct {
    /// Serves `training`; messages of other calls have at most `message_bytes_max`.
    pub(crate) fn new(training: Training, message_bytes_max: usize) -> Self {
        let training = Arc::new(training);
        let inner = TrainingServer::from_arc(training.clone()).max_decoding_message_size(message_bytes_max);
        Self { inner, training }
    }
}

impl NamedService for Direct {
    const NAME: &'static str = TrainingServer::<Training>::NAME;
}

impl tower::Service<Request<Body>> for Direct {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower::Service::<Request<Body>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return self.inner.call(request);
        }
        let training = self.training.clone();
        Box::pin(async move {
            Ok(match submitted(&training, request).await {
                Ok(()) => accepted(),
                Err(status) => status.into_http(),
            })
        })
    }
}

async fn submitted(training: &Training, request: Request<Body>) -> Result<(), Status> {
    let (head, body) = request.into_parts();
    let caller = head.extensions.get::<Caller>();
    let worker =
        caller.ok_or_else(|| Status::unauthenticated("no identity on this connection"))?.name.clone();
    let received = receive(training, &worker, Parts { body, decoder: Decoder::default() }).await;
    received.inspect_err(|status| tracing::info!(%worker, reason = status.message(), "update not accepted"))
}

async fn receive(training: &Training, worker: &Name, mut parts: Parts) -> Result<(), Status> {
    let header = match timeout(POLL_MAX, parts.next()).await {
        Ok(Ok(Some(Event::Header(header)))) => header,
        Ok(Err(error)) => return Err(error.into()),
        _ => return Err(WireError::invalid("an update starts with its header").into()),
    };
    training.receive(worker, &header, &mut parts).await
}

/// The answer of a call without results: an empty message, and the status in the trailers.
fn accepted() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    let trailers = async { Some(Ok(trailers)) };
    let mut answer = Response::new(Body::new(Full::new(Bytes::from_static(EMPTY)).with_trailers(trailers)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

/// The parts of an update as they come.
#[derive(Debug)]
pub(super) struct Parts {
    body: Body,
    decoder: Decoder,
}

impl Parts {
    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Event>, WireError> {
        loop {
            if let Some(event) = self.decoder.step()? {
                return Ok(Some(event));
            }
            match self.body.frame().await {
                // Trailers of a request mean nothing.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.feed(data);
                    }
                }
                Some(Err(status)) => return Err(status.into()),
                None => {
                    self.decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The next piece of the payload; `None` at the end of the stream.
    pub(super) async fn piece(&mut self) -> Result<Option<Piece>, WireError> {
        match self.next().await? {
            None => Ok(None),
            Some(Event::Data { piece, of }) => Ok(Some(Piece::Data { piece, of })),
            Some(Event::End { offset, digest }) => Ok(Some(Piece::End { offset, digest })),
            Some(Event::Header(_) | Event::Other) => {
                Err(WireError::invalid("after its header an update has only chunks"))
            }
        }
    }
}
