use super::buffered::{Buffered, Rule};

/// Gradient descent with momentum on the server: `b <- momentum * b + g`, then `x <- x - lr * b`.
///
/// With `g = -delta` this is FedAvgM (Hsu, Qi and Brown 2019, arXiv:1909.06335). There is no dampening: the
/// first step is `lr * g`. With momentum 0 it is [`Sgd`](super::Sgd).
pub type Momentum = Buffered<HeavyBall>;

/// The rule of [`Momentum`].
#[derive(Clone, Debug, PartialEq)]
pub struct HeavyBall;

impl Rule for HeavyBall {
    const TAG: &'static str = "mom   v1";

    fn advance((lr, momentum): (f64, f64), b: &mut f64, g: f64) -> f64 {
        *b = momentum * *b + g;
        lr * *b
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

    #[test]
    fn reproduces_fedavgm() {
        let mut b = [0.0; 2];
        let step = |g: [f64; 2]| [0, 1].map(|at| HeavyBall::advance((1.0, 0.9), &mut b[at], g[at]));
        follows([[1.2, 1.9], [1.48, 2.11], [1.682, 2.499]], step);
        tff(&mut Momentum::new(1, 0.01, 0.5), [0.98, 0.95, 0.915, 0.8775]);
    }

    proptest! {
        #[test]
        fn without_momentum_it_is_plain_descent(x in any::<f32>(), deltas in any::<[f32; 4]>()) {
            prop_assume!(x.is_finite() && deltas.iter().all(|delta| delta.is_finite()));
            let (mut with, mut without) = ([x], [x]);
            let mut momentum = Momentum::new(1, 1.0, 0.0);
            for delta in deltas {
                whole(&mut momentum, &mut with, &[-delta]);
                whole(&mut Sgd::new(1.0), &mut without, &[-delta]);
                prop_assume!(without[0].is_finite());
                // By value: a parameter at -0 keeps its sign where FedAvg adds 0 to it.
                prop_assert_eq!(with, without);
            }
        }
    }
}
