use std::io::{self, Write};

use super::{StateError, descend, state};
use crate::catalog::ServerOptimizer;

const TAG: &str = "sgd   v1";

/// Gradient descent on the server: `x <- x - lr * g`.
///
/// With `g = -delta` and `lr = 1` this is FedAvg (McMahan et al. 2017, arXiv:1602.05629, algorithm 1):
/// `x + delta`, exactly as one `f32` addition. With the mean gradient it is FedSGD of the same paper.
#[derive(Clone, Debug, PartialEq)]
pub struct Sgd {
    lr: f64,
}

impl Sgd {
    /// Steps of `lr` times the gradient.
    pub fn new(lr: f64) -> Self {
        Self { lr }
    }
}

impl ServerOptimizer for Sgd {
    fn begin(&mut self) {}

    fn apply(&mut self, _start: usize, params: &mut [f32], gradient: &[f32]) {
        assert_eq!(params.len(), gradient.len(), "a gradient has one value per parameter");
        for (x, &g) in params.iter_mut().zip(gradient) {
            // f64 has more than 2 * 24 + 2 bits: at lr 1 the double rounding is that of f32 (Figueroa 1995).
            descend(x, self.lr * f64::from(g));
        }
    }

    fn save_len(&self) -> u64 {
        state::bytes(0, &[]) as u64
    }

    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        state::save(out, TAG, &[], &[])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let ([], []) = state::parse(bytes, TAG, [])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::apply::tests::{DELTAS, saved, tff, whole};

    #[test]
    fn reproduces_the_reference() {
        // FedAvg. One rounding to f32 per step, which the bound allows for.
        let mut x = [1.0f32, 2.0];
        for (delta, expected) in DELTAS.iter().zip([[1.2f32, 1.9], [1.3, 2.2], [1.25, 2.4]]) {
            whole(&mut Sgd::new(1.0), &mut x, &delta.map(|d| -d as f32));
            assert!((x[0] - expected[0]).abs() < 3e-7 && (x[1] - expected[1]).abs() < 3e-7, "{x:?}");
        }
        tff(&mut Sgd::new(0.01), [0.98, 0.96, 0.94, 0.92]);
    }

    #[test]
    fn has_no_state() {
        let mut sgd = Sgd::new(0.5);
        let state = saved(&sgd);
        assert_eq!(state, b"sgd   v1");
        assert_eq!(sgd.restore(&state), Ok(()));
        let error = sgd.restore(b"adam  v1").unwrap_err();
        assert_eq!(error.to_string(), "state starts with 'adam  v1', expected 'sgd   v1'");
        let longer = [&state[..], b"x"].concat();
        assert_eq!(sgd.restore(&longer), Err(StateError::Length { found: 9, expected: 8 }));
        assert!(matches!(sgd.restore(b""), Err(StateError::Kind { .. })));
    }

    proptest! {
        #[test]
        fn at_rate_one_it_is_an_f32_addition(x in any::<f32>(), delta in any::<f32>()) {
            prop_assume!(x.is_finite() && delta.is_finite());
            let mut params = [x];
            whole(&mut Sgd::new(1.0), &mut params, &[-delta]);
            prop_assert_eq!(params[0].to_bits(), (x + delta).to_bits());
        }
    }
}
