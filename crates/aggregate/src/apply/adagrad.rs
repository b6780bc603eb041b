use std::io::{self, Write};

use super::{
    StateError, descend,
    state::{self, Moment},
};
use crate::catalog::ServerOptimizer;

const TAG: &str = "adag  v1";

/// Adagrad on the server: `v <- v + g^2`, then `x <- x - lr * g / (sqrt(v) + eps)`.
///
/// FedAdagrad of Reddi et al. 2021 (arXiv:2003.00295, algorithm 2) with its `beta1` 0; `eps` is its tau, and
/// `v` starts at 0 as in its experiments.
///
/// All arithmetic is in `f64` and only `+ - * / sqrt`. The state takes 8 bytes per parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Adagrad {
    lr: f64,
    eps: f64,
    v: Moment,
}

impl Adagrad {
    /// Zero sums of squares for `elements` parameters. Sensible values are `lr > 0` and `eps >= 0`; the job
    /// file is where they are checked.
    pub fn new(elements: usize, lr: f64, eps: f64) -> Self {
        Self { lr, eps, v: Moment::squares("the sum of squares", elements) }
    }
}

/// Adds the square of the gradient `g` of a parameter to its sum `v`; what to subtract from it.
fn advance((lr, eps): (f64, f64), v: &mut f64, g: f64) -> f64 {
    *v += g * g;
    // A parameter that never had a gradient stays where it is, also with eps 0.
    if g == 0.0 { 0.0 } else { lr * g / (v.sqrt() + eps) }
}

impl ServerOptimizer for Adagrad {
    fn begin(&mut self) {}

    fn apply(&mut self, start: usize, params: &mut [f32], gradient: &[f32]) {
        assert_eq!(params.len(), gradient.len(), "a gradient has one value per parameter");
        let v = self.v.block(start, params.len());
        for ((x, &g), v) in params.iter_mut().zip(gradient).zip(v) {
            descend(x, advance((self.lr, self.eps), v, f64::from(g)));
        }
    }

    fn save_len(&self) -> u64 {
        state::bytes(0, &[&self.v]) as u64
    }

    /// The tag, then the sums of squares (f64).
    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        state::save(out, TAG, &[], &[&self.v])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let ([], [v]) = state::parse(bytes, TAG, [&self.v])?;
        self.v.fill(v);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::{follows, tff, whole};

    #[test]
    fn reproduces_fedadagrad_of_the_paper() {
        let expected =
            [[1.09950248756, 1.90099009901], [1.14402473756, 1.99555937451], [1.12229777278, 2.04886914653]];
        let mut v = [0.0; 2];
        follows(expected, |g| [0, 1].map(|at| advance((0.1, 1e-3), &mut v[at], g[at])));
        tff(&mut Adagrad::new(1, 0.01, 0.0), [0.99, 0.9829289, 0.9771554, 0.9721554]);
    }

    #[test]
    fn a_parameter_without_gradient_stays() {
        let (mut adagrad, mut x) = (Adagrad::new(2, 0.1, 0.0), [5.0f32, -0.0]);
        whole(&mut adagrad, &mut x, &[0.0, -0.0]);
        assert_eq!(x.map(f32::to_bits), [5.0f32, -0.0].map(f32::to_bits));
    }
}
