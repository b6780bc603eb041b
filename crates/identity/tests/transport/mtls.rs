//! Who gets in, over real sockets: the listener and the client as the programs use them.

use std::{sync::Arc, time::Duration};

use crate::support::{Federation, HOUR};
use identity::{Authority, Credentials, Principal, Role};
use proto::v1::{JoinRequest, enrolment_client::EnrolmentClient};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::ClientConfig;
use service::{
    clock::unix_ms,
    dial::{self, DialError},
    listen::Limits,
    tls,
};
use tokio::{io::AsyncReadExt, net::TcpStream};

const URI: &str = "spiffe://fed/coordinator";

/// A worker's certificate, valid for an hour from `now_unix_ms`.
fn worker_of(authority: &Authority, now_unix_ms: u64) -> tls::Identity {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let worker = Principal { role: Role::Worker, name: "w1".parse().unwrap() };
    let leaf = authority.sign(request.der(), &worker, now_unix_ms, HOUR).unwrap();
    tls::Identity::from_pem(leaf.pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

fn client(federation: &Federation, identity: &tls::Identity) -> Arc<ClientConfig> {
    tls::client(identity, &[federation.authority.certificate().clone()], URI, proto::ALPN).unwrap()
}

fn good(federation: &Federation) -> Arc<ClientConfig> {
    client(federation, &worker_of(&federation.authority, unix_ms()))
}

async fn dial(federation: &Federation, config: Arc<ClientConfig>) -> Result<(String, String), DialError> {
    let channel = dial::channel(&federation.host(), config, dial::Limits::default()).await?;
    let answer = EnrolmentClient::new(channel).join(JoinRequest::default()).await.unwrap().into_inner();
    Ok((answer.role, answer.name))
}

async fn refused(federation: &Federation, config: Arc<ClientConfig>) -> String {
    let error = dial(federation, config).await.unwrap_err();
    // The port works all the same for those who may.
    assert_eq!(dial(federation, good(federation)).await, Ok(("worker".into(), "w1".into())));
    error.to_string().replace(&federation.host(), "HOST")
}

#[tokio::test]
async fn members_come_in_under_the_name_of_their_certificate() {
    let federation = Federation::start(Limits::default()).await;
    assert_eq!(dial(&federation, good(&federation)).await, Ok(("worker".into(), "w1".into())));
    federation.tasks.shutdown().cancel();
    assert_eq!(federation.tasks.wait(Duration::from_secs(30)).await, 0);
    let gone = dial(&federation, good(&federation)).await.unwrap_err();
    assert!(
        matches!(&gone, DialError::Unreachable { cause, .. } if cause == "nothing listens there"),
        "{gone}"
    );
}

#[tokio::test]
async fn without_a_certificate_nobody_comes_in() {
    let federation = Federation::start(Limits::default()).await;
    let anonymous = tls::client_pinned(federation.authority.fingerprint(), proto::ALPN).unwrap();
    assert_eq!(refused(&federation, anonymous).await, "HOST does not accept our certificate: we have none");
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused() {
    let federation = Federation::start(Limits::default()).await;
    let other = Authority::create(&federation.home("other"), "fed", unix_ms()).unwrap();
    let foreign = client(&federation, &worker_of(&other, unix_ms()));
    assert_eq!(
        refused(&federation, foreign).await,
        "HOST does not accept our certificate: it is of another certificate authority; \
         join this coordinator first"
    );
    // And the other way round: we do not talk to a server of another authority.
    let identity = worker_of(&federation.authority, unix_ms());
    let mistrusting = tls::client(&identity, &[other.certificate().clone()], URI, proto::ALPN).unwrap();
    assert_eq!(
        refused(&federation, mistrusting).await,
        "HOST is not the server that we trust: its certificate is of another authority"
    );
}

#[tokio::test]
async fn expired_certificates_are_refused() {
    let federation = Federation::start(Limits::default()).await;
    let expired = worker_of(&federation.authority, unix_ms() - 2 * 3_600_000);
    assert_eq!(
        refused(&federation, client(&federation, &expired)).await,
        "HOST does not accept our certificate: it has expired; join again"
    );
}

#[tokio::test]
async fn a_certificate_serves_its_purpose_only() {
    let federation = Federation::start(Limits::default()).await;
    let server = crate::support::server_credentials(&federation.authority);
    let server = tls::Identity::from_pem(server.chain_pem.as_bytes(), server.key_pem.as_bytes()).unwrap();
    assert_eq!(
        refused(&federation, client(&federation, &server)).await,
        "HOST does not accept our certificate: it is not for clients"
    );
}

#[tokio::test]
async fn a_server_of_our_authority_with_another_name_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path(), "fed", unix_ms()).unwrap();
    let key_pem = std::fs::read_to_string(dir.path().join("ca.key.pem")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(authority.ca_pem(), KeyPair::from_pem(&key_pem).unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names.push(SanType::URI("spiffe://fed/worker/evil".try_into().unwrap()));
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let impostor = Credentials {
        chain_pem: format!("{}{}", leaf.pem(), authority.ca_pem()),
        key_pem: key.serialize_pem().into(),
    };
    let federation = Federation::start_with(Limits::default(), |_| impostor).await;
    let identity = worker_of(&authority, unix_ms());
    let config = tls::client(&identity, &[authority.certificate().clone()], URI, proto::ALPN).unwrap();
    let error = dial(&federation, config).await.unwrap_err();
    let cause = "the server is 'spiffe://fed/worker/evil', not 'spiffe://fed/coordinator'";
    assert_eq!(error, DialError::Untrusted { address: federation.host(), cause: cause.to_owned() });
}

#[tokio::test]
async fn other_protocols_are_refused() {
    let federation = Federation::start(Limits::default()).await;
    let identity = worker_of(&federation.authority, unix_ms());
    let authority = [federation.authority.certificate().clone()];
    let http1 = tls::client(&identity, &authority, URI, b"http/1.1").unwrap();
    assert_eq!(refused(&federation, http1).await, "cannot reach HOST: it speaks another protocol (ALPN)");
    let mut silent = ClientConfig::clone(&good(&federation));
    silent.alpn_protocols.clear();
    assert_eq!(
        refused(&federation, Arc::new(silent)).await,
        "cannot reach HOST: it closed the connection after the handshake"
    );
}

#[tokio::test]
async fn a_slow_handshake_is_closed() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let federation = Federation::start(limits).await;
    let mut socket = TcpStream::connect(federation.address).await.unwrap();
    // One byte of a TLS record, and never more.
    tokio::io::AsyncWriteExt::write_all(&mut socket, &[0x16]).await.unwrap();
    assert_eq!(closed(&mut socket).await, 0);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let limits = Limits { first_request: Duration::from_millis(50), ..Limits::default() };
    let federation = Federation::start(limits).await;
    let tcp = TcpStream::connect(federation.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(good(&federation)).connect(name, tcp).await.unwrap();
    // What the server says unasked, and then the end.
    assert!(closed(&mut stream).await > 0);
}

#[tokio::test]
async fn connections_are_bounded_per_address() {
    let limits = Limits { connections_per_address: 1, ..Limits::default() };
    let federation = Federation::start(limits).await;
    let first = dial::channel(&federation.host(), good(&federation), dial::Limits::default()).await.unwrap();
    let second = dial(&federation, good(&federation)).await.unwrap_err();
    assert!(
        matches!(&second, DialError::Unreachable { cause, .. } if cause.contains("closed the connection")),
        "{second}"
    );
    drop(first);
    // The slot comes back when the server notices: a condition, so we ask until it holds.
    let wait = async { while dial(&federation, good(&federation)).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_classified_on_a_lazy_channel_too() {
    let federation = Federation::start(Limits::default()).await;
    let expired = client(&federation, &worker_of(&federation.authority, unix_ms() - 2 * 3_600_000));
    let channel = dial::channel_lazy(&federation.host(), expired, dial::Limits::default()).unwrap();
    let status = EnrolmentClient::new(channel).join(JoinRequest::default()).await.unwrap_err();
    let error = dial::classify(&status);
    assert!(matches!(&error, Some(DialError::Refused { .. })), "{error:?} {status:?}");
}

/// Reads until the other side closes, and says how much it sent.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> usize {
    let mut all = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut all)).await;
    assert!(end.is_ok(), "still open");
    all.len()
}
