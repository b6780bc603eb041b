use crate::apply::{Adam, Sgd, StateError};

/// A server optimizer by name, with its parameters: the only list of them. A new one has a variant here,
/// an arm in [`build`], and a file in `apply/`.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerSpec {
    /// [`Sgd`]: FedAvg at `lr` 1.
    Sgd {
        /// Learning rate.
        lr: f64,
    },
    /// [`Adam`]: Kingma and Ba with bias correction, FedAdam without.
    Adam {
        /// Learning rate.
        lr: f64,
        /// Decay of the first moment, in `0..1`; usually 0.9.
        beta1: f64,
        /// Decay of the second moment, in `0..1`; 0.999 in PyTorch, 0.99 in FedAdam.
        beta2: f64,
        /// Added to the denominator; 1e-8 in PyTorch, 1e-3 in FedAdam.
        eps: f64,
        /// Whether the moments are corrected for their start at 0.
        bias_correction: bool,
    },
}

impl ServerSpec {
    /// Adam with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8, bias correction.
    pub fn adam(lr: f64) -> Self {
        Self::Adam { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, bias_correction: true }
    }
}

/// Applies the aggregate of each round to the parameters of a model.
pub trait ServerOptimizer {
    /// Changes `params` in place. `gradient` has one value per parameter and points uphill: the mean
    /// gradient in gradient mode, and minus the mean delta otherwise.
    ///
    /// A result can leave the range of `f32` when the rate is too high; the caller checks that it is finite.
    ///
    /// # Panics
    /// When the lengths differ from each other or from the size that the optimizer was built for.
    fn step(&mut self, params: &mut [f32], gradient: &[f32]);

    /// All that later steps depend on, as bytes.
    fn save(&self) -> Vec<u8>;

    /// Goes on from what [`ServerOptimizer::save`] gave, bit for bit. Rates and betas are not in it: they
    /// come from the job file.
    ///
    /// # Errors
    /// The bytes belong to another optimizer or model, or are damaged; nothing is changed then.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError>;
}

/// The optimizer of a run, for a model of `elements` parameters, before its first step.
pub fn build(spec: &ServerSpec, elements: usize) -> Box<dyn ServerOptimizer + Send> {
    match *spec {
        ServerSpec::Sgd { lr } => Box::new(Sgd::new(lr)),
        ServerSpec::Adam { lr, beta1, beta2, eps, bias_correction } => {
            Box::new(Adam::new(elements, lr, beta1, beta2, eps, bias_correction))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_each_kind() {
        let mut sgd = build(&ServerSpec::Sgd { lr: 1.0 }, 1);
        let mut adam = build(&ServerSpec::adam(0.5), 1);
        let mut x = [1.0f32];
        sgd.step(&mut x, &[-0.25]);
        assert_eq!(x, [1.25]);
        adam.step(&mut x, &[-0.25]);
        assert!((x[0] - 1.75).abs() < 1e-6);
        assert!(sgd.restore(&adam.save()).is_err());
        assert!(adam.restore(&sgd.save()).is_err());
    }
}
