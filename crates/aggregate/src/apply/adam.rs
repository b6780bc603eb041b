use super::{StateError, payload};
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
    m: Vec<f64>,
    v: Vec<f64>,
}

impl Adam {
    /// Zero moments for `elements` parameters. Sensible values are `lr > 0`, betas in `0..1` and
    /// `eps >= 0`; the job file is where they are checked.
    pub fn new(elements: usize, lr: f64, beta1: f64, beta2: f64, eps: f64, bias_correction: bool) -> Self {
        let zeros = vec![0.0; elements];
        Self {
            lr,
            beta1,
            beta2,
            eps,
            bias_correction,
            steps: 0,
            powers: (1.0, 1.0),
            m: zeros.clone(),
            v: zeros,
        }
    }

    /// The factors of `m` and of `sqrt(v)` in the next step, which this counts.
    fn count_step(&mut self) -> (f64, f64) {
        self.steps = self.steps.saturating_add(1);
        self.powers = (self.powers.0 * self.beta1, self.powers.1 * self.beta2);
        if self.bias_correction {
            (self.lr / (1.0 - self.powers.0), (1.0 - self.powers.1).sqrt())
        } else {
            (self.lr, 1.0)
        }
    }

    /// Folds the gradient `g` of parameter `at` into its moments; what to subtract from it.
    fn advance(&mut self, at: usize, g: f64, (rate, root): (f64, f64)) -> f64 {
        let m = self.beta1 * self.m[at] + (1.0 - self.beta1) * g;
        let v = self.beta2 * self.v[at] + (1.0 - self.beta2) * (g * g);
        (self.m[at], self.v[at]) = (m, v);
        // A parameter that never had a gradient stays where it is, also with eps 0.
        if m == 0.0 { 0.0 } else { rate * m / (v.sqrt() / root + self.eps) }
    }

    fn state_bytes(&self) -> usize {
        TAG.len() + 8 * (3 + self.m.len() + self.v.len())
    }
}

impl ServerOptimizer for Adam {
    fn step(&mut self, params: &mut [f32], gradient: &[f32]) {
        assert_eq!(params.len(), gradient.len(), "a gradient has one value per parameter");
        assert_eq!(params.len(), self.m.len(), "the optimizer is sized by the model");
        let factors = self.count_step();
        for (at, (x, &g)) in params.iter_mut().zip(gradient).enumerate() {
            *x = (f64::from(*x) - self.advance(at, f64::from(g), factors)) as f32;
        }
    }

    /// The tag, then little-endian: steps (u64), the two running products, `m` and `v` (f64).
    fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.state_bytes());
        bytes.extend(TAG.as_bytes());
        bytes.extend(self.steps.to_le_bytes());
        for value in [self.powers.0, self.powers.1].iter().chain(&self.m).chain(&self.v) {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let words = payload(bytes, TAG, self.state_bytes())?.as_chunks::<8>().0;
        let (steps, words) = words.split_first().expect("the length was checked");
        let numbers: Vec<f64> = words.iter().map(|word| f64::from_le_bytes(*word)).collect();
        let (powers, moments) = numbers.split_at(2);
        let (m, v) = moments.split_at(self.m.len());
        let fault = |what, value: &f64| StateError::Value { what, value: value.to_string() };
        if let Some(bad) = powers.iter().find(|p| !(0.0..=1.0).contains(*p)) {
            return Err(fault("a power of beta", bad));
        }
        if let Some(bad) = m.iter().find(|m| !m.is_finite()) {
            return Err(fault("the first moment", bad));
        }
        if let Some(bad) = v.iter().find(|v| !(v.is_finite() && **v >= 0.0)) {
            return Err(fault("the second moment", bad));
        }
        self.steps = u64::from_le_bytes(*steps);
        self.powers = (powers[0], powers[1]);
        self.m.copy_from_slice(m);
        self.v.copy_from_slice(v);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTAS: [[f64; 2]; 3] = [[0.2, -0.1], [0.1, 0.3], [-0.05, 0.2]];

    /// The trajectory in f64, so that the reference is met to all of its digits.
    fn follows(mut adam: Adam, expected: [[f64; 2]; 3]) {
        let mut x = [1.0f64, 2.0];
        for (delta, expected) in DELTAS.iter().zip(expected) {
            let factors = adam.count_step();
            for at in 0..2 {
                x[at] -= adam.advance(at, -delta[at], factors);
                assert!((x[at] - expected[at]).abs() < 1e-11, "{x:?}");
            }
        }
    }

    #[test]
    fn reproduces_fedadam_of_the_paper() {
        let expected =
            [[1.09523809524, 1.90909090909], [1.2155592283, 1.97349433458], [1.30073194869, 2.07514206131]];
        follows(Adam::new(2, 0.1, 0.9, 0.99, 1e-3, false), expected);
    }

    #[test]
    fn reproduces_kingma_and_ba() {
        // In PyTorch's arrangement; computed apart from this code, with 40 decimal digits.
        let expected = [
            [1.09950248756219, 1.9009900990099],
            [1.19225975288397, 1.95010072488183],
            [1.24838310120438, 2.01617152131802],
        ];
        follows(Adam::new(2, 0.1, 0.9, 0.99, 1e-3, true), expected);
    }

    #[test]
    fn reproduces_the_other_arrangement_by_its_eps() {
        // TensorFlow's arrangement (the remark before section 2.1 of the paper) adds eps before the root
        // is corrected: the same as adding eps / sqrt(1 - b2^t) after.
        let expected =
            [[1.09523809524, 1.90909090909], [1.18457169823, 1.95690786276], [1.23873645082, 2.02154973334]];
        let mut adam = Adam::new(2, 0.1, 0.9, 0.99, 1e-3, true);
        let mut x = [1.0f64, 2.0];
        for (delta, expected) in DELTAS.iter().zip(expected) {
            let factors = adam.count_step();
            adam.eps = 1e-3 / factors.1;
            for at in 0..2 {
                x[at] -= adam.advance(at, -delta[at], factors);
                assert!((x[at] - expected[at]).abs() < 1e-11, "{x:?}");
            }
        }
    }

    #[test]
    fn with_eps_zero_a_constant_gradient_steps_by_the_rate() {
        // TensorFlow Federated's vector: w = 1, g = 2, lr 0.1.
        let mut adam = Adam::new(2, 0.1, 0.9, 0.999, 0.0, true);
        let mut w = [1.0f32, 5.0];
        for expected in [0.9f32, 0.8, 0.7, 0.6] {
            adam.step(&mut w, &[2.0, 0.0]);
            assert!((w[0] - expected).abs() < 2e-7, "{w:?}");
        }
        assert_eq!(w[1], 5.0);
    }

    #[test]
    fn saved_mid_way_it_goes_on_with_the_same_bits() {
        let gradient = |t: u32| [(t as f32 * 0.37).fract() - 0.5, 1e-30, -3.0e4 / (t + 1) as f32];
        let run = |cut: Option<u32>| {
            let mut adam = Adam::new(3, 0.01, 0.9, 0.999, 1e-8, true);
            let mut x = [0.1f32, -0.2, 0.3];
            for t in 0..50 {
                if cut == Some(t) {
                    let state = adam.save();
                    adam = Adam::new(3, 0.01, 0.9, 0.999, 1e-8, true);
                    adam.restore(&state).unwrap();
                    assert_eq!(adam.save(), state);
                }
                adam.step(&mut x, &gradient(t));
            }
            (x.map(f32::to_bits), adam)
        };
        let whole = run(None);
        for cut in [0, 1, 25, 49] {
            assert_eq!(run(Some(cut)), whole);
        }
    }

    #[test]
    fn refuses_foreign_state() {
        let mut adam = Adam::new(1, 0.1, 0.9, 0.999, 1e-8, true);
        adam.step(&mut [1.0], &[0.5]);
        let (state, before) = (adam.save(), adam.clone());
        let len = state.len();
        let length = |found| Err(StateError::Length { found, expected: len });
        assert_eq!(adam.restore(&state[..len - 1]), length(len - 1));
        assert_eq!(adam.restore(&Adam::new(2, 0.1, 0.9, 0.999, 1e-8, true).save()), length(len + 16));
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
