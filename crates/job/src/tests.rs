use std::{fs, path::Path, time::Duration};

use proptest::prelude::*;

use crate::*;

mod aggregate;

const IRIS: &str = include_str!("../../../deploy/jobs/iris.toml");
const PRIVATE: &str = include_str!("../../../deploy/jobs/iris-private.toml");
const GRADIENT: &str = include_str!("../../../deploy/jobs/iris-gradient.toml");
const SYNTHETIC: &str = include_str!("../../../deploy/jobs/synthetic.toml");
const EARLY: &str = include_str!("../../../deploy/jobs/iris-early-stop.toml");

/// The faults of `text` with `from` replaced by `to`, one line each.
fn faults(text: &str, from: &str, to: &str) -> Vec<String> {
    assert!(text.contains(from), "'{from}' is not in the sample");
    match Job::parse(&text.replacen(from, to, 1)) {
        Err(JobError::Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
        other => panic!("'{from}' -> '{to}': expected faults, found {other:?}"),
    }
}

fn edited(text: &str, from: &str, to: &str) -> Job {
    assert!(text.contains(from), "'{from}' is not in the sample");
    Job::parse(&text.replacen(from, to, 1)).unwrap()
}

#[test]
fn the_sample_has_exactly_these_values() {
    let expected = Job {
        name: "iris".parse().unwrap(),
        task: Task::Classification,
        model: Model { arch: "mlp".into(), hidden: vec![128], init: None },
        data: Data {
            name: "iris".parse().unwrap(),
            hosted: Some("iris.csv".into()),
            target: "species".into(),
            features: None,
            classes: None,
            holdout: Holdout::Fraction(0.2),
            partition: Partition::Iid,
            shards: None,
        },
        local: Local {
            mode: Mode::Train,
            optimizer: Optimizer::Adam { lr: 0.001, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
            epochs: 5,
            batch: 16,
        },
        rounds: Rounds {
            count: 20,
            cohort_min: 2,
            cohort_max: 3,
            cohort_select: 3,
            deadline: Duration::from_secs(60),
            seed: 7,
            gather: Duration::from_secs(10),
            wait: Duration::from_secs(600),
            attempts: 3,
        },
        aggregate: Aggregate {
            reduction: Reduction::Mean,
            weight: Weight::Examples,
            encoding: Encoding::F32,
            server: Server::Sgd { lr: 1.0 },
            coordinate_max: 256.0,
            norm_max: None,
            tensors: vec![],
        },
        evaluate: Evaluate { metric: Metric::TestLoss, patience: None, min_delta: 0.0, hosted: None },
    };
    assert_eq!(Job::parse(IRIS).unwrap(), expected);
    assert_eq!(expected.attachments(), ["iris.csv"]);
}

#[test]
fn the_other_forms_of_each_key() {
    let optimizer = |line: &str| edited(IRIS, "optimizer = \"adam\"", line).local.optimizer;
    assert_eq!(optimizer("optimizer = \"sgd\""), Optimizer::Sgd { lr: 0.001, momentum: 0.0 });
    assert_eq!(optimizer("optimizer = \"sgd\"\nmomentum = 0.9"), Optimizer::Sgd { lr: 0.001, momentum: 0.9 });
    assert_eq!(
        optimizer("optimizer = \"adam\"\nbeta1 = 0\nbeta2 = 0.5\neps = 1"),
        Optimizer::Adam { lr: 0.001, beta1: 0.0, beta2: 0.5, eps: 1.0 }
    );
    let gd = IRIS.replace("batch = 16\n", "").replace("\"adam\"", "\"gd\"");
    assert_eq!(Job::parse(&gd).unwrap().local.optimizer, Optimizer::GradientDescent { lr: 0.001 });

    let holdout = |value: &str| edited(IRIS, "holdout = 0.2", value).data.holdout;
    assert_eq!(holdout("holdout = { rows = [3, 17] }"), Holdout::Rows(vec![3, 17]));
    assert_eq!(holdout("holdout = { rows = [] }"), Holdout::None);
    assert_eq!(holdout("holdout = 0"), Holdout::None);
    assert_eq!(holdout(""), Holdout::None);

    let skew = edited(IRIS, "{ kind = \"iid\" }", "{ kind = \"dirichlet\", alpha = 0.5 }\nshards = 5");
    assert_eq!((skew.data.partition, skew.data.shards), (Partition::Dirichlet { alpha: 0.5 }, Some(5)));

    let soft = edited(IRIS, "arch = \"mlp\"\nhidden = [128]", "arch = \"softmax\"\ninit = \"w.safetensors\"");
    assert_eq!(
        soft.model,
        Model { arch: "softmax".into(), hidden: vec![], init: Some("w.safetensors".into()) }
    );
    assert_eq!(soft.attachments(), ["iris.csv", "w.safetensors"]);

    let bare = IRIS.split("[aggregate]").next().unwrap();
    assert_eq!(Job::parse(bare).unwrap().aggregate.server, Server::Sgd { lr: 1.0 });
    let timed = edited(IRIS, "seed = 7", "gather = \"0s\"\nwait = \"1m 30s\"\nattempts = 1").rounds;
    assert_eq!((timed.seed, timed.gather, timed.attempts), (0, Duration::ZERO, 1));
    assert_eq!(timed.wait, Duration::from_secs(90));
}

#[test]
fn gradient_mode_and_private_tables() {
    let gradient = Job::parse(GRADIENT).unwrap();
    assert_eq!(gradient.local.mode, Mode::Gradient);
    let adam = Server::Adam { lr: 0.001, beta1: 0.9, beta2: 0.999, eps: 1e-8, bias_correction: true };
    assert_eq!(gradient.aggregate.server, adam);
    let plain = edited(GRADIENT, "lr = 0.001 }", "lr = 0.001, bias_correction = false }");
    assert!(matches!(plain.aggregate.server, Server::Adam { bias_correction: false, .. }));

    let private = Job::parse(PRIVATE).unwrap();
    assert!(private.attachments().is_empty());
    assert_eq!(private.data.classes.unwrap(), ["setosa", "versicolor", "virginica"]);
}

#[test]
fn a_synthetic_run_has_fixed_values_for_what_it_does_without() {
    let job = Job::parse(SYNTHETIC).unwrap();
    let random = Synthetic { parameters: 1000, update: SyntheticUpdate::Random, buffers: false };
    assert_eq!(job.task, Task::Synthetic(random));
    assert_eq!((job.task.word(), Task::Classification.word()), ("synthetic", "classification"));
    assert_eq!(job.model, Model { arch: "synthetic".into(), hidden: vec![], init: None });
    assert_eq!(
        job.data,
        Data {
            name: "synthetic".parse().unwrap(),
            hosted: None,
            target: String::new(),
            features: Some(vec![]),
            classes: Some(vec![]),
            holdout: Holdout::None,
            partition: Partition::Iid,
            shards: Some(4),
        }
    );
    let optimizer = Optimizer::GradientDescent { lr: 1.0 };
    assert_eq!(job.local, Local { mode: Mode::Train, optimizer, epochs: 1, batch: 32 });
    assert_eq!(job.evaluate.metric, Metric::TrainLoss);
    assert_eq!((job.aggregate.server, job.attachments()), (Server::Sgd { lr: 1.0 }, vec![]));

    let least =
        "name = \"x\"\ntask = \"synthetic\"\n[model]\nparameters = 1\n[rounds]\ncount = 1\ndeadline = \"1s\"
                 cohort = { min = 1, max = 2 }\n";
    let job = Job::parse(least).unwrap();
    assert_eq!(job.task, Task::Synthetic(Synthetic { parameters: 1, ..random }));
    assert_eq!((job.data.shards, job.rounds.cohort_select), (None, 2));
    // One place for each of two shards, the default being what is selected.
    let text = least.replace("[rounds]", "[synthetic]\nupdate = \"one-hot\"\n[rounds]");
    let found = faults(&text, "", "");
    let reason =
        "must be at least rounds.cohort.select = 2 with update \"one-hot\": shard i sets parameter i";
    assert_eq!(found, [format!("model.parameters = 1: {reason}")]);
    let hot = edited(&text, "parameters = 1", "parameters = 2").task;
    assert_eq!(
        hot,
        Task::Synthetic(Synthetic { parameters: 2, update: SyntheticUpdate::OneHot, buffers: false })
    );
    let buffers = edited(SYNTHETIC, "[synthetic]", "[synthetic]\nbuffers = true").task;
    assert_eq!(buffers, Task::Synthetic(Synthetic { buffers: true, ..random }));
    let most = edited(SYNTHETIC, "parameters = 1000 ", "parameters = 1073741824 ").task;
    assert_eq!(most, Task::Synthetic(Synthetic { parameters: 1 << 30, ..random }));
    let server = edited(SYNTHETIC, "[rounds]", "[aggregate]\nserver = { kind = \"adam\", lr = 1 }\n[rounds]");
    assert!(matches!(server.aggregate.server, Server::Adam { lr: 1.0, .. }));
}

#[test]
fn more_workers_may_be_picked_than_are_needed() {
    let cohort = |to: &str| edited(IRIS, "max = 3", to).rounds;
    assert_eq!(cohort("max = 3, select = 100000").cohort_select, 100_000);
    let rounds = cohort("max = 3, select = 3");
    assert_eq!((rounds.cohort_min, rounds.cohort_max, rounds.cohort_select), (2, 3, 3));
}

#[test]
fn evaluation_compares_by_what_is_measured() {
    let early = Job::parse(EARLY).unwrap();
    let hosted = Some("iris.csv".to_owned());
    let expected = Evaluate { metric: Metric::TestLoss, patience: Some(5), min_delta: 0.001, hosted };
    assert_eq!(early.evaluate, expected);
    assert_eq!(early.attachments(), ["iris.csv"]);
    let both = edited(EARLY, "[128]", "[128]\ninit = \"w.safetensors\"");
    assert_eq!(both.attachments(), ["iris.csv", "w.safetensors"]);
    let same = edited(EARLY, "[128]", "[128]\ninit = \"iris.csv\"");
    assert_eq!(same.attachments(), ["iris.csv"]);

    let metric = |text: &str, table: &str| Job::parse(&format!("{text}\n{table}")).unwrap().evaluate.metric;
    assert_eq!(metric(PRIVATE, ""), Metric::TestLoss);
    assert_eq!(metric(PRIVATE, "[evaluate]\nmetric = \"train_loss\""), Metric::TrainLoss);
    assert_eq!(metric(IRIS, "[evaluate]\nmetric = \"test_accuracy\""), Metric::TestAccuracy);
    let nothing = PRIVATE.replace("holdout = 0.2 ", "");
    assert_eq!(metric(&nothing, ""), Metric::TrainLoss);
    assert_eq!(metric(&nothing, "[evaluate]\nhosted = \"t.csv\""), Metric::TestLoss);
    assert_eq!(metric(SYNTHETIC, "[evaluate]\npatience = 3"), Metric::TrainLoss);
}

#[test]
fn better_is_lower_for_losses_and_higher_for_accuracy() {
    use Metric::{TestAccuracy, TestLoss, TrainLoss};
    for loss in [TestLoss, TrainLoss] {
        assert!(loss.better(0.5, 0.75) && !loss.better(0.75, 0.5) && !loss.better(0.5, 0.5));
        assert!(loss.better(0.5, f64::INFINITY) && !loss.better(f64::INFINITY, f64::INFINITY));
    }
    assert!(TestAccuracy.better(0.75, 0.5) && !TestAccuracy.better(0.5, 0.75));
    let evaluate = |metric| Evaluate { metric, patience: None, min_delta: 0.25, hosted: None };
    let improves = |metric, value, than| evaluate(metric).improves(value, than);
    // Exactly by the difference is not by more.
    assert!(!improves(TestLoss, 0.5, 0.75) && improves(TestLoss, 0.25, 0.75));
    assert!(!improves(TestAccuracy, 0.75, 0.5) && improves(TestAccuracy, 1.0, 0.5));
    assert!(!improves(TestAccuracy, f64::NAN, f64::NAN) && improves(TestAccuracy, 0.0, f64::NAN));
    assert_eq!(
        [TestLoss, TestAccuracy, TrainLoss].map(Metric::word),
        ["test_loss", "test_accuracy", "train_loss"]
    );
}

/// The sample, an edit of it, and the one fault that it makes.
const ONE_FAULT: &[(&str, &str, &str, &str)] = &[
    (
        IRIS,
        "name = \"iris\"",
        "name = \"Iris\"",
        "name: name 'Iris' holds 'I' at position 0: use a-z, 0-9, '.', '_', '-', and start with a letter or digit",
    ),
    (
        IRIS,
        "\"classification\"",
        "\"tagging\"",
        "task = \"tagging\": must be one of: \"classification\", \"synthetic\"",
    ),
    (
        IRIS,
        "task = \"classification\"",
        "",
        "task: is missing, must be one of: \"classification\", \"synthetic\"",
    ),
    (IRIS, "\"mlp\"", "\"resnet\"", "model.arch = \"resnet\": must be one of: \"mlp\", \"softmax\""),
    (IRIS, "[128]", "[128, 0]", "model.hidden[1] = 0: must be from 1 to 65536"),
    (
        IRIS,
        "[128]",
        "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
        "model.hidden: has 17 layers, at most 16 are allowed",
    ),
    (
        IRIS,
        "hidden = [128]",
        "",
        "model.hidden: is missing, name the width of each hidden layer, for instance [128]",
    ),
    (
        IRIS,
        "\"mlp\"",
        "\"softmax\"",
        "model.hidden: has no meaning with arch \"softmax\", which has no hidden layer, remove it",
    ),
    (IRIS, "[128]", "[128]\ninit = \"\"", "model.init = \"\": must not be empty"),
    (
        IRIS,
        "[128]",
        "[128]\ninit = \"../w\"",
        "model.init = \"../w\": must lie beside the job file or below it: no '..' and no absolute path",
    ),
    (IRIS, "\"iris.csv\"", "\"a\\u0000\"", "data.hosted = \"a\\0\": must not hold control characters"),
    (IRIS, "target = \"species\"", "", "data.target: is missing, name the column that holds the label"),
    (
        IRIS,
        "target = \"species\"",
        "target = \"species\"\nfeatures = [\"a\", \"species\"]",
        "data.features[1] = \"species\": is data.target: a label cannot be learned from itself",
    ),
    (IRIS, "holdout = 0.2", "features = [\"a\", \"a\"]", "data.features[1]: a occurs twice"),
    (IRIS, "holdout = 0.2", "features = []", "data.features: has 0 entries, 1 to 65536 are allowed"),
    (IRIS, "holdout = 0.2", "classes = [\"a\"]", "data.classes: has 1 entries, 2 to 65536 are allowed"),
    (IRIS, "0.2", "1.0", "data.holdout = 1: must be at least 0 and below 1"),
    (IRIS, "0.2", "nan", "data.holdout = NaN: must be at least 0 and below 1"),
    (
        IRIS,
        "0.2",
        "\"a fifth\"",
        "data.holdout = \"a fifth\": must be a fraction such as 0.2, or row numbers such as { rows = [3, 17] }",
    ),
    (IRIS, "0.2", "{ rows = [3, 0.5] }", "data.holdout.rows: must be a list of row numbers, counted from 0"),
    (IRIS, "0.2", "{ rows = [3, -1] }", "data.holdout.rows[1] = -1: must be from 0 to 4294967295"),
    (IRIS, "0.2", "{ rows = [3, 4, 3] }", "data.holdout.rows[2]: 3 occurs twice"),
    (
        IRIS,
        "\"iid\"",
        "\"sorted\"",
        "data.partition.kind = \"sorted\": must be one of: \"iid\", \"dirichlet\"",
    ),
    (
        IRIS,
        "\"iid\"",
        "\"dirichlet\"",
        "data.partition.alpha: is missing, must be at least 0.001 and at most 1000000",
    ),
    (
        IRIS,
        "\"iid\"",
        "\"iid\", alpha = 1.0",
        "data.partition.alpha: has no meaning with kind \"iid\", remove it",
    ),
    (IRIS, "holdout = 0.2", "shards = 0", "data.shards = 0: must be from 1 to 100000"),
    (
        PRIVATE,
        "holdout = 0.2",
        "shards = 3",
        "data.shards: has no meaning without data.hosted: every worker trains on its own table, remove it",
    ),
    (
        PRIVATE,
        "classes = [\"setosa\", \"versicolor\", \"virginica\"]",
        "",
        "data.classes: is needed without data.hosted: workers' tables stay with them, so nobody else can look it \
         up; list the labels",
    ),
    (
        IRIS,
        "\"adam\"",
        "\"rmsprop\"",
        "local.optimizer = \"rmsprop\": must be one of: \"gd\", \"sgd\", \"adam\"",
    ),
    (IRIS, "lr = 0.001", "", "local.lr: is missing, must be above 0 and at most 1000"),
    (IRIS, "lr = 0.001", "lr = -1", "local.lr = -1: must be above 0 and at most 1000"),
    (IRIS, "lr = 0.001", "lr = inf", "local.lr = inf: must be above 0 and at most 1000"),
    (
        IRIS,
        "lr = 0.001",
        "lr = 0.001\nmomentum = 0.9",
        "local.momentum: has no meaning with optimizer \"adam\", remove it",
    ),
    (IRIS, "lr = 0.001", "lr = 0.001\nbeta1 = 1", "local.beta1 = 1: must be at least 0 and below 1"),
    (IRIS, "lr = 0.001", "lr = 0.001\neps = 0", "local.eps = 0: must be above 0 and at most 1"),
    (
        IRIS,
        "\"adam\"",
        "\"sgd\"\nbeta2 = 0.9",
        "local.beta2: has no meaning with optimizer \"sgd\", remove it",
    ),
    (
        IRIS,
        "\"adam\"",
        "\"gd\"",
        "local.batch: has no meaning with optimizer \"gd\", which takes all rows in one step, remove it",
    ),
    (IRIS, "epochs = 5", "epochs = 10001", "local.epochs = 10001: must be from 1 to 10000"),
    (IRIS, "batch = 16", "batch = 0", "local.batch = 0: must be from 1 to 1048576"),
    (
        GRADIENT,
        "mode = \"gradient\"",
        "mode = \"gradient\"\nlr = 0.1",
        "local.lr: has no meaning in gradient mode: the optimizer is aggregate.server, remove it",
    ),
    (
        GRADIENT,
        "mode = \"gradient\"",
        "mode = \"gradient\"\nbatch = 3",
        "local.batch: has no meaning in gradient mode: a worker computes one gradient over its whole shard, remove it",
    ),
    (
        GRADIENT,
        "\"gradient\"\n\n[rounds]",
        "\"steps\"\n\n[rounds]",
        "local.mode = \"steps\": must be one of: \"train\", \"gradient\"",
    ),
    (IRIS, "count = 20", "count = 0", "rounds.count = 0: must be from 1 to 1000000"),
    (IRIS, "max = 3", "max = 0", "rounds.cohort.max = 0: must be at least rounds.cohort.min = 2"),
    (IRIS, "min = 2, ", "", "rounds.cohort.min: is missing, must be from 1 to 100000"),
    (IRIS, "\"60s\"", "\"1ms\"", "rounds.deadline = \"1ms\": must be from 100ms to 7days"),
    (
        IRIS,
        "\"60s\"",
        "\"soon\"",
        "rounds.deadline = \"soon\": must be a length of time such as \"60s\" or \"5m\"",
    ),
    (
        IRIS,
        "deadline = \"60s\"",
        "",
        "rounds.deadline: is missing, must be from 100ms to 7days, for instance \"60s\"",
    ),
    (IRIS, "seed = 7", "seed = -7", "rounds.seed = -7: must be from 0 to 9223372036854775807"),
    (IRIS, "seed = 7", "attempts = 101", "rounds.attempts = 101: must be from 1 to 100"),
    (
        IRIS,
        "lr = 1.0 }",
        "lr = 1.0, bias_correction = true }",
        "aggregate.server.bias_correction: has no meaning with kind \"sgd\", remove it",
    ),
    (GRADIENT, ", lr = 0.001 }", " }", "aggregate.server.lr: is missing, must be above 0 and at most 1000"),
    (
        IRIS,
        "reduction = \"mean\"",
        "coordinate_max = 0",
        "aggregate.coordinate_max = 0: must be at least 0.000001 and at most 1000000",
    ),
    (
        IRIS,
        "max = 3",
        "max = 3, select = 2",
        "rounds.cohort.select = 2: must be at least rounds.cohort.max = 3",
    ),
    (IRIS, "max = 3", "max = 3, select = 100001", "rounds.cohort.select = 100001: must be from 1 to 100000"),
    (
        IRIS,
        "[128]",
        "[128]\nparameters = 9",
        "model.parameters: has no meaning with task \"classification\", remove it",
    ),
    (
        IRIS,
        "[local]",
        "[synthetic]\n[local]",
        "synthetic: has no meaning with task \"classification\", remove it",
    ),
    (SYNTHETIC, "parameters = 1000 ", "", "model.parameters: is missing, must be from 1 to 1073741824"),
    (
        SYNTHETIC,
        "parameters = 1000 ",
        "parameters = 0 ",
        "model.parameters = 0: must be from 1 to 1073741824",
    ),
    (
        SYNTHETIC,
        "parameters = 1000 ",
        "parameters = 1073741825 ",
        "model.parameters = 1073741825: must be from 1 to 1073741824",
    ),
    (
        SYNTHETIC,
        "\"random\"",
        "\"zero\"",
        "synthetic.update = \"zero\": must be one of: \"random\", \"one-hot\"",
    ),
    (
        SYNTHETIC,
        "[synthetic]\nupdate = \"random\" ",
        "arch = \"mlp\"",
        "model.arch: has no meaning with task \"synthetic\", whose model is so many parameters that start at zero, \
         remove it",
    ),
    (
        SYNTHETIC,
        "shards = 4 ",
        "hosted = \"iris.csv\" ",
        "data.hosted: has no meaning with task \"synthetic\", which has no data, remove it",
    ),
    (
        SYNTHETIC,
        "shards = 4 ",
        "target = \"species\" ",
        "data.target: has no meaning with task \"synthetic\", which has no data, remove it",
    ),
    (
        SYNTHETIC,
        "shards = 4 ",
        "holdout = { rows = [0] } ",
        "data.holdout: has no meaning with task \"synthetic\", which has no data, remove it",
    ),
    (SYNTHETIC, "shards = 4 ", "shards = 100001 ", "data.shards = 100001: must be from 1 to 100000"),
    (
        SYNTHETIC,
        "[rounds]",
        "[local]\nlr = 0.1\n[rounds]",
        "local.lr: has no meaning with task \"synthetic\": workers answer without training, remove it",
    ),
    (
        SYNTHETIC,
        "[rounds]",
        "[evaluate]\nhosted = \"iris.csv\"\n[rounds]",
        "evaluate.hosted: has no meaning with task \"synthetic\", whose model predicts nothing, remove it",
    ),
    (
        SYNTHETIC,
        "[rounds]",
        "[evaluate]\nmetric = \"test_loss\"\n[rounds]",
        "evaluate.metric = \"test_loss\": a synthetic model predicts nothing, use \"train_loss\"",
    ),
    (
        IRIS,
        "[local]",
        "[evaluate]\nhosted = \"test.csv\"\n[local]",
        "evaluate.hosted: has no meaning with data.hosted: the coordinator measures on the rows of data.holdout, \
         remove it",
    ),
    (
        EARLY,
        "hosted = \"iris.csv\" ",
        "",
        "evaluate.metric = \"test_loss\": no rows are held out to measure it on: set data.holdout or \
         evaluate.hosted, or use \"train_loss\"",
    ),
    (
        EARLY,
        "\"iris.csv\"",
        "\"/iris.csv\"",
        "evaluate.hosted = \"/iris.csv\": must lie beside the job file or below it: no '..' and no absolute path",
    ),
    (
        EARLY,
        "\"test_loss\" ",
        "\"loss\" ",
        "evaluate.metric = \"loss\": must be one of: \"test_loss\", \"test_accuracy\", \"train_loss\"",
    ),
    (EARLY, "patience = 5 ", "patience = 0 ", "evaluate.patience = 0: must be from 1 to 1000000"),
    (EARLY, "= 0.001  ", "= -0.5  ", "evaluate.min_delta = -0.5: must be at least 0 and below inf"),
    (EARLY, "= 0.001  ", "= nan  ", "evaluate.min_delta = NaN: must be at least 0 and below inf"),
];

#[test]
fn each_fault_has_its_own_message() {
    for (text, from, to, expected) in ONE_FAULT {
        assert_eq!(faults(text, from, to), [*expected], "'{from}' -> '{to}'");
    }
}

#[test]
fn a_fault_makes_no_second_one_elsewhere() {
    // Of a hosted table, too: the rest of the message differs.
    let text = IRIS.replace("holdout = 0.2\n", "") + "[evaluate]\nmetric = \"test_accuracy\"\n";
    let reason = "no rows are held out to measure it on: set data.holdout, or use \"train_loss\"";
    assert_eq!(faults(&text, "", ""), [format!("evaluate.metric = \"test_accuracy\": {reason}")]);
    // A broken holdout is not a missing one, and a broken size is not too small for its shards.
    let text = IRIS.replace("holdout = 0.2\n", "holdout = 2\n") + "[evaluate]\nmetric = \"test_loss\"\n";
    assert_eq!(faults(&text, "", ""), ["data.holdout = 2: must be at least 0 and below 1"]);
    let text = SYNTHETIC.replace("\"random\"", "\"one-hot\"");
    let found = faults(&text, "parameters = 1000 ", "parameters = -1 ");
    assert_eq!(found, ["model.parameters = -1: must be from 1 to 1073741824"]);
    let found = faults(&text, "parameters = 1000 ", "parameters = 3 ");
    let reason = "must be at least data.shards = 4 with update \"one-hot\": shard i sets parameter i";
    assert_eq!(found, [format!("model.parameters = 3: {reason}")]);
    // Without a task nobody knows what has no meaning.
    let text = format!("{IRIS}\n[synthetic]\nupdate = \"random\"\n");
    let found = faults(&text, "\"classification\"", "\"none\"");
    assert_eq!(found, ["task = \"none\": must be one of: \"classification\", \"synthetic\""]);
}

#[test]
fn all_faults_are_told_at_once() {
    let Err(error) = Job::parse("name = \"x\"\n[model]\narch = \"mlp\"\nhidden = [-1]\n[rounds]\ncount = 0")
    else {
        panic!("a job without data");
    };
    let text = error.to_string();
    assert_eq!(text.lines().next(), Some("12 faults"), "{text}");
    for key in ["task", "model.hidden[0] = -1", "data.name", "data.target", "data.features", "data.classes"] {
        assert!(text.contains(&format!("\n  {key}: ")), "{key} in {text}");
    }
    for key in [
        "rounds.deadline",
        "local.optimizer",
        "local.lr",
        "rounds.count = 0",
        "rounds.cohort.min",
        "rounds.cohort.max",
    ] {
        assert!(text.contains(&format!("\n  {key}: ")), "{key} in {text}");
    }
}

#[test]
fn syntax_faults_have_a_place() {
    let place = |from: &str, to: &str| match Job::parse(&IRIS.replacen(from, to, 1)) {
        Err(JobError::Syntax { line, column, message }) => (line, column, message),
        other => panic!("'{from}' -> '{to}': {other:?}"),
    };
    let (line, column, message) = place("hidden", "hiden");
    assert_eq!((line, column), (6, 1));
    assert!(message.starts_with("unknown field `hiden`, expected one of"), "{message}");
    let (line, column, message) = place("epochs = 5", "epochs = \"five\"");
    assert_eq!((line, column), (18, 10));
    assert!(message.contains("expected i64"), "{message}");
    let (line, column, _) = place("name = \"iris\"", "näme = \"iris\"");
    assert_eq!((line, column), (1, 2));
    let error = Job::parse("[model\n").unwrap_err().to_string();
    assert!(error.starts_with("line 1, column "), "{error}");
    let long = " ".repeat(JOB_BYTES_MAX + 1);
    assert_eq!(Job::parse(&long), Err(JobError::TooLong { bytes: JOB_BYTES_MAX + 1 }));
}

#[test]
fn long_values_are_cut_short() {
    let name = "x".repeat(10_000);
    let [fault] = &faults(IRIS, "\"mlp\"", &format!("\"{name}\""))[..] else { panic!("one fault") };
    assert!(fault.len() < 200, "{fault}");
}

#[test]
fn every_shipped_job_file_parses() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/jobs");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let parsed = Job::parse(&fs::read_to_string(&path).unwrap());
            assert!(parsed.is_ok(), "{}: {}", path.display(), parsed.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen} job files");
}

#[test]
fn every_documented_job_file_parses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    if let Ok(docs) = fs::read_dir(root.join("docs")) {
        pages.extend(docs.map(|entry| entry.unwrap().path()));
    }
    for page in pages {
        // A folder, or a page that is not written yet.
        let Ok(text) = fs::read_to_string(&page) else { continue };
        for block in text.split("```toml\n").skip(1).filter(|block| block.starts_with("name =")) {
            let parsed = Job::parse(block.split("```").next().unwrap());
            assert!(parsed.is_ok(), "{}: {}", page.display(), parsed.unwrap_err());
        }
    }
}

proptest! {
    #[test]
    fn foreign_text_never_panics(text in "[a-z\\[\\]{}=\", .0-9\n\u{0}é-]{0,200}") {
        let _ = Job::parse(&text);
    }

    #[test]
    fn one_changed_byte_never_panics(at in 0usize..IRIS.len(), byte: u8) {
        let mut bytes = IRIS.as_bytes().to_vec();
        bytes[at] = byte;
        if let Err(error) = Job::parse(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn at_most_one_of_two_values_is_better(a in any::<f64>(), b in any::<f64>(), min_delta in 0.0..1e9f64) {
        for metric in [Metric::TestLoss, Metric::TestAccuracy, Metric::TrainLoss] {
            let evaluate = Evaluate { metric, patience: None, min_delta, hosted: None };
            prop_assert!(!(metric.better(a, b) && metric.better(b, a)));
            prop_assert_eq!(metric.better(a, b), (!a.is_nan() && b.is_nan()) || match metric {
                Metric::TestAccuracy => a > b,
                _ => a < b,
            });
            prop_assert!(!evaluate.improves(a, b) || metric.better(a, b));
        }
    }

    #[test]
    fn numbers_are_accepted_exactly_within_their_bounds(lr in any::<f64>(), count: i64, seed: i64) {
        let numbers = format!("lr = {lr:?}").replace("NaN", "nan");
        let text = IRIS
            .replacen("lr = 0.001", &numbers, 1)
            .replacen("count = 20", &format!("count = {count}"), 1)
            .replacen("seed = 7", &format!("seed = {seed}"), 1);
        let good = lr > 0.0 && lr <= 1000.0 && (1..=1_000_000).contains(&count) && seed >= 0;
        prop_assert_eq!(Job::parse(&text).is_ok(), good, "{}", text);
    }
}
