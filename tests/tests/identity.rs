//! Who may come in, and what the others are told.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use std::fs;

use identity::{ClientHome, NewHome};
use proto::{
    error::{ErrorCode, WireError},
    v1::{RegisterRequest, training_client::TrainingClient},
};
use tests::{Federation, Ran, wait_for};

fn join(federation: &Federation, token: &str, home: &str) -> Ran {
    let home = federation.path(home);
    federation.cli_as(&home, &["join", "--coordinator", &federation.grpc(), "--token", token], "")
}

#[test]
fn each_bad_token_has_its_own_message() {
    let federation = Federation::start();
    let token = federation.invite("reader", "ann");
    join(&federation, &token, "ann").ok();
    assert!(join(&federation, &token, "again").fails(4).contains("was used already"));

    let short = federation.cli(&["invite", "reader", "bob", "--ttl", "1s", "--output", "json"]).json();
    let expires = short["expires_unix_ms"].as_u64().unwrap();
    wait_for("the token to expire", || (service::clock::unix_ms() > expires).then_some(()));
    assert!(join(&federation, short["token"].as_str().unwrap(), "bob").fails(4).contains("expired at"));

    let other = Federation::start();
    let foreign = other.invite("reader", "eve");
    assert!(join(&federation, &foreign, "eve").fails(4).contains("another coordinator"));

    // The id of a token that this coordinator never made, with everything else right.
    let mut parts: Vec<String> = federation.invite("reader", "dan").split('.').map(str::to_owned).collect();
    parts[1] = "0123456789abcdef".to_owned();
    assert!(join(&federation, &parts.join("."), "dan").fails(4).contains("knows no token"));
    assert!(join(&federation, "hello", "dan").fails(2).contains("not a Conclave token"));

    // A token is for one role and one name.
    let reader = federation.invite("reader", "fay");
    let home = federation.path("fay").display().to_string();
    let args = ["join", "--coordinator", &federation.grpc(), "--token", &reader, "--home", &home];
    let refused = tests::run_program("conclave-worker", &args);
    assert!(refused.fails(4).contains("reader 'fay'"), "{refused:?}");
    // A refusal of that kind leaves the token good for whom it was made.
    join(&federation, &reader, "fay-again").ok();
}

#[test]
fn a_reader_may_read_and_nothing_else() {
    let federation = Federation::start();
    let home = federation.member("reader", "ann");
    let as_reader = |args: &[&str]| federation.cli_as(&home, args, "");
    assert_eq!(as_reader(&["model", "ls", "--output", "json"]).json(), serde_json::json!([]));
    let refused = as_reader(&["run", "ls"]);
    assert!(
        refused.fails(4).contains("reader 'ann' may not call ListRuns: it is for operator"),
        "{refused:?}"
    );
    as_reader(&["invite", "operator", "ann"]).fails(4);
    as_reader(&["worker", "ls"]).fails(4);

    // On a worker's RPC, past the command line.
    let home = ClientHome::open(&home).unwrap();
    let refusal = block_on(async {
        let channel = identity::connect(&home, None).await.unwrap();
        TrainingClient::new(channel).register(register()).await.unwrap_err()
    });
    let refusal = WireError::from(refusal);
    assert_eq!(refusal.code, ErrorCode::Forbidden);
    assert!(refusal.message.contains("reader 'ann' may not call Register: it is for worker"), "{refusal}");
}

#[test]
fn strangers_are_refused_at_the_handshake() {
    let federation = Federation::start();
    let other = Federation::start();
    let ours = federation.member("reader", "ann");
    let theirs = other.member("reader", "eve");
    let read = |home: &std::path::Path, file: &str| fs::read_to_string(home.join(file)).unwrap();

    // A member of another federation does not even trust this server.
    let dial = |home: &ClientHome| block_on(identity::connect(home, Some(&federation.grpc()))).unwrap_err();
    let untrusted = dial(&ClientHome::open(&theirs).unwrap());
    assert!(matches!(untrusted, service::dial::DialError::Untrusted { .. }), "{untrusted:?}");

    // One that pretends to: this federation's authority, but a certificate of the other.
    let stranger = ClientHome::open(&theirs).unwrap();
    let mixed = NewHome {
        coordinator: &federation.grpc(),
        principal: stranger.principal(),
        trust_domain: stranger.trust_domain(),
        key_pem: &read(&theirs, "key.pem"),
        certificate_pem: &read(&theirs, "cert.pem"),
        ca_pem: &read(&ours, "ca.pem"),
    };
    let refused = dial(&ClientHome::create(&federation.path("mixed"), &mixed).unwrap());
    assert!(matches!(refused, service::dial::DialError::Refused { .. }), "{refused:?}");

    // No certificate at all.
    let authority = service::tls::certificates(read(&ours, "ca.pem").as_bytes()).unwrap();
    let pin = service::tls::fingerprint(&authority[0]).unwrap();
    let anonymous = service::tls::client_pinned(pin, proto::ALPN).unwrap();
    let dialled =
        block_on(service::dial::channel(&federation.grpc(), anonymous, service::dial::Limits::default()));
    let refused = dialled.unwrap_err();
    assert!(matches!(refused, service::dial::DialError::Refused { .. }), "{refused:?}");
    assert!(refused.to_string().contains("certificate"), "{refused}");
}

#[test]
fn private_keys_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let federation = Federation::start();
    let home = federation.member("reader", "ann");
    let keys = [home.join("key.pem"), federation.home().join("authority/ca.key.pem")];
    for key in &keys {
        assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
    }
    fs::set_permissions(&keys[0], fs::Permissions::from_mode(0o644)).unwrap();
    let refused = federation.cli_as(&home, &["model", "ls"], "");
    assert!(refused.code != 0 && refused.err.contains("chmod 600"), "{refused:?}");
}

#[test]
fn check_says_what_works() {
    let federation = Federation::start();
    let site = federation.site("ada");
    let home = site.home.display().to_string();
    let good = tests::run_program("conclave-worker", &["check", "--home", &home, "--device", "cpu"]);
    assert!(good.ok().lines().count() >= 4, "{good:?}");
    let bad = tests::run_program("conclave-worker", &["check", "--home", &home, "--device", "cuda:0"]);
    assert!(bad.code != 0 && bad.out.contains("FAILED"), "{bad:?}");
}

fn register() -> RegisterRequest {
    RegisterRequest { protocol_min: 1, protocol_max: 1, ..RegisterRequest::default() }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
