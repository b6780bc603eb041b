//! The updates of one attempt at a round: verified as they come, then summed at once or kept on the disk.

use std::{collections::BTreeMap, num::NonZeroUsize};

use aggregate::{Accumulator, ReduceSpec, Rows, Source, Stretch};
use params::Name;

use super::{DriveError, prepare::Context};
use crate::{
    api::Buffer,
    plan,
    store::{Spill, Spilled, StoreError},
};

/// A verified update.
#[derive(Debug)]
pub(crate) struct Update {
    averaged: Averaged,
    maxed: Maxed,
}

/// Differences of the elements of which the largest counts.
#[derive(Debug, Default)]
pub(super) struct Maxed {
    pub(super) floats: Vec<f32>,
    pub(super) integers: Vec<i64>,
}

impl Maxed {
    /// Those of an update that was verified.
    fn read(context: &Context, update: &[u8]) -> Self {
        let (form, encoding) = (&context.exchange.form, &context.exchange.encoding);
        let mut floats = vec![0.0; form.maxed()];
        if let Some((_, largest)) = form.split(encoding, update) {
            update::Encoding::F32.decode(largest, form.maxed(), 0, &mut floats);
            // Zero gets one sign, or the order of arrival would decide it.
            floats.iter_mut().for_each(|value| *value += 0.0);
        }
        Self { floats, integers: form.read_integers(encoding, update).unwrap_or_default() }
    }

    /// Keeps the larger of each element.
    fn raise(&mut self, other: &Self) {
        for (largest, value) in self.floats.iter_mut().zip(&other.floats) {
            *largest = largest.max(*value);
        }
        for (largest, value) in self.integers.iter_mut().zip(&other.integers) {
            *largest = (*largest).max(*value);
        }
    }
}

/// What is averaged of an update.
#[derive(Debug)]
enum Averaged {
    /// As it came over the wire, with its L2 norm where that is needed.
    Bytes { payload: Buffer, norm: Option<f64> },
    /// Decoded, in a file.
    Spilled(Spilled),
}

/// Why an update is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It is not what the round asks for: whoever sent it is left out.
    #[error(transparent)]
    Fault(#[from] update::UpdateFault),
    /// This host cannot take it now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Elements that are decoded at once.
const BLOCK: usize = 64 * 1024;

impl Update {
    /// Verifies what came: length, structure, finite, coordinate bounds, norm. Where the reduction needs every
    /// update, it goes to the disk and its memory is given back.
    pub(crate) fn verify(context: &Context, spill: &Spill, payload: Buffer) -> Result<Self, Refused> {
        let exchange = &context.exchange;
        let bound = exchange.norm_max.or(exchange.clip.map(|_| f64::INFINITY));
        let checked = update::check(&exchange.form, &exchange.encoding, &payload, bound)?;
        let maxed = Maxed::read(context, &payload);
        let averaged = match exchange.reduction {
            None => Averaged::Bytes { payload, norm: checked.norm },
            Some(_) => Averaged::Spilled(spilled(context, spill, &payload)?),
        };
        Ok(Self { averaged, maxed })
    }
}

/// The part of a verified update that is averaged, in the encoding of the run.
fn averaged<'a>(context: &Context, update: &'a [u8]) -> &'a [u8] {
    let exchange = &context.exchange;
    exchange.form.split(&exchange.encoding, update).map_or(&[][..], |(payload, _)| payload)
}

/// Decodes an update into a file of its own.
fn spilled(context: &Context, spill: &Spill, update: &[u8]) -> Result<Spilled, StoreError> {
    let (form, encoding) = (&context.exchange.form, &context.exchange.encoding);
    let elements = form.averaged();
    let payload = averaged(context, update);
    let mut file = spill.create(elements)?;
    let mut block = vec![0.0; BLOCK.min(elements)];
    for start in (0..elements).step_by(BLOCK) {
        let values = &mut block[..BLOCK.min(elements - start)];
        encoding.decode(payload, elements, start, values);
        file.append(values)?;
    }
    Ok(file)
}

/// What an attempt has of its updates: in memory only. After a restart it is made again from the updates that the
/// workers kept.
#[derive(Debug)]
pub(crate) struct Gathered {
    kept: Kept,
    /// The largest of each element whose policy is `max`; none before the first update.
    maxed: Option<Maxed>,
}

#[derive(Debug)]
pub(super) enum Kept {
    /// The sum: 8 bytes for each element, whatever the number of updates.
    Sum(Accumulator),
    /// All of them, by the names of the workers: their order decides nothing but ties.
    Spilled(ReduceSpec, BTreeMap<Name, Spilled>),
}

impl Gathered {
    /// Prepares for the updates of `cohort` workers with at most `examples_max` examples in all.
    pub(crate) fn open(context: &Context, examples_max: u64, cohort: usize) -> Result<Self, DriveError> {
        let exchange = &context.exchange;
        let kept = match exchange.reduction {
            Some(spec) => Kept::Spilled(spec, BTreeMap::new()),
            None => {
                let stretch = |segment: &update::Segment| Stretch {
                    elements: segment.flat.len(),
                    coordinate_max: segment.coordinate_max,
                };
                let stretches: Vec<Stretch> = exchange.form.segments().iter().map(stretch).collect();
                let weights = plan::weight_sum_max(&context.job, examples_max, cohort as u64);
                Kept::Sum(Accumulator::new(&stretches, weights)?)
            }
        };
        Ok(Self { kept, maxed: None })
    }

    /// Whether an update with so many examples has room in the sum.
    pub(crate) fn room(&self, context: &Context, examples: u64) -> Result<(), aggregate::WeightFault> {
        match &self.kept {
            Kept::Sum(sum) => sum.room(plan::weight(&context.job, examples)),
            Kept::Spilled(..) => Ok(()),
        }
    }

    /// Takes in a verified update for which there is room.
    pub(crate) fn fold(
        &mut self,
        context: &Context,
        worker: &Name,
        update: Update,
        examples: u64,
        threads: NonZeroUsize,
    ) -> Result<(), DriveError> {
        match (&mut self.kept, update.averaged) {
            (Kept::Sum(sum), Averaged::Bytes { payload, norm }) => {
                let weight = plan::weight(&context.job, examples);
                add(sum, context, &payload, norm, weight, threads)?;
            }
            (Kept::Spilled(_, files), Averaged::Spilled(file)) => {
                files.insert(worker.clone(), file);
            }
            _ => return Err(DriveError::Defect("an update of another reduction than the round's")),
        }
        match &mut self.maxed {
            None => self.maxed = Some(update.maxed),
            Some(largest) => largest.raise(&update.maxed),
        }
        Ok(())
    }

    /// The updates, and the largest of each element whose policy is `max`.
    pub(super) fn parts(&self) -> (&Kept, Option<&Maxed>) {
        (&self.kept, self.maxed.as_ref())
    }
}

/// Adds an update to the sum: as it lies in memory where it can be, decoded by blocks otherwise.
fn add(
    sum: &mut Accumulator,
    context: &Context,
    update: &[u8],
    norm: Option<f64>,
    weight: u64,
    threads: NonZeroUsize,
) -> Result<(), DriveError> {
    let exchange = &context.exchange;
    let (form, encoding) = (&exchange.form, &exchange.encoding);
    let elements = form.averaged();
    let payload = averaged(context, update);
    let factor = match (exchange.clip, norm) {
        (Some(clip), Some(norm)) if norm > clip => clip / norm,
        _ => 1.0,
    };
    if factor == 1.0 && *encoding == update::Encoding::F32 {
        sum.add(&Source::Bytes(payload), weight, threads)?;
        return Ok(());
    }
    let decode = |start: usize, out: &mut [f32]| {
        encoding.decode(payload, elements, start, out);
        if factor != 1.0 {
            out.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
    };
    Ok(sum.add(&Source::Decode(&decode), weight, threads)?)
}

/// The files of an attempt as the rows of a reduction.
pub(super) struct Files<'a> {
    files: Vec<&'a Spilled>,
    columns: usize,
}

impl<'a> Files<'a> {
    pub(super) fn new(files: &'a BTreeMap<Name, Spilled>, columns: usize) -> Self {
        Self { files: files.values().collect(), columns }
    }
}

impl Rows for Files<'_> {
    fn rows(&self) -> usize {
        self.files.len()
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn read(&mut self, row: usize, start: usize, out: &mut [f32]) -> std::io::Result<()> {
        self.files[row].read(start, out)
    }
}

/// The last aggregate, little-endian `f32`, as the one row from which a reduction starts.
pub(super) struct Previous(pub(super) bytes::Bytes);

impl Rows for Previous {
    fn rows(&self) -> usize {
        1
    }

    fn columns(&self) -> usize {
        self.0.len() / 4
    }

    fn read(&mut self, _: usize, start: usize, out: &mut [f32]) -> std::io::Result<()> {
        update::Encoding::F32.decode(&self.0, self.columns(), start, out);
        Ok(())
    }
}

#[cfg(test)]
mod resolution;
#[cfg(test)]
mod tests;
