//! What a round costs when the model costs nothing: ten real workers answer a synthetic run of 1,000
//! parameters over mutual TLS on this host.
//!
//! `cargo bench -p tests --bench rounds` prints rounds per second beside the appends per second that the
//! disk makes durable: every round waits for the disk at least three times (the workers' updates, their
//! acknowledgement, the commit). Then it kills the coordinator and starts it again.
//! `ROUNDS=7700 cargo bench -p tests --bench rounds` leaves 100,000 entries in the journal to start from.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a program for people

use std::time::Duration;

use identity::ClientHome;
use proto::v1::{
    ListRunsRequest, ListVersionsRequest, control_client::ControlClient, registry_client::RegistryClient,
};
use tests::{Federation, Usage, syncs_per_second, usage};

const WORKERS: usize = 10;

/// Rounds before the measurement begins.
const WARM_UP: usize = 50;

/// Rounds that are measured, unless the environment says otherwise.
const ROUNDS: usize = 500;

/// No snapshot of the journal: a start reads all of it.
const CONFIG: &[(&str, &str)] = &[("snapshot_every", "snapshot_every = 1000000000")];

fn main() {
    // Cargo asks every benchmark for its list of tests.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    let rounds = std::env::var("ROUNDS").ok().map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut federation = Federation::start_with(CONFIG);
    let mut sites: Vec<_> = (0..WORKERS).map(|i| federation.worker(&format!("site-{i:02}"), &[])).collect();
    let before = syncs_per_second(&federation.home());
    let (coordinator, workers): (u32, Vec<u32>) =
        (federation.coordinator().id(), sites.iter_mut().map(|site| site.process().id()).collect());
    let cpu = |pids: &[u32]| pids.iter().map(|pid| usage(*pid).cpu).sum::<f64>();
    let start = (cpu(&[coordinator]), cpu(&workers));
    let run = federation.start_run(&job(WARM_UP + rounds), &[]);
    let times = committed(&federation, &run);
    assert_eq!(times.len(), WARM_UP + rounds, "all rounds are versions");
    let used = (cpu(&[coordinator]) - start.0, cpu(&workers) - start.1);
    let after = syncs_per_second(&federation.home());
    report(&times, (before + after) / 2.0, used, usage(coordinator));
    drop(sites);
    recover(&mut federation);
}

fn job(rounds: usize) -> String {
    format!(
        r#"
name = "load"
task = "synthetic"

[model]
parameters = 1000

[rounds]
count = {rounds}
cohort = {{ min = {WORKERS}, max = {WORKERS} }}
deadline = "60s"
"#
    )
}

/// When each round of the run was committed, in milliseconds, once it has ended.
fn committed(federation: &Federation, run: &str) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let home = ClientHome::open(&federation.home()).unwrap();
        let channel = identity::connect(&home, Some(&federation.grpc())).await.unwrap();
        let mut control = ControlClient::new(channel.clone());
        let mut look = tokio::time::interval(Duration::from_millis(250));
        loop {
            look.tick().await;
            let runs = control.list_runs(ListRunsRequest {}).await.unwrap().into_inner().runs;
            let found = runs.into_iter().find(|summary| summary.run == run).unwrap();
            match found.state.as_str() {
                "completed" => break,
                "failed" | "stopped" => unreachable!("the run ended: {}", found.cause),
                _ => {}
            }
        }
        let request = ListVersionsRequest { model: "load".to_owned() };
        let versions = RegistryClient::new(channel).list_versions(request).await.unwrap().into_inner();
        versions.versions.iter().map(|version| version.created_unix_ms).collect()
    })
}

fn report(times: &[u64], syncs: f64, (coordinator, workers): (f64, f64), held: Usage) {
    let measured = &times[WARM_UP - 1..];
    let rounds = measured.len() - 1;
    let seconds = (measured[rounds] - measured[0]) as f64 / 1000.0;
    let rate = rounds as f64 / seconds;
    let mut gaps: Vec<u64> = measured.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    println!("{WORKERS} workers, 1000 parameters, {rounds} rounds after {WARM_UP} to warm up");
    println!("rounds per second           {rate:>10.1}");
    println!("milliseconds per round      {:>10} median, {} p99", gaps[rounds / 2], gaps[rounds * 99 / 100]);
    println!("durable appends per second  {syncs:>10.0}, {:.1} for each round", syncs / rate);
    let each = |seconds: f64| seconds * 1000.0 / times.len() as f64;
    println!("CPU milliseconds per round  {:>10.2} coordinator", each(coordinator));
    println!("                            {:>10.2} {WORKERS} workers together", each(workers));
    println!("memory of the coordinator   {:>10} KiB", held.resident / 1024);
}

/// How long a coordinator that was killed takes until it serves again.
fn recover(federation: &mut Federation) {
    federation.kill();
    let clock = service::clock::Clock::start();
    federation.serve();
    let took = clock.now_ms();
    let journal = journal::verify(&federation.home().join("data/journal")).unwrap();
    println!(
        "start after SIGKILL         {took:>10} ms, {} entries of {} KiB",
        journal.frames,
        journal.bytes / 1024
    );
}
