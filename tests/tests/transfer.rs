//! A broken connection does not cost what had arrived.

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

use tests::{Federation, Load, Process, run_program};

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
