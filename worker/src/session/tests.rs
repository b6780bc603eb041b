use std::{fs, path::Path, pin::Pin, time::Duration};

use model::DeviceChoice;
use proto::{
    PROTOCOL,
    error::{ErrorCode, WireError},
    v1::{Work, WorkKind},
};
use tempfile::TempDir;

use super::*;
use crate::{
    disk::{cache::Cache, carry::Carry},
    tables::Tables,
    testing::{Fake, Seen},
    work::tests::{CSV, JOB, SYNTHETIC, expected, weights, work},
};

/// A worker process with the home `home` and a table `t` that holds `csv`; none where it is empty.
async fn worker(home: &Path, csv: &str) -> Worker {
    let tables = match csv {
        "" => Tables::default(),
        csv => {
            fs::write(home.join("t.csv"), csv).unwrap();
            Tables::load(&[format!("t={}", home.join("t.csv").display()).parse().unwrap()]).unwrap()
        }
    };
    let (compute, _) = Compute::start(DeviceChoice::Cpu, 1).await.unwrap();
    let (spool, kept) = Spool::open(home).unwrap();
    let carry = Carry::open(home).unwrap();
    let tasks = Tasks::new();
    let inputs = Box::new(Inputs::new(tables, Cache::open(home).unwrap(), carry.clone(), tasks.clone()));
    let upload_delay_max = Duration::ZERO;
    Worker {
        name: "a".parse().unwrap(),
        inputs,
        compute,
        spool,
        carry,
        kept,
        tasks,
        upload_delay_max,
        seed: 1,
    }
}

fn options<D>(dial: D) -> Options<'static, D> {
    Options { dial, datasets: vec![], device: "cpu", protocol_max: *PROTOCOL.end() }
}

/// Lets a worker process live while the script runs, then stops it.
fn live(
    worker: Worker,
    channel: &Channel,
    script: impl Future<Output = ()>,
) -> Pin<Box<impl Future<Output = ()>>> {
    Box::pin(async move {
        let stop = CancellationToken::new();
        let dial = async || Ok(channel.clone());
        let ended = Box::pin(run(worker, options(dial), &stop));
        let script = async {
            script.await;
            stop.cancel();
        };
        tokio::join!(ended, script).0.unwrap();
    })
}

/// A coordinator with the initial weights, work that names them, and a home.
async fn federation() -> (Fake, Channel, Work, TempDir) {
    let (fake, channel) = Fake::start().await;
    let model = Some(fake.blob(weights().to_safetensors().unwrap()));
    (fake, channel, Work { model, ..work() }, tempfile::tempdir().unwrap())
}

fn updates(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| matches!(seen, Seen::Update { .. })).count()
}

fn sent(work: &Work, session: u64, lease: u64, offset: u64) -> Seen {
    let (payload, train_loss) = expected(work);
    let (encoding, proven) = ("f32".to_owned(), false);
    Seen::Update { session, lease, examples: 4, train_loss, offset, encoding, proven, payload }
}

fn registered(session: u64) -> Seen {
    Seen::Registered { session, datasets: vec![], encodings: update::ENCODINGS.map(str::to_owned).to_vec() }
}

fn kept_files(home: &TempDir) -> Vec<std::path::PathBuf> {
    fs::read_dir(home.path().join("spool")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

mod encodings;

mod connection {
    use super::*;

    #[tokio::test]
    async fn declines_registers_again_and_leaves() {
        let (fake, channel) = Fake::start().await;
        let home = tempfile::tempdir().unwrap();
        let script = async {
            fake.seen(|seen| seen.len() == 1).await;
            let kind = WorkKind::Train.into();
            fake.give(Work { run: "Bad Name".into(), lease: 3, kind, ..Work::default() });
            let seen = fake.seen(|seen| seen.len() == 2).await;
            assert!(matches!(&seen[1], Seen::Declined { lease: 3, .. }), "{seen:?}");
            // Another process registers, as a restarted coordinator would see it: ours is over.
            let other = Client::register(channel.clone(), vec![], "cpu", 1).await.unwrap();
            fake.give(Work { lease: 4, ..Work::default() });
            let declined = |seen: &Seen| matches!(seen, Seen::Declined { lease: 4, .. });
            let seen = fake.seen(|seen| seen.iter().any(declined)).await;
            assert!(seen.contains(&registered(3)), "{seen:?}");
            drop(other);
        };
        live(worker(home.path(), "").await, &channel, script).await;
        assert_eq!(fake.seen(|_| true).await.last(), Some(&Seen::Left { session: 3 }));
    }

    #[tokio::test]
    async fn a_role_that_is_refused_ends_the_worker() {
        let (fake, channel) = Fake::start().await;
        let home = tempfile::tempdir().unwrap();
        fake.refuse_register(WireError::new(ErrorCode::Forbidden, "readers do not train"));
        let dial = async || Ok(channel.clone());
        let ended = run(worker(home.path(), "").await, options(dial), &CancellationToken::new()).await;
        let error = ended.unwrap_err();
        assert_eq!(error.to_string(), "readers do not train");
        assert_eq!(crate::error::of_call(&error), service::exit::Exit::Unauthorised);
    }

    #[tokio::test]
    async fn an_unreachable_coordinator_is_tried_again() {
        let (fake, channel) = Fake::start().await;
        let home = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let attempts = std::cell::Cell::new(0);
        let dial = async || {
            attempts.set(attempts.get() + 1);
            match attempts.get() {
                1 | 2 => Err(DialError::Unreachable { address: "h:1".into(), cause: "refused".into() }),
                _ => Ok(channel.clone()),
            }
        };
        let session = run(worker(home.path(), "").await, options(dial), &stop);
        let script = async {
            fake.seen(|seen| seen.len() == 1).await;
            stop.cancel();
        };
        tokio::join!(session, script).0.unwrap();
        assert_eq!(attempts.get(), 3);
    }

    #[tokio::test]
    async fn an_untrusted_coordinator_ends_the_worker() {
        let home = tempfile::tempdir().unwrap();
        let dial =
            async || Err(DialError::Untrusted { address: "h:1".into(), cause: "another authority".into() });
        let ended = run(worker(home.path(), "").await, options(dial), &CancellationToken::new()).await;
        assert!(matches!(ended, Err(CallError::Dial(DialError::Untrusted { .. }))));
    }

    #[tokio::test]
    async fn a_protocol_that_was_not_offered_ends_the_worker() {
        let (fake, channel) = Fake::start().await;
        let home = tempfile::tempdir().unwrap();
        fake.speak(*PROTOCOL.end());
        let dial = async || Ok(channel.clone());
        let options = Options { protocol_max: 1, ..options(dial) };
        let ended = run(worker(home.path(), "").await, options, &CancellationToken::new()).await;
        let message = "the coordinator chose protocol 3, this worker speaks 1 to 1: upgrade the older one";
        assert_eq!(ended.unwrap_err().to_string(), message);
    }
}

mod training {
    use super::*;

    #[tokio::test]
    async fn an_update_is_the_training_and_is_kept_for_a_retry() {
        let (fake, channel, first, home) = federation().await;
        let script = async {
            fake.refuse_next_update(WireError::new(ErrorCode::Stale, "starting"));
            fake.give(first.clone());
            fake.seen(|seen| updates(seen) == 1).await;
            // A second training would write it anew.
            let written = fs::metadata(&kept_files(&home)[0]).unwrap().modified().unwrap();
            fake.give(Work { lease: 9, ..first.clone() });
            fake.seen(|seen| updates(seen) == 2).await;
            assert_eq!(fs::metadata(&kept_files(&home)[0]).unwrap().modified().unwrap(), written);
            // The next round trains anew, on the examples and weights that are there.
            fake.give(Work { round: 2, lease: 10, ..first.clone() });
            fake.seen(|seen| updates(seen) == 3).await;
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
        let seen = fake.seen(|_| true).await;
        assert_eq!((&seen[1], &seen[2]), (&sent(&first, 1, 5, 0), &sent(&first, 1, 9, 0)));
        assert_eq!(fake.fetches(), 1);
        assert_eq!(kept_files(&home).len(), 1, "one per run");
        let [kept] = &Spool::open(home.path()).unwrap().1[..] else { panic!("one per run") };
        let next = Assignment::try_from(Work { round: 2, ..first }).unwrap();
        assert_eq!(kept.key, next.key);
    }

    #[tokio::test]
    async fn a_restarted_worker_offers_what_it_trained_before() {
        let (fake, channel, work, home) = federation().await;
        let script = async {
            fake.refuse_next_update(WireError::new(ErrorCode::Unavailable, "going down"));
            fake.give(work.clone());
            fake.seen(|seen| updates(seen) == 1).await;
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
        // Without its table and the weights it cannot train.
        fake.forget_blobs();
        fs::remove_dir_all(home.path().join("cache")).unwrap();
        let script = async {
            fake.give(Work { lease: 9, ..work.clone() });
            fake.seen(|seen| updates(seen) == 2).await;
        };
        live(worker(home.path(), "").await, &channel, script).await;
        let seen = fake.seen(|_| true).await;
        assert_eq!(seen[4], sent(&work, 2, 9, 0));
    }

    #[tokio::test]
    async fn a_damaged_update_is_trained_again() {
        let (fake, channel, work, home) = federation().await;
        let script = async {
            fake.give(work.clone());
            fake.seen(|seen| updates(seen) == 1).await;
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
        let restarted = worker(home.path(), CSV).await;
        // After it was found to be good.
        let path = &kept_files(&home)[0];
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
        let script = async {
            fake.give(Work { lease: 9, ..work.clone() });
            fake.seen(|seen| updates(seen) == 2).await;
        };
        live(restarted, &channel, script).await;
        assert_eq!(fake.seen(|_| true).await[4], sent(&work, 2, 9, 0));
        assert_eq!(fake.fetches(), 1, "the base version is in the cache");
    }

    #[tokio::test]
    async fn a_restarted_worker_has_the_base_version() {
        let (fake, channel, work, home) = federation().await;
        for round in 1..=2 {
            let work = Work { round, ..work.clone() };
            let script = async {
                fake.give(work);
                fake.seen(|seen| updates(seen) == round as usize).await;
            };
            live(worker(home.path(), CSV).await, &channel, script).await;
        }
        assert_eq!(fake.fetches(), 1);
    }

    /// Weights a little further, as a file.
    fn next_weights() -> Vec<u8> {
        let mut next = weights();
        next.values_mut().iter_mut().for_each(|value| *value += 1e-3);
        next.to_safetensors().unwrap()
    }

    /// Two rounds; the work of the second one names what `change` made of the difference, as one from `before`. Returns
    /// how many fetches there were, and the second version as it was cached.
    async fn two_rounds(before: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> (usize, Option<Vec<u8>>) {
        let (fake, channel, work, home) = federation().await;
        let (base, next) = (weights().to_safetensors().unwrap(), next_weights());
        let mut difference = update::difference::encode(&base, &next, usize::MAX).unwrap();
        change(&mut difference);
        // Words of a header that is alike, and of a few weights: shorter than the file.
        assert!(difference.len() < next.len());
        let second = Work {
            round: 2,
            lease: 6,
            base_before: params::Digest::of(before).as_bytes().to_vec(),
            difference: Some(fake.blob(difference)),
            model: Some(fake.blob(next.clone())),
            ..work.clone()
        };
        let script = async {
            fake.give(work.clone());
            fake.seen(|seen| updates(seen) == 1).await;
            fake.give(second);
            fake.seen(|seen| updates(seen) == 2).await;
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
        (fake.fetches(), Cache::open(home.path()).unwrap().get(params::Digest::of(&next)))
    }

    #[tokio::test]
    async fn the_next_version_comes_by_its_difference() {
        let base = weights().to_safetensors().unwrap();
        assert_eq!(two_rounds(&base, |_| {}).await, (2, Some(next_weights())));
    }

    #[tokio::test]
    async fn a_difference_of_no_use_costs_the_whole_file() {
        let base = weights().to_safetensors().unwrap();
        // Not a difference, and one to another version.
        let cut = |difference: &mut Vec<u8>| difference.truncate(20);
        assert_eq!(two_rounds(&base, cut).await, (3, Some(next_weights())));
        let other = |difference: &mut Vec<u8>| *difference.last_mut().unwrap() ^= 2;
        assert_eq!(two_rounds(&base, other).await, (3, Some(next_weights())));
        // To a version that is not here: it is not even fetched.
        assert_eq!(two_rounds(b"unknown", |_| {}).await, (2, Some(next_weights())));
    }

    #[tokio::test]
    async fn a_broken_download_goes_on_where_it_ended() {
        let (fake, channel, work, home) = federation().await;
        fake.break_next_fetch_after(40);
        let script = async {
            fake.give(work.clone());
            // Another session, as the connection broke.
            fake.seen(|seen| seen.len() == 2).await;
            fake.give(work.clone());
            fake.seen(|seen| updates(seen) == 1).await;
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
        assert_eq!(fake.fetch_offsets(), [0, 40]);
        assert_eq!(fake.seen(|_| true).await[2], sent(&work, 2, 5, 0));
    }

    #[tokio::test]
    async fn a_synthetic_run_needs_nothing() {
        let (fake, channel, work, home) = federation().await;
        let work = Work { job: SYNTHETIC.to_owned(), part: 2, ..work };
        let script = async {
            fake.give(work.clone());
            fake.seen(|seen| updates(seen) == 1).await;
            fake.give(Work { kind: WorkKind::Evaluate.into(), round: 2, lease: 6, ..work.clone() });
            fake.seen(|seen| matches!(seen.last(), Some(Seen::Declined { lease: 6, .. }))).await;
        };
        live(worker(home.path(), "").await, &channel, script).await;
        let payload = [0f32, 0.0, 1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let one_hot = Seen::Update {
            session: 1,
            lease: 5,
            examples: 1,
            train_loss: 0.0,
            offset: 0,
            encoding: "f32".to_owned(),
            proven: false,
            payload,
        };
        assert_eq!((fake.fetches(), &fake.seen(|_| true).await[1]), (0, &one_hot));
    }

    #[tokio::test]
    async fn a_shard_is_fetched_once_and_all_of_it_trained_on() {
        let (fake, channel, work, home) = federation().await;
        let shard = Some(fake.blob(CSV.as_bytes().to_vec()));
        let script = async {
            for round in 1..=3 {
                fake.give(Work { shard: shard.clone(), round, ..work.clone() });
                fake.seen(|seen| updates(seen) == round as usize).await;
            }
        };
        live(worker(home.path(), "").await, &channel, script).await;
        assert_eq!(fake.fetches(), 2);
        let seen = fake.seen(|_| true).await;
        assert!(seen[1..4].iter().all(|seen| matches!(seen, Seen::Update { examples: 8, .. })), "{seen:?}");
    }

    #[tokio::test]
    async fn work_that_cannot_be_done_is_handed_back_with_the_reason() {
        let (fake, channel, good, home) = federation().await;
        let other = JOB.replace("name = \"t\"", "name = \"other\"");
        let broken = Some(fake.blob(vec![1, 2, 3]));
        let cases = [
            (good.clone(), "t.csv line 3 column 'x': '(withheld)' is not a number"),
            (
                Work { job: other, ..good.clone() },
                "this worker offers no dataset 'other' (it offers: t): start it with --data other=PATH",
            ),
        ];
        let script = async {
            for (count, (work, reason)) in (2..).zip(cases) {
                fake.give(work);
                let seen = fake.seen(|seen| seen.len() == count).await;
                let Some(Seen::Declined { reason: found, .. }) = seen.last() else { panic!("{seen:?}") };
                assert!(found.contains(reason), "{found}");
            }
        };
        live(worker(home.path(), &CSV.replace("-3,a", "many,a")).await, &channel, script).await;
        let script = async {
            fake.give(Work { model: broken, ..good });
            let declined = |seen: &Seen| matches!(seen, Seen::Declined { reason, .. } if reason.contains("the weights cannot be used"));
            fake.seen(|seen| seen.iter().any(declined)).await;
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
    }

    #[tokio::test]
    async fn an_update_that_the_coordinator_refuses_for_good_is_handed_back() {
        let (fake, channel, work, home) = federation().await;
        let script = async {
            fake.refuse_next_update(WireError::invalid("tensor 'w' is too large"));
            fake.give(work.clone());
            let seen = fake.seen(|seen| seen.len() == 3).await;
            let reason = "the coordinator refused it: tensor 'w' is too large".to_owned();
            assert_eq!(seen[2], Seen::Declined { lease: 5, reason });
            // A busy one is asked again.
            let wait = Duration::from_millis(1);
            fake.refuse_next_update(WireError::new(ErrorCode::Busy, "full").retry_after(wait));
            fake.give(work.clone());
            fake.seen(|seen| updates(seen) == 2).await;
            fake.give(work.clone());
            fake.seen(|seen| updates(seen) == 3).await;
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
    }

    #[tokio::test]
    async fn a_training_that_is_not_wanted_stops_between_batches() {
        let (fake, channel, work, home) = federation().await;
        // Hours of work: the test ends because it is stopped.
        let rows: String =
            (0..100_000).map(|i| format!("{i},{}\n", if i % 2 == 0 { "a" } else { "b" })).collect();
        let job = JOB
            .replace("optimizer = \"gd\"", "optimizer = \"sgd\"\nbatch = 1")
            .replace("epochs = 2", "epochs = 10000")
            .replace("lr = 0.1", "lr = 0.000001");
        let shard = Some(fake.blob(format!("x,label\n{rows}").into_bytes()));
        let endless = Work { job, shard, ..work.clone() };
        let script = async {
            fake.abandon();
            fake.give(endless.clone());
            // It asks again because it was told that this lease is over.
            fake.give(Work { lease: 6, ..endless.clone() });
            fake.give_nothing();
            // The compute thread is free again.
            fake.give(work.clone());
            fake.seen(|seen| updates(seen) == 1).await;
            fake.give(Work { round: 2, ..endless });
        };
        // And so it is when the process ends.
        live(worker(home.path(), CSV).await, &channel, script).await;
        assert_eq!(fake.seen(|_| true).await[1], sent(&work, 1, 5, 0));
    }
}

mod evaluating {
    use super::*;

    #[tokio::test]
    async fn a_candidate_is_measured_on_the_rows_that_were_held_out() {
        let (fake, channel, work, home) = federation().await;
        let work = Work { kind: WorkKind::Evaluate.into(), ..work };
        let script = async {
            fake.give(work.clone());
            let seen = fake.seen(|seen| seen.len() == 2).await;
            // Zero weights: both classes are equally likely, and the first one is right for half the rows.
            let Seen::Evaluation { lease: 5, examples: 4, loss, correct: 2 } = seen[1] else {
                panic!("{seen:?}")
            };
            assert!((loss - std::f64::consts::LN_2).abs() < 1e-6, "{loss}");

            let job = JOB.replace("holdout = 0.5\n", "");
            fake.give(Work { job, ..work.clone() });
            let reason = "dataset 't' has no held-out rows here to measure on: see data.holdout".to_owned();
            let seen = fake.seen(|seen| seen.len() == 3).await;
            assert_eq!(seen[2], Seen::Declined { lease: 5, reason });
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
    }
}

mod uploads {
    use super::*;

    /// A worker whose first upload breaks after 5 bytes, up to its next one.
    async fn broken(protocol: u32) -> (Work, Vec<Seen>) {
        let (fake, channel, work, home) = federation().await;
        fake.speak(protocol);
        fake.break_next_update_after(5);
        let script = async {
            fake.give(work.clone());
            // The session goes on with the connection of the test.
            fake.seen(|seen| seen.len() == 2).await;
            fake.give(work.clone());
            fake.seen(|seen| updates(seen) == 1).await;
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
        (work, fake.seen(|_| true).await)
    }

    #[tokio::test]
    async fn go_on_where_they_ended() {
        let (work, seen) = broken(2).await;
        assert_eq!(seen[2], older(sent(&work, 2, 5, 5)));
    }

    #[tokio::test]
    async fn start_again_with_protocol_1() {
        let (work, seen) = broken(1).await;
        assert_eq!(seen[2], older(sent(&work, 2, 5, 0)));
    }

    /// To a coordinator that knows nothing of encodings.
    fn older(mut sent: Seen) -> Seen {
        if let Seen::Update { encoding, proven, .. } = &mut sent {
            (*encoding, *proven) = (String::new(), true);
        }
        sent
    }

    #[tokio::test]
    async fn go_on_with_the_newest_protocol_too() {
        let (work, seen) = broken(*PROTOCOL.end()).await;
        assert_eq!(seen[2], sent(&work, 2, 5, 5));
    }

    #[tokio::test]
    async fn are_not_made_when_the_update_is_there() {
        let (fake, channel, first, home) = federation().await;
        let script = async {
            fake.give(first.clone());
            fake.seen(|seen| updates(seen) == 1).await;
            fake.accept_all();
            fake.give(Work { lease: 9, ..first.clone() });
            fake.give(Work { round: 2, lease: 10, ..first.clone() });
            fake.seen(|seen| updates(seen) == 2).await;
        };
        live(worker(home.path(), CSV).await, &channel, script).await;
        let lease = |seen: &Seen| match seen {
            Seen::Update { lease, .. } => Some(*lease),
            _ => None,
        };
        let leases: Vec<u64> = fake.seen(|_| true).await.iter().filter_map(lease).collect();
        assert_eq!(leases, [5, 10]);
    }

    #[tokio::test]
    async fn are_finished_when_the_process_is_to_end() {
        let (fake, channel, work, home) = federation().await;
        let stop = CancellationToken::new();
        fake.hold_updates(true);
        fake.give(work.clone());
        let dial = async || Ok(channel.clone());
        let ended = run(worker(home.path(), CSV).await, options(dial), &stop);
        let script = async {
            fake.seen(|seen| updates(seen) == 1).await;
            stop.cancel();
            fake.hold_updates(false);
        };
        tokio::join!(ended, script).0.unwrap();
        let seen = fake.seen(|_| true).await;
        assert_eq!(seen[1..], [sent(&work, 1, 5, 0), Seen::Left { session: 1 }]);
    }
}
