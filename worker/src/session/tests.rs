use std::time::Duration;

use model::DeviceChoice;
use proto::{
    error::WireError,
    v1::{Work, WorkKind},
};

use super::*;
use crate::{
    compute::Compute,
    tables::Tables,
    testing::{Fake, Seen},
    work,
};

async fn worker() -> Worker {
    let (compute, _) = Compute::start(DeviceChoice::Cpu, 1).await.unwrap();
    let name = "a".parse().unwrap();
    let tables = Tables::default();
    Worker::new(work::Options { name, tables, compute, upload_delay_max: Duration::ZERO, seed: 1 })
}

#[tokio::test]
async fn declines_registers_again_and_leaves() {
    let (fake, channel) = Fake::start().await;
    let mut worker = worker().await;
    let shutdown = CancellationToken::new();
    let dial = async || Ok(channel.clone());
    let session = run(&mut worker, Options { dial, device: "cpu", seed: 1 }, &shutdown);
    let script = async {
        fake.seen(|seen| seen.len() == 1).await;
        fake.give(Work { run: "Bad Name".into(), lease: 3, kind: WorkKind::Train.into(), ..Work::default() });
        let seen = fake.seen(|seen| seen.len() == 2).await;
        assert!(matches!(&seen[1], Seen::Declined { lease: 3, .. }), "{seen:?}");
        // Another process registers, as a restarted coordinator would see it: ours is over.
        let other = Client::register(channel.clone(), vec![], "cpu").await.unwrap();
        fake.give(Work { lease: 4, ..Work::default() });
        let seen = fake.seen(|seen| seen.iter().any(|s| matches!(s, Seen::Declined { lease: 4, .. }))).await;
        assert!(seen.contains(&Seen::Registered { session: 3, datasets: vec![] }), "{seen:?}");
        drop(other);
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(session, script);
    ended.unwrap();
    assert_eq!(fake.seen(|_| true).await.last(), Some(&Seen::Left { session: 3 }));
}

#[tokio::test]
async fn a_role_that_is_refused_ends_the_worker() {
    let (fake, channel) = Fake::start().await;
    fake.refuse_register(WireError::new(ErrorCode::Forbidden, "readers do not train"));
    let mut worker = worker().await;
    let dial = async || Ok(channel.clone());
    let error = run(&mut worker, Options { dial, device: "cpu", seed: 1 }, &CancellationToken::new()).await;
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "readers do not train");
    assert_eq!(crate::error::of_call(&error), service::exit::Exit::Unauthorised);
}

#[tokio::test]
async fn an_unreachable_coordinator_is_tried_again() {
    let (fake, channel) = Fake::start().await;
    let mut worker = worker().await;
    let shutdown = CancellationToken::new();
    let attempts = std::cell::Cell::new(0);
    let dial = async || {
        attempts.set(attempts.get() + 1);
        match attempts.get() {
            1 | 2 => Err(DialError::Unreachable { address: "h:1".into(), cause: "refused".into() }),
            _ => Ok(channel.clone()),
        }
    };
    let session = run(&mut worker, Options { dial, device: "cpu", seed: 1 }, &shutdown);
    let script = async {
        fake.seen(|seen| seen.len() == 1).await;
        shutdown.cancel();
    };
    tokio::join!(session, script).0.unwrap();
    assert_eq!(attempts.get(), 3);
}

#[tokio::test]
async fn an_untrusted_coordinator_ends_the_worker() {
    let mut worker = worker().await;
    let dial =
        async || Err(DialError::Untrusted { address: "h:1".into(), cause: "another authority".into() });
    let ended = run(&mut worker, Options { dial, device: "cpu", seed: 1 }, &CancellationToken::new()).await;
    assert!(matches!(ended, Err(CallError::Dial(DialError::Untrusted { .. }))));
}
