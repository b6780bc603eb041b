//! The one table of who may call what. Deny by default: an RPC that is not listed is refused.
//! Identity comes from the certificate of the connection and from nowhere else.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use identity::{Leaf, Principal, Role};
use params::Name;
use proto::error::{ErrorCode, WireError};
use service::listen::Peer;
use tonic::{Status, body::Body};

use Role::{Operator, Reader, Worker};

/// RPC, and the roles that may call it. `Join` is served on another listener, to callers without a
/// certificate: no role may call it here.
const TABLE: &[(&str, &[Role])] = &[
    ("/conclave.v1.Enrolment/Join", &[]),
    ("/conclave.v1.Training/Register", &[Worker]),
    ("/conclave.v1.Training/Poll", &[Worker]),
    ("/conclave.v1.Training/Progress", &[Worker]),
    ("/conclave.v1.Training/Fetch", &[Worker]),
    ("/conclave.v1.Training/UpdateStatus", &[Worker]),
    ("/conclave.v1.Training/SubmitUpdate", &[Worker]),
    ("/conclave.v1.Training/SubmitEvaluation", &[Worker]),
    ("/conclave.v1.Training/Decline", &[Worker]),
    ("/conclave.v1.Training/Leave", &[Worker]),
    ("/conclave.v1.Control/Invite", &[Operator]),
    ("/conclave.v1.Control/Upload", &[Operator]),
    ("/conclave.v1.Control/StartRun", &[Operator]),
    ("/conclave.v1.Control/ListRuns", &[Operator]),
    ("/conclave.v1.Control/ShowRun", &[Operator]),
    ("/conclave.v1.Control/WatchRun", &[Operator]),
    ("/conclave.v1.Control/RunEvents", &[Operator]),
    ("/conclave.v1.Control/PauseRun", &[Operator]),
    ("/conclave.v1.Control/ResumeRun", &[Operator]),
    ("/conclave.v1.Control/StopRun", &[Operator]),
    ("/conclave.v1.Control/StartRounds", &[Operator]),
    ("/conclave.v1.Control/ListWorkers", &[Operator]),
    ("/conclave.v1.Control/ShowWorker", &[Operator]),
    ("/conclave.v1.Control/DrainWorker", &[Operator]),
    ("/conclave.v1.Control/RevokeWorker", &[Operator]),
    ("/conclave.v1.Registry/ListVersions", &[Operator, Reader]),
    ("/conclave.v1.Registry/ShowVersion", &[Operator, Reader]),
    ("/conclave.v1.Registry/FetchModel", &[Operator, Reader]),
    ("/inference.GRPCInferenceService/ServerLive", &[Operator, Reader, Worker]),
    ("/inference.GRPCInferenceService/ServerReady", &[Operator, Reader, Worker]),
    ("/inference.GRPCInferenceService/ModelReady", &[Operator, Reader]),
    ("/inference.GRPCInferenceService/ServerMetadata", &[Operator, Reader, Worker]),
    ("/inference.GRPCInferenceService/ModelMetadata", &[Operator, Reader]),
    ("/inference.GRPCInferenceService/ModelInfer", &[Operator, Reader]),
];

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) role: Role,
    pub(crate) name: Name,
}

/// Decides on one call. `Ok` is the caller.
pub(crate) fn decide(path: &str, principal: Option<&Principal>) -> Result<Caller, WireError> {
    let Some(principal) = principal else {
        return Err(WireError::new(
            ErrorCode::Unauthenticated,
            "this connection has no client certificate; join with a token first",
        ));
    };
    let caller = Caller { role: principal.role, name: principal.name.clone() };
    let Some((_, allowed)) = TABLE.iter().find(|(rpc, _)| *rpc == path) else {
        return Err(WireError::new(ErrorCode::Version, format!("this coordinator has no RPC {path}")));
    };
    if allowed.contains(&caller.role) {
        return Ok(caller);
    }
    let roles: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    Err(WireError::new(
        ErrorCode::Forbidden,
        format!(
            "{} '{}' may not call {}: it is for {}; ask an operator for an invitation with that role",
            caller.role,
            caller.name,
            path.rsplit('/').next().unwrap_or(path),
            if roles.is_empty() { "hosts that join".to_owned() } else { roles.join(" or ") },
        ),
    ))
}

/// The handshake refuses certificates that have ended; a connection may outlive its certificate.
fn current(leaf: Option<&Leaf>, now_unix: u64) -> Result<(), WireError> {
    match leaf {
        Some(leaf) if leaf.not_after_unix < now_unix => Err(WireError::new(
            ErrorCode::Unauthenticated,
            format!(
                "the certificate of {} '{}' has ended; join again",
                leaf.principal.role, leaf.principal.name
            ),
        )),
        _ => Ok(()),
    }
}

/// Wraps a gRPC router: every call is decided before a byte of its body is read.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    trust_domain: Arc<str>,
}

impl Layer {
    pub(crate) fn new(trust_domain: &str) -> Self {
        Self { trust_domain: trust_domain.into() }
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorized { inner, trust_domain: self.trust_domain.clone() }
    }
}

/// See [`Layer`].
#[derive(Clone, Debug)]
pub(crate) struct Authorized<S> {
    inner: S,
    trust_domain: Arc<str>,
}

impl<S, B> tower::Service<http::Request<B>> for Authorized<S>
where
    S: tower::Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let certificate = request.extensions().get::<Peer>().and_then(|peer| peer.certificate.clone());
        let leaf = certificate.and_then(|der| Leaf::from_certificate(&der, &self.trust_domain).ok());
        let decided = current(leaf.as_ref(), service::clock::unix_ms() / 1000)
            .and_then(|()| decide(request.uri().path(), leaf.as_ref().map(|leaf| &leaf.principal)));
        match decided {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(refusal) => {
                tracing::info!(path = request.uri().path(), reason = %refusal, "call refused");
                let response = Status::from(refusal).into_http();
                Box::pin(std::future::ready(Ok(response)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(role: Role) -> Principal {
        Principal { role, name: "somebody".parse().unwrap() }
    }

    #[test]
    fn the_table_lists_every_rpc_once() {
        let mut listed: Vec<_> = TABLE.iter().map(|(rpc, _)| *rpc).collect();
        let mut served = proto::METHODS.to_vec();
        listed.sort_unstable();
        served.sort_unstable();
        assert_eq!(listed, served);
    }

    #[test]
    fn each_role_may_call_exactly_what_the_table_says() {
        for role in [Role::Worker, Role::Operator, Role::Reader, Role::Coordinator] {
            for (rpc, allowed) in TABLE {
                let decision = decide(rpc, Some(&principal(role)));
                assert_eq!(decision.is_ok(), allowed.contains(&role), "{role} {rpc}");
            }
        }
        // Spelled out, so that a slip in the table itself is noticed.
        let may = |role, rpc| decide(rpc, Some(&principal(role))).is_ok();
        assert!(!may(Reader, "/conclave.v1.Training/SubmitUpdate"));
        assert!(!may(Worker, "/conclave.v1.Control/StartRun"));
        assert!(!may(Worker, "/conclave.v1.Registry/FetchModel"));
        assert!(!may(Operator, "/conclave.v1.Training/Poll"));
        assert!(!may(Role::Coordinator, "/conclave.v1.Control/Invite"));
    }

    #[test]
    fn a_connection_ends_with_its_certificate() {
        let principal = principal(Worker);
        let leaf = Leaf { principal, not_after_unix: 100, spki: [0; 32], serial: vec![1] };
        assert!(current(Some(&leaf), 100).is_ok());
        assert_eq!(current(Some(&leaf), 101).unwrap_err().code, ErrorCode::Unauthenticated);
        assert!(current(None, 101).is_ok(), "no certificate is another refusal");
    }

    #[test]
    fn refusals_say_what_to_do() {
        let refusal = decide("/conclave.v1.Training/Poll", Some(&principal(Reader))).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Forbidden);
        assert!(
            refusal.message.contains("reader 'somebody' may not call Poll: it is for worker"),
            "{refusal}"
        );
        assert_eq!(decide("/x.Y/Z", Some(&principal(Reader))).unwrap_err().code, ErrorCode::Version);
        assert_eq!(decide("/conclave.v1.Training/Poll", None).unwrap_err().code, ErrorCode::Unauthenticated);
    }
}
