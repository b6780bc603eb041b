//! What it costs to take updates in: the real coordinator beside a bare tonic service that reads the same bytes over
//! the same mutual TLS and throws them away.
//!
//! `cargo bench -p tests --bench ingest` prints, for models of 10^6, 10^7 and 10^8 parameters and 2 to 64 uploads,
//! both rates, their ratio, what each server spent of a processor, and the coordinator's peak memory beside the
//! formula of `docs/measurements.md`. Both are asked by the same clients, in turns. The clients share the processors
//! with them. A rate is from the first byte until the last acknowledgement: the coordinator has verified, added and
//! recorded every update by then. `PARAMETERS=10000000` measures one size alone.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // a program for people

mod client;
mod sink;

use identity::ClientHome;
use proto::v1::control_client::ControlClient;
use tests::{Federation, usage};

use client::{Clients, Sent};

/// Parameters, and the numbers of uploads in a round.
const ROWS: [(usize, &[usize]); 3] =
    [(1_000_000, &[2, 8, 64]), (10_000_000, &[2, 8, 64]), (100_000_000, &[2, 8])];

/// Rounds of each row; the median counts.
const ROUNDS: usize = 3;

/// What a coordinator holds that has no run.
const IDLE: f64 = 40e6;

/// The memory budget of uploads, as the configuration file of `init` has it.
const UPLOAD_BUDGET: f64 = (256u64 << 20) as f64;

/// What one upload may have sent before anybody reads it (2 MiB), and what its connection holds beside.
const CONNECTION: f64 = (3u64 << 20) as f64;

/// What a version is made of at a time.
const BLOCKS: f64 = (8u64 << 20) as f64;

fn main() {
    // Cargo asks every benchmark for its list of tests.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    if let Ok(home) = std::env::var(sink::HOME) {
        return sink::serve(std::path::Path::new(&home));
    }
    let only = std::env::var("PARAMETERS").ok().map(|n| n.parse::<usize>().unwrap());
    println!(
        "GB/s of updates over mutual TLS on loopback, CPU seconds per GB of each server, peak memory in MB"
    );
    let titles = [
        "parameters",
        "uploads",
        "sink",
        "coord.",
        "ratio",
        "sink CPU",
        "coord. CPU",
        "peak",
        "formula",
        "of it",
    ];
    println!("{}", titles.map(|title| format!("{title:>11}")).concat());
    for (parameters, uploads) in ROWS.into_iter().filter(|(n, _)| only.is_none_or(|only| only == *n)) {
        for count in uploads {
            row(parameters, *count);
        }
    }
}

fn row(parameters: usize, count: usize) {
    let mut federation = Federation::start();
    let pid = federation.coordinator().id();
    let sink = sink::Sink::start(&federation.home().join("authority"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    let mut cpu = (0.0, 0.0);
    runtime.block_on(async {
        let home = ClientHome::open(&federation.home()).unwrap();
        let operator = identity::connect(&home, Some(&federation.grpc())).await.unwrap();
        let homes = tempfile::tempdir().unwrap();
        let members =
            client::enrol(ControlClient::new(operator), &federation.grpc(), homes.path(), count).await;
        let mut bare = Clients::connect(&members, Some(sink.address()), parameters).await;
        let mut clients = Clients::connect(&members, None, parameters).await;
        federation.start_run(&job(parameters, count), &[]);
        for _ in 0..ROUNDS {
            let before = usage(sink.id()).cpu;
            let sent: Sent = bare.send_without_work().await;
            cpu.0 += usage(sink.id()).cpu - before;
            theirs.push(sent.rate());
            let works = clients.poll().await;
            let before = usage(pid).cpu;
            let sent: Sent = clients.send(works).await;
            cpu.1 += usage(pid).cpu - before;
            ours.push(sent.rate());
        }
    });
    let gigabytes = (4 * parameters * count * ROUNDS) as f64 / 1e9;
    let (theirs, ours) = (median(theirs), median(ours));
    let peak = usage(pid).resident_max as f64;
    let formula = formula(parameters, count);
    println!(
        "{parameters:>11}{count:>11}{theirs:>11.2}{ours:>11.2}{:>11.2}{:>11.2}{:>11.2}{:>11.0}{:>11.0}{:>11.2}",
        ours / theirs,
        cpu.0 / gigabytes,
        cpu.1 / gigabytes,
        peak / 1e6,
        formula / 1e6,
        peak / formula,
    );
}

/// The coordinator's peak: the sum (8 bytes for each parameter), the base version or the new one in the page cache (4),
/// uploads in flight (their budget, or one that is larger), blocks, and connections.
fn formula(parameters: usize, uploads: usize) -> f64 {
    let update = 4.0 * parameters as f64;
    let in_flight = (update * uploads as f64).min(UPLOAD_BUDGET.max(update));
    IDLE + 12.0 * parameters as f64 + in_flight + BLOCKS + CONNECTION * uploads as f64
}

fn job(parameters: usize, workers: usize) -> String {
    format!(
        r#"
name = "ingest"
task = "synthetic"

[model]
parameters = {parameters}

[rounds]
count = {ROUNDS}
cohort = {{ min = {workers}, max = {workers} }}
deadline = "600s"
"#
    )
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
