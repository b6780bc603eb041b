use std::io::{self, Write};

use super::{
    StateError, descend,
    state::{self, Moment},
};
use crate::catalog::ServerOptimizer;

const TAG: &str = "mom   v1";

/// Gradient descent with momentum on the server: `b <- momentum * b + g`, then `x <- x - lr * b`.
///
/// With `g = -delta` this is FedAvgM (Hsu, Qi and Brown 2019, arXiv:1909.06335). There is no dampening: the
/// first step is `lr * g`. With momentum 0 it is [`Sgd`](super::Sgd).
///
/// All arithmetic is in `f64` and only `+ - *`. The state takes 8 bytes per parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Momentum {
    lr: f64,
    momentum: f64,
    buffer: Moment,
}

impl Momentum {
    /// No momentum yet for `elements` parameters. Sensible values are `lr > 0` and `momentum` in `0..1`;
    /// the job file is where they are checked.
    pub fn new(elements: usize, lr: f64, momentum: f64) -> Self {
        Self { lr, momentum, buffer: Moment::signed("the momentum", elements) }
    }
}

/// Folds the gradient `g` of a parameter into its buffer `b`; what to subtract from it.
fn advance((lr, momentum): (f64, f64), b: &mut f64, g: f64) -> f64 {
    *b = momentum * *b + g;
    lr * *b
}

impl ServerOptimizer for Momentum {
    fn begin(&mut self) {}

    fn apply(&mut self, start: usize, params: &mut [f32], gradient: &[f32]) {
        assert_eq!(params.len(), gradient.len(), "a gradient has one value per parameter");
        let buffer = self.buffer.block(start, params.len());
        for ((x, &g), b) in params.iter_mut().zip(gradient).zip(buffer) {
            descend(x, advance((self.lr, self.momentum), b, f64::from(g)));
        }
    }

    fn save_len(&self) -> u64 {
        state::bytes(0, &[&self.buffer]) as u64
    }

    /// The tag, then the buffer (f64).
    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        state::save(out, TAG, &[], &[&self.buffer])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let ([], [buffer]) = state::parse(bytes, TAG, [&self.buffer])?;
        self.buffer.fill(buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Sgd,
        apply::tests::{follows, tff, whole},
    };

    #[test]
    fn reproduces_fedavgm() {
        let mut b = [0.0; 2];
        let step = |g: [f64; 2]| [0, 1].map(|at| advance((1.0, 0.9), &mut b[at], g[at]));
        follows([[1.2, 1.9], [1.48, 2.11], [1.682, 2.499]], step);
        tff(&mut Momentum::new(1, 0.01, 0.5), [0.98, 0.95, 0.915, 0.8775]);
    }

    proptest! {
        #[test]
        fn without_momentum_it_is_plain_descent(x in any::<f32>(), deltas in any::<[f32; 4]>()) {
            prop_assume!(x.is_finite() && deltas.iter().all(|delta| delta.is_finite()));
            let (mut with, mut without) = ([x], [x]);
            let mut momentum = Momentum::new(1, 1.0, 0.0);
            for delta in deltas {
                whole(&mut momentum, &mut with, &[-delta]);
                whole(&mut Sgd::new(1.0), &mut without, &[-delta]);
                prop_assume!(without[0].is_finite());
                // By value: a parameter at -0 keeps its sign where FedAvg adds 0 to it.
                prop_assert_eq!(with, without);
            }
        }
    }
}
