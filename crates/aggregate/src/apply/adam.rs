use std::io::{self, Write};

use super::{
    StateError, descend,
    state::{self, Moment},
};
use crate::catalog::ServerOptimizer;

const TAG: &str = "adam  v1";

/// Adam on the server.
///
/// `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`, and then
/// - with bias correction `x <- x - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)`: Kingma and Ba
///   2015 (arXiv:1412.6980) in the arrangement of `torch.optim.Adam`;
/// - without it `x <- x - lr * m / (sqrt(v) + eps)`: FedAdam of Reddi et al. 2021 (arXiv:2003.00295,
///   algorithm 2, `eps` is its tau, `v` starts at 0 as in its experiments).
///
/// All arithmetic is in `f64` and only `+ - * / sqrt`; `b1^t` and `b2^t` are running products. So the bits
/// are the same everywhere. The state takes 16 bytes per parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    bias_correction: bool,
    steps: u64,
    /// `beta1^steps` and `beta2^steps`.
    powers: (f64, f64),
    m: Moment,
    v: Moment,
}

/// What all parameters share in one step.
#[derive(Clone, Copy, Debug)]
struct Rule {
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// The factor of `m`.
    rate: f64,
    /// What `sqrt(v)` is divided by.
    root: f64,
}

impl Adam {
    /// Zero moments for `elements` parameters. Sensible values are `lr > 0`, betas in `0..1` and
    /// `eps >= 0`; the job file is where they are checked.
    pub fn new(elements: usize, lr: f64, beta1: f64, beta2: f64, eps: f64, bias_correction: bool) -> Self {
        Self {
            lr,
            beta1,
            beta2,
            eps,
            bias_correction,
            steps: 0,
            powers: (1.0, 1.0),
            m: Moment::signed("the first moment", elements),
            v: Moment::squares("the second moment", elements),
        }
    }

    /// The rule of the step that was begun: a function of the state, and so the same for each block.
    fn rule(&self) -> Rule {
        let (rate, root) = if self.bias_correction {
            (self.lr / (1.0 - self.powers.0), (1.0 - self.powers.1).sqrt())
        } else {
            (self.lr, 1.0)
        };
        Rule { beta1: self.beta1, beta2: self.beta2, eps: self.eps, rate, root }
    }
}

impl Rule {
    /// Folds the gradient `g` of a parameter into its moments; what to subtract from it.
    fn advance(self, m: &mut f64, v: &mut f64, g: f64) -> f64 {
        *m = self.beta1 * *m + (1.0 - self.beta1) * g;
        *v = self.beta2 * *v + (1.0 - self.beta2) * (g * g);
        // A parameter that never had a gradient stays where it is, also with eps 0.
        if *m == 0.0 { 0.0 } else { self.rate * *m / (v.sqrt() / self.root + self.eps) }
    }
}

impl ServerOptimizer for Adam {
    fn begin(&mut self) {
        self.steps = self.steps.saturating_add(1);
        self.powers = (self.powers.0 * self.beta1, self.powers.1 * self.beta2);
    }

    fn apply(&mut self, start: usize, params: &mut [f32], gradient: &[f32]) {
        assert_eq!(params.len(), gradient.len(), "a gradient has one value per parameter");
        let rule = self.rule();
        let m = self.m.block(start, params.len());
        let v = self.v.block(start, params.len());
        for (((x, &g), m), v) in params.iter_mut().zip(gradient).zip(m).zip(v) {
            descend(x, rule.advance(m, v, f64::from(g)));
        }
    }

    fn save_len(&self) -> u64 {
        state::bytes(3, &[&self.m, &self.v]) as u64
    }

    /// The tag, then little-endian: steps (u64), the two running products, `m` and `v` (f64).
    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        let (p1, p2) = self.powers;
        let header = [self.steps.to_le_bytes(), p1.to_le_bytes(), p2.to_le_bytes()];
        state::save(out, TAG, &header, &[&self.m, &self.v])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let ([steps, p1, p2], [m, v]) = state::parse(bytes, TAG, [&self.m, &self.v])?;
        let powers = [p1, p2].map(|word| f64::from_le_bytes(*word));
        if let Some(bad) = powers.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return Err(StateError::Value { what: "a power of beta", value: bad.to_string() });
        }
        self.steps = u64::from_le_bytes(*steps);
        self.powers = (powers[0], powers[1]);
        self.m.fill(m);
        self.v.fill(v);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::tests::{follows, saved, whole};

    /// The trajectory in f64, from second moments of `v`, so that the reference is met to all of its digits.
    fn reproduces(mut adam: Adam, v: f64, expected: [[f64; 2]; 3]) {
        let (mut m, mut v) = ([0.0; 2], [v; 2]);
        follows(expected, |g| {
            adam.begin();
            let rule = adam.rule();
            [0, 1].map(|at| rule.advance(&mut m[at], &mut v[at], g[at]))
        });
    }

    #[test]
    fn reproduces_fedadam_of_the_paper() {
        let adam = Adam::new(2, 0.1, 0.9, 0.99, 1e-3, false);
        let expected =
            [[1.09523809524, 1.90909090909], [1.2155592283, 1.97349433458], [1.30073194869, 2.07514206131]];
        reproduces(adam.clone(), 0.0, expected);
        // Second moments that start at tau^2, as algorithm 2 of the paper has it; its experiments do not.
        let expected =
            [[1.09512605168, 1.90949716881], [1.21533357888, 1.97386999276], [1.30042970631, 2.07548316176]];
        reproduces(adam, 1e-6, expected);
    }

    #[test]
    fn reproduces_kingma_and_ba() {
        // In PyTorch's arrangement; computed apart from this code, with 40 decimal digits.
        let expected = [
            [1.09950248756219, 1.9009900990099],
            [1.19225975288397, 1.95010072488183],
            [1.24838310120438, 2.01617152131802],
        ];
        reproduces(Adam::new(2, 0.1, 0.9, 0.99, 1e-3, true), 0.0, expected);
    }

    /// TensorFlow's arrangement (the remark before section 2.1 of the paper) adds eps before the root is
    /// corrected: the same as adding eps / sqrt(1 - b2^t) after. `ahead`: steps that were counted before.
    fn in_the_other_arrangement(ahead: u32, expected: [[f64; 2]; 3]) {
        let mut adam = Adam::new(2, 0.1, 0.9, 0.99, 1e-3, true);
        (0..ahead).for_each(|_| adam.begin());
        let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
        follows(expected, |g| {
            adam.begin();
            let rule = adam.rule();
            let rule = Rule { eps: rule.eps / rule.root, ..rule };
            [0, 1].map(|at| rule.advance(&mut m[at], &mut v[at], g[at]))
        });
    }

    #[test]
    fn reproduces_the_other_arrangement_by_its_eps() {
        let expected =
            [[1.09523809524, 1.90909090909], [1.18457169823, 1.95690786276], [1.23873645082, 2.02154973334]];
        in_the_other_arrangement(0, expected);
        // Flower's FedAdam counts the first step as the second.
        let expected =
            [[1.07071045604, 1.9325036556], [1.14722749545, 1.97346037967], [1.196390503, 2.03213301491]];
        in_the_other_arrangement(1, expected);
    }

    #[test]
    fn with_eps_zero_a_constant_gradient_steps_by_the_rate() {
        // TensorFlow Federated's vector: w = 1, g = 2, lr 0.1.
        let mut adam = Adam::new(2, 0.1, 0.9, 0.999, 0.0, true);
        let mut w = [1.0f32, 5.0];
        for expected in [0.9f32, 0.8, 0.7, 0.6] {
            whole(&mut adam, &mut w, &[2.0, 0.0]);
            assert!((w[0] - expected).abs() < 2e-7, "{w:?}");
        }
        assert_eq!(w[1], 5.0);
    }

    #[test]
    fn a_state_that_an_earlier_release_saved_is_taken_as_it_is() {
        // Betas 0.9 and 0.999 after one step with gradient 0.5: 1 step, the powers, m 0.05, v 0.00025.
        let mut state = b"adam  v1\x01\0\0\0\0\0\0\0".to_vec();
        for value in [0.9, 0.999, (1.0 - 0.9) * 0.5, (1.0 - 0.999) * 0.25] {
            state.extend(f64::to_le_bytes(value));
        }
        let mut adam = Adam::new(1, 0.1, 0.9, 0.999, 1e-8, true);
        let mut resumed = adam.clone();
        whole(&mut adam, &mut [1.0], &[0.5]);
        assert_eq!(saved(&adam), state);
        resumed.restore(&state).unwrap();
        assert_eq!(resumed, adam);
    }

    #[test]
    fn refuses_foreign_state() {
        let mut adam = Adam::new(1, 0.1, 0.9, 0.999, 1e-8, true);
        whole(&mut adam, &mut [1.0], &[0.5]);
        let (state, before) = (saved(&adam), adam.clone());
        let len = state.len();
        let length = |found| Err(StateError::Length { found, expected: len });
        assert_eq!(adam.restore(&state[..len - 1]), length(len - 1));
        assert_eq!(adam.restore(&saved(&Adam::new(2, 0.1, 0.9, 0.999, 1e-8, true))), length(len + 16));
        assert!(matches!(adam.restore(b"sgd   v1"), Err(StateError::Kind { .. })));
        for (at, value, what) in [
            (16, 1.5, "a power of beta"),
            (24, f64::NAN, "a power of beta"),
            (32, f64::INFINITY, "the first moment"),
            (40, -1.0, "the second moment"),
        ] {
            let mut bad = state.clone();
            bad[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let error = adam.restore(&bad).unwrap_err();
            assert_eq!(error, StateError::Value { what, value: value.to_string() });
        }
        assert_eq!(adam, before);
    }
}
