//! Starting a run: read and check the job file, send the files that it names, start.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use job::{JOB_BYTES_MAX, Job};
use params::Digest;
use proto::{
    chunks,
    v1::{Attachment, StartRunRequest, UploadPart, upload_part::Part},
};

use crate::{
    args::{Command, Run},
    error::CliError,
    progress::Progress,
    session::Session,
};

/// The largest file that is sent along, in bytes.
const ATTACHMENT_BYTES_MAX: u64 = 1 << 30;

/// A job file that was read and checked.
#[derive(Debug)]
pub(super) struct Prepared {
    path: PathBuf,
    text: String,
    job: Job,
}

/// Reads and checks the job file of `run start`; nothing for other commands.
pub(super) fn prepare(command: &Command) -> Result<Option<Prepared>, CliError> {
    let Command::Run(Run::Start { job: path, .. }) = command else { return Ok(None) };
    let bytes = read(path, JOB_BYTES_MAX as u64)?;
    let fault = |source| CliError::Job { path: path.clone(), source };
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..valid].iter().filter(|b| **b == b'\n').count() + 1;
        fault(job::JobError::Syntax { line, column: 1, message: "not UTF-8 text".to_owned() })
    })?;
    let job = Job::parse(&text).map_err(fault)?;
    Ok(Some(Prepared { path: path.clone(), text, job }))
}

/// Sends the files and starts the run. Returns its name.
pub(super) async fn start(session: &Session, prepared: Prepared) -> Result<String, CliError> {
    let folder = prepared.path.parent().unwrap_or(Path::new(""));
    let mut attachments = Vec::new();
    for path in prepared.job.attachments() {
        let file = folder.join(path);
        let bytes = read(&file, ATTACHMENT_BYTES_MAX)?;
        let digest = upload(session, path, bytes).await?;
        attachments.push(Attachment { path: path.to_owned(), digest: digest.as_bytes().to_vec() });
    }
    let request = StartRunRequest { job: prepared.text, attachments };
    Ok(session.control().start_run(request).await?.into_inner().run)
}

/// Sends one file, in chunks.
async fn upload(session: &Session, name: &str, bytes: Vec<u8>) -> Result<Digest, CliError> {
    let announced = chunks::announce(&bytes);
    let expected = Digest::of(&bytes);
    let mut progress = Progress::new(format!("sending {name}"), announced.bytes);
    let header = std::iter::once(UploadPart { part: Some(Part::Header(announced)) });
    let chunks = chunks::split(bytes.into(), 0, chunks::Proof::Chunks).map(move |chunk| {
        progress.at(chunk.offset);
        UploadPart { part: Some(Part::Chunk(chunk)) }
    });
    let parts = tokio_stream::iter(header.chain(chunks));
    let answer = session.control().upload(parts).await?.into_inner();
    match Digest::try_from(answer.digest.as_slice()) {
        Ok(digest) if digest == expected => Ok(digest),
        _ => Err(CliError::Corrupt(format!("{name} was damaged on its way to the coordinator"))),
    }
}

/// Reads a whole file of at most `max` bytes.
fn read(path: &Path, max: u64) -> Result<Vec<u8>, CliError> {
    let failed = |e| CliError::file("read", path)(e);
    // A folder opens, but its content is an obscure error.
    if fs::metadata(path).map_err(failed)?.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(failed(std::io::Error::other(format!("longer than {max} bytes"))));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(text: &[u8]) -> Result<Option<Prepared>, CliError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        fs::write(&path, text).unwrap();
        prepare(&Command::Run(Run::Start { job: path, watch: false }))
    }

    #[test]
    fn job_files_are_checked_before_anything_is_sent() {
        let good = include_bytes!("../../../deploy/jobs/iris.toml");
        assert_eq!(prepared(good).unwrap().unwrap().job.attachments(), ["iris.csv"]);
        let fault = |text: &[u8]| prepared(text).unwrap_err();
        let error = fault(b"name = \"x\"\n\xff");
        assert!(error.to_string().ends_with("job.toml: line 2, column 1: not UTF-8 text"), "{error}");
        let error = fault(b"name =");
        assert!(error.to_string().contains("job.toml: line 1, column 7: "), "{error}");
        assert!(fault(&vec![b'#'; JOB_BYTES_MAX + 1]).to_string().ends_with("longer than 262144 bytes"));
        assert!(prepare(&Command::Run(Run::Ls)).unwrap().is_none());
    }

    #[test]
    fn unreadable_paths_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("missing")] {
            let error = read(&path, 10).unwrap_err().to_string();
            assert!(error.starts_with(&format!("read {}: ", path.display())), "{error}");
        }
    }
}
