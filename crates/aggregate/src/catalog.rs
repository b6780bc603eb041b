use std::io::{self, Write};

use crate::apply::{Adagrad, Adam, Momentum, Nesterov, Sgd, StateError, Yogi};

/// A server optimizer by name, with its parameters: the only list of them. A new one has a variant here,
/// an arm in [`build`], and a file in `apply/`.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerSpec {
    /// [`Sgd`]: FedAvg at `lr` 1.
    Sgd {
        /// Learning rate.
        lr: f64,
    },
    /// [`Momentum`]: FedAvgM.
    Momentum {
        /// Learning rate.
        lr: f64,
        /// Decay of the buffer, in `0..1`; usually 0.9.
        momentum: f64,
    },
    /// [`Nesterov`]: the outer step of DiLoCo.
    Nesterov {
        /// Learning rate; 0.7 in DiLoCo.
        lr: f64,
        /// Decay of the buffer, in `0..1`; 0.9 in DiLoCo.
        momentum: f64,
    },
    /// [`Adagrad`]: FedAdagrad.
    Adagrad {
        /// Learning rate.
        lr: f64,
        /// Added to the denominator; 1e-3 in FedAdagrad.
        eps: f64,
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
    /// [`Yogi`]: FedYogi.
    Yogi {
        /// Learning rate.
        lr: f64,
        /// Decay of the first moment, in `0..1`; usually 0.9.
        beta1: f64,
        /// Decay of the second moment, in `0..1`; 0.99 in FedYogi.
        beta2: f64,
        /// Added to the denominator; 1e-3 in FedYogi.
        eps: f64,
    },
}

impl ServerSpec {
    /// Adam with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8, bias correction.
    pub fn adam(lr: f64) -> Self {
        Self::Adam { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, bias_correction: true }
    }
}

/// Applies the aggregate of each round to the parameters of a model, by blocks: so a model of any size can
/// be streamed through.
///
/// The bits do not depend on how a step is cut into blocks.
pub trait ServerOptimizer: Send {
    /// Starts a step, which it counts. Then [`ServerOptimizer::apply`] is called once for each block, in
    /// order, covering all parameters once.
    fn begin(&mut self);

    /// Changes the parameters `start..start + params.len()` in place. `gradient` has one value for each of
    /// them and points uphill: the mean gradient in gradient mode, and minus the mean delta otherwise.
    ///
    /// A result can leave the range of `f32` when the rate is too high; the caller checks that it is finite.
    ///
    /// # Panics
    /// When the lengths differ from each other, or the block does not lie within the size that the optimizer
    /// was built for.
    fn apply(&mut self, start: usize, params: &mut [f32], gradient: &[f32]);

    /// How many bytes [`ServerOptimizer::save`] writes: the same before and after every step.
    fn save_len(&self) -> u64;

    /// Writes all that later steps depend on, in pieces of at most 64 KiB, so that `out` needs no buffer.
    /// To be called between steps, not between the blocks of one.
    ///
    /// # Errors
    /// Those of `out`.
    fn save(&self, out: &mut dyn Write) -> io::Result<()>;

    /// Goes on from what [`ServerOptimizer::save`] wrote, bit for bit. Rates and betas are not in it: they
    /// come from the job file.
    ///
    /// # Errors
    /// The bytes belong to another optimizer or model, or are damaged; nothing is changed then.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError>;
}

/// The optimizer of a run, for a model of `elements` parameters, before its first step.
pub fn build(spec: &ServerSpec, elements: usize) -> Box<dyn ServerOptimizer> {
    match *spec {
        ServerSpec::Sgd { lr } => Box::new(Sgd::new(lr)),
        ServerSpec::Momentum { lr, momentum } => Box::new(Momentum::new(elements, lr, momentum)),
        ServerSpec::Nesterov { lr, momentum } => Box::new(Nesterov::new(elements, lr, momentum)),
        ServerSpec::Adagrad { lr, eps } => Box::new(Adagrad::new(elements, lr, eps)),
        ServerSpec::Adam { lr, beta1, beta2, eps, bias_correction } => {
            Box::new(Adam::new(elements, lr, beta1, beta2, eps, bias_correction))
        }
        ServerSpec::Yogi { lr, beta1, beta2, eps } => Box::new(Yogi::new(elements, lr, beta1, beta2, eps)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_each_kind_with_its_numbers() {
        // Two steps of gradient 1 from 0, so that each number of a spec shows.
        let steps = |spec: ServerSpec| {
            let mut optimizer = build(&spec, 1);
            let mut x = [0.0f32];
            [(); 2].map(|()| {
                optimizer.begin();
                optimizer.apply(0, &mut x, &[1.0]);
                x[0]
            })
        };
        assert_eq!(steps(ServerSpec::Sgd { lr: 0.25 }), [-0.25, -0.5]);
        assert_eq!(steps(ServerSpec::Momentum { lr: 0.25, momentum: 0.5 }), [-0.25, -0.625]);
        assert_eq!(steps(ServerSpec::Nesterov { lr: 0.25, momentum: 0.5 }), [-0.375, -0.8125]);
        let [one, two] = steps(ServerSpec::Adagrad { lr: 0.25, eps: 1.0 });
        assert!(one == -0.125 && (two + 0.125 + 0.25 / (1.0 + 2.0f32.sqrt())).abs() < 1e-7, "{one} {two}");
        let [one, two] = steps(ServerSpec::adam(0.5));
        assert!((one + 0.5).abs() < 1e-6 && (two + 1.0).abs() < 1e-6, "{one} {two}");
        // m 1/2, 3/4; v 1/4, 1/2 (Yogi: below 1, so up by (1 - beta2) both times); Adam: 1/4, 7/16.
        let [one, two] = steps(ServerSpec::Yogi { lr: 1.0, beta1: 0.5, beta2: 0.75, eps: 0.5 });
        assert!(one == -0.5 && (two + 0.5 + 0.75 / (0.5f32.sqrt() + 0.5)).abs() < 1e-7, "{one} {two}");
        let plain = ServerSpec::Adam { lr: 1.0, beta1: 0.5, beta2: 0.75, eps: 0.5, bias_correction: false };
        let [one, two] = steps(plain);
        assert!(one == -0.5 && (two + 0.5 + 0.75 / (0.4375f32.sqrt() + 0.5)).abs() < 1e-7, "{one} {two}");
    }
}
