//! Fetching a version: into a partial file that a later attempt goes on with, verified, then renamed.

mod part;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use params::Digest;
use proto::{
    convert,
    v1::{BlobRef, FetchModelRequest},
};
use serde::Serialize;

use self::part::{Finished, Part};
use super::model;
use crate::{
    error::CliError,
    output::{self, Format},
    progress::Progress,
    reference::Reference,
    session::Session,
};

/// The names that PyTorch users and our own tools look for.
const WEIGHTS: &str = "model.safetensors";
const MANIFEST: &str = "manifest.json";

/// What a pull prints as JSON.
#[derive(Debug, Serialize)]
struct Pulled {
    model: String,
    version: u64,
    digest: String,
    bytes: u64,
    files: [PathBuf; 2],
}

/// `conclave model pull`.
pub(super) async fn run(
    session: &Session,
    format: Format,
    reference: &Reference,
    to: &Path,
) -> Result<(), CliError> {
    let shown = model::find(session, reference).await?;
    let summary = convert::required("summary", shown.summary)?;
    let weights = convert::required("weights", shown.weights)?;
    let digest = convert::digest("weights", &weights.digest)?;
    fs::create_dir_all(to).map_err(CliError::file("create", to))?;
    let target = to.join(WEIGHTS);
    if part::digest_of(&target)? == Some(digest) {
        output::note(&format!("{} is there already", target.display()));
    } else {
        fetch(session, &summary.model, summary.version, &weights, digest, &target).await?;
    }
    let manifest = to.join(MANIFEST);
    service::files::replace_shared(&manifest, shown.manifest_json.as_bytes())
        .map_err(|e| CliError::file("write", &manifest)(std::io::Error::other(e)))?;
    let pulled = Pulled {
        model: summary.model,
        version: summary.version,
        digest: digest.to_string(),
        bytes: weights.bytes,
        files: [target, manifest],
    };
    output::item(format, &pulled, |pulled| {
        let Pulled { model, version, digest, bytes, .. } = pulled;
        vec![format!(
            "pulled {model}:{version} to {}, {}, digest {digest}",
            to.display(),
            output::bytes(*bytes)
        )]
    })?;
    Ok(())
}

/// Fetches the weights, from where an earlier attempt stopped.
async fn fetch(
    session: &Session,
    model: &str,
    version: u64,
    weights: &BlobRef,
    digest: Digest,
    target: &Path,
) -> Result<(), CliError> {
    loop {
        let mut part = Part::open(target, weights.bytes)?;
        let resumed = part.offset() > 0;
        if resumed {
            output::note(&format!(
                "going on at {} of {}",
                output::bytes(part.offset()),
                output::bytes(weights.bytes)
            ));
        }
        if part.offset() < weights.bytes {
            let mut progress = Progress::new(format!("pulling {model}:{version}"), weights.bytes);
            let request = FetchModelRequest { model: model.to_owned(), version, offset: part.offset() };
            let mut chunks = session.registry().fetch_model(request).await?.into_inner();
            while let Some(chunk) = chunks.message().await? {
                part.push(&chunk)?;
                progress.at(part.offset());
            }
        }
        match part.finish(digest, target)? {
            Finished::Renamed => return sync_folder(target),
            // The partial file was of another version: start over, once.
            Finished::Different if resumed => {
                output::note("the partial file was of another version, starting over")
            }
            Finished::Different => {
                return Err(CliError::Corrupt(format!(
                    "{model}:{version} arrived damaged: its digest is not {digest}"
                )));
            }
        }
    }
}

/// A renamed file is there after a power cut only when its folder is on the disk.
fn sync_folder(target: &Path) -> Result<(), CliError> {
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(CliError::file("sync", folder))
}
