//! Trained updates, until their round is over: `spool/KEY.update`.

use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use params::{Digest, Hasher};
use round::worker::Kept;
use service::files::{self, FileError};

use crate::error::chain;

use super::{
    at,
    header::{Header, HeaderError},
    oldest_first, replace,
};

const FOLDER: &str = "spool";
const EXTENSION: &str = "update";

/// How much of a payload is looked at in one go.
const PIECE: usize = 1 << 16;

/// The folder. Its files hold what the coordinator is sent, and are for their owner only.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
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
}

impl Spool {
    /// Opens the folder in `home`, and gives what is in it, verified, oldest first. A damaged file is
    /// removed: its update is trained again if it is wanted.
    pub(crate) fn open(home: &Path) -> Result<(Self, Vec<Kept>), FileError> {
        let spool = Self { dir: home.join(FOLDER) };
        files::create_private_dir(&spool.dir)?;
        let mut kept = Vec::new();
        for path in oldest_first(&spool.dir, EXTENSION)? {
            match verify(&path) {
                Ok(header) if spool.path(header.kept.key) == path => kept.push(header.kept),
                Ok(_) => discard(&path, &SpoolError::Damaged(path.clone())),
                Err(error) => discard(&path, &error),
            }
        }
        Ok((spool, kept))
    }

    /// Makes an update durable.
    pub(crate) fn keep(&self, kept: &Kept, train_loss: f64, payload: &[u8]) -> Result<(), FileError> {
        let header = Header { kept: kept.clone(), train_loss }.encode();
        replace(&self.path(kept.key), &[&header, payload], true)
    }

    /// The payload and the train loss of an update, verified. A damaged one is removed.
    pub(crate) fn read(&self, kept: &Kept) -> Result<(Vec<u8>, f64), SpoolError> {
        let path = self.path(kept.key);
        let read = || {
            let (mut file, header) = open(&path)?;
            let mut payload = Vec::new();
            file.read_to_end(&mut payload).map_err(at("read", &path))?;
            if header.kept != *kept || Digest::of(&payload) != kept.digest {
                return Err(SpoolError::Damaged(path.clone()));
            }
            Ok((payload, header.train_loss))
        };
        read().inspect_err(|error| discard(&path, error))
    }

    /// Deletes an update, if it is there.
    pub(crate) fn forget(&self, key: Digest) -> Result<(), FileError> {
        files::remove(&self.path(key))
    }

    fn path(&self, key: Digest) -> PathBuf {
        self.dir.join(format!("{key}.{EXTENSION}"))
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
        let mode = fs::metadata(again.path(kept("a").key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        again.forget(kept("a").key).unwrap();
        again.forget(kept("a").key).unwrap();
        assert_eq!(Spool::open(home.path()).unwrap().1, [kept("b")]);
    }

    #[test]
    fn damage_is_noticed_and_removed() {
        let (home, spool) = home();
        let path = spool.path(kept("a").key);
        spool.keep(&kept("a"), 0.5, PAYLOAD).unwrap();
        let good = fs::read(&path).unwrap();
        for at in [0, 9, 20, 60, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(spool.read(&kept("a")).is_err(), "byte {at}");
            assert!(!path.exists());
            fs::write(&path, &bad).unwrap();
            assert_eq!(Spool::open(home.path()).unwrap().1, [], "byte {at}");
            assert!(!path.exists());
        }
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(spool.read(&kept("a")), Err(SpoolError::Damaged(_))));
        // Whole, under the name of another one.
        fs::write(spool.path(kept("b").key), &good).unwrap();
        assert!(spool.read(&kept("b")).is_err());
    }

    #[test]
    fn leftovers_of_a_killed_process_are_removed() {
        let (home, spool) = home();
        let left = spool.path(kept("a").key).with_extension("tmp");
        fs::write(&left, b"half").unwrap();
        assert_eq!(Spool::open(home.path()).unwrap().1, []);
        assert!(!left.exists());
    }

    #[test]
    fn a_disk_that_takes_nothing_is_an_error_that_names_the_file() {
        let (home, spool) = home();
        fs::remove_dir(home.path().join(FOLDER)).unwrap();
        let error = spool.keep(&kept("a"), 0.5, PAYLOAD).unwrap_err().to_string();
        assert!(error.contains(&kept("a").key.to_string()), "{error}");
    }
}
