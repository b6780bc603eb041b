use super::*;

const IRIS: &str = include_str!("../../../deploy/jobs/iris.toml");
const PRIVATE: &str = include_str!("../../../deploy/jobs/iris-private.toml");
const EARLY: &str = include_str!("../../../deploy/jobs/iris-early-stop.toml");
const SYNTHETIC: &str = include_str!("../../../deploy/jobs/synthetic.toml");

fn job(text: &str, from: &str, to: &str) -> Job {
    assert!(text.contains(from), "'{from}' is not in the sample");
    Job::parse(&text.replacen(from, to, 1)).unwrap()
}

#[test]
fn who_measures_follows_from_where_the_held_out_rows_are() {
    let evaluation =
        |job: &Job, shards: Option<u64>| protocol(job, shards.map(|n| vec![n; 4]), 1, 1000).evaluation;
    assert_eq!(evaluation(&job(IRIS, "", ""), Some(9)), Evaluation::Central);
    assert_eq!(evaluation(&job(IRIS, "holdout = 0.2", ""), Some(9)), Evaluation::None);
    assert_eq!(evaluation(&job(PRIVATE, "", ""), None), Evaluation::Workers);
    assert_eq!(evaluation(&job(PRIVATE, "holdout = 0.2", ""), None), Evaluation::None);
    assert_eq!(evaluation(&job(EARLY, "", ""), None), Evaluation::Central);
    // The coordinator's own table wins over the rows that workers hold out.
    let both = job(EARLY, "target =", "holdout = 0.2\ntarget =");
    assert_eq!(evaluation(&both, None), Evaluation::Central);
    assert_eq!(evaluation(&job(SYNTHETIC, "", ""), Some(1)), Evaluation::None);
}

#[test]
fn there_are_as_many_shards_as_workers_that_are_picked() {
    assert_eq!(shards(&job(IRIS, "", "")).unwrap(), 3);
    assert_eq!(shards(&job(IRIS, "max = 3", "max = 3, select = 5")).unwrap(), 5);
    assert_eq!(shards(&job(IRIS, "holdout", "shards = 2\nholdout")).unwrap(), 2);
    let error = shards(&job(SYNTHETIC, "shards = 4", "shards = 3")).unwrap_err().to_string();
    assert_eq!(error, "data.shards = 3: must be at least rounds.cohort.min = 4, or no round can close");
}

#[test]
fn a_synthetic_network_has_its_parameters_and_no_table() {
    assert_eq!(network(&job(SYNTHETIC, "", ""), 0, 0), ModelSpec::synthetic(1000));
    let buffers = job(SYNTHETIC, "[synthetic]", "[synthetic]\nbuffers = true");
    assert_eq!(network(&buffers, 0, 0), ModelSpec::synthetic_with_buffers(1000));
    let mlp = ModelSpec { arch: "mlp".to_owned(), inputs: 4, hidden: vec![128], outputs: 3 };
    assert_eq!(network(&job(IRIS, "", ""), 4, 3), mlp);
}
