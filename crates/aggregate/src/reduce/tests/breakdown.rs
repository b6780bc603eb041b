use super::*;

const HONEST: usize = 15;
const ATTACKERS: usize = 4;
const COLUMNS: usize = 401;

/// What attackers send, knowing the honest updates; all of them send the same, except for noise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Attack {
    SignFlip(f64),
    Noise(f64),
    LittleIsEnough(f64),
}

struct Round {
    rows: Vec<Vec<f32>>,
    mean: Vec<f64>,
    /// The greatest distance of an honest row from their mean.
    spread: f64,
}

/// Honest rows with mean around 1.5 and deviation 0.5 in each column, then the attackers.
fn round(attack: Attack) -> Round {
    let mut random = Random(17);
    let centre: Vec<f64> = (0..COLUMNS).map(|_| 1.0 + random.unit()).collect();
    let mut rows: Vec<Vec<f32>> =
        (0..HONEST).map(|_| centre.iter().map(|c| (c + 0.5 * random.normal()) as f32).collect()).collect();
    let column = |at: usize| rows.iter().map(move |row| f64::from(row[at]));
    let mean: Vec<f64> = (0..COLUMNS).map(|at| column(at).sum::<f64>() / HONEST as f64).collect();
    let deviation = |at: usize| {
        let squares: f64 = column(at).map(|x| (x - mean[at]).powi(2)).sum();
        (squares / HONEST as f64).sqrt()
    };
    let deviations: Vec<f64> = (0..COLUMNS).map(deviation).collect();
    let spread = rows.iter().map(|row| distance(row, &mean)).fold(0.0, f64::max);
    for _ in 0..ATTACKERS {
        rows.push(match attack {
            Attack::SignFlip(factor) => mean.iter().map(|m| (-factor * m) as f32).collect(),
            Attack::Noise(sigma) => (0..COLUMNS).map(|_| (sigma * random.normal()) as f32).collect(),
            Attack::LittleIsEnough(z) => {
                mean.iter().zip(&deviations).map(|(m, s)| (m - z * s) as f32).collect()
            }
        });
    }
    Round { rows, mean, spread }
}

fn distance(row: &[f32], from: &[f64]) -> f64 {
    row.iter().zip(from).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum::<f64>().sqrt()
}

/// How far the rule is dragged from the honest mean, in honest spreads.
fn dragged(spec: ReduceSpec, round: &Round) -> f64 {
    let previous: Vec<f32> = round.mean.iter().map(|m| *m as f32).collect();
    distance(&aggregate(&spec, &round.rows, Some(&previous), TINY), &round.mean) / round.spread
}

const MEAN: ReduceSpec = ReduceSpec::TrimmedMean { f: 0 };
const TRIMMED: ReduceSpec = ReduceSpec::TrimmedMean { f: ATTACKERS };
const KRUM: ReduceSpec = ReduceSpec::Krum { f: ATTACKERS };
const MULTI_KRUM: ReduceSpec = ReduceSpec::MultiKrum { f: ATTACKERS, m: 11 };
const BULYAN: ReduceSpec = ReduceSpec::Bulyan { f: ATTACKERS };
const RFA: ReduceSpec = ReduceSpec::GeometricMedian { nu: 1e-6, iterations: 3 };

/// Centered clipping from the honest mean, with the honest spread as its length.
fn clipping(round: &Round) -> ReduceSpec {
    ReduceSpec::CenteredClipping { tau: round.spread, iterations: 3 }
}

#[test]
fn attacks_from_outside_do_not_get_far() {
    // Sign flips, inner-product manipulation (-eps times the mean) and noise. The plain mean is dragged by
    // at least the number given; every rule stays within half a spread, and Krum, which picks one honest
    // row and averages nothing, within one.
    for (attack, mean) in [
        (Attack::SignFlip(10.0), 7.0),
        (Attack::SignFlip(2.0), 1.9),
        (Attack::SignFlip(0.1), 0.7),
        (Attack::Noise(200.0), 40.0),
    ] {
        let round = round(attack);
        assert!(dragged(MEAN, &round) > mean, "{attack:?}");
        for spec in [ReduceSpec::Median, TRIMMED, MULTI_KRUM, BULYAN, RFA, clipping(&round)] {
            let far = dragged(spec, &round);
            assert!(far < 0.5, "{attack:?} {spec:?} {far}");
        }
        let picked = aggregate(&KRUM, &round.rows, None, TINY);
        assert!(round.rows[..HONEST].contains(&picked), "{attack:?}");
        assert!(dragged(KRUM, &round) <= 1.0);
    }
}

#[test]
fn bounds_of_each_coordinate_hold_under_every_attack() {
    for attack in [
        Attack::SignFlip(10.0),
        Attack::SignFlip(0.1),
        Attack::Noise(200.0),
        Attack::LittleIsEnough(0.3),
        Attack::LittleIsEnough(1.5),
        Attack::LittleIsEnough(20.0),
    ] {
        let round = round(attack);
        for spec in [ReduceSpec::Median, TRIMMED, BULYAN] {
            let out = aggregate(&spec, &round.rows, None, TINY);
            for (at, x) in out.iter().enumerate() {
                let honest = || round.rows[..HONEST].iter().map(|row| row[at]);
                let (low, high) = (honest().fold(f32::MAX, f32::min), honest().fold(f32::MIN, f32::max));
                assert!((low..=high).contains(x), "{attack:?} {spec:?} {x} not in {low}..={high}");
            }
        }
    }
}

#[test]
fn no_rule_sees_an_attack_from_within() {
    // "A little is enough" (arXiv:1902.06156) hides among honest rows, so no rule can undo it; none lets
    // it get beyond the honest spread either.
    for z in [0.3, 1.5] {
        let round = round(Attack::LittleIsEnough(z));
        let rules = [ReduceSpec::Median, TRIMMED, KRUM, MULTI_KRUM, BULYAN, RFA, clipping(&round)];
        for spec in rules {
            let far = dragged(spec, &round);
            assert!(far < 1.0, "{z} {spec:?} {far}");
        }
    }
    // Two ways in which a robust rule is worse than the plain mean here: Krum hands the model to the
    // attackers, who are closest to one another, and Bulyan is drawn along by their number.
    let little = round(Attack::LittleIsEnough(0.3));
    assert_eq!(aggregate(&KRUM, &little.rows, None, TINY), little.rows[HONEST]);
    let more = round(Attack::LittleIsEnough(1.5));
    assert!(dragged(BULYAN, &more) > 2.0 * dragged(MEAN, &more));
}

/// The reference's honest rows, and two that send 1e12 everywhere.
fn huge() -> Vec<Vec<f32>> {
    let mut rows = vec![
        vec![0.10, -0.20, 0.30, 0.40],
        vec![0.12, -0.18, 0.28, 0.41],
        vec![0.09, -0.22, 0.33, 0.38],
        vec![0.11, -0.21, 0.31, 0.42],
        vec![0.08, -0.19, 0.29, 0.385],
    ];
    rows.extend([vec![1e12; 4], vec![1e12; 4]]);
    rows
}

/// Whether all coordinates are between honest ones, or beyond by 1e-3 at most.
fn honest(out: &[f32]) -> bool {
    let boxes = [(0.08, 0.12), (-0.22, -0.18), (0.28, 0.33), (0.38, 0.42)];
    out.iter().zip(boxes).all(|(x, (low, high))| (low - 1e-3..=high + 1e-3).contains(x))
}

#[test]
fn two_of_seven_without_bound() {
    let rows = huge();
    let geometric = |iterations| ReduceSpec::GeometricMedian { nu: 1e-6, iterations };
    for spec in [
        ReduceSpec::Median,
        ReduceSpec::TrimmedMean { f: 2 },
        ReduceSpec::Krum { f: 2 },
        ReduceSpec::MultiKrum { f: 2, m: 5 },
        geometric(40),
    ] {
        let out = aggregate(&spec, &rows, None, TINY);
        assert!(honest(&out), "{spec:?} {out:?}");
    }
    assert!(aggregate(&MEAN, &rows, None, TINY)[0] > 1e11);
    // One attacker more than the rule was told is enough.
    assert!(aggregate(&ReduceSpec::TrimmedMean { f: 1 }, &rows, None, TINY)[0] > 1e11);
    assert!(aggregate(&ReduceSpec::MultiKrum { f: 1, m: 6 }, &rows, None, TINY)[0] > 1e11);
    // The geometric median leaves the mean by f / (n - f) per step: the paper's 3 are few against 1e12.
    let starts = (0..=3).map(|steps| match steps {
        0 => aggregate(&MEAN, &rows, None, TINY)[0],
        steps => aggregate(&geometric(steps), &rows, None, TINY)[0],
    });
    let starts: Vec<f32> = starts.collect();
    for pair in starts.windows(2) {
        let ratio = pair[1] / pair[0];
        assert!((0.38..0.5).contains(&ratio), "{starts:?}");
    }
}

#[test]
fn clipping_bounds_each_step() {
    // From row 0 the other honest rows are nearer than tau; each attacker moves a step by tau / 7, in equal
    // parts in the four coordinates: by tau / 14.
    let rows = huge();
    let once = ReduceSpec::CenteredClipping { tau: 0.1, iterations: 1 };
    let out = aggregate(&once, &rows, Some(&rows[0]), TINY);
    for (at, out) in out.iter().enumerate() {
        let own = f64::from(rows[0][at]);
        let honest: f64 = rows[..5].iter().map(|row| f64::from(row[at]) - own).sum();
        let expected = own + honest / 7.0 + 2.0 * 0.1 / 14.0;
        assert!((f64::from(*out) - expected).abs() < 1e-7, "{out} instead of {expected}");
    }
    // So 100 steps, each pulled back by the honest rows, end where the pulls balance: 2 tau = 5 times the
    // distance from the honest mean.
    let many = ReduceSpec::CenteredClipping { tau: 0.1, iterations: 100 };
    let out = aggregate(&many, &rows, Some(&rows[0]), TINY);
    let mean: Vec<f64> = aggregate(&MEAN, &rows[..5], None, TINY).into_iter().map(f64::from).collect();
    let far = distance(&out, &mean);
    assert!((far - 0.04).abs() < 1e-6, "{far}");
}
