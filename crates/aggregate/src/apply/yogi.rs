use std::io::{self, Write};

use super::{
    StateError, descend,
    state::{self, Moment},
};
use crate::catalog::ServerOptimizer;

const TAG: &str = "yogi  v1";

/// Yogi on the server: `m <- b1 m + (1 - b1) g`, `v <- v - (1 - b2) g^2 sign(v - g^2)`, then
/// `x <- x - lr * m / (sqrt(v) + eps)`. The sign of 0 is 0.
///
/// FedYogi of Reddi et al. 2021 (arXiv:2003.00295, algorithm 2): no bias correction, `eps` is its tau, and
/// `v` starts at 0 as in its experiments. Unlike [`Adam`](super::Adam), `v` changes by no more than a share of
/// `g^2`, so that the rate of a parameter does not jump up when its gradients become small.
///
/// All arithmetic is in `f64` and only `+ - * / sqrt`. The state takes 16 bytes per parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Yogi {
    rule: Rule,
    m: Moment,
    v: Moment,
}

/// The numbers of the job file.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rule {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
}

impl Yogi {
    /// Zero moments for `elements` parameters. Sensible values are `lr > 0`, betas in `0..1` and `eps >= 0`;
    /// the job file is where they are checked.
    pub fn new(elements: usize, lr: f64, beta1: f64, beta2: f64, eps: f64) -> Self {
        Self {
            rule: Rule { lr, beta1, beta2, eps },
            m: Moment::signed("the first moment", elements),
            v: Moment::squares("the second moment", elements),
        }
    }
}

impl Rule {
    /// Folds the gradient `g` of a parameter into its moments; what to subtract from it.
    fn advance(self, m: &mut f64, v: &mut f64, g: f64) -> f64 {
        let square = g * g;
        *m = self.beta1 * *m + (1.0 - self.beta1) * g;
        // Never below 0: what is subtracted from a larger v is at most g^2.
        if *v > square {
            *v -= (1.0 - self.beta2) * square;
        } else if *v < square {
            *v += (1.0 - self.beta2) * square;
        }
        // A parameter that never had a gradient stays where it is, also with eps 0.
        if *m == 0.0 { 0.0 } else { self.lr * *m / (v.sqrt() + self.eps) }
    }
}

impl ServerOptimizer for Yogi {
    fn begin(&mut self) {}

    fn apply(&mut self, start: usize, params: &mut [f32], gradient: &[f32]) {
        assert_eq!(params.len(), gradient.len(), "a gradient has one value per parameter");
        let m = self.m.block(start, params.len());
        let v = self.v.block(start, params.len());
        for (((x, &g), m), v) in params.iter_mut().zip(gradient).zip(m).zip(v) {
            descend(x, self.rule.advance(m, v, f64::from(g)));
        }
    }

    fn save_len(&self) -> u64 {
        state::bytes(0, &[&self.m, &self.v]) as u64
    }

    /// The tag, then `m` and `v` (f64).
    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        state::save(out, TAG, &[], &[&self.m, &self.v])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let ([], [m, v]) = state::parse(bytes, TAG, [&self.m, &self.v])?;
        self.m.fill(m);
        self.v.fill(v);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::apply::tests::{follows, whole};

    fn reproduces(lr: f64, expected: [[f64; 2]; 3]) {
        let rule = Rule { lr, beta1: 0.9, beta2: 0.99, eps: 1e-3 };
        let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
        follows(expected, |g| [0, 1].map(|at| rule.advance(&mut m[at], &mut v[at], g[at])));
    }

    #[test]
    fn reproduces_fedyogi_of_the_paper() {
        reproduces(
            0.01,
            [[1.00952380952, 1.99090909091], [1.0215097621, 1.99734631122], [1.02995709312, 2.00747214912]],
        );
        reproduces(
            0.1,
            [[1.09523809524, 1.90909090909], [1.21509762103, 1.97346311216], [1.29957093118, 2.07472149125]],
        );
    }

    #[test]
    fn each_sign_moves_the_second_moment_its_way() {
        let rule = Rule { lr: 1.0, beta1: 0.0, beta2: 0.75, eps: 0.0 };
        for (before, g, after) in [(1.0, 2.0, 2.0), (16.0, 2.0, 15.0), (4.0, 2.0, 4.0), (4.0, -2.0, 4.0)] {
            let mut v = before;
            assert_eq!(rule.advance(&mut 0.0, &mut v, g), g / f64::sqrt(after));
            assert_eq!(v, after);
        }
        let (mut yogi, mut x) = (Yogi::new(1, 0.1, 0.9, 0.99, 0.0), [5.0f32]);
        whole(&mut yogi, &mut x, &[0.0]);
        assert_eq!(x, [5.0]);
    }

    proptest! {
        #[test]
        fn the_second_moment_is_never_negative(
            gradients in proptest::collection::vec(any::<f32>(), 1..20),
            beta2 in 0.0..1.0f64,
        ) {
            let rule = Rule { lr: 1.0, beta1: 0.9, beta2, eps: 0.0 };
            let (mut m, mut v) = (0.0, 0.0);
            for g in gradients.into_iter().filter(|g| g.is_finite()) {
                let step = rule.advance(&mut m, &mut v, f64::from(g));
                prop_assert!(v >= 0.0 && v.is_finite() && step.is_finite(), "{} {} {}", m, v, step);
            }
        }
    }
}
