//! A broken connection does not cost what had arrived, and the next version costs only what it changes.

#![allow(clippy::unwrap_used)] // also in functions that are not tests themselves

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tests::{Federation, IRIS, Job, Load, Process, digests, run_program};

const MIB: u64 = 1 << 20;

/// A wire between a worker and its coordinator that breaks each time when so many bytes have gone up.
struct Wire {
    address: SocketAddr,
    /// Bytes that went up, over all connections.
    up: Arc<AtomicU64>,
}

impl Wire {
    fn to(coordinator: &str, breaks: &[u64]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (up, breaks) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(breaks.to_vec())));
        let (coordinator, counted) = (coordinator.to_owned(), up.clone());
        thread::spawn(move || {
            for worker in listener.incoming().map_while(Result::ok) {
                let Ok(there) = TcpStream::connect(&coordinator) else { continue };
                let (up, breaks) = (counted.clone(), breaks.clone());
                let (from, to) = (worker.try_clone().unwrap(), there.try_clone().unwrap());
                thread::spawn(move || carry(there, worker, |_| true));
                thread::spawn(move || {
                    carry(from, to, |bytes| {
                        let sum = up.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        let mut breaks = breaks.lock().unwrap();
                        let whole = breaks.first().is_none_or(|at| sum < *at);
                        if !whole {
                            breaks.remove(0);
                        }
                        whole
                    });
                });
            }
        });
        Self { address, up }
    }
}

/// Carries bytes until one side ends, or `whole` says that the wire is broken.
fn carry(mut from: TcpStream, mut to: TcpStream, whole: impl Fn(u64) -> bool) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if !whole(read as u64) || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn an_upload_goes_on_where_a_broken_connection_ended() {
    let federation = Federation::start();
    let wire = Wire::to(&federation.grpc(), &[12 * MIB, 24 * MIB, 36 * MIB]);
    let home = federation.path("far").display().to_string();
    let token = federation.invite("worker", "far");
    let join = ["join", "--coordinator", &wire.address.to_string(), "--token", &token, "--home", &home];
    run_program("conclave-worker", &join).ok();
    let run = ["run", "--home", &home].map(str::to_owned);
    let mut far = Process::start("conclave-worker", &run, federation.path("far.log"), &[]);
    far.wait_for_log("registered");

    let parameters = 10 << 20;
    let load = Load { parameters, workers: 1, rounds: 1, ..Load::default() };
    federation.complete(&load.toml(), &[]);
    let log = far.log();
    let went_on = log.lines().filter(|line| line.contains("the upload goes on where it ended")).count();
    assert!(went_on >= 1, "{log}");
    assert_eq!(log.matches(" trained run=").count(), 1, "it was trained once");
    // Without offsets, three breaks cost 72 MiB more than the 40 MiB of the update.
    let up = wire.up.load(Ordering::SeqCst);
    assert!((40 * MIB..60 * MIB).contains(&up), "{up} bytes went up");
}

/// Bytes that went down in each round of a run of one worker that speaks protocols up to `protocol_max`, the digests of
/// its versions, and how often the worker put a version together from a difference.
fn downloads(protocol_max: &str) -> (Vec<u64>, Vec<String>, usize) {
    let federation = Federation::start();
    let site = federation.worker("ada", &["--device", "cpu", "--protocol-max", protocol_max]);
    // 131 075 weights, 512 KiB. So wide a layer learns at a low rate.
    let local = "optimizer = \"sgd\"\nlr = 0.000001\nepochs = 2\nbatch = 16";
    let job = Job { arch: "mlp", hidden: 16384, local, rounds: 4, min: 1, max: 1, ..Job::default() };
    let shown = federation.complete(&job.toml(), &[("iris.csv", IRIS.as_bytes())]);
    let rounds = shown["rounds"].as_array().unwrap();
    let down = rounds.iter().map(|round| round["bytes_down"].as_u64().unwrap()).collect();
    (down, digests(&shown), site.log().matches("version by its difference").count())
}

#[test]
fn later_versions_come_by_their_difference() {
    let file = 4 * 131_075;
    let (whole, expected, none) = downloads("2");
    assert_eq!(none, 0);
    assert!(whole.iter().all(|down| *down >= file), "{whole:?}");
    let (down, versions, put_together) = downloads("3");
    assert_eq!(versions, expected);
    assert!(down[0] >= file, "{down:?}");
    // A busy host may be late with one of them.
    assert!(put_together >= 2, "{put_together} of 3, {down:?}");
    let short = down[1..].iter().filter(|down| **down <= file * 3 / 4).count();
    assert_eq!(short, put_together, "{down:?}");
}
