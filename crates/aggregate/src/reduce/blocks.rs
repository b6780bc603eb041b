use std::thread;

use super::{Budget, Emit, ReduceError, Rows};

/// Columns of a tile: the unit of work, of summation, and of the size of blocks.
///
/// Sums over columns are made tile by tile and added in the order of the tiles. As a block is a whole
/// number of tiles, and a thread takes whole tiles, neither can change a bit of a sum.
pub(super) const TILE: usize = 1024;

/// Below this many values a thread costs more than it saves.
const VALUES_PER_THREAD: usize = 1 << 17;

/// A matrix with a budget to walk over it, and the last aggregate where the rule uses it.
pub(super) struct Source<'a> {
    rows: &'a mut dyn Rows,
    previous: Option<&'a mut dyn Rows>,
    budget: Budget,
    /// The last block's memory: fresh pages for every pass would cost more than most passes compute.
    spare: Vec<f32>,
}

/// Some columns of some rows, row after row.
struct Block {
    values: Vec<f32>,
    height: usize,
    width: usize,
}

/// At most [`TILE`] columns of a block.
pub(super) struct Tile<'a> {
    values: &'a [f32],
    stride: usize,
    at: usize,
    width: usize,
}

impl<'a> Source<'a> {
    /// `previous` has been checked to be one row as long as the others.
    pub(super) fn new(rows: &'a mut dyn Rows, previous: Option<&'a mut dyn Rows>, budget: Budget) -> Self {
        Self { rows, previous, budget, spare: Vec::new() }
    }

    /// All rows of the matrix.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.rows.rows()).collect()
    }

    pub(super) fn columns(&self) -> usize {
        self.rows.columns()
    }

    pub(super) fn has_previous(&self) -> bool {
        self.previous.is_some()
    }

    /// One piece of one row.
    pub(super) fn read(&mut self, row: usize, start: usize, out: &mut [f32]) -> Result<(), ReduceError> {
        self.rows.read(row, start, out).map_err(|source| ReduceError::Read { row, start, source })
    }

    /// Columns of a block of `height` rows with `tile_bytes` of results per tile, a multiple of [`TILE`].
    pub(super) fn block_columns(&self, height: usize, tile_bytes: usize) -> usize {
        let tile = 4 * TILE * height + tile_bytes;
        let tiles = (self.budget.bytes / tile.max(1)).clamp(1, self.columns().div_ceil(TILE).max(1));
        tiles * TILE
    }

    /// Emits one value per column, computed from the rows `pick`, in that order, and the last aggregate
    /// below them if there is one. `make` gives each thread its function from a tile to its columns.
    pub(super) fn map<W>(
        &mut self,
        pick: &[usize],
        make: &(impl Fn() -> W + Sync),
        emit: &mut Emit<'_>,
    ) -> Result<(), ReduceError>
    where
        W: FnMut(&Tile<'_>, &mut [f32]),
    {
        let threads = self.budget.threads;
        let mut out = Vec::new();
        self.blocks(pick, 4 * TILE, &mut |start, block| {
            out.resize(block.width, 0.0);
            run(block, &mut out, TILE, threads, make)?;
            emit(start, &out).map_err(|source| ReduceError::Emit { start, source })
        })
    }

    /// `sums` sums over all columns, of what the function from `make` gives for each tile; see [`TILE`].
    pub(super) fn fold<W>(
        &mut self,
        pick: &[usize],
        sums: usize,
        make: &(impl Fn() -> W + Sync),
    ) -> Result<Vec<f64>, ReduceError>
    where
        W: FnMut(&Tile<'_>, &mut [f64]),
    {
        let mut total = vec![0.0; sums];
        if sums == 0 {
            return Ok(total);
        }
        let threads = self.budget.threads;
        let mut partial = Vec::new();
        self.blocks(pick, 8 * sums, &mut |_, block| {
            partial.resize(block.width.div_ceil(TILE) * sums, 0.0);
            run(block, &mut partial, sums, threads, make)?;
            for tile in partial.chunks_exact(sums) {
                total.iter_mut().zip(tile).for_each(|(total, part)| *total += part);
            }
            Ok(())
        })?;
        Ok(total)
    }

    /// Reads the matrix from the first column to the last.
    fn blocks(
        &mut self,
        pick: &[usize],
        tile_bytes: usize,
        visit: &mut dyn FnMut(usize, &Block) -> Result<(), ReduceError>,
    ) -> Result<(), ReduceError> {
        let height = pick.len() + usize::from(self.has_previous());
        let columns = self.columns();
        let step = self.block_columns(height, tile_bytes);
        let mut block = Block { values: std::mem::take(&mut self.spare), height, width: 0 };
        for start in (0..columns).step_by(step) {
            block.width = step.min(columns - start);
            block.values.resize(height * block.width, 0.0);
            let mut pieces = block.values.chunks_exact_mut(block.width);
            for (&row, piece) in pick.iter().zip(&mut pieces) {
                self.read(row, start, piece)?;
            }
            if let (Some(previous), Some(piece)) = (&mut self.previous, pieces.next()) {
                previous
                    .read(0, start, piece)
                    .map_err(|source| ReduceError::ReadPrevious { start, source })?;
            }
            visit(start, &block)?;
        }
        self.spare = block.values;
        Ok(())
    }
}

impl Block {
    fn tile(&self, index: usize) -> Tile<'_> {
        let at = index * TILE;
        Tile { values: &self.values, stride: self.width, at, width: TILE.min(self.width - at) }
    }
}

impl<'a> Tile<'a> {
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The rows of the tile, in the order in which they were picked.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let columns = self.at..self.at + self.width;
        self.values.chunks_exact(self.stride).map(move |row| &row[columns.clone()])
    }
}

/// Calls the function for every tile with its `per_tile` results, on as many threads as pay.
fn run<T: Send, W: FnMut(&Tile<'_>, &mut [T])>(
    block: &Block,
    out: &mut [T],
    per_tile: usize,
    threads: usize,
    make: &(impl Fn() -> W + Sync),
) -> Result<(), ReduceError> {
    let tiles = block.width.div_ceil(TILE);
    let threads = threads.min(block.height * block.width / VALUES_PER_THREAD).clamp(1, tiles);
    let share = tiles.div_ceil(threads);
    let work = |first: usize, out: &mut [T]| {
        let mut compute = make();
        for (index, out) in out.chunks_mut(per_tile).enumerate() {
            compute(&block.tile(first + index), out);
        }
    };
    thread::scope(|scope| {
        let mut shares = out.chunks_mut(share * per_tile).enumerate();
        let own = shares.next();
        for (index, out) in shares {
            let work = &work;
            thread::Builder::new()
                .name("reduce".into())
                .spawn_scoped(scope, move || work(index * share, out))
                .map_err(ReduceError::Thread)?;
        }
        if let Some((_, out)) = own {
            work(0, out);
        }
        Ok(())
    })
}
