use tch::{TchError, Tensor, no_grad_guard};

use crate::Optimizer;

/// The formulae of `torch.optim.SGD` and `torch.optim.Adam`, by the fallible calls.
pub(super) struct Steps {
    optimizer: Optimizer,
    taken: i32,
    /// Momentum, or Adam's mean of gradients; empty before the first step.
    first: Vec<Tensor>,
    /// Adam's mean of squared gradients.
    second: Vec<Tensor>,
}

impl Steps {
    pub(super) fn new(optimizer: Optimizer) -> Self {
        Self { optimizer, taken: 0, first: Vec::new(), second: Vec::new() }
    }

    /// Changes each weight by one step along its gradient.
    pub(super) fn step(&mut self, weights: &mut [Tensor], gradients: Vec<Tensor>) -> Result<(), TchError> {
        let _guard = no_grad_guard();
        self.taken = self.taken.saturating_add(1);
        match self.optimizer {
            Optimizer::GradientDescent { lr } | Optimizer::Sgd { lr, momentum: 0.0 } => {
                descend(weights, &gradients, lr)
            }
            Optimizer::Sgd { lr, momentum } => {
                if self.first.is_empty() {
                    self.first = gradients;
                } else {
                    for (velocity, gradient) in self.first.iter_mut().zip(&gradients) {
                        let _same = velocity.f_mul_scalar_(momentum)?.f_add_(gradient)?;
                    }
                }
                descend(weights, &self.first, lr)
            }
            Optimizer::Adam { lr, beta1, beta2, eps } => {
                self.adam(weights, &gradients, lr, [beta1, beta2], eps)
            }
        }
    }

    fn adam(
        &mut self,
        weights: &mut [Tensor],
        gradients: &[Tensor],
        lr: f64,
        beta: [f64; 2],
        eps: f64,
    ) -> Result<(), TchError> {
        if self.first.is_empty() {
            let zeros = || gradients.iter().map(Tensor::f_zeros_like).collect::<Result<Vec<_>, _>>();
            (self.first, self.second) = (zeros()?, zeros()?);
        }
        let correction = beta.map(|b| 1.0 - b.powi(self.taken));
        let (rate, root) = (lr / correction[0], correction[1].sqrt());
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((weight, gradient), (m, v)) in weights.iter_mut().zip(gradients).zip(moments) {
            let _same = m.f_lerp_(gradient, 1.0 - beta[0])?;
            let square = gradient.f_mul(gradient)?.f_mul_scalar_(1.0 - beta[1])?;
            let _same = v.f_mul_scalar_(beta[1])?.f_add_(&square)?;
            let scale = v.f_sqrt()?.f_div_scalar_(root)?.f_add_scalar_(eps)?;
            let _same = weight.f_sub_(&m.f_div(&scale)?.f_mul_scalar_(rate)?)?;
        }
        Ok(())
    }
}

fn descend(weights: &mut [Tensor], directions: &[Tensor], lr: f64) -> Result<(), TchError> {
    for (weight, direction) in weights.iter_mut().zip(directions) {
        let _same = weight.f_sub_(&direction.f_mul_scalar(lr)?)?;
    }
    Ok(())
}
