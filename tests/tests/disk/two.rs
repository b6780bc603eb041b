//! Two processes on one home.

use tests::{Federation, run_program, serve_at, serve_with};

use crate::common::{JOB, Promises, workers};

#[test]
fn a_second_process_is_kept_out_and_one_without_the_lock_is_fenced_off() {
    let mut federation = Federation::start();
    let mut sites = workers(&federation);
    let run = federation.start_run(&JOB.replace("100000", "3"), &[]);
    federation.wait_for_end(&run);
    let mut promises = Promises::default();
    promises.look(&federation, &run);
    let home = federation.home();
    let mut second = serve_with(&federation, &[], "second.log");
    assert_eq!(second.wait(), Some(1));
    assert!(second.log().contains("another coordinator serves this home; stop it first"), "{}", second.log());
    for command in ["check", "recover"] {
        let refused = run_program("conclave-coordinator", &[command, "--home", &home.display().to_string()]);
        assert!(refused.fails(1).contains("another coordinator serves this home"), "{refused:?}");
    }
    // Somebody removes the lock, and nobody can know of the first process but by what it writes.
    let grpc = federation.grpc();
    std::fs::remove_file(home.join("lock")).unwrap();
    let operator = federation.path("operator-of-the-first");
    tests::command(
        "cp",
        &["-a", &home.join("operator").display().to_string(), &operator.display().to_string()],
    )
    .unwrap();
    // The index has a lock of its own.
    let anywhere = ["127.0.0.1:0", "127.0.0.1:0"];
    let mut held = serve_at(&federation, &home, &anywhere, &[], "held.log");
    assert_eq!(held.wait(), Some(1));
    assert!(held.log().contains("could not acquire lock"), "{}", held.log());
    // Without that, too, only the journal is left to tell.
    std::fs::remove_file(home.join("lock")).unwrap();
    std::fs::rename(home.join("data/index"), home.join("data/index.gone")).unwrap();
    let mut third = serve_at(&federation, &home, &anywhere, &[], "third.log");
    third.wait_for_log("coordinator ready");
    let asked = federation.cli_as(&operator, &["--coordinator", &grpc, "invite", "reader", "eve"], "");
    assert_ne!(asked.code, 0, "nothing may be acknowledged: {asked:?}");
    assert_eq!(federation.coordinator().wait(), Some(1));
    let log = federation.coordinator().log();
    assert!(log.contains("another process writes it; stop one of them"), "{log}");
    third.signal("TERM");
    assert_eq!(third.wait(), Some(0), "{}", third.log());
    federation.kill();
    federation.serve();
    promises.kept(&federation, &run, &mut sites);
    federation.complete(&JOB.replace("100000", "2"), &[]);
}
