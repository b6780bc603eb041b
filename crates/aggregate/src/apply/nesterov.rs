use std::io::{self, Write};

use super::{
    StateError, descend,
    state::{self, Moment},
};
use crate::catalog::ServerOptimizer;

const TAG: &str = "nest  v1";

/// Gradient descent with Nesterov momentum on the server: `b <- momentum * b + g`, then
/// `x <- x - lr * (g + momentum * b)`, the arrangement of `torch.optim.SGD(nesterov=True)`.
///
/// With `g = -delta` this is the outer step of DiLoCo (Douillard et al. 2023, arXiv:2311.08105, algorithm
/// 1), which uses `lr` 0.7 and momentum 0.9. With momentum 0 it is [`Sgd`](super::Sgd).
///
/// All arithmetic is in `f64` and only `+ - *`. The state takes 8 bytes per parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Nesterov {
    lr: f64,
    momentum: f64,
    buffer: Moment,
}

impl Nesterov {
    /// No momentum yet for `elements` parameters. Sensible values are `lr > 0` and `momentum` in `0..1`;
    /// the job file is where they are checked.
    pub fn new(elements: usize, lr: f64, momentum: f64) -> Self {
        Self { lr, momentum, buffer: Moment::signed("the momentum", elements) }
    }
}

/// Folds the gradient `g` of a parameter into its buffer `b`; what to subtract from it.
fn advance((lr, momentum): (f64, f64), b: &mut f64, g: f64) -> f64 {
    *b = momentum * *b + g;
    lr * (g + momentum * *b)
}

impl ServerOptimizer for Nesterov {
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

    /// The tag, then the buffer (f64). The tag differs from that of [`Momentum`](super::Momentum): the same
    /// buffer means another step there.
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

    fn reproduces(lr: f64, expected: [[f64; 2]; 3]) {
        let mut b = [0.0; 2];
        follows(expected, |g| [0, 1].map(|at| advance((lr, 0.9), &mut b[at], g[at])));
    }

    #[test]
    fn reproduces_the_outer_step_of_diloco() {
        reproduces(0.7, [[1.266, 1.867], [1.5124, 2.2093], [1.60466, 2.59437]]);
    }

    #[test]
    fn reproduces_fedavgm_with_nesterov_momentum() {
        reproduces(1.0, [[1.38, 1.81], [1.732, 2.299], [1.8638, 2.8491]]);
        tff(&mut Nesterov::new(1, 0.01, 0.5), [0.97, 0.935, 0.8975, 0.85875]);
    }

    proptest! {
        #[test]
        fn without_momentum_it_is_plain_descent(x in any::<f32>(), deltas in any::<[f32; 4]>()) {
            prop_assume!(x.is_finite() && deltas.iter().all(|delta| delta.is_finite()));
            let (mut with, mut without) = ([x], [x]);
            let mut nesterov = Nesterov::new(1, 1.0, 0.0);
            for delta in deltas {
                whole(&mut nesterov, &mut with, &[-delta]);
                whole(&mut Sgd::new(1.0), &mut without, &[-delta]);
                prop_assume!(without[0].is_finite());
                // By value: a parameter at -0 keeps its sign where FedAvg adds 0 to it.
                prop_assert_eq!(with, without);
            }
        }
    }
}
