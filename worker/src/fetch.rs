//! Blobs of the coordinator: fetched once, verified, and gone on with after a broken connection.

use std::time::Duration;

use proto::{
    chunks::Assembler,
    convert,
    error::{ErrorCode, WireError},
    v1::BlobRef,
};

use crate::client::{CallError, Client};

/// The largest blob that is fetched, in bytes.
pub(crate) const BLOB_BYTES_MAX: u64 = 8 << 30;

/// Without a byte for this long, the connection counts as broken.
const STALL: Duration = Duration::from_secs(30);

/// The blob that is being fetched. What has arrived of it outlives the connection.
#[derive(Debug, Default)]
pub(crate) struct Fetcher {
    partial: Option<(BlobRef, Assembler)>,
}

impl Fetcher {
    /// The bytes of `blob`, complete and verified against its digest.
    ///
    /// After a [`CallError::Broken`] the next call for the same blob goes on where this one ended.
    pub(crate) async fn fetch(&mut self, client: &Client, blob: &BlobRef) -> Result<Vec<u8>, CallError> {
        convert::digest("blob", &blob.digest).map_err(CallError::Refused)?;
        let mut assembler = match self.partial.take() {
            Some((known, assembler)) if known == *blob => assembler,
            _ => Assembler::new(blob, BLOB_BYTES_MAX).map_err(CallError::Refused)?,
        };
        match receive(client, blob, &mut assembler).await {
            Ok(()) => assembler.finish().map_err(CallError::Refused),
            Err(error) => {
                if matches!(error, CallError::Broken(_)) {
                    self.partial = Some((blob.clone(), assembler));
                }
                Err(error)
            }
        }
    }
}

async fn receive(client: &Client, blob: &BlobRef, assembler: &mut Assembler) -> Result<(), CallError> {
    if assembler.offset() == blob.bytes {
        return Ok(());
    }
    let mut chunks = client.fetch(blob.digest.clone(), assembler.offset()).await?;
    loop {
        let next = tokio::time::timeout(STALL, chunks.message()).await;
        let stalled = |_| CallError::Broken(format!("no byte arrived for {} s", STALL.as_secs()));
        match next.map_err(stalled)?? {
            Some(chunk) => assembler.push(&chunk).map_err(CallError::Refused)?,
            None if assembler.offset() == blob.bytes => return Ok(()),
            None => {
                let message = format!("stream ended after {} of {} bytes", assembler.offset(), blob.bytes);
                return Err(CallError::Refused(WireError::new(ErrorCode::Corrupt, message)));
            }
        }
    }
}
