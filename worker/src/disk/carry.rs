//! What a training leaves to the next one of its run: `carry/RUN.ROUND`.
//!
//! A file holds what a coarse encoding has not sent yet (the residual of error feedback), and the values of the
//! tensors that are this worker's own. It advances with what was computed, not with what the coordinator took:
//! an update that a round did not take is lost, as it is without compression.
//!
//! Training of a round starts from the file of the latest round *before* it, which stays until the next round is
//! trained: trained again, whenever the process was killed, a round gives the same bits.
//!
//! All numbers are little-endian: magic (8 bytes), format (u32), length of the run's name (u8), the name, round
//! (u32), lengths of residual and own values (u64 each), both as f32, and the digest of all of that (32). Format 2 has
//! the length of own integers (u64) behind the other lengths, and these as i64 behind the floats; format 1 is
//! written where there are none, which earlier releases read.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use params::{Digest, Hasher, Name};
use service::files::{self, FileError};

use super::{TEMPORARY, at, fields::Fields, replace_with, sync_folder};
use crate::error::chain;

const FOLDER: &str = "carry";
const MAGIC: [u8; 8] = *b"CNCLVCRY";

/// Of files without integers.
const FORMAT_FLOATS: u32 = 1;

/// Of files with integers.
const FORMAT: u32 = 2;

/// How many runs have files: twice as many as have kept updates.
const RUNS_MAX: usize = 16;

/// How many numbers are read and written in one go.
const PIECE: usize = 1 << 14;

/// What a training leaves behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Carried {
    /// What was not sent, of each averaged element; empty: nothing.
    pub(crate) residual: Vec<f32>,
    /// The worker's own values, of each element that is kept local; empty: those of the base version.
    pub(crate) local: Vec<f32>,
    /// The same of integers.
    pub(crate) integers: Vec<i64>,
}

/// How much the files of a run hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Averaged elements, where there is feedback.
    pub(crate) residual: usize,
    /// Floats that are kept local.
    pub(crate) local: usize,
    /// Integers that are kept local.
    pub(crate) integers: usize,
}

impl Shape {
    /// Whether there is nothing to carry.
    pub(crate) fn is_empty(self) -> bool {
        self.residual == 0 && self.local == 0 && self.integers == 0
    }
}

/// Where something that is carried belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) run: Name,
    /// The round that was trained.
    pub(crate) round: u32,
    /// The round whose file the training started from.
    pub(crate) from: Option<u32>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it is nothing that is carried")]
    Magic,
    #[error("it has format {0}, this release reads up to {FORMAT}")]
    Format(u32),
    #[error("it is of round {round} of run '{run}'")]
    Other { run: String, round: u32 },
    #[error(
        "it holds {residual} and {local} values and {integers} integers in {bytes} bytes, the run has {}, {} and {}",
        expected.residual, expected.local, expected.integers
    )]
    Shape { residual: u64, local: u64, integers: u64, bytes: u64, expected: Shape },
    #[error("it does not match its digest")]
    Damaged,
}

/// The folder. Its files hold what must not leave this host, and are for their owner only.
#[derive(Clone, Debug)]
pub(crate) struct Carry {
    dir: PathBuf,
    /// Computed, and not on disk yet: a training that starts meanwhile goes on from it.
    staged: Arc<Mutex<Staged>>,
}

type Staged = BTreeMap<(Name, u32), Arc<Carried>>;

impl Carry {
    /// Opens the folder in `home`, and removes what a process that was killed did not finish.
    pub(crate) fn open(home: &Path) -> Result<Self, FileError> {
        let dir = home.join(FOLDER);
        files::create_private_dir(&dir)?;
        for entry in fs::read_dir(&dir).map_err(at("read folder", &dir))? {
            let path = entry.map_err(at("read folder", &dir))?.path();
            if path.extension().is_some_and(|ending| ending == TEMPORARY) {
                let _ = fs::remove_file(path);
            }
        }
        Ok(Self { dir, staged: Arc::default() })
    }

    /// What the latest training of `run` before round `before` left, and the round of it; nothing where
    /// there is none. A file that is damaged or foreign is passed over: then the residual is lost, as one of
    /// an older round was sent since, and own values are those of the latest good file.
    pub(crate) fn latest(&self, run: &Name, before: u32, shape: Shape) -> (Carried, Option<u32>) {
        let mut rounds: Vec<u32> = self
            .staged()
            .range((run.clone(), 0)..(run.clone(), before))
            .map(|((_, round), _)| *round)
            .collect();
        match self.files() {
            Ok(files) => rounds.extend(
                files.iter().filter(|file| file.run == *run && file.round < before).map(|file| file.round),
            ),
            Err(error) => tracing::warn!("what earlier rounds left cannot be found: {}", chain(&error)),
        }
        rounds.sort_unstable();
        rounds.dedup();
        let mut passed_over = false;
        for round in rounds.into_iter().rev() {
            let staged = self.staged().get(&(run.clone(), round)).map(Arc::clone);
            let mut carried = match staged {
                Some(carried) => Carried::clone(&carried),
                None => match read(&self.path(run, round), run, round, shape) {
                    Ok(carried) => carried,
                    Err(error) => {
                        let path = self.path(run, round);
                        tracing::warn!("{} is ignored: {}", path.display(), chain(&error));
                        passed_over = true;
                        continue;
                    }
                },
            };
            if passed_over {
                carried.residual.clear();
            }
            return (carried, Some(round));
        }
        (Carried::default(), None)
    }

    /// Gives later trainings what [`Carry::put`] is going to write.
    pub(crate) fn stage(&self, place: &Place, carried: Arc<Carried>) {
        self.staged().insert((place.run.clone(), place.round), carried);
    }

    /// Makes what was staged durable, and removes what is not needed after that.
    pub(crate) fn put(&self, place: &Place) -> Result<(), FileError> {
        let key = (place.run.clone(), place.round);
        let Some(carried) = self.staged().get(&key).map(Arc::clone) else { return Ok(()) };
        let written = write(&self.path(&place.run, place.round), place, &carried)
            .and_then(|()| sync_folder(&self.dir).map_err(at("sync folder", &self.dir)));
        {
            // A later training of the same round may have staged its own meanwhile.
            let mut staged = self.staged();
            if staged.get(&key).is_some_and(|known| Arc::ptr_eq(known, &carried)) {
                staged.remove(&key);
            }
        }
        written?;
        // What stays counts as too much again the next time.
        if let Ok(files) = self.files() {
            remove_unneeded(files, place);
        }
        Ok(())
    }

    fn path(&self, run: &Name, round: u32) -> PathBuf {
        self.dir.join(format!("{run}.{round}"))
    }

    fn files(&self) -> Result<Vec<Found>, FileError> {
        let fail = || at("read folder", &self.dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail())? {
            let entry = entry.map_err(fail())?;
            let name = entry.file_name();
            let parsed = name
                .to_str()
                .and_then(|name| name.rsplit_once('.'))
                .and_then(|(run, round)| Some((run.parse::<Name>().ok()?, round.parse::<u32>().ok()?)));
            // Others with the same meaning, such as `run.01`, are not ours.
            if let Some((run, round)) = parsed
                && self.path(&run, round).file_name() == Some(&name)
                && let Ok(written) = entry.metadata().and_then(|meta| meta.modified())
            {
                found.push(Found { run, round, written, path: entry.path() });
            }
        }
        Ok(found)
    }

    fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Found {
    run: Name,
    round: u32,
    written: SystemTime,
    path: PathBuf,
}

/// Of the run, only the new file and the one that the training started from are needed, or what was passed over
/// between: a repetition must pass over it again. Later rounds are of a future that does not come.
fn remove_unneeded(files: Vec<Found>, place: &Place) {
    let mut newest = BTreeMap::<Name, SystemTime>::new();
    for file in &files {
        let newest = newest.entry(file.run.clone()).or_insert(file.written);
        *newest = file.written.max(*newest);
    }
    let mut runs: Vec<_> = newest
        .into_iter()
        .map(|(run, written)| (written, run))
        .filter(|(_, run)| *run != place.run)
        .collect();
    runs.sort();
    let old = (runs.len() + 1).saturating_sub(RUNS_MAX);
    let old: Vec<Name> = runs.into_iter().take(old).map(|(_, run)| run).collect();
    for file in files {
        let stale = file.run == place.run
            && (file.round > place.round || place.from.is_some_and(|from| file.round < from));
        if stale || old.contains(&file.run) {
            let _ = fs::remove_file(file.path);
        }
    }
}

fn write(path: &Path, place: &Place, carried: &Carried) -> Result<(), FileError> {
    replace_with(path, |file| {
        let mut hasher = Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            file.write_all(bytes)
        };
        let name = place.run.as_str().as_bytes();
        let mut header = Vec::with_capacity(128);
        header.extend(MAGIC);
        let integers = carried.integers.len() as u64;
        header.extend(if integers == 0 { FORMAT_FLOATS } else { FORMAT }.to_le_bytes());
        // A name has at most 63 bytes.
        header.push(name.len() as u8);
        header.extend(name);
        header.extend(place.round.to_le_bytes());
        header.extend((carried.residual.len() as u64).to_le_bytes());
        header.extend((carried.local.len() as u64).to_le_bytes());
        if integers > 0 {
            header.extend(integers.to_le_bytes());
        }
        put(&header)?;
        let mut bytes = Vec::with_capacity(8 * PIECE);
        for piece in carried.residual.chunks(PIECE).chain(carried.local.chunks(PIECE)) {
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
            put(&bytes)?;
        }
        for piece in carried.integers.chunks(PIECE) {
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
            put(&bytes)?;
        }
        file.write_all(hasher.digest().as_bytes())?;
        file.sync_all()
    })
}

/// What is announced in a file is compared to what the run has before memory is taken for it.
fn read(path: &Path, run: &Name, round: u32, expected: Shape) -> Result<Carried, CarryError> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut fields = Fields::new(BufReader::with_capacity(4 * PIECE, file));
    if fields.take()? != MAGIC {
        return Err(CarryError::Magic);
    }
    let format = u32::from_le_bytes(fields.take()?);
    if ![FORMAT_FLOATS, FORMAT].contains(&format) {
        return Err(CarryError::Format(format));
    }
    let name = fields.text()?;
    let found = u32::from_le_bytes(fields.take()?);
    if name != run.as_str() || found != round {
        return Err(CarryError::Other { run: name, round: found });
    }
    let residual = u64::from_le_bytes(fields.take()?);
    let local = u64::from_le_bytes(fields.take()?);
    let (integers, more) = match format {
        FORMAT => (u64::from_le_bytes(fields.take()?), 8),
        _ => (0, 0),
    };
    let header = 8 + 4 + 1 + name.len() + 4 + 8 + 8 + more;
    let Shape { residual: r, local: l, integers: i } = expected;
    let length = header as u64 + 4 * (r as u64 + l as u64) + 8 * i as u64 + 32;
    if (residual, local, integers, bytes) != (r as u64, l as u64, i as u64, length) {
        return Err(CarryError::Shape { residual, local, integers, bytes, expected });
    }
    let carried = Carried {
        residual: numbers(&mut fields, r, f32::from_le_bytes)?,
        local: numbers(&mut fields, l, f32::from_le_bytes)?,
        integers: numbers(&mut fields, i, i64::from_le_bytes)?,
    };
    let digest = fields.digest();
    match Digest::from(fields.take::<32>()?) == digest {
        true => Ok(carried),
        false => Err(CarryError::Damaged),
    }
}

/// The next numbers of a file, each of `N` bytes.
fn numbers<T, const N: usize>(
    fields: &mut Fields<impl io::Read>,
    count: usize,
    number: impl Fn([u8; N]) -> T,
) -> io::Result<Vec<T>> {
    let (mut values, mut piece) = (Vec::with_capacity(count), vec![0; N * PIECE.min(count)]);
    while values.len() < count {
        let bytes = &mut piece[..N * PIECE.min(count - values.len())];
        fields.fill(bytes)?;
        values.extend(bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests;
