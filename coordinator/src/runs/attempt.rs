//! From the updates of a round to a version: base weights, aggregate and server optimizer go by in blocks, and the
//! new weights are written while they are made. A model is never in memory a second time.

use std::{
    io::{self, Write},
    num::NonZeroUsize,
    ops::Range,
};

use aggregate::{Budget, ServerOptimizer};
use bytes::Bytes;
use job::Mode;
use params::Digest;

use super::{
    DriveError,
    gathered::{Files, Gathered, Kept, Maxed, Previous},
    prepare::Context,
    weights::Weights,
};
use crate::{
    plan,
    store::{Blobs, CARRIED_MAX, Draft, StoreError},
};

/// Elements that are worked on at once: 2 MiB of each of base, aggregate and new weights. Two threads have enough of it.
const BLOCK: usize = 1 << 19;

/// A version that is not published yet.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) weights: Weights,
    /// What the next round goes on from: the server optimizer's state, before it the aggregate where the reduction
    /// starts from that. Empty where there is nothing.
    pub(crate) state: Bytes,
    /// The digest of the state.
    pub(crate) state_digest: Digest,
    /// What the entry of the journal carries, because it is small.
    pub(crate) carry: Vec<Vec<u8>>,
}

/// What a version is made with.
pub(crate) struct Tools<'a> {
    pub(crate) blobs: &'a Blobs,
    pub(crate) threads: NonZeroUsize,
    /// Bytes for a block of all updates, where a reduction needs them.
    pub(crate) budget: usize,
}

/// Applies the aggregate of `gathered` to the base weights through the server optimizer, whose state is `state`
/// (`None` before the first round), and puts the version on the disk. To do it again gives the same.
pub(crate) fn make(
    context: &Context,
    gathered: &Gathered,
    base: &Weights,
    state: Option<&Bytes>,
    tools: &Tools<'_>,
) -> Result<Made, DriveError> {
    let averaged = context.exchange.form.averaged();
    let mut optimizer = aggregate::build(&plan::server(&context.job), averaged);
    let (previous, saved) = parts(context, state)?;
    if let Some(saved) = saved {
        optimizer.restore(&saved)?;
    }
    optimizer.begin();
    let (kept, maxed) = gathered.parts();
    let out = Out::new(tools.blobs, context.layout.file_bytes())?;
    let remembers = context.exchange.reduction.is_some_and(|spec| spec.needs_previous());
    let length = optimizer.save_len() + if remembers { 4 * averaged as u64 } else { 0 };
    let mut next = Out::new(tools.blobs, usize::try_from(length).unwrap_or(usize::MAX))?;
    let mut maker = Maker::new(context, base, maxed, optimizer, out)?;
    match kept {
        Kept::Sum(sum) => {
            let mut block = vec![0.0; BLOCK.min(averaged)];
            for start in (0..averaged).step_by(BLOCK) {
                let block = &mut block[..BLOCK.min(averaged - start)];
                sum.mean(start, block, tools.threads)?;
                maker.averaged(start, block)?;
            }
        }
        Kept::Spilled(spec, files) => {
            let budget = Budget { bytes: tools.budget, threads: tools.threads.get() };
            let mut rows = Files::new(files, averaged);
            let mut previous = previous.map(Previous);
            let previous = previous.as_mut().map(|row| row as &mut dyn aggregate::Rows);
            let mut failed = None;
            let reduced = aggregate::reduce(spec, &mut rows, previous, budget, &mut |start, block| {
                let write = maker.averaged(start, block).and_then(|()| match remembers {
                    true => next.numbers(block),
                    false => Ok(()),
                });
                write.map_err(|error| {
                    failed = Some(error);
                    io::Error::other("the version could not be written")
                })
            });
            // The first cause, not what the reduction was told.
            match failed {
                Some(error) => return Err(error),
                None => reduced?,
            }
        }
    }
    let (out, optimizer) = maker.finish()?;
    optimizer.save(&mut next).map_err(StoreError::write)?;
    let mut carry = Vec::new();
    let (digest, file) = out.keep(tools.blobs, &mut carry)?;
    let (state_digest, state) = next.keep(tools.blobs, &mut carry)?;
    let weights = Weights::new(&context.layout, digest, file)?;
    Ok(Made { weights, state, state_digest, carry })
}

/// The last aggregate and the optimizer's state.
fn parts(context: &Context, state: Option<&Bytes>) -> Result<(Option<Bytes>, Option<Bytes>), DriveError> {
    let Some(state) = state else { return Ok((None, None)) };
    if !context.exchange.reduction.is_some_and(|spec| spec.needs_previous()) {
        return Ok((None, Some(state.clone())));
    }
    let length = 4 * context.exchange.form.averaged();
    if state.len() < length {
        return Err(DriveError::Defect("a state without the aggregate that the reduction starts from"));
    }
    Ok((Some(state.slice(..length)), Some(state.slice(length..))))
}

/// Writes new weights in the order of their file, first the integers: floats in the order of the layout, while the
/// aggregate comes in the order of the averaged elements.
struct Maker<'a> {
    context: &'a Context,
    base: &'a Weights,
    /// The largest differences of floats.
    maxed: &'a [f32],
    optimizer: Box<dyn ServerOptimizer>,
    out: Out,
    /// Floats that are written.
    done: usize,
    weights: Vec<f32>,
    gradient: Vec<f32>,
}

impl<'a> Maker<'a> {
    fn new(
        context: &'a Context,
        base: &'a Weights,
        maxed: Option<&'a Maxed>,
        optimizer: Box<dyn ServerOptimizer>,
        mut out: Out,
    ) -> Result<Self, DriveError> {
        out.write_all(&params::safetensors_header(&context.layout)?).map_err(StoreError::write)?;
        let mut integers = base.integers();
        if let Some(maxed) = maxed {
            context.exchange.form.raise_integers(&maxed.integers, &mut integers);
        }
        let bytes: Vec<u8> = integers.iter().flat_map(|value| value.to_le_bytes()).collect();
        out.write_all(&bytes).map_err(StoreError::write)?;
        let maxed = maxed.map_or(&[][..], |maxed| &maxed.floats);
        let (weights, gradient) = (Vec::new(), Vec::new());
        Ok(Self { context, base, maxed, optimizer, out, done: 0, weights, gradient })
    }

    /// Takes in the next averaged elements.
    fn averaged(&mut self, start: usize, aggregate: &[f32]) -> Result<(), DriveError> {
        let context = self.context;
        let end = start + aggregate.len();
        let segments = context.exchange.form.segments();
        let first = segments.partition_point(|segment| segment.place().end <= start);
        for segment in segments[first..].iter().take_while(|segment| segment.at < end) {
            let place = segment.place();
            let (from, to) = (place.start.max(start), place.end.min(end));
            let flat = segment.flat.start + (from - segment.at);
            self.others(flat)?;
            // An update is a difference; optimizers descend along a gradient.
            let sign = if context.job.local.mode == Mode::Train { -1.0 } else { 1.0 };
            self.gradient.clear();
            self.gradient.extend(aggregate[from - start..to - start].iter().map(|x| sign * x));
            self.weights.resize(to - from, 0.0);
            self.base.read(flat, &mut self.weights);
            self.optimizer.apply(from, &mut self.weights, &self.gradient);
            self.write(flat)?;
        }
        Ok(())
    }

    /// Writes elements up to `end` that are not averaged: as they are in the base, or with the largest difference.
    fn others(&mut self, end: usize) -> Result<(), DriveError> {
        while self.done < end {
            let range = self.done..end.min(self.done + BLOCK);
            self.weights.resize(range.len(), 0.0);
            self.base.read(range.start, &mut self.weights);
            self.add_largest(&range);
            self.write(range.start)?;
        }
        Ok(())
    }

    fn add_largest(&mut self, range: &Range<usize>) {
        for segment in self.context.exchange.form.max_segments() {
            let (from, to) = (segment.flat.start.max(range.start), segment.flat.end.min(range.end));
            for flat in from..to.max(from) {
                let weight = &mut self.weights[flat - range.start];
                // One worker must not end the run for all, as an infinite weight would.
                *weight = (*weight + self.maxed[segment.at + (flat - segment.flat.start)])
                    .clamp(f32::MIN, f32::MAX);
            }
        }
    }

    /// Writes what is in `weights`, which begins at element `flat`.
    fn write(&mut self, flat: usize) -> Result<(), DriveError> {
        if let Some(at) = self.weights.iter().position(|weight| !weight.is_finite()) {
            let (tensor, index) = self.context.layout.locate(flat + at).unwrap_or(("", at));
            return Err(DriveError::Diverged { tensor: tensor.to_owned(), index, value: self.weights[at] });
        }
        self.done += self.weights.len();
        self.out.numbers(&self.weights)
    }

    fn finish(mut self) -> Result<(Out, Box<dyn ServerOptimizer>), DriveError> {
        self.others(self.context.layout.elements())?;
        Ok((self.out, self.optimizer))
    }
}

/// A file to be: small ones in memory, because the journal carries them.
enum Out {
    Memory(Vec<u8>),
    File(Box<Draft>, Vec<u8>),
}

/// Room for the header of a small file.
const HEADER: usize = 8 * 1024;

impl Out {
    fn new(blobs: &Blobs, bytes: usize) -> Result<Self, DriveError> {
        if bytes <= CARRIED_MAX - HEADER {
            return Ok(Self::Memory(Vec::with_capacity(bytes)));
        }
        Ok(Self::File(Box::new(blobs.draft()?), Vec::new()))
    }

    fn numbers(&mut self, values: &[f32]) -> Result<(), DriveError> {
        match self {
            Self::Memory(all) => all.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::File(draft, scratch) => {
                scratch.clear();
                scratch.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                draft.write_all(scratch).map_err(StoreError::write)?;
            }
        }
        Ok(())
    }

    /// Puts it on the disk; an empty one is nothing.
    fn keep(self, blobs: &Blobs, carry: &mut Vec<Vec<u8>>) -> Result<(Digest, Bytes), DriveError> {
        match self {
            Self::Memory(bytes) if bytes.is_empty() => Ok((Digest::of(&bytes), Bytes::new())),
            Self::Memory(bytes) => Ok((blobs.put_for_entry(&bytes, carry)?, bytes.into())),
            Self::File(draft, _) => {
                let (digest, _) = blobs.keep(*draft)?;
                Ok((digest, blobs.map_kept(&digest)?))
            }
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Memory(all) => all.write(bytes),
            Self::File(draft, _) => draft.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
