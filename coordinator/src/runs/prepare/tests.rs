use round::{DataPlan, Evaluation};

use super::*;

const IRIS: &str = include_str!("../../../../deploy/jobs/iris.toml");
const EARLY: &str = include_str!("../../../../deploy/jobs/iris-early-stop.toml");
const SYNTHETIC: &str = include_str!("../../../../deploy/jobs/synthetic.toml");
const TABLE: &str = include_str!("../../../../deploy/jobs/iris.csv");

/// Prepares a job with `csv` as `iris.csv`, and reads it back.
fn prepared(text: &str, csv: &str) -> Result<(RunRecord, Context, Vec<u8>), PlanError> {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path().join("blobs")).unwrap();
    let attachments = BTreeMap::from([("iris.csv".to_owned(), blobs.put(csv.as_bytes()).unwrap())]);
    let record = prepare(&Job::parse(text).unwrap(), text, &attachments, &blobs, 1 << 20)?;
    let context = Context::load(&record, "run".parse().unwrap(), &blobs)?;
    let base = blobs.get(&registry::digest(&record.base)?)?;
    Ok((record, context, base))
}

fn refusal(text: &str, csv: &str) -> String {
    prepared(text, csv).unwrap_err().to_string()
}

#[test]
fn a_synthetic_run_has_shards_of_nothing_and_starts_at_zero() {
    let (record, context, base) = prepared(SYNTHETIC, "").unwrap();
    let expected = Prepared {
        features: vec![],
        classes: vec![],
        shards: None,
        holdout: None,
        synthetic_shards: Some(4),
    };
    assert_eq!(context.prepared, expected);
    assert_eq!((record.rounds, record.model.as_str()), (10, "load"));
    let base = Params::from_safetensors(&base).unwrap();
    assert_eq!(base.tensor("parameters").unwrap(), [0.0; 1000]);
    assert_eq!(*base.layout(), context.layout);
    let plan = context.plan(10, 1000);
    assert_eq!(plan.data, DataPlan::Hosted { shards: vec![1; 4] });
    assert_eq!(plan.evaluation, Evaluation::None);
    let large = SYNTHETIC.replace("parameters = 1000 ", "parameters = 1000000 ");
    assert_eq!(
        refusal(&large, ""),
        "model: 1000000 weights make updates of 4000000 bytes, limits.upload_bytes in config.toml allows 1048576"
    );
}

#[test]
fn a_table_of_its_own_is_what_the_coordinator_measures_on() {
    // The architecture must not need libtorch.
    let text = EARLY.replace("arch = \"mlp\"\nhidden = [128]", "arch = \"softmax\"");
    let (_, context, _) = prepared(&text, TABLE).unwrap();
    let holdout = context.holdout.as_ref().unwrap();
    assert_eq!((holdout.rows(), holdout.labels()[0], holdout.labels()[149]), (150, 0, 2));
    assert_eq!(context.prepared.holdout.as_ref().unwrap().bytes, TABLE.len() as u64);
    let plan = context.plan(1, 1000);
    assert_eq!((plan.data, plan.evaluation), (DataPlan::Private, Evaluation::Central));

    let broken = |from: &str, to: &str| refusal(&text, &TABLE.replace(from, to));
    assert_eq!(
        broken("petal_width", "width"),
        "evaluate.hosted: iris.csv has no column 'petal_width': its columns are 'sepal_length', \
         'sepal_width', 'petal_length', 'width', 'species'"
    );
    let error = broken("versicolor", "rosa");
    assert_eq!(
        error,
        "evaluate.hosted: iris.csv line 52 column 'species': 'rosa' is not a known class: they are 'setosa', \
         'versicolor', 'virginica'"
    );
    assert_eq!(refusal(&text, ""), "evaluate.hosted: iris.csv is empty");
    let missing = refusal(&text.replace("hosted = \"iris.csv\"", "hosted = \"test.csv\""), TABLE);
    assert!(missing.starts_with("the job file names \"test.csv\", but that file was not sent"), "{missing}");
}

#[test]
fn patience_needs_rows_to_measure_on() {
    let few = IRIS.replace("holdout = 0.2", "holdout = 0.001");
    let (_, context, _) = prepared(&few, TABLE).unwrap();
    assert_eq!(context.plan(1, 1000).evaluation, Evaluation::None);
    assert_eq!(
        refusal(&format!("{few}\n[evaluate]\npatience = 3\n"), TABLE),
        "evaluate.metric = \"test_loss\": data.holdout leaves no rows to measure it on, hold out more, or use \
         \"train_loss\""
    );
}

#[test]
fn what_earlier_releases_stored_is_read() {
    let table = r#"{"digest":"ab","bytes":7}"#;
    let stored = format!(
        r#"{{"features":["a"],"classes":["b","c"],"shards":[{{"table":{table},"examples":3}}],"holdout":null}}"#
    );
    let prepared: Prepared = serde_json::from_str(&stored).unwrap();
    let blob = BlobRecord { digest: "ab".to_owned(), bytes: 7 };
    assert_eq!(prepared.shards, Some(vec![Shard { table: blob, examples: 3 }]));
    assert_eq!(prepared.synthetic_shards, None);
    // And an earlier release reads what this one stores of a job that it knows.
    assert_eq!(serde_json::to_string(&prepared).unwrap(), stored);
}
