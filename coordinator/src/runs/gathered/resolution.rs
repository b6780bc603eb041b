//! What fixed-point averaging loses on the updates of a real run, beside what averaging in `f32` loses.
//!
//! `cargo test -p coordinator resolution -- --nocapture` prints both.

use std::num::NonZeroUsize;

use aggregate::{Accumulator, Source, Stretch};
use data::{Limits, Partition};
use model::{DeviceChoice, Flow, LocalSpec, Mode, ModelSpec, Optimizer};
use params::Params;

const IRIS: &str = include_str!("../../../../deploy/jobs/iris.csv");
const WORKERS: usize = 8;
const ROUNDS: u64 = 30;

/// As the job file has it by default.
const COORDINATE_MAX: f32 = 256.0;

/// A sum of `x * weight` as an integer times 2^-90: the weights of the model stay in the range where that is exact.
#[derive(Clone, Copy, Default)]
struct Exact(i128);

impl Exact {
    fn of(x: f32) -> i128 {
        // 2^-90 divides every f32 of at least 2^-66; what is smaller is off by less than that.
        let scaled = f64::from(x) * 2f64.powi(90);
        scaled as i128
    }

    fn add(&mut self, x: f32, weight: u64) {
        self.0 += Self::of(x) * i128::from(weight);
    }

    /// How far `mean` is from the sum divided by `weight`.
    fn distance(self, mean: f64, weight: u64) -> f64 {
        let mean = (mean * 2f64.powi(90)) as i128;
        (mean * i128::from(weight) - self.0).unsigned_abs() as f64 / weight as f64 * 2f64.powi(-90)
    }
}

#[test]
fn fixed_point_loses_far_less_than_f32_on_real_updates() {
    let hardware = model::open_device(DeviceChoice::Cpu, 1).unwrap();
    let table = data::read_csv("iris.csv", IRIS.as_bytes(), &Limits::default()).unwrap();
    let schema = table.schema("species", None, None).unwrap();
    let labels = table.examples(&schema).unwrap().labels().to_vec();
    let parts = data::partition(&labels, WORKERS, &Partition::Iid, 7).unwrap();
    let shards: Vec<_> = parts.iter().map(|rows| table.select(rows).examples(&schema).unwrap()).collect();
    let spec = ModelSpec { arch: "softmax".to_owned(), inputs: 4, hidden: vec![], outputs: 3 };
    let optimizer = Optimizer::Sgd { lr: 0.02, momentum: 0.0 };
    let local = LocalSpec { mode: Mode::Train, optimizer, epochs: 2, batch: 8 };
    let mut weights: Params = model::init(&spec, 7).unwrap();
    let elements = weights.layout().elements();
    let (mut ours_worst, mut theirs_worst, mut stated) = (0f64, 0f64, 0f64);
    for round in 0..ROUNDS {
        let stretch = Stretch { elements, coordinate_max: COORDINATE_MAX };
        let mut sum = Accumulator::new(&[stretch], 150).unwrap();
        let (mut exact, mut plain, mut total) =
            (vec![Exact::default(); elements], vec![0f32; elements], 0u64);
        for (at, shard) in shards.iter().enumerate() {
            let seed = round * 100 + at as u64;
            let trained =
                model::train(&hardware.device, &spec, &weights, shard.examples(), &local, seed, &mut |_| {
                    Flow::Continue
                })
                .unwrap();
            let bytes: Vec<u8> = trained.update.iter().flat_map(|x| x.to_le_bytes()).collect();
            sum.add(&Source::Bytes(&bytes), trained.examples, NonZeroUsize::MIN).unwrap();
            total += trained.examples;
            for ((exact, plain), x) in exact.iter_mut().zip(&mut plain).zip(&trained.update) {
                exact.add(*x, trained.examples);
                *plain += x * trained.examples as f32;
            }
        }
        let mut mean = vec![0.0; elements];
        sum.mean(0, &mut mean, NonZeroUsize::MIN).unwrap();
        stated =
            sum.scales().map(|(_, scale)| scale.error(sum.updates(), sum.weight())).fold(stated, f64::max);
        for at in 0..elements {
            let half_ulp = (f64::from(mean[at].abs().next_up()) - f64::from(mean[at].abs())) / 2.0;
            let beyond = |mean: f32| (exact[at].distance(f64::from(mean), total) - half_ulp).max(0.0);
            // Rounding the result to an f32 costs both half an ulp; what is beyond that is the averaging.
            ours_worst = ours_worst.max(beyond(mean[at]));
            theirs_worst = theirs_worst.max(beyond(plain[at] / total as f32));
        }
        weights.values_mut().iter_mut().zip(&mean).for_each(|(weight, mean)| *weight += mean);
    }
    #[allow(clippy::print_stdout)] // a measurement
    {
        println!("{ROUNDS} rounds of {WORKERS} workers, worst error of a mean beyond half an f32 ulp:");
        println!("  averaging in f32      {theirs_worst:.1e}");
        println!("  fixed point           {ours_worst:.1e}, stated bound {stated:.1e}");
    }
    assert!(ours_worst <= stated, "{ours_worst} > {stated}");
    assert!(theirs_worst > 1000.0 * stated, "{theirs_worst} and {stated}");
}
