use params::Params;
use update::{Encoding, compensate, remainder};

use super::*;
use crate::work::tests::{measured, trained};

const ALL: [(&str, Encoding); 7] = [
    ("\"f32\"", Encoding::F32),
    ("\"bf16\"", Encoding::Bf16),
    ("\"fp16\"", Encoding::Fp16),
    ("{ kind = \"int8\", block = 16 }", Encoding::Int8 { block: 16 }),
    ("{ kind = \"int4\", block = 16 }", Encoding::Int4 { block: 16 }),
    ("{ kind = \"top-k\", fraction = 0.5 }", Encoding::TopK { fraction: 0.5 }),
    ("\"sign\"", Encoding::Sign),
];

/// `fc.bias` comes first.
const BIAS: std::ops::Range<usize> = 0..2;
const OWN_BIAS: &str = "tensors = [{ match = \"fc.bias\", policy = \"keep-local\" }]";

fn with(work: &Work, aggregate: &str) -> Work {
    Work { job: format!("{JOB}{aggregate}\n"), ..work.clone() }
}

fn seed(work: &Work) -> u64 {
    Assignment::try_from(work.clone()).unwrap().seed(&"a".parse().unwrap())
}

fn encode(encoding: Encoding, values: &[f32], seed: u64) -> Vec<u8> {
    let mut payload = Vec::new();
    encoding.encode(values, seed, &mut payload).unwrap();
    payload
}

/// The encodings and payloads that were sent.
fn sent_payloads(seen: &[Seen]) -> Vec<(String, Vec<u8>)> {
    let payload = |seen: &Seen| match seen {
        Seen::Update { encoding, payload, .. } => Some((encoding.clone(), payload.clone())),
        _ => None,
    };
    seen.iter().filter_map(payload).collect()
}

/// What the worker with this home sends for each piece of work, by one process for all of `rounds`.
async fn play(home: &Path, work: &Work, rounds: impl IntoIterator<Item = u32>) -> Vec<Vec<u8>> {
    let (fake, channel) = Fake::start().await;
    let model = Some(fake.blob(weights().to_safetensors().unwrap()));
    let script = async {
        for (count, round) in (1..).zip(rounds) {
            fake.give(Work { round, model: model.clone(), ..work.clone() });
            fake.seen(|seen| updates(seen) == count).await;
        }
    };
    live(worker(home, CSV).await, &channel, script).await;
    sent_payloads(&fake.seen(|_| true).await).into_iter().map(|(_, payload)| payload).collect()
}

fn carry_files(home: &Path) -> Vec<String> {
    let entries = fs::read_dir(home.join("carry")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn each_arrives_as_the_update_that_was_trained() {
    let (fake, channel, work, home) = federation().await;
    let script = async {
        for (count, (setting, _)) in (1..).zip(ALL) {
            let run = format!("line-{count}");
            fake.give(Work { run, ..with(&work, &format!("encoding = {setting}")) });
            fake.seen(|seen| updates(seen) == count).await;
        }
    };
    live(worker(home.path(), CSV).await, &channel, script).await;
    let update = trained(&work, &weights()).update;
    let largest = update.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    assert!(update.iter().all(|value| value.abs() > 0.0), "{update:?}");
    let sent = sent_payloads(&fake.seen(|_| true).await);
    assert_eq!(sent.len(), ALL.len());
    for ((name, payload), (_, encoding)) in sent.iter().zip(ALL) {
        assert_eq!(name, encoding.name());
        assert_eq!(*payload, encode(encoding, &update, seed(&work)), "{name}");
        encoding.verify(payload, update.len()).unwrap();
        let mut found = vec![f32::NAN; update.len()];
        encoding.decode(payload, update.len(), 0, &mut found);
        let bound = |value: f32| match encoding {
            Encoding::F32 => 0.0,
            Encoding::Bf16 => value.abs() / 256.0,
            Encoding::Fp16 => value.abs() / 2048.0,
            Encoding::Int8 { .. } => largest / 127.0,
            Encoding::Int4 { .. } => largest / 7.0,
            // It is the largest that arrive.
            Encoding::TopK { .. } if value.abs() == largest => 0.0,
            Encoding::TopK { .. } => value.abs(),
            Encoding::Sign => largest,
        };
        for (found, value) in found.iter().zip(&update) {
            assert!((found - value).abs() <= bound(*value), "{name}: {found} for {value}");
            assert!(found * value >= 0.0, "{name}: {found} for {value}");
        }
    }
    // Only what has feedback leaves something.
    assert_eq!(carry_files(home.path()), ["line-6.1", "line-7.1"]);
}

/// Rounds 1 to `rounds` by the rules of error feedback, from a base that stays the same.
fn with_feedback(encoding: Encoding, work: &Work, rounds: u32) -> Vec<Vec<u8>> {
    let mut residual = vec![0.0; 4];
    let round = |round: u32| {
        let work = Work { round, ..work.clone() };
        let mut values = trained(&work, &weights()).update;
        compensate(&mut values, &residual);
        let payload = encode(encoding, &values, seed(&work));
        remainder(&values, encoding, &payload, &mut residual);
        payload
    };
    (1..=rounds).map(round).collect()
}

#[tokio::test]
async fn feedback_is_the_same_with_and_without_restarts() {
    for (setting, encoding) in [
        ("{ kind = \"top-k\", fraction = 0.25 }", Encoding::TopK { fraction: 0.25 }),
        ("\"sign\"", Encoding::Sign),
    ] {
        let work = with(&work(), &format!("encoding = {setting}"));
        let expected = with_feedback(encoding, &work, 4);
        let second = Work { round: 2, ..work.clone() };
        let without = encode(encoding, &trained(&second, &weights()).update, seed(&second));
        assert_ne!(expected[1], without);
        let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
        assert_eq!(play(homes[0].path(), &work, 1..=4).await, expected);
        for (round, expected) in (1..).zip(&expected) {
            let sent = play(homes[1].path(), &work, [round]).await;
            assert_eq!(sent, std::slice::from_ref(expected), "round {round}");
        }
        for home in &homes {
            assert_eq!(carry_files(home.path()), ["line-1.3", "line-1.4"]);
        }
    }
}

#[tokio::test]
async fn a_round_that_is_trained_again_gives_the_same_bits() {
    let work = with(&work(), "encoding = \"sign\"");
    let home = tempfile::tempdir().unwrap();
    let expected = play(home.path(), &work, 1..=3).await;
    // As if the process had been killed between what is carried and the update; and again.
    for _ in 0..2 {
        fs::remove_dir_all(home.path().join("spool")).unwrap();
        assert_eq!(play(home.path(), &work, [3]).await, expected[2..]);
    }
    // As if it had been killed before both.
    fs::remove_dir_all(home.path().join("spool")).unwrap();
    fs::remove_file(home.path().join("carry/line-1.3")).unwrap();
    assert_eq!(play(home.path(), &work, [3]).await, expected[2..]);
    assert_eq!(with_feedback(Encoding::Sign, &work, 3), expected);
}

#[tokio::test]
async fn what_is_carried_is_written_before_the_update_is_kept() {
    let (fake, channel, work, home) = federation().await;
    let work = with(&work, "encoding = \"sign\"");
    let worker = worker(home.path(), CSV).await;
    fs::remove_dir_all(home.path().join("spool")).unwrap();
    let script = async {
        fake.give(work.clone());
        let seen = fake.seen(|seen| seen.len() == 2).await;
        assert!(matches!(&seen[1], Seen::Declined { reason, .. } if reason.contains("disk")), "{seen:?}");
    };
    live(worker, &channel, script).await;
    assert_eq!(carry_files(home.path()), ["line-1.1"]);
    // Nothing of it is counted twice.
    assert_eq!(play(home.path(), &work, 1..=2).await, with_feedback(Encoding::Sign, &work, 2));
}

#[tokio::test]
async fn a_damaged_file_costs_what_was_not_sent_and_no_more() {
    let work = with(&work(), "encoding = \"sign\"");
    let home = tempfile::tempdir().unwrap();
    play(home.path(), &work, [1]).await;
    let path = home.path().join("carry/line-1.1");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let second = Work { round: 2, ..work.clone() };
    let fresh = encode(Encoding::Sign, &trained(&second, &weights()).update, seed(&second));
    assert_eq!(play(home.path(), &work, [2]).await, [fresh]);
}

/// What arrives of rounds 1 to `rounds`, and the own values behind each.
fn with_own_bias(work: &Work, rounds: u32) -> Vec<(Vec<u8>, Params)> {
    let mut own = weights();
    let round = |round: u32| {
        let update = trained(&Work { round, ..work.clone() }, &own).update;
        for (value, step) in own.values_mut()[BIAS].iter_mut().zip(&update[BIAS]) {
            *value += step;
        }
        (encode(Encoding::F32, &update[BIAS.end..], 0), own.clone())
    };
    (1..=rounds).map(round).collect()
}

#[tokio::test]
async fn own_tensors_learn_on_across_restarts_and_never_leave() {
    let work = with(&work(), OWN_BIAS);
    let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let expected = with_own_bias(&work, 3);
    let payloads: Vec<Vec<u8>> = expected.iter().map(|(payload, _)| payload.clone()).collect();
    assert_eq!(play(homes[0].path(), &work, 1..=3).await, payloads);
    for (round, payload) in (1..).zip(&payloads) {
        let sent = play(homes[1].path(), &work, [round]).await;
        assert_eq!(sent, std::slice::from_ref(payload), "round {round}");
    }
    // Two of four elements, and of the others not even one in any place.
    let first = trained(&work, &weights()).update;
    for (payload, (_, own)) in payloads.iter().zip(&expected) {
        assert_eq!(payload.len(), 8);
        for private in own.values()[BIAS].iter().chain(&first[BIAS]) {
            assert!(payload.windows(4).all(|bytes| bytes != private.to_le_bytes()));
        }
    }
    let kept = fs::read(homes[0].path().join("carry/line-1.3")).unwrap();
    let last = encode(Encoding::F32, &expected[2].1.values()[BIAS], 0);
    assert!(kept.windows(8).any(|bytes| bytes == last));
}

#[tokio::test]
async fn a_candidate_is_measured_with_the_own_tensors_of_its_round() {
    let (fake, channel, work, home) = federation().await;
    let work = with(&work, OWN_BIAS);
    let script = async {
        for round in 1..=2 {
            fake.give(Work { round, ..work.clone() });
            fake.seen(|seen| updates(seen) == round as usize).await;
        }
        fake.give(Work { round: 2, kind: WorkKind::Evaluate.into(), lease: 6, ..work.clone() });
        fake.seen(|seen| matches!(seen.last(), Some(Seen::Evaluation { .. }))).await;
    };
    live(worker(home.path(), CSV).await, &channel, script).await;
    let own = &with_own_bias(&work, 2)[1].1;
    let expected = measured(&work, own);
    let seen = fake.seen(|_| true).await;
    let found = seen.iter().find_map(|seen| match seen {
        Seen::Evaluation { loss, .. } => Some(*loss),
        _ => None,
    });
    assert_eq!(found, Some(expected.loss));
    assert_ne!(expected.loss, measured(&work, &weights()).loss);
}

#[tokio::test]
async fn an_older_protocol_hears_nothing_of_encodings() {
    let (fake, channel, work, home) = federation().await;
    let stop = CancellationToken::new();
    let dial = async || Ok(channel.clone());
    let options = Options { protocol_max: 2, ..options(dial) };
    let ended = run(worker(home.path(), CSV).await, options, &stop);
    let script = async {
        fake.give(work.clone());
        fake.seen(|seen| updates(seen) == 1).await;
        stop.cancel();
    };
    tokio::join!(ended, script).0.unwrap();
    let seen = fake.seen(|_| true).await;
    assert_eq!(seen[0], Seen::Registered { session: 1, datasets: vec![], encodings: vec![] });
    let Seen::Update { encoding, proven: true, payload, .. } = &seen[1] else { panic!("{seen:?}") };
    assert_eq!((encoding.as_str(), payload), ("", &expected(&work).0));
}
