use crate::Optimizer;

/// The formulae of `torch.optim` on flat weights, in `f32`.
pub(crate) struct Steps {
    optimizer: Optimizer,
    taken: i32,
    /// Momentum, or Adam's mean of gradients; empty before the first step.
    first: Vec<f32>,
    /// Adam's mean of squared gradients.
    second: Vec<f32>,
}

impl Steps {
    pub(crate) fn new(optimizer: Optimizer) -> Self {
        Self { optimizer, taken: 0, first: Vec::new(), second: Vec::new() }
    }

    /// Changes `weights` by one step along `gradient`.
    pub(crate) fn step(&mut self, weights: &mut [f32], gradient: &[f32]) {
        self.taken = self.taken.saturating_add(1);
        match self.optimizer {
            Optimizer::GradientDescent { lr } | Optimizer::Sgd { lr, momentum: 0.0 } => {
                descend(weights, gradient, lr);
            }
            Optimizer::Sgd { lr, momentum } => {
                if self.first.is_empty() {
                    self.first = gradient.to_vec();
                } else {
                    let pairs = self.first.iter_mut().zip(gradient);
                    pairs.for_each(|(v, g)| *v = (f64::from(*v) * momentum + f64::from(*g)) as f32);
                }
                descend(weights, &self.first, lr);
            }
            Optimizer::Adam { lr, beta1, beta2, eps } => {
                self.adam(weights, gradient, lr, [beta1, beta2], eps)
            }
        }
    }

    fn adam(&mut self, weights: &mut [f32], gradient: &[f32], lr: f64, beta: [f64; 2], eps: f64) {
        self.first.resize(gradient.len(), 0.0);
        self.second.resize(gradient.len(), 0.0);
        let correction = beta.map(|b| 1.0 - b.powi(self.taken));
        let (rate, root) = (lr / correction[0], correction[1].sqrt());
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((w, &g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
            let g = f64::from(g);
            *m = (beta[0] * f64::from(*m) + (1.0 - beta[0]) * g) as f32;
            *v = (beta[1] * f64::from(*v) + (1.0 - beta[1]) * g * g) as f32;
            *w = (f64::from(*w) - rate * f64::from(*m) / (f64::from(*v).sqrt() / root + eps)) as f32;
        }
    }
}

fn descend(weights: &mut [f32], direction: &[f32], lr: f64) {
    weights.iter_mut().zip(direction).for_each(|(w, d)| *w = (f64::from(*w) - lr * f64::from(*d)) as f32);
}
