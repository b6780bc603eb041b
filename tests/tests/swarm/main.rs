//! Thousands of workers on one coordinator: each with a certificate and a mutual-TLS connection of its own,
//! all in the cohort of every round.
//!
//! `cargo test -p tests --test swarm -- --nocapture` prints what they cost; `SWARM=200` makes it fewer.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of a test that reports

mod client;

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use identity::ClientHome;
use proto::v1::{ListRunsRequest, RunSummary, control_client::ControlClient};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::{Federation, usage};
use tonic::transport::Channel;

use client::{Swarm, enrol};

/// As many as the design promises.
const WORKERS: usize = 2000;

const ROUNDS: usize = 3;

/// Files that a process needs beside its connections.
const FILES: u64 = 200;

#[test]
fn two_thousand_workers_stay_connected_through_every_round() {
    let count = std::env::var("SWARM").ok().map_or(WORKERS, |count| count.parse().unwrap());
    allow_files(count as u64 + FILES);
    // The clients' keys need not survive anything.
    let memory = Path::new("/dev/shm");
    let homes = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let limit = format!("connections_per_address = {}", count + 100);
    let mut federation = Federation::start_with(&[("connections_per_address", &limit)]);
    let pid = federation.coordinator().id();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = service::clock::Clock::start();
        let home = ClientHome::open(&federation.home()).unwrap();
        let operator = identity::connect(&home, Some(&federation.grpc())).await.unwrap();
        let members = enrol(operator.clone(), &federation.grpc(), homes.path(), count).await;
        let enrolled = (clock.now_ms(), usage(pid));
        let swarm = Swarm::connect(members).await;
        let connected = (clock.now_ms(), usage(pid));
        let run = federation.start_run(&job(count), &[]);
        let ended = wait_for_end(operator, &run).await;
        let done = (clock.now_ms(), usage(pid));
        assert_eq!(
            (ended.state.as_str(), ended.rounds_done as usize),
            ("completed", ROUNDS),
            "{}",
            ended.cause
        );

        let told = swarm.told.clone();
        // The run may end before the last answers are read here.
        let all_told = async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while (told.acknowledged.load(Ordering::Relaxed) as usize) < count * ROUNDS {
                look.tick().await;
            }
        };
        // Fewer are found below.
        let _ = tokio::time::timeout(Duration::from_secs(60), all_told).await;
        // Fails where a call failed: a lost connection is one.
        swarm.leave().await;
        let acknowledged = told.acknowledged.load(Ordering::Relaxed) as usize;
        assert_eq!((told.registered.load(Ordering::Relaxed) as usize, acknowledged), (count, count * ROUNDS));
        every_round_had_all(&federation, &run, count);

        let seconds = |ms: u64| ms as f64 / 1000.0;
        println!("{count} workers, {ROUNDS} rounds of 100 parameters");
        println!("seconds to enrol          {:>8.1}", seconds(enrolled.0));
        println!("seconds to connect        {:>8.1}", seconds(connected.0 - enrolled.0));
        println!("seconds for all rounds    {:>8.1}", seconds(done.0 - connected.0));
        let memory = |more: u64, less: u64| more.saturating_sub(less) / 1024 / count as u64;
        let idle = memory(connected.1.resident, enrolled.1.resident);
        println!("coordinator, KiB for each idle worker    {idle:>6}");
        println!(
            "coordinator, KiB for each at the busiest {:>6}",
            memory(done.1.resident_max, enrolled.1.resident)
        );
        println!("coordinator, resident MiB at the end     {:>6}", done.1.resident >> 20);
        println!(
            "coordinator, CPU seconds: enrol {:.1}, connect {:.1}, rounds {:.1}",
            enrolled.1.cpu,
            connected.1.cpu - enrolled.1.cpu,
            done.1.cpu - connected.1.cpu
        );
    });
}

fn job(workers: usize) -> String {
    format!(
        r#"
name = "swarm"
task = "synthetic"

[model]
parameters = 100

[rounds]
count = {ROUNDS}
cohort = {{ min = {workers}, max = {workers} }}
deadline = "120s"
"#
    )
}

async fn wait_for_end(operator: Channel, run: &str) -> RunSummary {
    let mut control = ControlClient::new(operator);
    let mut look = tokio::time::interval(Duration::from_millis(50));
    loop {
        look.tick().await;
        let runs = control.list_runs(ListRunsRequest {}).await.unwrap().into_inner().runs;
        let found = runs.into_iter().find(|summary| summary.run == run).unwrap();
        if matches!(found.state.as_str(), "completed" | "failed" | "stopped") {
            return found;
        }
    }
}

fn every_round_had_all(federation: &Federation, run: &str, count: usize) {
    let shown = federation.show(run);
    for round in shown["rounds"].as_array().unwrap() {
        assert_eq!(round["updates"], count, "{}", round["round"]);
    }
}

/// Lets this process, and those that it starts, have so many files.
fn allow_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return;
    }
    let allowed = limit.maximum.is_none_or(|maximum| maximum >= count);
    assert!(allowed, "{count} open files are needed, the hard limit is {:?}", limit.maximum);
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: limit.maximum }).unwrap();
}
