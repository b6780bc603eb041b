//! Joining with a token, over real sockets.

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use crate::support::{Federation, HOUR};
use identity::{Authority, ClientHome, JoinError, JoinOptions, Role, Token, connect, join};
use proto::v1::{JoinRequest, enrolment_client::EnrolmentClient};
use service::{clock::unix_ms, dial::DialError, listen::Limits};

async fn try_join(home: &Path, token: &Token) -> Result<ClientHome, JoinError> {
    let options =
        JoinOptions { token: token.clone(), address: None, home, expect_role: None, expect_name: None };
    join(options).await
}

async fn refusal(home: &Path, token: &Token) -> JoinError {
    let error = try_join(home, token).await.err().expect("this token is not good");
    assert!(ClientHome::open(home).is_err(), "a refused join leaves no identity");
    error
}

#[tokio::test]
async fn a_token_makes_a_member() {
    let federation = Federation::start(Limits::default()).await;
    let token = federation.invite(Role::Worker, "hospital-a", HOUR);
    let home = try_join(&federation.home("a"), &token).await.unwrap();
    assert_eq!(home.principal().to_string(), "worker hospital-a");
    assert_eq!((home.coordinator(), home.trust_domain()), (federation.host().as_str(), "fed"));
    let home = ClientHome::open(home.dir()).unwrap();
    let channel = connect(&home, None).await.unwrap();
    let answer = EnrolmentClient::new(channel).join(JoinRequest::default()).await.unwrap().into_inner();
    assert_eq!((answer.role.as_str(), answer.name.as_str()), ("worker", "hospital-a"));
    let left: Vec<_> = std::fs::read_dir(home.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[tokio::test]
async fn a_lost_answer_does_not_burn_the_token() {
    let federation = Federation::start(Limits::default()).await;
    let token = federation.invite(Role::Reader, "analyst", HOUR);
    federation.door.lose.store(2, Ordering::SeqCst);
    for _ in 0..2 {
        let error = refusal(&federation.home("a"), &token).await;
        assert_eq!(error.to_string(), "the coordinator refuses: the answer is lost");
    }
    let home = try_join(&federation.home("a"), &token).await.unwrap();
    assert_eq!(home.principal().to_string(), "reader analyst");
    // Another key with the same token: that is somebody else.
    let error = refusal(&federation.home("b"), &token).await;
    assert!(matches!(&error, JoinError::Used(why) if why.contains("was used already")), "{error}");
}

#[tokio::test]
async fn a_token_of_another_coordinator_says_so() {
    let federation = Federation::start(Limits::default()).await;
    let other = Authority::create(&federation.home("other"), "fed", unix_ms()).unwrap();
    let token = Token::generate(other.fingerprint(), &federation.host()).unwrap();
    let error = refusal(&federation.home("a"), &token).await;
    assert!(
        matches!(&error, JoinError::OtherAuthority { address } if *address == federation.host()),
        "{error}"
    );
    assert!(error.to_string().starts_with("this token is for another coordinator: "));
}

#[tokio::test]
async fn each_refusal_has_its_own_message() {
    let federation = Federation::start(Limits::default()).await;
    let late = federation.invite(Role::Worker, "late", Duration::ZERO);
    let error = refusal(&federation.home("a"), &late).await;
    assert!(matches!(&error, JoinError::Expired(why) if why.contains("expired at 2")), "{error}");

    let unknown = Token::generate(federation.authority.fingerprint(), &federation.host()).unwrap();
    let error = refusal(&federation.home("a"), &unknown).await;
    assert!(matches!(&error, JoinError::Unknown(why) if why.contains(&unknown.id)), "{error}");

    let good = federation.invite(Role::Worker, "w1", HOUR);
    let text = unknown.expose().replace(&unknown.id, &good.id);
    let error = refusal(&federation.home("a"), &text.parse().unwrap()).await;
    assert!(matches!(&error, JoinError::WrongSecret(_)), "{error}");

    // A port where nothing listens: it was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = Token::generate([0; 32], &free.to_string()).unwrap();
    let error = refusal(&federation.home("a"), &nowhere).await;
    assert!(matches!(&error, JoinError::Dial(DialError::Unreachable { .. })), "{error}");
}

#[tokio::test]
async fn the_address_can_be_given_apart_from_the_token() {
    let federation = Federation::start(Limits::default()).await;
    let token = federation.invite(Role::Worker, "w1", HOUR);
    let text = token.expose().replace(&federation.host(), "coordinator.invalid:7001");
    let home = federation.home("a");
    let address = federation.address.to_string();
    let options = JoinOptions {
        token: text.parse().unwrap(),
        address: Some(address.clone()),
        home: &home,
        expect_role: None,
        expect_name: None,
    };
    assert_eq!(join(options).await.unwrap().coordinator(), address);
}

#[tokio::test]
async fn a_home_has_one_owner() {
    let federation = Federation::start(Limits::default()).await;
    let home = federation.home("a");
    let first = federation.invite(Role::Worker, "w1", HOUR);
    let with = |token: &Token, role, name: Option<&str>| JoinOptions {
        token: token.clone(),
        address: None,
        home: &home,
        expect_role: role,
        expect_name: name.map(|n| n.parse().unwrap()),
    };
    let error = join(with(&first, Some(Role::Operator), Some("boss"))).await.err().unwrap();
    assert_eq!(error.to_string(), "this token is for worker w1, not for operator boss");
    // The key is still there, so the token is still good for this home.
    let joined = join(with(&first, Some(Role::Worker), Some("w1"))).await.unwrap();
    let before = joined.identity().leaf().to_vec();

    let other = federation.invite(Role::Worker, "w2", HOUR);
    for options in [with(&other, None, None), with(&other, None, Some("w2"))] {
        let error = join(options).await.err().unwrap();
        assert!(matches!(&error, JoinError::Occupied { owner, .. } if owner.to_string() == "worker w1"));
        assert_eq!(ClientHome::open(&home).unwrap().identity().leaf(), before);
    }
    // The same member again, for instance after its certificate expired: a new key and certificate.
    let again = federation.invite(Role::Worker, "w1", HOUR);
    let joined = join(with(&again, None, None)).await.unwrap();
    assert_ne!(joined.identity().leaf(), before);
}
