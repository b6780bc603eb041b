use tests::{Federation, Site, command};

use crate::common::digests;

/// Of release 0.1, by `conclave model ls`.
const DONE: [&str; 3] = [
    "f6a977e2acea3dfc7e439b647996e7a52e4cfa940664c0886c50f199af8602c2",
    "67829caff5a6a2056b01606f5b2d740e16b7270839cdfb6cf687efb4094a1c96",
    "0da010b0503c6d7281b3bd3af699dca458aa72d693417504f76a8097e52d2445",
];
const OPEN: [&str; 5] = [
    "075c323e1e92b02db93fbf7e44c52c489cf73f2b4fb5dc1eccc8a0d09b12bb97",
    "2ceb331a12ee5902cff48a21a3459fdb97fd21d62d6289c80236f0866fe9adda",
    "87b82922c4b0aafcfaf91da81652773e935f3ea9994c4c26eea0fd24f7e67778",
    "847b13a15fa83597df854c16fca2fd8ad98f660f290467e8d4325f1236360013",
    "8060cd56c1ed4a4c450fd086cbd5777a94f94de710494e598cbba2ede6cdf378",
];

/// An invitation that nobody redeemed; it was good for an hour.
const TOKEN: &str = "conclave1.d135c0c2c38bd530.MnAEUD4mFKcVbqORB2CLF-wV4zcroHPBKNLpOZJUWwY.-_ocmL4vHvfFGeGSsayBarB3gDnyomZxo34DCfmGI-M.127.0.0.1:32947";

#[test]
fn a_home_of_release_0_1_goes_on() {
    let mut federation = Federation::start();
    federation.kill();
    std::fs::remove_dir_all(federation.home()).unwrap();
    std::fs::create_dir(federation.home()).unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/home-0.1.tar.gz");
    command("tar", &["xzf", golden, "-C", &federation.home().display().to_string()]).unwrap();
    assert!(!federation.home().join("data/journal").exists());
    federation.serve();
    let log = federation.coordinator().log();
    assert!(log.contains("made a journal for a home of an earlier release, with 2 runs"), "{log}");
    assert_eq!(
        (digests(&federation, "done"), digests(&federation, "open")),
        (DONE.map(str::to_owned).to_vec(), OPEN.map(str::to_owned).to_vec())
    );
    let done = federation.show("done-1");
    assert_eq!((&done["state"], done["rounds"].as_array().unwrap().len()), (&"completed".into(), 3));
    // The invitation is known; as a rule it is too old.
    let (home, grpc) = (federation.path("eve"), federation.grpc());
    let joined = federation.cli_as(&home, &["join", "--coordinator", &grpc, "--token", TOKEN], "");
    assert!(joined.code == 0 || joined.err.contains("expired"), "{joined:?}");
    // The keys of the two workers were thrown away: they join again, under the names that own the shards.
    let _sites: Vec<Site> =
        ["ada", "ben"].iter().map(|name| federation.worker(name, &["--device", "cpu"])).collect();
    let open = federation.wait_for_end("open-1");
    assert_eq!(open["state"], "completed", "{open:#}");
    assert_eq!(open["rounds"].as_array().unwrap().len(), 12);
    assert_eq!(digests(&federation, "open")[..5], OPEN);
    // Once is enough.
    federation.kill();
    federation.serve();
    let log = federation.coordinator().log();
    assert!(!log.contains("made a journal"), "{log}");
    assert_eq!((digests(&federation, "done").len(), digests(&federation, "open").len()), (3, 12));
}
