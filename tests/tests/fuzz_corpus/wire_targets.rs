//! Messages and payloads from the network.

use std::{fmt::Debug, time::Duration};

use bytes::Bytes;
use params::Digest;
use prost::Message;
use proto::{
    chunks::{Assembler, CHUNK_BYTES_MAX},
    convert,
    error::{ErrorCode, WireError},
    inference::ModelInferRequest,
    parts::{Decoder, Event},
    v1::{BlobRef, Chunk, UpdatePart, Work, update_part::Part},
};
use tonic::{Code, Status};

/// The most that a payload may have here, in bytes.
const PAYLOAD_MAX: u64 = 1 << 16;

/// A part of an update.
pub(crate) fn update_part(bytes: &[u8]) {
    let Some(message) = decoded::<UpdatePart>(bytes) else { return };
    if let Some(Part::Header(header)) = message.part {
        let loss = convert::finite("train_loss", header.train_loss);
        assert_eq!(loss.is_ok(), header.train_loss.is_finite());
        let _ = header.payload.map(|payload| Assembler::new(&payload, PAYLOAD_MAX));
    }
}

/// The frames of `SubmitUpdate`. However they are cut, they mean the same, and what is taken means what the generated
/// decoder says.
pub(crate) fn update_stream(bytes: &[u8]) {
    let whole = events(bytes, bytes.len().max(1));
    assert_eq!(events(bytes, 1), whole);
    assert_eq!(events(bytes, 7), whole);
    let (found, Ok(())) = whole else { return };
    let (mut rest, mut expected) = (bytes, Vec::new());
    while let Some((prefix, behind)) = rest.split_at_checked(5) {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap());
        let (message, behind) = behind.split_at(length as usize);
        expected.push(UpdatePart::decode(message).unwrap());
        rest = behind;
    }
    // A NaN is not equal to itself, its text is.
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

/// The parts that come out of frames of `len` bytes, and why there are no more.
fn events(bytes: &[u8], len: usize) -> (Vec<UpdatePart>, Result<(), String>) {
    let (mut decoder, mut parts, mut data) = (Decoder::default(), Vec::new(), Vec::new());
    for frame in bytes.chunks(len) {
        decoder.feed(Bytes::copy_from_slice(frame));
        loop {
            let part = match decoder.step() {
                Ok(Some(Event::Data { piece, of })) => {
                    data.extend_from_slice(&piece);
                    assert!(!piece.is_empty() && data.len() <= of && of <= CHUNK_BYTES_MAX);
                    continue;
                }
                Ok(Some(Event::Header(header))) => Some(Part::Header(header)),
                Ok(Some(Event::End { offset, digest })) => {
                    let data = std::mem::take(&mut data).into();
                    Some(Part::Chunk(Chunk { offset, data, digest }))
                }
                Ok(Some(Event::Other)) => None,
                Ok(None) => break,
                Err(error) => return (parts, Err(error.message)),
            };
            parts.push(UpdatePart { part });
        }
    }
    (parts, decoder.finish().map_err(|error| error.message))
}

/// What a worker is told to do.
pub(crate) fn work(bytes: &[u8]) {
    let Some(message) = decoded::<Work>(bytes) else { return };
    let _ = message.kind();
    if let Ok(run) = convert::name("run", &message.run) {
        assert_eq!(run.as_str(), message.run);
    }
    for blob in message.model.iter().chain(&message.shard) {
        let digest = convert::digest("digest", &blob.digest);
        assert_eq!(digest.is_ok(), blob.digest.len() == 32);
    }
    let _ = job::Job::parse(&message.job);
}

/// A request for a prediction.
pub(crate) fn infer_request(bytes: &[u8]) {
    decoded::<ModelInferRequest>(bytes);
}

/// The details of a status: what they say survives a second journey.
pub(crate) fn status_detail(bytes: &[u8]) {
    let code = Code::from(i32::from(bytes.first().copied().unwrap_or(0) % 17));
    let details = bytes.get(1..).unwrap_or_default().to_vec();
    let error = WireError::from(Status::with_details(code, "why", details.into()));
    assert_eq!(error.message, "why");
    assert_ne!(error.code, ErrorCode::Unspecified);
    assert_ne!(error.retry_after, Some(Duration::ZERO));
    assert_eq!(WireError::from(Status::from(error.clone())), error);
}

/// An announcement and chunks, each behind its length. An empty digest stands for the right one, so that
/// mutations come past the first check.
pub(crate) fn chunks(mut bytes: &[u8]) {
    let Ok(mut announced) = BlobRef::decode_length_delimited(&mut bytes) else { return };
    let mut all = Vec::new();
    while let Ok(mut chunk) = Chunk::decode_length_delimited(&mut bytes) {
        if chunk.digest.is_empty() {
            chunk.digest = Digest::of(&chunk.data).as_bytes().to_vec();
        }
        all.push(chunk);
        if bytes.is_empty() {
            break;
        }
    }
    if announced.digest.is_empty() {
        let payload: Vec<u8> = all.iter().flat_map(|chunk| chunk.data.iter().copied()).collect();
        announced.digest = Digest::of(&payload).as_bytes().to_vec();
    }
    let Ok(mut assembler) = Assembler::new(&announced, PAYLOAD_MAX) else { return };
    let mut accepted = Vec::new();
    for chunk in &all {
        match assembler.push(chunk) {
            Ok(()) => accepted.extend_from_slice(&chunk.data),
            Err(error) => assert!(matches!(error.code, ErrorCode::Invalid | ErrorCode::Corrupt)),
        }
        assert_eq!(assembler.offset(), accepted.len() as u64, "a refused chunk leaves no trace");
        assert!(assembler.offset() <= announced.bytes);
    }
    let whole = accepted.len() as u64 == announced.bytes;
    let matches = Digest::of(&accepted).as_bytes()[..] == announced.digest[..];
    let finished = assembler.finish();
    assert_eq!(finished.is_ok(), whole && matches);
    if let Ok(payload) = finished {
        assert_eq!(payload, accepted);
    }
}

/// A message, if it is one: encoded again, it means the same.
fn decoded<M: Message + Default + PartialEq + Clone + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let encoded = message.encode_to_vec();
    assert_eq!(encoded.len(), message.encoded_len());
    let again = M::decode(&encoded[..]).unwrap();
    assert_eq!(again.encoded_len(), encoded.len());
    // A message that holds a NaN is not equal to itself.
    assert!(again == message || message != message.clone(), "{message:?}");
    Some(message)
}
