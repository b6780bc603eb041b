//! One federation in this process: an authority, the real listener, and a small service behind each door.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use identity::{Authority, Credentials, Invitation, Principal, Role, Token, TokenRefusal};
use proto::{
    error::WireError,
    v1::{
        JoinRequest, JoinResponse,
        enrolment_server::{Enrolment, EnrolmentServer},
    },
};
use service::{
    clock::unix_ms,
    listen::{Limits, Listener, Peer},
    task::{OnFailure, Tasks},
    tls,
};
use tempfile::TempDir;
use tonic::{Request, Response, Status};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Federation {
    pub(crate) dir: TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) address: SocketAddr,
    pub(crate) tasks: Tasks,
    pub(crate) door: Door,
}

/// The enrolment service as the coordinator has it, in memory.
#[derive(Clone)]
pub(crate) struct Door {
    authority: Arc<Authority>,
    invitations: Arc<Mutex<HashMap<String, Invitation>>>,
    /// So many answers are lost after the token was redeemed.
    pub(crate) lose: Arc<AtomicUsize>,
}

/// Answers with who the caller is, as the certificate of its connection says.
struct WhoAmI;

impl Federation {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::start_with(limits, server_credentials).await
    }

    pub(crate) async fn start_with(
        limits: Limits,
        credentials: impl FnOnce(&Authority) -> Credentials,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::create(&dir.path().join("ca"), "fed", unix_ms()).unwrap());
        let credentials = credentials(&authority);
        let server =
            tls::Identity::from_pem(credentials.chain_pem.as_bytes(), credentials.key_pem.as_bytes())
                .unwrap();
        let mutual = tls::server_mutual(&server, &[authority.certificate().clone()], proto::ALPN).unwrap();
        let enrol = tls::server_anonymous(&server, proto::ALPN_ENROL).unwrap();
        let tasks = Tasks::new();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (members, strangers, address) = listener.serve(mutual, enrol, proto::ALPN_ENROL, limits, &tasks);
        let door = Door { authority: authority.clone(), invitations: Arc::default(), lose: Arc::default() };
        let stop = tasks.shutdown().clone();
        let inside = service::server::hardened().add_service(EnrolmentServer::new(WhoAmI));
        tasks.spawn("members", OnFailure::Log, {
            let stop = stop.clone();
            async move { inside.serve_with_incoming_shutdown(members, stop.cancelled()).await }
        });
        let outside = service::server::hardened().add_service(EnrolmentServer::new(door.clone()));
        tasks.spawn("strangers", OnFailure::Log, async move {
            outside.serve_with_incoming_shutdown(strangers, stop.cancelled()).await
        });
        Self { dir, authority, address, tasks, door }
    }

    /// `localhost:port`.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What `conclave invite` does.
    pub(crate) fn invite(&self, role: Role, name: &str, ttl: Duration) -> Token {
        let token = Token::generate(self.authority.fingerprint(), &self.host()).unwrap();
        let invitation = Invitation {
            id: token.id.clone(),
            role,
            name: name.parse().unwrap(),
            secret_hash: token.secret_hash(),
            expires_unix_ms: unix_ms() + u64::try_from(ttl.as_millis()).unwrap(),
            used_by: None,
        };
        self.door.invitations.lock().unwrap().insert(token.id.clone(), invitation);
        token
    }
}

pub(crate) fn server_credentials(authority: &Authority) -> Credentials {
    authority.issue_server(&["localhost".to_owned(), "127.0.0.1".to_owned()], unix_ms(), HOUR).unwrap()
}

#[tonic::async_trait]
impl Enrolment for WhoAmI {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let peer = request.extensions().get::<Peer>().unwrap();
        let certificate = peer.certificate.as_deref().unwrap();
        let who = Principal::from_certificate(certificate, "fed").unwrap();
        Ok(Response::new(JoinResponse {
            role: who.role.to_string(),
            name: who.name.to_string(),
            ..JoinResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl Enrolment for Door {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let peer = request.extensions().get::<Peer>().unwrap();
        assert_eq!(peer.certificate, None);
        let request = request.into_inner();
        let spki = Authority::requested_spki(&request.signing_request)
            .map_err(|e| WireError::invalid(e.to_string()))?;
        let principal = {
            let mut invitations = self.invitations.lock().unwrap();
            let unknown = TokenRefusal::Unknown { id: request.token_id.clone() };
            let invitation =
                invitations.get_mut(&request.token_id).ok_or(unknown).map_err(WireError::from)?;
            let redeemed =
                invitation.redeem(&request.token_secret, spki, unix_ms()).map_err(WireError::from)?;
            assert!(matches!(redeemed, identity::Redeemed::First | identity::Redeemed::Again));
            invitation.principal()
        };
        if self.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Status::unavailable("the answer is lost"));
        }
        let leaf = self
            .authority
            .sign(&request.signing_request, &principal, unix_ms(), HOUR)
            .map_err(|e| WireError::invalid(e.to_string()))?;
        Ok(Response::new(JoinResponse {
            certificate_pem: leaf.pem,
            ca_pem: self.authority.ca_pem().to_owned(),
            role: principal.role.to_string(),
            name: principal.name.to_string(),
        }))
    }
}
