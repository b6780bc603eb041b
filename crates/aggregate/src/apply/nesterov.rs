use super::buffered::{Buffered, Rule};

/// Gradient descent with Nesterov momentum on the server: `b <- momentum * b + g`, then
/// `x <- x - lr * (g + momentum * b)`, the arrangement of `torch.optim.SGD(nesterov=True)`.
///
/// With `g = -delta` this is the outer step of DiLoCo (Douillard et al. 2023, arXiv:2311.08105, algorithm
/// 1), which uses `lr` 0.7 and momentum 0.9. With momentum 0 it is [`Sgd`](super::Sgd).
pub type Nesterov = Buffered<LookAhead>;

/// The rule of [`Nesterov`].
#[derive(Clone, Debug, PartialEq)]
pub struct LookAhead;

impl Rule for LookAhead {
    const TAG: &'static str = "nest  v1";

    fn advance((lr, momentum): (f64, f64), b: &mut f64, g: f64) -> f64 {
        *b = momentum * *b + g;
        lr * (g + momentum * *b)
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
        follows(expected, |g| [0, 1].map(|at| LookAhead::advance((lr, 0.9), &mut b[at], g[at])));
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
