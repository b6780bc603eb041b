use std::{
    io::{self, Write},
    marker::PhantomData,
};

use super::{
    StateError, descend,
    state::{self, Moment},
};
use crate::catalog::ServerOptimizer;

/// How far a parameter goes that has a buffer of past gradients.
pub trait Rule: Send {
    /// Of the saved state: the same buffer means another step elsewhere.
    const TAG: &'static str;

    /// Folds the gradient `g` of a parameter into its buffer `b`; what to subtract from it.
    fn advance(rates: (f64, f64), b: &mut f64, g: f64) -> f64;
}

/// Gradient descent on the server with one buffer of past gradients, by a [`Rule`].
///
/// All arithmetic is in `f64` and only `+ - *`. The state takes 8 bytes per parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffered<R> {
    lr: f64,
    momentum: f64,
    buffer: Moment,
    rule: PhantomData<R>,
}

impl<R: Rule> Buffered<R> {
    /// No momentum yet for `elements` parameters. Sensible values are `lr > 0` and `momentum` in `0..1`;
    /// the job file is where they are checked.
    pub fn new(elements: usize, lr: f64, momentum: f64) -> Self {
        Self { lr, momentum, buffer: Moment::signed("the momentum", elements), rule: PhantomData }
    }
}

impl<R: Rule> ServerOptimizer for Buffered<R> {
    fn begin(&mut self) {}

    fn apply(&mut self, start: usize, params: &mut [f32], gradient: &[f32]) {
        assert_eq!(params.len(), gradient.len(), "a gradient has one value per parameter");
        let buffer = self.buffer.block(start, params.len());
        for ((x, &g), b) in params.iter_mut().zip(gradient).zip(buffer) {
            descend(x, R::advance((self.lr, self.momentum), b, f64::from(g)));
        }
    }

    fn save_len(&self) -> u64 {
        state::bytes(0, &[&self.buffer]) as u64
    }

    /// The tag, then the buffer (f64).
    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        state::save(out, R::TAG, &[], &[&self.buffer])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let ([], [buffer]) = state::parse(bytes, R::TAG, [&self.buffer])?;
        self.buffer.fill(buffer);
        Ok(())
    }
}
