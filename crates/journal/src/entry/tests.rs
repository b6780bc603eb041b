use std::collections::BTreeMap;

use round::{Committed, DataPlan, Evaluation, Machine, Plan};

use super::*;

fn worker(text: &str) -> Name {
    text.parse().unwrap()
}

fn events() -> Vec<Event> {
    let (a, lease) = (worker("ada"), u64::MAX - 1);
    let digest = Digest::of(b"update");
    let sessions = vec![(a.clone(), 7), (worker("ben"), u64::MAX)];
    vec![
        Event::Tick,
        Event::WorkerJoined { worker: a.clone(), session: 7, examples: Some(0) },
        Event::WorkerJoined { worker: a.clone(), session: 7, examples: None },
        Event::WorkersSeen { workers: sessions.clone() },
        Event::WorkersSilent { workers: sessions },
        Event::WorkerLeft { worker: a.clone(), session: 7 },
        Event::WorkerDrained { worker: a.clone(), drained: true },
        Event::WorkerRevoked { worker: a.clone() },
        Event::Progress { worker: a.clone(), lease, percent: 40 },
        Event::UpdateReceived { worker: a.clone(), lease, digest, examples: 50 },
        Event::EvaluationReceived { worker: a.clone(), lease },
        Event::Declined { worker: a, lease, reason: "no such column".into() },
        Event::Aggregated { round: 3, candidate: digest },
        Event::EvaluatedCentrally { round: 3 },
        Event::Published { round: 3, better: true },
        Event::Failed { reason: "diverged".into() },
        Event::Pause { reason: "by operator admin".into() },
        Event::Resume,
        Event::Stop { reason: "by operator admin".into() },
        Event::AddRounds { count: 5 },
        Event::Restarted { lease_base: u64::MAX },
    ]
}

fn entry(event: Event, aside: Aside) -> Entry {
    let step = Step { run: worker("iris-1"), now: 12_345, event, aside };
    let changes = vec![
        Change { key: "run/iris-1".into(), value: Some(b"{}".to_vec()) },
        Change { key: "gone".into(), value: None },
    ];
    Entry {
        unix_ms: 1_767_225_600_000,
        changes,
        blobs: vec![b"small".to_vec()],
        what: Some(What::Step(step)),
    }
}

#[test]
fn every_event_comes_back() {
    let asides = [
        Aside::None,
        Aside::Trained { train_loss: 0.5, examples: 50 },
        Aside::Measured { loss: 1.25, correct: 4, examples: 5 },
        Aside::Candidate { weights_bytes: 9, optimizer: Some((Digest::of(b"o"), 4)) },
        Aside::Candidate { weights_bytes: 9, optimizer: None },
    ];
    for event in events() {
        for aside in &asides {
            let entry = entry(event.clone(), aside.clone());
            assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
        }
    }
    let boot = Entry { what: Some(What::Boot { epoch: 3, version: "0.1.0".into() }), ..Entry::default() };
    assert_eq!(Entry::decode(&boot.encode()).unwrap(), boot);
}

/// Homes of this release must be read by every later one: do not change the bytes, add fields.
#[test]
fn the_bytes_of_an_entry_stay() {
    let event = Event::UpdateReceived { worker: worker("a"), lease: 2, digest: Digest::of(b""), examples: 3 };
    let step =
        Step { run: worker("r"), now: 9, event, aside: Aside::Trained { train_loss: 0.5, examples: 3 } };
    let entry = Entry { unix_ms: 1, what: Some(What::Step(step)), ..Entry::default() };
    let hex: String = entry.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "08015a450a017210091a0b09000000000000e03f100392013\
         00a01611902000000000000002220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32622803"
    );
}

#[test]
fn what_is_not_known_is_refused() {
    assert!(Entry::decode(b"").is_err());
    assert!(Entry::decode(&[0xff; 8]).is_err());
    // A step whose event has a number of a later release.
    let later = [0x5a, 0x05, 0x0a, 0x01, b'r', 0x10, 0x09];
    assert_eq!(
        Entry::decode(&later).unwrap_err().to_string(),
        "journal entry: event: is missing or unknown; it may be of a newer release"
    );
    let nameless = entry(Event::WorkerRevoked { worker: worker("x") }, Aside::None).encode();
    let at = nameless.iter().rposition(|byte| *byte == b'x').unwrap();
    let mut broken = nameless;
    broken[at] = b'X';
    assert!(Entry::decode(&broken).unwrap_err().to_string().contains("worker"), "a name is checked");
}

#[test]
fn a_machine_comes_back_from_a_snapshot_in_every_phase() {
    let plan = Plan {
        seed: 7,
        rounds: 2,
        cohort_min: 2,
        cohort_max: 3,
        cohort_select: 4,
        deadline_ms: 60_000,
        lease_ms: 10_000,
        gather_ms: 0,
        wait_ms: 30_000,
        attempts_max: 2,
        data: DataPlan::Hosted { shards: vec![10, 20] },
        evaluation: Evaluation::Workers,
        patience: Some(1),
    };
    let from = Committed { round: 0, base: Digest::of(b"base"), shards: BTreeMap::new() };
    let mut machine = Machine::new(plan, from, 100, 0);
    let join = |name: &str| Event::WorkerJoined { worker: worker(name), session: 1, examples: None };
    let update = |name: &str, lease| {
        let digest = Digest::of(name.as_bytes());
        Event::UpdateReceived { worker: worker(name), lease, digest, examples: 1 }
    };
    let metrics = |name: &str, lease| Event::EvaluationReceived { worker: worker(name), lease };
    let life = [
        join("a"),
        join("b"),
        update("a", 100),
        Event::Restarted { lease_base: 200 },
        Event::WorkerDrained { worker: worker("z"), drained: true },
        update("b", 101),
        Event::WorkerJoined { worker: worker("a"), session: 2, examples: None },
        update("a", 200),
        Event::Aggregated { round: 1, candidate: Digest::of(b"candidate") },
        metrics("a", 201),
        Event::Stop { reason: "later".into() },
    ];
    for (now, event) in (1_000..).zip(life) {
        let _ = machine.step(now, event);
        let item =
            Item::Run { run: worker("iris-1"), saved: Box::new(machine.save()), asides: b"[]".to_vec() };
        assert_eq!(Item::decode(&item.encode()).unwrap(), item);
    }
    for item in [Item::Epoch(3), Item::Pair { key: "k".into(), value: vec![0, 1] }] {
        assert_eq!(Item::decode(&item.encode()).unwrap(), item);
    }
    assert!(Item::decode(b"").is_err());
}
