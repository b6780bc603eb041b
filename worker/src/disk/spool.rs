//! Trained updates, until their round is over: `spool/N.update`.
//!
//! An update that is not wanted any more leaves its file to the next one, which is written over it: that
//! costs one wait for the disk, where a new name in a folder costs three. A crash in the middle leaves a file
//! that does not match its digests, and what it held was not wanted.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{BufReader, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use params::{Digest, Hasher};
use round::worker::Kept;
use service::files::{self, FileError};

use crate::error::chain;

use super::{
    at,
    header::{BLANK, Header, HeaderError},
    oldest_first, sync_folder,
};

const FOLDER: &str = "spool";
const EXTENSION: &str = "update";

/// How much of a payload is looked at in one go.
const PIECE: usize = 1 << 16;

/// A larger file is not left to the next update: its space is given back.
const LEFT_BYTES_MAX: u64 = 1 << 20;

/// The folder. Its files hold what the coordinator is sent, and are for their owner only.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    /// Held while a file is read or written: nobody reads what another update is written over.
    files: Arc<Mutex<Files>>,
}

/// What is in the folder.
#[derive(Debug, Default)]
struct Files {
    /// The file of each update, by the key of its work.
    used: BTreeMap<Digest, PathBuf>,
    /// Files to be written over, no more than there were updates at once.
    free: Vec<PathBuf>,
    /// Files that are not touched.
    foreign: Vec<PathBuf>,
}

/// Why a kept update cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The operating system refuses.
    #[error(transparent)]
    File(#[from] FileError),
    /// The header is not one.
    #[error("{}: {wrong}", path.display())]
    Header {
        /// Of the file.
        path: PathBuf,
        /// What is wrong.
        wrong: HeaderError,
    },
    /// The payload is not the one that was written.
    #[error("{}: the payload does not match its digest", .0.display())]
    Damaged(PathBuf),
    /// It was forgotten.
    #[error("no update is kept for work {}", .0.short())]
    Gone(Digest),
}

impl SpoolError {
    /// Whether the file may well be good: the system does not let it be read now, or another release wrote it. It may
    /// be the only copy of an update that was acknowledged, so it stays.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::File(_) | Self::Header { wrong: HeaderError::Format(_), .. } => true,
            Self::Header { wrong: HeaderError::Read(cause), .. } => {
                cause.kind() != std::io::ErrorKind::UnexpectedEof
            }
            _ => false,
        }
    }
}

impl Spool {
    /// Opens the folder in `home`, and gives what is in it, verified, oldest first. A damaged file is
    /// removed: its update is trained again if it is wanted.
    pub(crate) fn open(home: &Path) -> Result<(Self, Vec<Kept>), FileError> {
        let dir = home.join(FOLDER);
        files::create_private_dir(&dir)?;
        let (mut found, mut files) = (Vec::<(PathBuf, Kept)>::new(), Files::default());
        for path in oldest_first(&dir, EXTENSION)? {
            match verify(&path) {
                Ok(header) => found.push((path, header.kept)),
                Err(SpoolError::Header { wrong: HeaderError::Blank, .. }) => files.free.push(path),
                Err(error) if error.is_passing() => {
                    tracing::warn!("a kept update is left alone: {}", chain(&error));
                    files.foreign.push(path);
                }
                Err(error) => discard(&path, &error),
            }
        }
        // One that was forgotten may be back after a power cut: the later round of a run counts.
        let stale = |kept: &Kept| found.iter().any(|(_, k)| k.run == kept.run && k.round > kept.round);
        let (old, kept): (Vec<_>, Vec<_>) = found.iter().cloned().partition(|(_, kept)| stale(kept));
        files.free.extend(old.into_iter().map(|(path, _)| path));
        files.used = kept.iter().map(|(path, kept)| (kept.key, path.clone())).collect();
        let kept = kept.into_iter().map(|(_, kept)| kept).collect();
        Ok((Self { dir, files: Arc::new(Mutex::new(files)) }, kept))
    }

    /// Makes an update durable.
    pub(crate) fn keep(&self, kept: &Kept, train_loss: f64, payload: &[u8]) -> Result<(), FileError> {
        let header = Header { kept: kept.clone(), train_loss }.encode();
        let mut files = self.files();
        let path = files.free.pop().unwrap_or_else(|| files.new_path(&self.dir));
        if let Err(error) = write(&path, &header, payload) {
            // A full disk gets its space back.
            let _ = fs::remove_file(&path);
            return Err(at("write", &path)(error));
        }
        // The same work was done again: the older file is not needed.
        match files.used.insert(kept.key, path) {
            Some(older) => files.leave(older),
            None => Ok(()),
        }
    }

    /// The payload and the train loss of an update, verified. A damaged one is removed, see
    /// [`SpoolError::is_passing`].
    pub(crate) fn read(&self, kept: &Kept) -> Result<(Vec<u8>, f64), SpoolError> {
        let mut files = self.files();
        let path = files.used.get(&kept.key).cloned().ok_or(SpoolError::Gone(kept.key))?;
        let read = || {
            let (mut file, header) = open(&path)?;
            let mut payload = Vec::new();
            file.read_to_end(&mut payload).map_err(at("read", &path))?;
            if header.kept != *kept || Digest::of(&payload) != kept.digest {
                return Err(SpoolError::Damaged(path.clone()));
            }
            Ok((payload, header.train_loss))
        };
        read().inspect_err(|error| {
            if !error.is_passing() {
                files.used.remove(&kept.key);
                discard(&path, error);
            }
        })
    }

    /// Gives up an update, if it is there. It may be back after a power cut; then it is older than the one
    /// that replaced it.
    pub(crate) fn forget(&self, key: Digest) -> Result<(), FileError> {
        let mut files = self.files();
        match files.used.remove(&key) {
            Some(path) => files.leave(path),
            None => Ok(()),
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// The first name that no file has.
    fn new_path(&self, dir: &Path) -> PathBuf {
        let taken = |path: &PathBuf| {
            self.free.contains(path)
                || self.foreign.contains(path)
                || self.used.values().any(|used| used == path)
        };
        let mut paths = (0u64..).map(|number| dir.join(format!("{number}.{EXTENSION}")));
        paths.find(|path| !taken(path)).unwrap_or_default()
    }

    /// The file holds nothing that is wanted.
    fn leave(&mut self, path: PathBuf) -> Result<(), FileError> {
        let blank = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            if file.metadata()?.len() > LEFT_BYTES_MAX {
                return fs::remove_file(&path).map(|()| false);
            }
            file.write_all_at(&BLANK, 0).map(|()| true)
        };
        if blank().map_err(at("blank", &path))? {
            self.free.push(path);
        }
        Ok(())
    }
}

/// Writes a file, over what it holds, so that it is there after a power cut.
fn write(path: &Path, header: &[u8], payload: &[u8]) -> std::io::Result<()> {
    let new = !path.exists();
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.write_all(header)?;
    file.write_all(payload)?;
    let length = (header.len() + payload.len()) as u64;
    if file.metadata()?.len() != length {
        file.set_len(length)?;
    }
    file.sync_data()?;
    match path.parent() {
        Some(folder) if new => sync_folder(folder),
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<(BufReader<File>, Header), SpoolError> {
    let mut file = BufReader::with_capacity(PIECE, File::open(path).map_err(at("open", path))?);
    let header =
        Header::read(&mut file).map_err(|wrong| SpoolError::Header { path: path.to_owned(), wrong })?;
    Ok((file, header))
}

/// Reads all of a file, a piece at a time.
fn verify(path: &Path) -> Result<Header, SpoolError> {
    let (mut file, header) = open(path)?;
    let (mut hasher, mut bytes, mut piece) = (Hasher::new(), 0u64, vec![0; PIECE]);
    loop {
        match file.read(&mut piece).map_err(at("read", path))? {
            0 => break,
            len => {
                hasher.update(&piece[..len]);
                bytes += len as u64;
            }
        }
    }
    match bytes == header.kept.bytes && hasher.digest() == header.kept.digest {
        true => Ok(header),
        false => Err(SpoolError::Damaged(path.to_owned())),
    }
}

fn discard(path: &Path, error: &SpoolError) {
    tracing::warn!("a kept update is dropped: {}", chain(error));
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("remove {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PAYLOAD: &[u8] = b"weights";

    #[test]
    fn a_file_of_a_later_release_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(home.path()).unwrap();
        let path = spool.dir.join("0.update");
        let mut bytes = Header { kept: kept("a"), train_loss: 0.5 }.encode().to_vec();
        // The format number stands behind the magic.
        bytes[8] = 99;
        fs::write(&path, &bytes).unwrap();
        let (spool, found) = Spool::open(home.path()).unwrap();
        assert_eq!(found, []);
        spool.keep(&kept("b"), 0.5, PAYLOAD).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(fs::read_dir(&spool.dir).unwrap().count(), 2);
    }

    fn kept(run: &str) -> Kept {
        Kept {
            run: run.parse().unwrap(),
            round: 3,
            key: Digest::of(run.as_bytes()),
            digest: Digest::of(PAYLOAD),
            bytes: PAYLOAD.len() as u64,
            examples: 10,
        }
    }

    fn home() -> (tempfile::TempDir, Spool) {
        let home = tempfile::tempdir().unwrap();
        let (spool, found) = Spool::open(home.path()).unwrap();
        assert_eq!(found, []);
        (home, spool)
    }

    #[test]
    fn what_is_kept_is_there_for_the_next_process_and_for_nobody_else() {
        let (home, spool) = home();
        spool.keep(&kept("a"), 0.5, PAYLOAD).unwrap();
        spool.keep(&kept("b"), 0.25, PAYLOAD).unwrap();
        let (again, mut found) = Spool::open(home.path()).unwrap();
        found.sort_by(|a, b| a.run.cmp(&b.run));
        assert_eq!(found, [kept("a"), kept("b")]);
        assert_eq!(again.read(&kept("a")).unwrap(), (PAYLOAD.to_vec(), 0.5));
        let path = again.files().used[&kept("a").key].clone();
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        again.forget(kept("a").key).unwrap();
        again.forget(kept("a").key).unwrap();
        assert_eq!(Spool::open(home.path()).unwrap().1, [kept("b")]);
    }

    #[test]
    fn damage_is_noticed_and_removed() {
        let (home, spool) = home();
        spool.keep(&kept("a"), 0.5, PAYLOAD).unwrap();
        let path = spool.files().used[&kept("a").key].clone();
        let good = fs::read(&path).unwrap();
        let open = || Spool::open(home.path()).unwrap();
        for at in [0, 20, 60, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &good).unwrap();
            let (spool, found) = open();
            assert_eq!(found, [kept("a")]);
            fs::write(&path, &bad).unwrap();
            assert!(spool.read(&kept("a")).is_err(), "byte {at}");
            assert!(!path.exists());
            assert!(matches!(spool.read(&kept("a")), Err(SpoolError::Gone(_))));
            fs::write(&path, &bad).unwrap();
            assert_eq!(open().1, [], "byte {at}");
            assert!(!path.exists());
        }
        fs::write(&path, &good).unwrap();
        let (spool, _) = open();
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(spool.read(&kept("a")), Err(SpoolError::Damaged(_))));
    }

    #[test]
    fn leftovers_of_a_killed_process_are_removed() {
        let (home, spool) = home();
        let left = spool.dir.join("0.tmp");
        fs::write(&left, b"half").unwrap();
        assert_eq!(Spool::open(home.path()).unwrap().1, []);
        assert!(!left.exists());
    }

    #[test]
    fn a_forgotten_update_leaves_its_file_to_the_next_one() {
        let (home, spool) = home();
        let names = || {
            let entries = fs::read_dir(home.path().join(FOLDER)).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let round = |round: u32, payload: &[u8]| Kept {
            round,
            key: Digest::of(&round.to_le_bytes()),
            digest: Digest::of(payload),
            bytes: payload.len() as u64,
            ..kept("a")
        };
        // Longer and shorter than what was there.
        for (number, payload) in [(1, PAYLOAD), (2, b"longer weights"), (3, b"w")] {
            let kept = round(number, payload);
            spool.keep(&kept, 0.5, payload).unwrap();
            assert_eq!(spool.read(&kept).unwrap(), (payload.to_vec(), 0.5));
            assert_eq!(Spool::open(home.path()).unwrap().1, std::slice::from_ref(&kept));
            spool.forget(kept.key).unwrap();
            assert!(matches!(spool.read(&kept), Err(SpoolError::Gone(_))));
            assert_eq!(names(), ["0.update"]);
        }
        let (spool, found) = Spool::open(home.path()).unwrap();
        assert_eq!(found, []);
        spool.keep(&round(4, PAYLOAD), 0.5, PAYLOAD).unwrap();
        spool.keep(&kept("b"), 0.5, PAYLOAD).unwrap();
        assert_eq!(names(), ["0.update", "1.update"]);
    }

    #[test]
    fn a_forgotten_round_that_is_back_does_not_replace_a_later_one() {
        let (home, spool) = home();
        let later = Kept { round: 4, key: Digest::of(b"later"), ..kept("a") };
        spool.keep(&later, 0.5, PAYLOAD).unwrap();
        // As if the power had gone before the disk knew that it was forgotten; and it looks newer.
        spool.keep(&kept("a"), 0.5, PAYLOAD).unwrap();
        let (spool, found) = Spool::open(home.path()).unwrap();
        assert_eq!(found, std::slice::from_ref(&later));
        spool.keep(&kept("b"), 0.5, PAYLOAD).unwrap();
        assert_eq!(spool.read(&later).unwrap().0, PAYLOAD);
        assert_eq!(fs::read_dir(home.path().join(FOLDER)).unwrap().count(), 2);
    }

    #[test]
    fn a_large_file_is_given_back() {
        let (home, spool) = home();
        let payload = vec![7; LEFT_BYTES_MAX as usize + 1];
        let large = Kept { digest: Digest::of(&payload), bytes: payload.len() as u64, ..kept("a") };
        spool.keep(&large, 0.5, &payload).unwrap();
        assert_eq!(spool.read(&large).unwrap().0, payload);
        spool.forget(large.key).unwrap();
        assert_eq!(fs::read_dir(home.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_an_error_that_names_the_file() {
        let (home, spool) = home();
        fs::remove_dir(home.path().join(FOLDER)).unwrap();
        let error = spool.keep(&kept("a"), 0.5, PAYLOAD).unwrap_err().to_string();
        assert!(error.contains("spool/0.update"), "{error}");
    }
}
