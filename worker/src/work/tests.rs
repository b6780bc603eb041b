use proto::v1::{BlobRef, Work, WorkKind};

/// Four rows of each of two classes that a line separates.
pub(crate) const CSV: &str = "x,label\n-4,a\n-3,a\n-2,a\n-1,a\n1,b\n2,b\n3,b\n4,b\n";

/// A private job that needs no libtorch.
pub(crate) const JOB: &str = r#"
name = "line"
task = "classification"

[model]
arch = "softmax"

[data]
name = "t"
target = "label"
features = ["x"]
classes = ["a", "b"]
holdout = 0.5

[local]
optimizer = "gd"
lr = 0.1
epochs = 2

[rounds]
count = 2
cohort = { min = 1, max = 1 }
deadline = "60s"
seed = 7

[aggregate]
reduction = "mean"
server = { kind = "sgd", lr = 1.0 }
"#;

pub(crate) fn work() -> Work {
    Work {
        run: "line-1".to_owned(),
        round: 1,
        lease: 5,
        kind: WorkKind::Train.into(),
        job: JOB.to_owned(),
        model: Some(BlobRef { digest: vec![3; 32], bytes: 100 }),
        shard: None,
        features: vec!["x".to_owned()],
        classes: vec!["a".to_owned(), "b".to_owned()],
        examples_max: 8,
        owed: Vec::new(),
        part: 0,
        deadline_ms: 60_000,
    }
}

mod perform {
    use std::{sync::Arc, time::Duration};

    use data::Limits;
    use model::{Device, DeviceChoice, Flow, ModelSpec};
    use params::Params;
    use proto::error::{ErrorCode, WireError};

    use super::{super::*, *};
    use crate::testing::{Fake, Seen};

    const SPEC: fn() -> ModelSpec =
        || ModelSpec { arch: "softmax".to_owned(), inputs: 1, hidden: vec![], outputs: 2 };

    fn weights() -> Params {
        model::init(&SPEC(), 7).unwrap()
    }

    async fn worker(csv: &str) -> Worker {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, csv).unwrap();
        let tables = Tables::load(&[format!("t={}", path.display()).parse().unwrap()]).unwrap();
        let (compute, _) = Compute::start(DeviceChoice::Cpu, 1).await.unwrap();
        let name = "a".parse().unwrap();
        Worker::new(Options { name, tables, compute, upload_delay_max: Duration::ZERO, seed: 1 })
    }

    async fn client(channel: tonic::transport::Channel, worker: &Worker) -> Client {
        Client::register(channel, worker.tables().announce(), "cpu").await.unwrap()
    }

    /// What the worker should send, by a call of the model crate.
    fn expected(work: &Work) -> (Vec<u8>, f64) {
        let work = Assignment::try_from(work.clone()).unwrap();
        let table = data::read_csv("t", CSV.as_bytes(), &Limits::default()).unwrap();
        let prepared = Prepared::private(&work, &table).unwrap();
        let local = spec::local(&work.job.local);
        let seed = work.seed(&"a".parse().unwrap());
        let mut go_on = |_| Flow::Continue;
        let base = weights();
        let trained =
            model::train(&Device::Cpu, &SPEC(), &base, prepared.train(), &local, seed, &mut go_on).unwrap();
        (trained.update.iter().flat_map(|v| v.to_le_bytes()).collect(), trained.train_loss)
    }

    #[tokio::test]
    async fn an_update_is_the_training_and_is_kept_for_a_retry() {
        let (fake, channel) = Fake::start().await;
        let mut worker = worker(CSV).await;
        let blob = fake.blob(weights().to_safetensors().unwrap());
        let first = Work { model: Some(blob), ..work() };
        let (payload, train_loss) = expected(&first);
        let update = |session, lease| Seen::Update {
            session,
            lease,
            examples: 4,
            train_loss,
            payload: payload.clone(),
        };

        let old = client(channel.clone(), &worker).await;
        fake.refuse_next_update(WireError::new(ErrorCode::Stale, "starting"));
        let step = worker.perform(&old, first.clone()).await.unwrap();
        assert_eq!(step, Step::Setback(Duration::ZERO));
        let kept = worker.training.as_mut().unwrap().finish(&old, 0).await.unwrap();

        // A restarted coordinator: another session and lease, the same work.
        let new = client(channel, &worker).await;
        assert_eq!(worker.perform(&new, Work { lease: 9, ..first.clone() }).await.unwrap(), Step::Done);
        let again = worker.training.as_mut().unwrap().finish(&new, 0).await.unwrap();
        assert!(Arc::ptr_eq(&kept, &again), "it was trained twice");
        let seen = fake.seen(|seen| seen.len() == 4).await;
        assert_eq!((&seen[1], &seen[3]), (&update(1, 5), &update(2, 9)));

        // The next round trains anew, on the examples and weights that are there.
        assert_eq!(worker.perform(&new, Work { round: 2, ..first }).await.unwrap(), Step::Done);
        let next = worker.training.as_mut().unwrap().finish(&new, 0).await.unwrap();
        assert!(!Arc::ptr_eq(&kept, &next));
        assert_eq!(fake.fetches(), 1);
    }

    #[tokio::test]
    async fn a_shard_is_fetched_once_and_all_of_it_trained_on() {
        let (fake, channel) = Fake::start().await;
        let mut worker = worker(CSV).await;
        let client = client(channel, &worker).await;
        let model = Some(fake.blob(weights().to_safetensors().unwrap()));
        let shard = Some(fake.blob(CSV.as_bytes().to_vec()));
        for round in 1..=3 {
            let work = Work { model: model.clone(), shard: shard.clone(), round, ..work() };
            assert_eq!(worker.perform(&client, work).await.unwrap(), Step::Done);
        }
        assert_eq!(fake.fetches(), 2);
        let seen = fake.seen(|seen| seen.len() == 4).await;
        assert!(seen[1..].iter().all(|seen| matches!(seen, Seen::Update { examples: 8, .. })), "{seen:?}");
    }

    #[tokio::test]
    async fn a_candidate_is_measured_on_the_rows_that_were_held_out() {
        let (fake, channel) = Fake::start().await;
        let mut worker = worker(CSV).await;
        let client = client(channel, &worker).await;
        let model = Some(fake.blob(weights().to_safetensors().unwrap()));
        let work = Work { model, kind: WorkKind::Evaluate.into(), ..work() };
        assert_eq!(worker.perform(&client, work.clone()).await.unwrap(), Step::Done);
        let seen = fake.seen(|seen| seen.len() == 2).await;
        // Zero weights: both classes are equally likely, and the first one is right for half the rows.
        let Seen::Evaluation { lease: 5, examples: 4, loss, correct: 2 } = seen[1] else {
            panic!("{seen:?}")
        };
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-6, "{loss}");

        let job = JOB.replace("holdout = 0.5\n", "");
        assert_eq!(worker.perform(&client, Work { job, ..work }).await.unwrap(), Step::Done);
        let reason = "dataset 't' has no held-out rows here to measure on: see data.holdout".to_owned();
        let seen = fake.seen(|seen| seen.len() == 3).await;
        assert_eq!(seen[2], Seen::Declined { lease: 5, reason });
    }

    #[tokio::test]
    async fn work_that_cannot_be_done_is_handed_back_with_the_reason() {
        let (fake, channel) = Fake::start().await;
        let mut worker = worker(&CSV.replace("-3,a", "many,a")).await;
        let client = client(channel, &worker).await;
        let good = Work { model: Some(fake.blob(weights().to_safetensors().unwrap())), ..work() };
        let other = JOB.replace("name = \"t\"", "name = \"other\"");
        let cases = [
            (good.clone(), "t.csv line 3 column 'x': '(withheld)' is not a number"),
            (
                Work { job: other, ..good.clone() },
                "this worker offers no dataset 'other' (it offers: t): start it with --data other=PATH",
            ),
            (Work { model: Some(fake.blob(vec![1, 2, 3])), ..good }, "the weights cannot be used"),
        ];
        for (count, (work, reason)) in (2..).zip(cases) {
            assert_eq!(worker.perform(&client, work).await.unwrap(), Step::Done);
            let seen = fake.seen(|seen| seen.len() == count).await;
            let Some(Seen::Declined { reason: found, .. }) = seen.last() else { panic!("{seen:?}") };
            assert!(found.contains(reason), "{found}");
        }
    }

    #[tokio::test]
    async fn an_update_that_the_coordinator_refuses_for_good_is_handed_back() {
        let (fake, channel) = Fake::start().await;
        let mut worker = worker(CSV).await;
        let client = client(channel, &worker).await;
        let work = Work { model: Some(fake.blob(weights().to_safetensors().unwrap())), ..work() };
        fake.refuse_next_update(WireError::invalid("tensor 'w' is too large"));
        assert_eq!(worker.perform(&client, work.clone()).await.unwrap(), Step::Done);
        let reason = "the coordinator refused it: tensor 'w' is too large".to_owned();
        let seen = fake.seen(|seen| seen.len() == 3).await;
        assert_eq!(seen[2], Seen::Declined { lease: 5, reason });
        // A busy one is asked again, no sooner than it says.
        let wait = Duration::from_millis(300);
        fake.refuse_next_update(WireError::new(ErrorCode::Busy, "full").retry_after(wait));
        assert_eq!(worker.perform(&client, work).await.unwrap(), Step::Setback(wait));
    }

    #[tokio::test]
    async fn an_abandoned_training_stops_between_batches() {
        let (fake, channel) = Fake::start().await;
        let mut worker = worker(CSV).await;
        let client = client(channel, &worker).await;
        // Hours of work: the test ends because it is stopped.
        let rows: String =
            (0..100_000).map(|i| format!("{i},{}\n", if i % 2 == 0 { "a" } else { "b" })).collect();
        let job = JOB
            .replace("optimizer = \"gd\"", "optimizer = \"sgd\"\nbatch = 1")
            .replace("epochs = 2", "epochs = 10000")
            .replace("lr = 0.1", "lr = 0.000001");
        let model = Some(fake.blob(weights().to_safetensors().unwrap()));
        let shard = Some(fake.blob(format!("x,label\n{rows}").into_bytes()));
        fake.abandon();
        let step = worker.perform(&client, Work { job, model, shard, ..work() }).await.unwrap();
        assert_eq!(step, Step::Setback(Duration::ZERO));
        // The next poll may want it under another lease; an empty one does not.
        assert!(worker.training.is_some());
        worker.idle();
        assert!(worker.training.is_none());
        assert!(worker.stop(Duration::from_secs(60)).await, "the training goes on");
    }
}
