//! Workers that send what they should not: each is refused with its own reason, and the others' round goes on.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod client;

use std::time::Duration;

use params::Params;
use proto::{
    error::ErrorCode,
    v1::{Chunk, UpdatePart, update_part::Part},
};
use tests::Federation;

use client::{Upload, Worker, bytes, ended};

/// A run for `min` of `select` workers, with more lines for `[aggregate]`.
fn job(parameters: usize, min: usize, select: usize, more: &str) -> String {
    format!(
        r#"
name = "target"
task = "synthetic"

[model]
parameters = {parameters}

[rounds]
count = 1
cohort = {{ min = {min}, max = {min}, select = {select} }}
deadline = "60s"

[aggregate]
{more}
"#
    )
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The weights of the first version.
fn weights(federation: &Federation) -> Vec<f32> {
    pulled(federation, 1)
}

fn pulled(federation: &Federation, version: usize) -> Vec<f32> {
    let to = federation.path(&format!("pulled-{version}"));
    let reference = format!("target:{version}");
    federation.cli(&["model", "pull", &reference, "--to", &to.display().to_string()]).ok();
    let file = std::fs::read(to.join("model.safetensors")).unwrap();
    Params::from_safetensors(&file).unwrap().into_values()
}

/// What is wrong with an update, the code that it is refused with, and what the message must say. `true`: the
/// sender is left out of the run, and the log of the run says why.
type Case = (&'static str, fn(&mut Upload), ErrorCode, &'static str, bool);

fn cases() -> Vec<Case> {
    fn payload(upload: &mut Upload, values: &[f32]) {
        let bytes = bytes(values);
        upload.header.payload = Some(proto::chunks::announce(&bytes));
        upload.chunks = proto::chunks::split(bytes.into(), 0, proto::chunks::Proof::Whole).collect();
    }
    vec![
        (
            "nan",
            |u| payload(u, &[1.0, f32::NAN, 0.0, 0.0]),
            ErrorCode::Invalid,
            "tensor 'parameters' has NaN at index 1",
            true,
        ),
        (
            "inf",
            |u| payload(u, &[1.0, 0.0, f32::NEG_INFINITY, 0.0]),
            ErrorCode::Invalid,
            "has -inf at index 2",
            true,
        ),
        (
            "huge",
            |u| payload(u, &[1e30, 0.0, 0.0, 0.0]),
            ErrorCode::Invalid,
            "at index 0, beyond the coordinate bound of 256",
            true,
        ),
        (
            "norm",
            |u| payload(u, &[200.0, 200.0, 200.0, 200.0]),
            ErrorCode::Invalid,
            "L2 norm of 400, beyond the bound of 300",
            true,
        ),
        (
            "short",
            |u| payload(u, &[1.0, 2.0, 3.0]),
            ErrorCode::Invalid,
            "update of 12 bytes, run target-1 asks for 16",
            false,
        ),
        (
            "long",
            |u| payload(u, &[0.0; 5]),
            ErrorCode::Invalid,
            "update of 20 bytes, run target-1 asks for 16",
            false,
        ),
        ("cut", |u| u.chunks.clear(), ErrorCode::Corrupt, "the upload ended after 0 of 16 bytes", false),
        (
            "more",
            |u| u.chunks.push(Chunk { offset: 16, data: vec![0; 4].into(), digest: vec![] }),
            ErrorCode::Invalid,
            "20 bytes sent, 16 were announced",
            false,
        ),
        ("gap", |u| u.chunks[0].offset = 8, ErrorCode::Invalid, "chunk at offset 8, expected 0", false),
        (
            "empty chunk",
            |u| u.chunks[0].data = bytes::Bytes::new(),
            ErrorCode::Invalid,
            "chunk of 0 bytes",
            false,
        ),
        (
            "digest",
            |u| u.header.payload.as_mut().unwrap().digest[0] ^= 1,
            ErrorCode::Corrupt,
            "payload has digest",
            false,
        ),
        (
            "chunk digest",
            |u| u.chunks[0].digest = vec![7; 32],
            ErrorCode::Corrupt,
            "does not match its digest",
            false,
        ),
        (
            "digest length",
            |u| u.header.payload.as_mut().unwrap().digest = vec![1; 31],
            ErrorCode::Invalid,
            "a digest has 32 bytes",
            false,
        ),
        ("no payload", |u| u.header.payload = None, ErrorCode::Invalid, "payload is missing", false),
        ("other lease", |u| u.header.lease ^= 1, ErrorCode::Stale, "no longer open", false),
        ("other session", |u| u.header.session ^= 1, ErrorCode::Stale, "register again", false),
        (
            "offset",
            |u| u.header.offset = 8,
            ErrorCode::Corrupt,
            "the upload starts at 8, 0 bytes of it are here",
            false,
        ),
        (
            "encoding",
            |u| u.header.encoding = "int8".to_owned(),
            ErrorCode::Invalid,
            "update in encoding 'int8', run target-1 asks for 'f32'",
            false,
        ),
        (
            "unknown encoding",
            |u| u.header.encoding = "\u{1b}[31m zip".to_owned(),
            ErrorCode::Invalid,
            "encoding '[31m zip'",
            false,
        ),
        ("loss", |u| u.header.train_loss = f64::NAN, ErrorCode::Invalid, "train_loss is NaN", false),
        ("no examples", |u| u.header.examples = 0, ErrorCode::Invalid, "weight 0", true),
        ("too many examples", |u| u.header.examples = 1 << 50, ErrorCode::Invalid, "1125899906842624", true),
    ]
}

#[test]
fn each_bad_update_has_its_own_reason_and_the_round_closes_without_it() {
    let federation = Federation::start();
    let cases = cases();
    runtime().block_on(async {
        let run = federation.start_run(&job(4, 2, cases.len() + 2, "norm_max = 300.0"), &[]);
        let mut hostile = Vec::new();
        for (at, _) in cases.iter().enumerate() {
            hostile.push(Worker::join(&federation, &format!("hostile-{at:02}")).await);
        }
        let mut honest = [Worker::join(&federation, "ann").await, Worker::join(&federation, "ben").await];
        for ((what, change, code, message, left_out), worker) in cases.iter().zip(&mut hostile) {
            let work = worker.poll().await;
            let mut upload = worker.upload(&work, &bytes(&[9.0, 9.0, 9.0, 9.0]));
            change(&mut upload);
            let refused = worker.send(upload).await.unwrap_err();
            assert_eq!(refused.code, *code, "{what}: {}", refused.message);
            assert!(refused.message.contains(message), "{what}: {}", refused.message);
            let told = federation.events(&run).iter().any(|event| event.to_string().contains(message));
            assert_eq!(told, *left_out, "{what}: what the run's events say");
        }
        for (worker, value) in honest.iter_mut().zip([1.0, 3.0]) {
            let work = worker.poll().await;
            let upload = worker.upload(&work, &bytes(&[value; 4]));
            worker.send(upload).await.unwrap();
        }
        let ended = ended(&federation, &run).await;
        assert_eq!((ended.state.as_str(), ended.rounds_done), ("completed", 1), "{}", ended.cause);
    });
    assert_eq!(weights(&federation), [2.0; 4], "the honest mean, and nothing else");
    let named = federation.cli(&["worker", "show", "hostile-00"]);
    assert!(named.ok().contains("hostile-00"));
}

#[test]
fn a_replay_is_acknowledged_once_and_another_payload_is_a_conflict() {
    let federation = Federation::start();
    runtime().block_on(async {
        let run = federation.start_run(&job(4, 2, 2, ""), &[]);
        let mut ann = Worker::join(&federation, "ann").await;
        let mut ben = Worker::join(&federation, "ben").await;
        let work = ann.poll().await;
        for _ in 0..3 {
            // The same bytes again: it counts once.
            ann.send(ann.upload(&work, &bytes(&[1.0; 4]))).await.unwrap();
        }
        let other = ann.send(ann.upload(&work, &bytes(&[5.0; 4]))).await.unwrap_err();
        assert_eq!(other.code, ErrorCode::Conflict, "{}", other.message);
        // Somebody else's work.
        let stolen = ben.send(ben.upload(&work, &bytes(&[5.0; 4]))).await.unwrap_err();
        assert_eq!(stolen.code, ErrorCode::Stale, "{}", stolen.message);
        let own = ben.poll().await;
        ben.send(ben.upload(&own, &bytes(&[3.0; 4]))).await.unwrap();
        assert_eq!(ended(&federation, &run).await.state, "completed");
        // A round that is over.
        let late = ann.send(ann.upload(&work, &bytes(&[5.0; 4]))).await;
        assert!(late.is_err_and(|late| late.code == ErrorCode::Stale));
    });
    assert_eq!(weights(&federation), [2.0; 4]);
}

#[test]
fn a_slow_loris_holds_nobody_up() {
    const PARAMETERS: usize = 1 << 20;
    // Room for one update: who holds it without sending would starve the others.
    let budget = format!("upload_budget = {}", 4 * PARAMETERS + 65_536);
    let federation = Federation::start_with(&[("upload_budget", &budget)]);
    runtime().block_on(async {
        let run = federation.start_run(&job(PARAMETERS, 2, 3, ""), &[]);
        let mut slow = Worker::join(&federation, "slow").await;
        let mut honest = [Worker::join(&federation, "ann").await, Worker::join(&federation, "ben").await];
        let work = slow.poll().await;
        let upload = slow.upload(&work, &vec![0; 4 * PARAMETERS]);
        let header = UpdatePart { part: Some(Part::Header(upload.header)) };
        let first = UpdatePart { part: Some(Part::Chunk(upload.chunks[0].clone())) };
        let (sender, parts) = tokio::sync::mpsc::channel(4);
        sender.send(header).await.unwrap();
        sender.send(first).await.unwrap();
        let clock = service::clock::Clock::start();
        let mut stalled = tokio::task::JoinSet::new();
        stalled.spawn(async move {
            let stream = tokio_stream::wrappers::ReceiverStream::new(parts);
            slow.stream(stream).await.unwrap_err()
        });
        for worker in &mut honest {
            let work = worker.poll().await;
            let upload = worker.upload(&work, &vec![0; 4 * PARAMETERS]);
            worker.send(upload).await.unwrap();
        }
        // Much earlier than a silent upload that is in nobody's way.
        assert!(clock.now_ms() < 19_000, "{} ms", clock.now_ms());
        assert_eq!(ended(&federation, &run).await.state, "completed");
        let refused = tokio::time::timeout(Duration::from_secs(60), stalled.join_next()).await.unwrap();
        let refused = refused.unwrap().unwrap();
        assert!(matches!(refused.code, ErrorCode::Busy | ErrorCode::Stale), "{refused:?}");
        drop(sender);
    });
}

/// The updates of seven workers of which the last two attack: what they send is made of what the others send.
fn attacked(attack: &str) -> Vec<Vec<f32>> {
    const COLUMNS: usize = 64;
    let mut rng = params::Rng::new(5, &["honest"]);
    let mut rows: Vec<Vec<f32>> =
        (0..5).map(|_| (0..COLUMNS).map(|_| 1.0 + 0.2 * (rng.unit() as f32 - 0.5)).collect()).collect();
    let column = |at: usize| -> Vec<f32> { rows.iter().map(|row| row[at]).collect() };
    let mean = |at: usize| column(at).iter().sum::<f32>() / 5.0;
    let spread = |at: usize| (column(at).iter().map(|x| (x - mean(at)).powi(2)).sum::<f32>() / 4.0).sqrt();
    let mut noise = params::Rng::new(6, &["attack"]);
    // A sum of twelve uniform numbers is near enough to a Gaussian.
    let mut gaussian = || (0..12).map(|_| noise.unit() as f32).sum::<f32>() - 6.0;
    let evil: Vec<Vec<f32>> = (0..2)
        .map(|_| {
            let value = |at: usize| match attack {
                "sign flip" => -10.0 * mean(at),
                "gaussian" => 30.0 * gaussian(),
                "a little is enough" => mean(at) - 1.5 * spread(at),
                "inner product" => -2.0 * mean(at),
                other => unreachable!("{other}"),
            };
            (0..COLUMNS).map(value).collect()
        })
        .collect();
    rows.extend(evil);
    rows
}

/// The greatest distance of a coordinate from the honest mean.
fn dragged(result: &[f32], rows: &[Vec<f32>]) -> f32 {
    let honest = |at: usize| rows[..5].iter().map(|row| row[at]).sum::<f32>() / 5.0;
    result.iter().enumerate().map(|(at, x)| (x - honest(at)).abs()).fold(0.0, f32::max)
}

#[test]
fn robust_reductions_hold_against_two_attackers_of_seven() {
    let federation = Federation::start();
    let mut version = 0;
    runtime().block_on(async {
        let mut workers = Vec::new();
        for at in 0..7 {
            workers.push(Worker::join(&federation, &format!("site-{at}")).await);
        }
        for (reduction, dragged_max) in [
            (r#""mean""#, None),
            (r#""median""#, Some(0.2)),
            (r#"{ kind = "trimmed-mean", f = 2 }"#, Some(0.2)),
            (r#"{ kind = "krum", f = 2 }"#, Some(0.25)),
            (r#"{ kind = "multi-krum", f = 2, m = 3 }"#, Some(0.25)),
            (r#"{ kind = "geometric-median", iterations = 50 }"#, Some(0.2)),
        ] {
            for attack in ["sign flip", "gaussian", "a little is enough", "inner product"] {
                let rows = attacked(attack);
                let job = job(rows[0].len(), 7, 7, &format!("reduction = {reduction}"));
                let run = federation.start_run(&job, &[]);
                for (worker, row) in workers.iter_mut().zip(&rows) {
                    let work = worker.poll().await;
                    worker.send(worker.upload(&work, &bytes(row))).await.unwrap();
                }
                assert_eq!(ended(&federation, &run).await.state, "completed");
                version += 1;
                let dragged = dragged(&pulled(&federation, version), &rows);
                match dragged_max {
                    Some(max) => assert!(dragged <= max, "{reduction}, {attack}: {dragged}"),
                    // What stays within the honest spread does not show in a mean either.
                    None => assert!(dragged > 0.7 || attack == "a little is enough", "{attack}: {dragged}"),
                }
            }
        }
    });
}
