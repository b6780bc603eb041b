use super::*;

const ROBUST: &str = include_str!("../../../../deploy/jobs/iris-robust.toml");
const COMPRESSED: &str = include_str!("../../../../deploy/jobs/iris-compressed.toml");

/// A job with this table `[aggregate]` and a cohort of at least `min`.
fn text(min: u32, aggregate: &str) -> String {
    let head = IRIS.split("[aggregate]").next().unwrap();
    let head = head.replace("min = 2, max = 3", &format!("min = {min}, max = 100000"));
    format!("{head}[aggregate]\n{aggregate}\n")
}

fn parsed(min: u32, aggregate: &str) -> Aggregate {
    Job::parse(&text(min, aggregate)).unwrap_or_else(|e| panic!("{aggregate}: {e}")).aggregate
}

/// The faults of a table `[aggregate]`, one line each.
fn faults_of(min: u32, aggregate: &str) -> Vec<String> {
    faults(&text(min, aggregate), "", "")
}

#[test]
fn defaults_mean_what_job_files_meant_before() {
    let expected = Job::parse(IRIS).unwrap().aggregate;
    assert_eq!(parsed(2, ""), expected);
    // Each default, written out.
    let written = "reduction = { kind = \"mean\" }\nweight = \"examples\"\nencoding = { kind = \"f32\" }\n\
                   server = { kind = \"sgd\" }\ncoordinate_max = 256\ntensors = []";
    assert_eq!(parsed(2, written), expected);
    let bare = IRIS.split("[aggregate]").next().unwrap();
    assert_eq!(Job::parse(bare).unwrap().aggregate, expected);
}

#[test]
fn reductions_have_these_forms() {
    let cases = [
        ("\"mean\"", Reduction::Mean),
        ("{ kind = \"clipped-mean\", norm = 2.5 }", Reduction::ClippedMean { norm: 2.5 }),
        ("\"median\"", Reduction::Median),
        ("{ kind = \"median\" }", Reduction::Median),
        ("{ kind = \"trimmed-mean\", f = 2 }", Reduction::TrimmedMean { f: 2 }),
        ("{ kind = \"krum\", f = 3 }", Reduction::Krum { f: 3 }),
        ("{ kind = \"multi-krum\", f = 2, m = 5 }", Reduction::MultiKrum { f: 2, m: 5 }),
        ("{ kind = \"bulyan\", f = 1 }", Reduction::Bulyan { f: 1 }),
        ("\"geometric-median\"", Reduction::GeometricMedian { nu: 1e-6, iterations: 3 }),
        (
            "{ kind = \"geometric-median\", nu = 0.1, iterations = 8 }",
            Reduction::GeometricMedian { nu: 0.1, iterations: 8 },
        ),
        (
            "{ kind = \"centered-clipping\", tau = 10 }",
            Reduction::CenteredClipping { tau: 10.0, iterations: 1 },
        ),
        (
            "{ kind = \"centered-clipping\", tau = 1e-3, iterations = 100 }",
            Reduction::CenteredClipping { tau: 1e-3, iterations: 100 },
        ),
    ];
    for (value, expected) in cases {
        let aggregate = parsed(9, &format!("reduction = {value}"));
        assert_eq!(aggregate.reduction, expected);
        assert!(value.contains(&format!("\"{}\"", expected.word())), "{value}");
        let weight = if expected.is_weighted() { Weight::Examples } else { Weight::Uniform };
        assert_eq!(aggregate.weight, weight, "{value}");
    }
    let table = parsed(9, "[aggregate.reduction]\nkind = \"krum\"\nf = 3");
    assert_eq!(table.reduction, Reduction::Krum { f: 3 });
}

#[test]
fn weights_encodings_and_bounds_have_these_forms() {
    for weight in [Weight::Examples, Weight::Uniform, Weight::Work] {
        assert_eq!(parsed(2, &format!("weight = \"{}\"", weight.word())).weight, weight);
        let clipped =
            format!("reduction = {{ kind = \"clipped-mean\", norm = 1 }}\nweight = \"{}\"", weight.word());
        assert_eq!(parsed(2, &clipped).weight, weight);
    }
    for (value, expected) in [
        ("\"f32\"", Encoding::F32),
        ("\"bf16\"", Encoding::Bf16),
        ("\"fp16\"", Encoding::Fp16),
        ("\"int8\"", Encoding::Int8 { block: 256 }),
        ("{ kind = \"int8\", block = 16 }", Encoding::Int8 { block: 16 }),
        ("\"int4\"", Encoding::Int4 { block: 128 }),
        ("{ kind = \"int4\", block = 65536 }", Encoding::Int4 { block: 65_536 }),
        ("\"top-k\"", Encoding::TopK { fraction: 0.01 }),
        ("{ kind = \"top-k\", fraction = 1 }", Encoding::TopK { fraction: 1.0 }),
        ("\"sign\"", Encoding::Sign),
    ] {
        assert_eq!(parsed(2, &format!("encoding = {value}")).encoding, expected);
        assert!(value.contains(&format!("\"{}\"", expected.word())), "{value}");
    }
    assert_eq!(parsed(2, "norm_max = 100").norm_max, Some(100.0));
}

#[test]
fn servers_have_these_forms() {
    for (value, expected) in [
        ("kind = \"sgd\"", Server::Sgd { lr: 1.0 }),
        ("kind = \"momentum\"", Server::Momentum { lr: 1.0, momentum: 0.9 }),
        ("kind = \"momentum\", lr = 0.5, momentum = 0", Server::Momentum { lr: 0.5, momentum: 0.0 }),
        ("kind = \"nesterov\"", Server::Nesterov { lr: 0.7, momentum: 0.9 }),
        ("kind = \"nesterov\", lr = 1, momentum = 0.5", Server::Nesterov { lr: 1.0, momentum: 0.5 }),
        ("kind = \"adagrad\", lr = 0.1", Server::Adagrad { lr: 0.1, eps: 1e-3 }),
        ("kind = \"adagrad\", lr = 0.1, eps = 1e-7", Server::Adagrad { lr: 0.1, eps: 1e-7 }),
        ("kind = \"yogi\", lr = 0.01", Server::Yogi { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-3 }),
        (
            "kind = \"yogi\", lr = 0.01, beta1 = 0, beta2 = 0.5, eps = 1",
            Server::Yogi { lr: 0.01, beta1: 0.0, beta2: 0.5, eps: 1.0 },
        ),
        (
            "kind = \"adam\", lr = 0.01",
            Server::Adam { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, bias_correction: true },
        ),
    ] {
        assert_eq!(parsed(2, &format!("server = {{ {value} }}")).server, expected);
        assert!(value.contains(&format!("\"{}\"", expected.word())), "{value}");
    }
}

#[test]
fn gradient_mode_goes_with_all_of_it() {
    let head = GRADIENT.split("[aggregate]").next().unwrap().replace("min = 3, max = 3", "min = 7, max = 7");
    for aggregate in [
        "reduction = { kind = \"bulyan\", f = 1 }\nencoding = \"sign\"\nserver = { kind = \"yogi\", lr = 0.1 }",
        "weight = \"work\"\nencoding = \"top-k\"\nnorm_max = 1\nserver = { kind = \"nesterov\" }",
        "[[aggregate.tensors]]\nmatch = \"*\"\npolicy = \"keep-local\"",
    ] {
        let job = Job::parse(&format!("{head}[aggregate]\n{aggregate}\n")).unwrap();
        assert_eq!(job.local.mode, Mode::Gradient);
    }
}

#[test]
fn tensor_rules_are_taken_in_their_order() {
    let aggregate = parsed(
        2,
        "[[aggregate.tensors]]\nmatch = \"head.*\"\npolicy = \"keep-local\"\n\
         [[aggregate.tensors]]\nmatch = \"*.running_*\"\npolicy = \"average\"\ncoordinate_max = 10.0\n\
         [[aggregate.tensors]]\nmatch = \"*.num_batches_tracked\"\npolicy = \"max\"\n\
         [[aggregate.tensors]]\nmatch = \"mask\"\npolicy = \"skip\"",
    );
    let rule = |pattern: &str, policy, coordinate_max| TensorRule {
        pattern: pattern.into(),
        policy,
        coordinate_max,
    };
    let expected = [
        rule("head.*", Policy::KeepLocal, None),
        rule("*.running_*", Policy::Average, Some(10.0)),
        rule("*.num_batches_tracked", Policy::Max, None),
        rule("mask", Policy::Skip, None),
    ];
    assert_eq!(aggregate.tensors, expected);
    for (tensor, at) in [
        ("head.running_mean", Some(0)),
        ("bn.running_mean", Some(1)),
        ("bn.num_batches_tracked", Some(2)),
        ("mask", Some(3)),
        ("masks", None),
        ("layer.weight", None),
    ] {
        assert_eq!(aggregate.rule(tensor), at.map(|at: usize| &expected[at]), "{tensor}");
    }
    let policies = [Policy::Average, Policy::KeepLocal, Policy::Max, Policy::Skip];
    assert_eq!(policies.map(Policy::word), ["average", "keep-local", "max", "skip"]);
    let many = |rules: usize| {
        let rule = |at| format!("[[aggregate.tensors]]\nmatch = \"layer{at}.*\"\npolicy = \"skip\"\n");
        (0..rules).map(rule).collect::<String>()
    };
    assert_eq!(parsed(2, &many(256)).tensors.len(), 256);
    assert_eq!(faults_of(2, &many(257)), ["aggregate.tensors: has 257 entries, at most 256 are allowed"]);
}

#[test]
fn a_cohort_must_be_as_large_as_the_reduction_needs() {
    for (reduction, f, needed) in [
        ("trimmed-mean", 1, 3),
        ("trimmed-mean", 10_000, 20_001),
        ("krum", 1, 5),
        ("krum", 7, 17),
        ("multi-krum", 2, 7),
        ("bulyan", 1, 7),
        ("bulyan", 10_000, 40_003),
    ] {
        let m = if reduction == "multi-krum" { ", m = 1" } else { "" };
        let table = format!("reduction = {{ kind = \"{reduction}\", f = {f}{m} }}");
        assert_eq!(parsed(needed, &table).reduction.updates_min(), needed);
        let less = needed - 1;
        let reason =
            format!("must be at least {needed} for aggregate.reduction \"{reduction}\" with f = {f}");
        assert_eq!(faults_of(less, &table), [format!("rounds.cohort.min = {less}: {reason}")]);
    }
    for table in ["\"median\"", "\"geometric-median\"", "{ kind = \"centered-clipping\", tau = 1 }"] {
        assert_eq!(parsed(1, &format!("reduction = {table}")).reduction.updates_min(), 1);
    }
    let multi = |min, m: u32| text(min, &format!("reduction = {{ kind = \"multi-krum\", f = 2, m = {m} }}"));
    assert!(Job::parse(&multi(7, 3)).is_ok() && Job::parse(&multi(10, 6)).is_ok());
    let reason = "must be from 1 to rounds.cohort.min - f - 2 = 3";
    assert_eq!(faults(&multi(7, 4), "", ""), [format!("aggregate.reduction.m = 4: {reason}")]);
}

/// The least cohort, a line of `[aggregate]`, and the one fault that it makes.
const ONE_FAULT_OF_AGGREGATE: &[(u32, &str, &str)] = &[
    (
        9,
        "reduction = \"average\"",
        "aggregate.reduction = \"average\": must be one of: \"mean\", \"clipped-mean\", \"median\", \
         \"trimmed-mean\", \"krum\", \"multi-krum\", \"bulyan\", \"geometric-median\", \"centered-clipping\"",
    ),
    (
        9,
        "reduction = { f = 1 }",
        "aggregate.reduction.kind: is missing, must be one of: \"mean\", \"clipped-mean\", \"median\", \
         \"trimmed-mean\", \"krum\", \"multi-krum\", \"bulyan\", \"geometric-median\", \"centered-clipping\"",
    ),
    (9, "reduction = \"trimmed-mean\"", "aggregate.reduction.f: is missing, must be from 1 to 10000"),
    (
        9,
        "reduction = { kind = \"trimmed-mean\", f = 0 }",
        "aggregate.reduction.f = 0: must be from 1 to 10000",
    ),
    (
        9,
        "reduction = { kind = \"bulyan\", f = 10001 }",
        "aggregate.reduction.f = 10001: must be from 1 to 10000",
    ),
    (
        9,
        "reduction = { kind = \"krum\", f = 1, m = 2 }",
        "aggregate.reduction.m: has no meaning with kind \"krum\", remove it",
    ),
    (
        9,
        "reduction = { kind = \"median\", f = 1 }",
        "aggregate.reduction.f: has no meaning with kind \"median\", remove it",
    ),
    (
        9,
        "reduction = { kind = \"mean\", norm = 1 }",
        "aggregate.reduction.norm: has no meaning with kind \"mean\", remove it",
    ),
    (
        9,
        "reduction = { kind = \"multi-krum\", f = 1 }",
        "aggregate.reduction.m: is missing, must be from 1 to 100000",
    ),
    (
        9,
        "reduction = { kind = \"multi-krum\", f = 1, m = 0 }",
        "aggregate.reduction.m = 0: must be from 1 to 100000",
    ),
    (
        9,
        "reduction = \"clipped-mean\"",
        "aggregate.reduction.norm: is missing, must be above 0 and below inf",
    ),
    (
        9,
        "reduction = { kind = \"clipped-mean\", norm = inf }",
        "aggregate.reduction.norm = inf: must be above 0 and below inf",
    ),
    (
        9,
        "reduction = { kind = \"centered-clipping\", tau = 0 }",
        "aggregate.reduction.tau = 0: must be above 0 and below inf",
    ),
    (
        9,
        "reduction = { kind = \"centered-clipping\", tau = 1, iterations = 101 }",
        "aggregate.reduction.iterations = 101: must be from 1 to 100",
    ),
    (
        9,
        "reduction = { kind = \"centered-clipping\", tau = 1, nu = 1 }",
        "aggregate.reduction.nu: has no meaning with kind \"centered-clipping\", remove it",
    ),
    (
        9,
        "reduction = { kind = \"geometric-median\", nu = 0 }",
        "aggregate.reduction.nu = 0: must be at least 0.000000000001 and at most 1000000",
    ),
    (
        9,
        "reduction = { kind = \"geometric-median\", iterations = 0 }",
        "aggregate.reduction.iterations = 0: must be from 1 to 100",
    ),
    (
        9,
        "reduction = { kind = \"geometric-median\", tau = 1 }",
        "aggregate.reduction.tau: has no meaning with kind \"geometric-median\", remove it",
    ),
    (
        9,
        "weight = \"rows\"",
        "aggregate.weight = \"rows\": must be one of: \"examples\", \"uniform\", \"work\"",
    ),
    (
        9,
        "reduction = \"median\"\nweight = \"uniform\"",
        "aggregate.weight: has no meaning with aggregate.reduction \"median\", to which all updates count alike, \
         remove it",
    ),
    (
        9,
        "encoding = \"int2\"",
        "aggregate.encoding = \"int2\": must be one of: \"f32\", \"bf16\", \"fp16\", \"int8\", \"int4\", \
         \"top-k\", \"sign\"",
    ),
    (
        9,
        "encoding = { kind = \"int8\", block = 15 }",
        "aggregate.encoding.block = 15: must be from 16 to 65536",
    ),
    (
        9,
        "encoding = { kind = \"int4\", block = 65537 }",
        "aggregate.encoding.block = 65537: must be from 16 to 65536",
    ),
    (9, "encoding = { kind = \"int4\", block = 17 }", "aggregate.encoding.block = 17: must be even"),
    (
        9,
        "encoding = { kind = \"bf16\", block = 16 }",
        "aggregate.encoding.block: has no meaning with kind \"bf16\", remove it",
    ),
    (
        9,
        "encoding = { kind = \"int8\", fraction = 0.5 }",
        "aggregate.encoding.fraction: has no meaning with kind \"int8\", remove it",
    ),
    (
        9,
        "encoding = { kind = \"top-k\", fraction = 0 }",
        "aggregate.encoding.fraction = 0: must be above 0 and at most 1",
    ),
    (
        9,
        "encoding = { kind = \"top-k\", fraction = 1.5 }",
        "aggregate.encoding.fraction = 1.5: must be above 0 and at most 1",
    ),
    (9, "norm_max = 0", "aggregate.norm_max = 0: must be above 0 and below inf"),
    (9, "norm_max = nan", "aggregate.norm_max = NaN: must be above 0 and below inf"),
    (
        9,
        "server = { kind = \"rmsprop\" }",
        "aggregate.server.kind = \"rmsprop\": must be one of: \"sgd\", \"momentum\", \"nesterov\", \"adagrad\", \
         \"adam\", \"yogi\"",
    ),
    (
        9,
        "server = { kind = \"sgd\", momentum = 0.9 }",
        "aggregate.server.momentum: has no meaning with kind \"sgd\", remove it",
    ),
    (
        9,
        "server = { kind = \"nesterov\", momentum = 1 }",
        "aggregate.server.momentum = 1: must be at least 0 and below 1",
    ),
    (
        9,
        "server = { kind = \"momentum\", beta1 = 0.9 }",
        "aggregate.server.beta1: has no meaning with kind \"momentum\", remove it",
    ),
    (
        9,
        "server = { kind = \"adagrad\" }",
        "aggregate.server.lr: is missing, must be above 0 and at most 1000",
    ),
    (
        9,
        "server = { kind = \"adagrad\", lr = 0.1, beta2 = 0.9 }",
        "aggregate.server.beta2: has no meaning with kind \"adagrad\", remove it",
    ),
    (
        9,
        "server = { kind = \"yogi\", lr = 0.1, bias_correction = false }",
        "aggregate.server.bias_correction: has no meaning with kind \"yogi\", remove it",
    ),
    (
        9,
        "tensors = [{ policy = \"max\" }]",
        "aggregate.tensors[0].match: is missing, name the tensors, for instance \"*.running_*\"",
    ),
    (
        9,
        "tensors = [{ match = \"*\", policy = \"max\" }, { match = \"\", policy = \"max\" }]",
        "aggregate.tensors[1].match = \"\": must not be empty",
    ),
    (
        9,
        "tensors = [{ match = \"*\", policy = \"min\" }]",
        "aggregate.tensors[0].policy = \"min\": must be one of: \"average\", \"keep-local\", \"max\", \"skip\"",
    ),
    (
        9,
        "tensors = [{ match = \"*\", policy = \"skip\", coordinate_max = 1 }]",
        "aggregate.tensors[0].coordinate_max: has no meaning with policy \"skip\", remove it",
    ),
    (
        9,
        "tensors = [{ match = \"*\", policy = \"average\", coordinate_max = 0 }]",
        "aggregate.tensors[0].coordinate_max = 0: must be at least 0.000001 and at most 1000000",
    ),
    (
        9,
        "tensors = [{ match = \"a\", policy = \"skip\" }, { match = \"a\", policy = \"max\" }]",
        "aggregate.tensors[1].match = \"a\": is never reached, aggregate.tensors[0] has the same pattern",
    ),
];

#[test]
fn each_fault_of_the_table_has_its_own_message() {
    for (min, table, expected) in ONE_FAULT_OF_AGGREGATE {
        assert_eq!(faults_of(*min, table), [*expected], "{table}");
    }
    let long = "x".repeat(257);
    let found = faults_of(9, &format!("tensors = [{{ match = \"{long}\", policy = \"max\" }}]"));
    assert!(found[0].ends_with("is 257 bytes long, at most 256 are allowed"), "{found:?}");
    assert_eq!(found.len(), 1);
    assert_eq!(
        parsed(9, &format!("tensors = [{{ match = \"{}\", policy = \"max\" }}]", &long[1..])).tensors.len(),
        1
    );
}

#[test]
fn all_faults_of_the_table_are_told_at_once_and_none_twice() {
    // The cohort has a fault of its own, and f is a stand-in: neither is told to be too small for the other.
    let broken =
        text(3, "reduction = { kind = \"krum\", f = 0 }\nweight = \"work\"\nencoding = \"x\"\nnorm_max = -1");
    let found = faults(&broken, "min = 3", "min = 0");
    let keys: Vec<_> = found.iter().map(|fault| fault.split([':', ' ']).next().unwrap()).collect();
    let expected = [
        "rounds.cohort.min",
        "aggregate.reduction.f",
        "aggregate.weight",
        "aggregate.encoding",
        "aggregate.norm_max",
    ];
    assert_eq!(keys, expected, "{found:#?}");
    let sound = text(3, "reduction = { kind = \"krum\", f = 1 }\nserver = { kind = \"none\" }");
    let found = faults(&sound, "min = 3", "min = 0");
    assert!(found.len() == 2 && found[0].starts_with("rounds.cohort.min = 0: must be from 1"), "{found:#?}");
    // A key too many does not hide that the cohort is too small.
    let found = faults_of(3, "reduction = { kind = \"krum\", f = 1, m = 1 }");
    assert!(
        found.len() == 2 && found[1].starts_with("rounds.cohort.min = 3: must be at least 5"),
        "{found:#?}"
    );
    // Nor do faults elsewhere in the table.
    let found = faults(&sound, "", "");
    assert!(
        found.len() == 2 && found[0].starts_with("rounds.cohort.min = 3: must be at least 5"),
        "{found:#?}"
    );
}

#[test]
fn keys_and_types_that_no_kind_has_are_syntax_faults_with_a_place() {
    for (table, place, parts) in [
        ("reduction = { kind = \"krum\", g = 1 }", "g = 1", ["unknown field `g`", "`iterations`"]),
        ("reduction = { kind = \"krum\", f = \"one\" }", "\"one\"", ["invalid type: string \"one\"", "i64"]),
        (
            "reduction = 5",
            "5",
            ["invalid type: integer `5`", "a word, or a table with its kind and parameters"],
        ),
        ("encoding = { kind = \"int8\", bits = 4 }", "bits", ["unknown field `bits`", "`block`"]),
        ("weight = 1", "1", ["invalid type: integer `1`", "string"]),
        ("tensors = [{ match = \"*\", polcy = \"max\" }]", "polcy", ["unknown field `polcy`", "`match`"]),
    ] {
        let whole = text(9, table);
        let expected = whole.lines().count();
        let Err(JobError::Syntax { line, column, message }) = Job::parse(&whole) else {
            panic!("{table} is no syntax fault")
        };
        assert_eq!((line, column), (expected, table.find(place).unwrap() + 1), "{table}: {message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{table}: {message}");
    }
}

#[test]
fn the_samples_show_what_they_say() {
    let robust = Job::parse(ROBUST).unwrap();
    assert_eq!(robust.aggregate.reduction, Reduction::TrimmedMean { f: 1 });
    assert_eq!((robust.rounds.cohort_min, robust.aggregate.norm_max), (4, Some(5.0)));
    let compressed = Job::parse(COMPRESSED).unwrap().aggregate;
    assert_eq!(compressed.encoding, Encoding::Int8 { block: 256 });
    assert_eq!(compressed.server, Server::Nesterov { lr: 0.7, momentum: 0.9 });
}

#[test]
fn each_documented_form_parses() {
    let page = include_str!("../../../../docs/operations.md");
    let rows = |header: &str| {
        let table =
            page.split_once(header).unwrap().1.lines().skip(2).take_while(|line| line.starts_with('|'));
        table.map(|row| row.split('`').nth(1).unwrap()).collect::<Vec<_>>()
    };
    let reductions = rows("| `aggregate.reduction` | Needs | Meaning |");
    let words = reductions.iter().map(|form| parsed(9, &format!("reduction = {form}")).reduction.word());
    assert_eq!(words.collect::<std::collections::BTreeSet<_>>().len(), 9);
    let servers = rows("| `aggregate.server` | Defaults | Meaning |");
    let words = servers
        .iter()
        .map(|word| parsed(9, &format!("server = {{ kind = \"{word}\", lr = 0.1 }}")).server.word());
    assert_eq!(words.collect::<std::collections::BTreeSet<_>>().len(), 6);
}

#[test]
fn work_is_counted_in_optimizer_steps() {
    let iris = Job::parse(IRIS).unwrap().local;
    // 5 epochs of batches of 16.
    for (examples, steps) in [(0, 0), (1, 5), (16, 5), (17, 10), (40, 15)] {
        assert_eq!(iris.steps(examples), steps);
    }
    let gd = Local { optimizer: Optimizer::GradientDescent { lr: 0.1 }, ..iris };
    assert_eq!((gd.steps(0), gd.steps(1), gd.steps(1000)), (0, 5, 5));
    let gradient = Job::parse(GRADIENT).unwrap().local;
    assert_eq!(gradient.steps(1000), 1);
    assert_eq!(Local { epochs: 10_000, batch: 1, ..iris }.steps(u64::MAX), u64::MAX);
}

/// The same question, asked letter by letter.
fn matches_slowly(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], rest) => rest.is_empty(),
        ([b'*', pattern @ ..], name) => (0..=name.len()).any(|at| matches_slowly(pattern, &name[at..])),
        ([a, pattern @ ..], [b, name @ ..]) => a == b && matches_slowly(pattern, name),
        (_, []) => false,
    }
}

#[test]
fn patterns_match_whole_names() {
    let matches = |pattern: &str, name: &str| {
        TensorRule { pattern: pattern.into(), policy: Policy::Skip, coordinate_max: None }.matches(name)
    };
    for (pattern, name) in [
        ("*", ""),
        ("*", "a"),
        ("a*a", "aa"),
        ("**", "x"),
        ("*.é*", "w.é"),
        ("a*b*c", "abbcbc"),
        ("ab", "ab"),
    ] {
        assert!(matches(pattern, name), "{pattern} {name}");
    }
    for (pattern, name) in
        [("a", ""), ("a*a", "a"), ("ab", "abc"), ("*b", "abc"), ("b*", "ab"), ("*a*a*", "bab")]
    {
        assert!(!matches(pattern, name), "{pattern} {name}");
    }
}

proptest! {
    #[test]
    fn patterns_match_as_their_letters_say(pattern in "[ab*]{0,8}", name in "[ab]{0,10}") {
        let rule = TensorRule { pattern, policy: Policy::Max, coordinate_max: None };
        let slow = matches_slowly(rule.pattern.as_bytes(), name.as_bytes());
        prop_assert_eq!(rule.matches(&name), slow, "{} {}", rule.pattern, name);
    }

    #[test]
    fn a_reduction_is_accepted_exactly_with_the_cohort_it_needs(
        min in 1u32..60,
        f in 0u32..14,
        m in 0u32..40,
        kind in 0usize..4,
    ) {
        let (word, needed) = [
            ("trimmed-mean", 2 * f + 1),
            ("krum", 2 * f + 3),
            ("bulyan", 4 * f + 3),
            ("multi-krum", (2 * f + 3).max(m + f + 2)),
        ][kind];
        let more = if word == "multi-krum" { format!(", m = {m}") } else { String::new() };
        let text = text(min, &format!("reduction = {{ kind = \"{word}\", f = {f}{more} }}"));
        let good = f >= 1 && min >= needed && (word != "multi-krum" || m >= 1);
        prop_assert_eq!(Job::parse(&text).is_ok(), good, "{}", text);
    }
}
