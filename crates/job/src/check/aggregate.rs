use std::ops::{
    Bound::{Excluded, Included},
    RangeInclusive,
};

use super::{ADAM, COHORT_MAX, DECAY, EPSILON, RATE, betas};
use crate::{
    Aggregate, Encoding, Policy, Reduction, Server, TensorRule, Weight,
    faults::{Faults, Floats, quoted},
    raw::{self, Worded},
};

const REDUCTION: &str = "aggregate.reduction";
const ENCODING: &str = "aggregate.encoding";
const SERVER: &str = "aggregate.server";
const TENSORS: &str = "aggregate.tensors";

/// One of each kind, for its word; the parameters mean nothing.
const REDUCTIONS: [Reduction; 9] = [
    Reduction::Mean,
    Reduction::ClippedMean { norm: 0.0 },
    Reduction::Median,
    Reduction::TrimmedMean { f: 0 },
    Reduction::Krum { f: 0 },
    Reduction::MultiKrum { f: 0, m: 0 },
    Reduction::Bulyan { f: 0 },
    Reduction::GeometricMedian { nu: 0.0, iterations: 0 },
    Reduction::CenteredClipping { tau: 0.0, iterations: 0 },
];
/// One of each kind, for its word; the parameters mean nothing.
const ENCODINGS: [Encoding; 7] = [
    Encoding::F32,
    Encoding::Bf16,
    Encoding::Fp16,
    Encoding::Int8 { block: 0 },
    Encoding::Int4 { block: 0 },
    Encoding::TopK { fraction: 0.0 },
    Encoding::Sign,
];
/// One of each kind, for its word; the parameters mean nothing.
const SERVERS: [Server; 6] = [
    Server::Sgd { lr: 0.0 },
    Server::Momentum { lr: 0.0, momentum: 0.0 },
    Server::Nesterov { lr: 0.0, momentum: 0.0 },
    Server::Adagrad { lr: 0.0, eps: 0.0 },
    Server::Adam { lr: 0.0, beta1: 0.0, beta2: 0.0, eps: 0.0, bias_correction: false },
    Server::Yogi { lr: 0.0, beta1: 0.0, beta2: 0.0, eps: 0.0 },
];

const ARBITRARY_MAX: u32 = 10_000;
const ITERATIONS_MAX: u32 = 100;
const RULES_MAX: usize = 256;
const PATTERN_BYTES_MAX: usize = 256;
const BLOCK: RangeInclusive<i64> = 16..=65_536;

// The smallest positive f32 is 1e-45; an honest bound is far above.
const COORDINATE: Floats = (Included(1e-6), Included(1e6));
const FINITE: Floats = (Excluded(0.0), Excluded(f64::INFINITY));
// One over it, summed over a cohort, stays far from the end of the range.
const SMOOTHING: Floats = (Included(1e-12), Included(1e6));
const SHARE: Floats = (Excluded(0.0), Included(1.0));

/// `beta1`, `beta2` and `eps` of FedYogi, as Reddi et al. 2021 have them.
const YOGI: [f64; 3] = [0.9, 0.99, 1e-3];
/// `eps` of FedAdagrad, ibid.
const ADAGRAD_EPS: f64 = 1e-3;

/// The table `[aggregate]`, and what it needs of `rounds.cohort.min`.
pub(super) fn aggregate(faults: &mut Faults, raw: &raw::Job) -> Option<Aggregate> {
    let table = &raw.aggregate;
    let reduction = match &table.reduction {
        None => Some(Reduction::Mean),
        Some(reduction) => self::reduction(faults, reduction, raw.rounds.cohort.min),
    };
    let weight = weight(faults, table.weight.as_deref(), reduction);
    let encoding = match &table.encoding {
        None => Some(Encoding::F32),
        Some(raw) => encoding(faults, raw),
    };
    let server = match &table.server {
        None => Some(Server::Sgd { lr: 1.0 }),
        Some(raw) => server(faults, raw),
    };
    let max = faults.float("aggregate.coordinate_max", table.coordinate_max, Some(256.0), COORDINATE);
    let norm_max = table.norm_max.map(|norm| faults.float("aggregate.norm_max", Some(norm), None, FINITE));
    let tensors = tensors(faults, &table.tensors);
    Some(Aggregate {
        reduction: reduction?,
        weight: weight?,
        encoding: encoding?,
        server: server?,
        coordinate_max: max as f32,
        norm_max,
        tensors: tensors?,
    })
}

fn reduction(
    faults: &mut Faults,
    raw: &Worded<raw::Reduction>,
    cohort_min: Option<i64>,
) -> Option<Reduction> {
    let table = &raw.table;
    let before = faults.count_found();
    let known = REDUCTIONS.map(|kind| (kind.word(), kind));
    let kind = faults.choice(&kind_key(REDUCTION, raw.is_word), table.kind.as_deref(), None, &known)?;
    let (own, reduction): (&[_], _) = match kind {
        Reduction::Mean | Reduction::Median => (&[], kind),
        Reduction::ClippedMean { .. } => {
            let norm = faults.float("aggregate.reduction.norm", table.norm, None, FINITE);
            (&["norm"], Reduction::ClippedMean { norm })
        }
        Reduction::TrimmedMean { .. } => (&["f"], Reduction::TrimmedMean { f: arbitrary(faults, table) }),
        Reduction::Krum { .. } => (&["f"], Reduction::Krum { f: arbitrary(faults, table) }),
        Reduction::MultiKrum { .. } => {
            let f = arbitrary(faults, table);
            let m = faults.count("aggregate.reduction.m", table.m, None, COHORT_MAX);
            (&["f", "m"], Reduction::MultiKrum { f, m })
        }
        Reduction::Bulyan { .. } => (&["f"], Reduction::Bulyan { f: arbitrary(faults, table) }),
        Reduction::GeometricMedian { .. } => {
            let nu = faults.float("aggregate.reduction.nu", table.nu, Some(1e-6), SMOOTHING);
            (
                &["nu", "iterations"],
                Reduction::GeometricMedian { nu, iterations: iterations(faults, table, 3) },
            )
        }
        Reduction::CenteredClipping { .. } => {
            let tau = faults.float("aggregate.reduction.tau", table.tau, None, FINITE);
            (
                &["tau", "iterations"],
                Reduction::CenteredClipping { tau, iterations: iterations(faults, table, 1) },
            )
        }
    };
    // A stand-in for a parameter needs nothing of the cohort.
    let sound = faults.count_found() == before;
    let set = [
        ("norm", table.norm.is_some()),
        ("f", table.f.is_some()),
        ("m", table.m.is_some()),
        ("nu", table.nu.is_some()),
        ("tau", table.tau.is_some()),
        ("iterations", table.iterations.is_some()),
    ];
    only(faults, REDUCTION, kind.word(), own, &set);
    if sound {
        fits(faults, reduction, cohort_min);
    }
    Some(reduction)
}

fn arbitrary(faults: &mut Faults, table: &raw::Reduction) -> u32 {
    faults.count("aggregate.reduction.f", table.f, None, ARBITRARY_MAX)
}

fn iterations(faults: &mut Faults, table: &raw::Reduction, default: i64) -> u32 {
    faults.count("aggregate.reduction.iterations", table.iterations, Some(default), ITERATIONS_MAX)
}

/// The smallest cohort has the updates that the reduction needs. One that has a fault of its own is not too
/// small, too.
fn fits(faults: &mut Faults, reduction: Reduction, cohort_min: Option<i64>) {
    let cohort = cohort_min.and_then(|min| u32::try_from(min).ok());
    let Some(cohort) = cohort.filter(|min| (1..=COHORT_MAX).contains(min)) else { return };
    let needed = reduction.updates_min();
    if cohort < needed {
        let (word, f) = (reduction.word(), reduction.arbitrary());
        let reason = format!("must be at least {needed} for {REDUCTION} \"{word}\" with f = {f}");
        faults.broken("rounds.cohort.min", cohort, reason);
    } else if let Reduction::MultiKrum { f, m } = reduction {
        let most = cohort - f - 2;
        if m > most {
            let reason = format!("must be from 1 to rounds.cohort.min - f - 2 = {most}");
            faults.broken("aggregate.reduction.m", m, reason);
        }
    }
}

fn weight(faults: &mut Faults, raw: Option<&str>, reduction: Option<Reduction>) -> Option<Weight> {
    const KEY: &str = "aggregate.weight";
    if let Some(reduction) = reduction
        && !reduction.is_weighted()
    {
        let why = format!("with {REDUCTION} \"{}\", to which all updates count alike", reduction.word());
        faults.unused(KEY, raw.is_some(), &why);
        return Some(Weight::Uniform);
    }
    let known = [Weight::Examples, Weight::Uniform, Weight::Work].map(|weight| (weight.word(), weight));
    faults.choice(KEY, raw, Some(Weight::Examples), &known)
}

fn encoding(faults: &mut Faults, raw: &Worded<raw::Encoding>) -> Option<Encoding> {
    let table = &raw.table;
    let known = ENCODINGS.map(|kind| (kind.word(), kind));
    let kind = faults.choice(&kind_key(ENCODING, raw.is_word), table.kind.as_deref(), None, &known)?;
    let (own, encoding): (&[_], _) = match kind {
        Encoding::F32 | Encoding::Bf16 | Encoding::Fp16 | Encoding::Sign => (&[], kind),
        Encoding::Int8 { .. } => (&["block"], Encoding::Int8 { block: block(faults, table.block, 256) }),
        Encoding::Int4 { .. } => (&["block"], Encoding::Int4 { block: block(faults, table.block, 128) }),
        Encoding::TopK { .. } => {
            let fraction = faults.float("aggregate.encoding.fraction", table.fraction, Some(0.01), SHARE);
            (&["fraction"], Encoding::TopK { fraction })
        }
    };
    let set = [("block", table.block.is_some()), ("fraction", table.fraction.is_some())];
    only(faults, ENCODING, kind.word(), own, &set);
    Some(encoding)
}

fn block(faults: &mut Faults, raw: Option<i64>, default: i64) -> u32 {
    const KEY: &str = "aggregate.encoding.block";
    let block = faults.integer(KEY, raw, Some(default), BLOCK);
    if block % 2 != 0 {
        faults.broken(KEY, block, "must be even");
    }
    u32::try_from(block).unwrap_or_default()
}

fn server(faults: &mut Faults, raw: &raw::Server) -> Option<Server> {
    let known = SERVERS.map(|kind| (kind.word(), kind));
    let kind = faults.choice("aggregate.server.kind", raw.kind.as_deref(), None, &known)?;
    let default = match kind {
        Server::Sgd { .. } | Server::Momentum { .. } => Some(1.0),
        Server::Nesterov { .. } => Some(0.7),
        Server::Adagrad { .. } | Server::Adam { .. } | Server::Yogi { .. } => None,
    };
    let lr = faults.float("aggregate.server.lr", raw.lr, default, RATE);
    let moments = [raw.beta1, raw.beta2, raw.eps];
    let (own, server): (&[_], _) = match kind {
        Server::Sgd { .. } => (&[], Server::Sgd { lr }),
        Server::Momentum { .. } => (&["momentum"], Server::Momentum { lr, momentum: momentum(faults, raw) }),
        Server::Nesterov { .. } => (&["momentum"], Server::Nesterov { lr, momentum: momentum(faults, raw) }),
        Server::Adagrad { .. } => {
            let eps = faults.float("aggregate.server.eps", raw.eps, Some(ADAGRAD_EPS), EPSILON);
            (&["eps"], Server::Adagrad { lr, eps })
        }
        Server::Adam { .. } => {
            let [beta1, beta2, eps] = betas(faults, SERVER, moments, ADAM);
            let bias_correction = raw.bias_correction.unwrap_or(true);
            let own = &["beta1", "beta2", "eps", "bias_correction"];
            (own, Server::Adam { lr, beta1, beta2, eps, bias_correction })
        }
        Server::Yogi { .. } => {
            let [beta1, beta2, eps] = betas(faults, SERVER, moments, YOGI);
            (&["beta1", "beta2", "eps"], Server::Yogi { lr, beta1, beta2, eps })
        }
    };
    let set = [
        ("momentum", raw.momentum.is_some()),
        ("beta1", raw.beta1.is_some()),
        ("beta2", raw.beta2.is_some()),
        ("eps", raw.eps.is_some()),
        ("bias_correction", raw.bias_correction.is_some()),
    ];
    only(faults, SERVER, kind.word(), own, &set);
    Some(server)
}

fn momentum(faults: &mut Faults, raw: &raw::Server) -> f64 {
    faults.float("aggregate.server.momentum", raw.momentum, Some(0.9), DECAY)
}

fn tensors(faults: &mut Faults, raw: &[raw::TensorRule]) -> Option<Vec<TensorRule>> {
    // A list of thousands is told to be too long, and no more.
    if raw.len() > RULES_MAX {
        faults.about(TENSORS, format!("has {} entries, at most {RULES_MAX} are allowed", raw.len()));
        return None;
    }
    let rules: Vec<_> = raw.iter().enumerate().map(|(at, rule)| self::rule(faults, at, rule)).collect();
    for (at, rule) in raw.iter().enumerate() {
        let first = raw[..at].iter().position(|earlier| earlier.pattern == rule.pattern);
        if let (Some(first), Some(pattern)) = (first, &rule.pattern) {
            let reason = format!("is never reached, {TENSORS}[{first}] has the same pattern");
            faults.broken(&format!("{TENSORS}[{at}].match"), quoted(pattern), reason);
        }
    }
    rules.into_iter().collect()
}

fn rule(faults: &mut Faults, at: usize, raw: &raw::TensorRule) -> Option<TensorRule> {
    let key = |name: &str| format!("{TENSORS}[{at}].{name}");
    match &raw.pattern {
        Some(pattern) => faults.text(&key("match"), pattern, PATTERN_BYTES_MAX),
        None => faults.about(&key("match"), "is missing, name the tensors, for instance \"*.running_*\""),
    }
    let known = [Policy::Average, Policy::KeepLocal, Policy::Max, Policy::Skip].map(|p| (p.word(), p));
    let policy = faults.choice(&key("policy"), raw.policy.as_deref(), None, &known);
    let max = raw
        .coordinate_max
        .map(|max| faults.float(&key("coordinate_max"), Some(max), None, COORDINATE) as f32);
    if let Some(policy) = policy
        && policy != Policy::Average
    {
        let why = format!("with policy \"{}\"", policy.word());
        faults.unused(&key("coordinate_max"), max.is_some(), &why);
    }
    Some(TensorRule { pattern: raw.pattern.clone()?, policy: policy?, coordinate_max: max })
}

/// Where the kind stands: it is the value itself where that is a word.
fn kind_key(table: &str, is_word: bool) -> String {
    if is_word { table.to_owned() } else { format!("{table}.kind") }
}

/// Of the parameters that are set, this kind has none but its `own`.
fn only(faults: &mut Faults, table: &str, kind: &str, own: &[&str], set: &[(&str, bool)]) {
    for (key, set) in set {
        faults.unused(
            &format!("{table}.{key}"),
            *set && !own.contains(key),
            &format!("with kind \"{kind}\""),
        );
    }
}
