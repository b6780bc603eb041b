//! Sends `SubmitUpdate` without copying the payload: what is around a chunk is one small frame, its bytes are the next,
//! sliced from the payload. The generated client copies each chunk into a buffer of its own.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
use prost::{
    Message,
    encoding::{encode_varint, encoded_len_varint},
};
use tonic::{
    Status, Streaming,
    client::GrpcService,
    codec::Codec,
    codegen::http::{HeaderValue, Method, Request, header},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use crate::{
    chunks::{self, Proof},
    parts::{BYTES, CHUNK, DATA, DIGEST, OFFSET, PREFIX_BYTES, VARINT},
    v1::{Chunk, SubmitUpdateResponse, UpdateHeader, UpdatePart, update_part::Part},
};

/// The path of the call.
pub const PATH: &str = "/conclave.v1.Training/SubmitUpdate";

/// Sends the header and then the payload from the header's offset on.
///
/// # Errors
/// The status that the coordinator or the transport gives, as the generated client would give it.
pub async fn submit(
    mut channel: Channel,
    header: UpdateHeader,
    payload: Bytes,
    proof: Proof,
) -> Result<(), Status> {
    let mut request = Request::new(tonic::body::Body::new(Parts::new(header, payload, proof)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = tonic::codegen::http::Uri::from_static(PATH);
    let headers = request.headers_mut();
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(|e| Status::from_error(e.into()))?;
    let answer = channel.call(request).await.map_err(|e| Status::from_error(e.into()))?;
    if let Some(status) = Status::from_header_map(answer.headers()) {
        // A status in the headers is all there is.
        return match status.code() {
            tonic::Code::Ok => Ok(()),
            _ => Err(status),
        };
    }
    let code = answer.status();
    let decoder = ProstCodec::<UpdatePart, SubmitUpdateResponse>::default().decoder();
    let mut answer = Streaming::new_response(decoder, answer.into_body(), code, None, None);
    if answer.message().await?.is_none() {
        return Err(Status::internal("an answer without a message"));
    }
    // The status is in the trailers.
    answer.trailers().await?;
    Ok(())
}

/// The body of the request.
pub struct Parts {
    header: Option<UpdateHeader>,
    chunks: Box<dyn Iterator<Item = Chunk> + Send>,
    data: Option<Bytes>,
}

impl Parts {
    /// Of the header and then the payload from the header's offset on.
    pub fn new(header: UpdateHeader, payload: Bytes, proof: Proof) -> Self {
        let chunks = Box::new(chunks::split(payload, header.offset, proof));
        Self { header: Some(header), chunks, data: None }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("header", &self.header).finish_non_exhaustive()
    }
}

impl Iterator for Parts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(header) = self.header.take() {
            return Some(first(header));
        }
        if let Some(data) = self.data.take() {
            return Some(data);
        }
        let chunk = self.chunks.next()?;
        let before = before_data(&chunk);
        self.data = Some(chunk.data);
        Some(before)
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The message of a header.
fn first(header: UpdateHeader) -> Bytes {
    let part = UpdatePart { part: Some(Part::Header(header)) };
    let mut message = BytesMut::with_capacity(PREFIX_BYTES + part.encoded_len());
    prefix(&mut message, part.encoded_len());
    part.encode_raw(&mut message);
    message.freeze()
}

/// All of a chunk's message but its data, which comes last: protobuf allows any order.
fn before_data(chunk: &Chunk) -> Bytes {
    let mut fields = BytesMut::new();
    if chunk.offset != 0 {
        key(&mut fields, OFFSET, VARINT);
        encode_varint(chunk.offset, &mut fields);
    }
    if !chunk.digest.is_empty() {
        key(&mut fields, DIGEST, BYTES);
        encode_varint(chunk.digest.len() as u64, &mut fields);
        fields.put_slice(&chunk.digest);
    }
    key(&mut fields, DATA, BYTES);
    encode_varint(chunk.data.len() as u64, &mut fields);
    let inner = fields.len() + chunk.data.len();
    // A key of one byte, a length, and the chunk.
    let part = 1 + encoded_len_varint(inner as u64) + inner;
    let mut message = BytesMut::with_capacity(PREFIX_BYTES + part - chunk.data.len());
    prefix(&mut message, part);
    key(&mut message, CHUNK, BYTES);
    encode_varint(inner as u64, &mut message);
    message.put_slice(&fields);
    message.freeze()
}

/// Chunks are bounded: the length fits.
fn prefix(message: &mut BytesMut, bytes: usize) {
    message.put_u8(0);
    message.put_u32(bytes as u32);
}

fn key(message: &mut BytesMut, number: u64, kind: u64) {
    encode_varint(number << 3 | kind, message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_decoder_reads_the_same_parts() {
        let payload: Bytes = (0..chunks::CHUNK_BYTES * 2 + 9).map(|i| (i % 251) as u8).collect();
        for (offset, proof) in [(0, Proof::Whole), (0, Proof::Chunks), (5, Proof::Whole), (7, Proof::Chunks)]
        {
            let header = UpdateHeader { session: 3, offset, ..UpdateHeader::default() };
            let mut sent: Bytes = Parts::new(header.clone(), payload.clone(), proof).flatten().collect();
            let mut parts = Vec::new();
            while !sent.is_empty() {
                let prefix = sent.split_to(PREFIX_BYTES);
                assert_eq!(prefix[0], 0);
                let bytes = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
                parts.push(UpdatePart::decode(sent.split_to(bytes)).unwrap().part.unwrap());
            }
            let chunks = chunks::split(payload.clone(), offset, proof).map(Part::Chunk);
            assert_eq!(parts, std::iter::once(Part::Header(header)).chain(chunks).collect::<Vec<_>>());
        }
    }

    #[test]
    fn data_is_not_copied() {
        let payload: Bytes = vec![7; chunks::CHUNK_BYTES + 1].into();
        let frames: Vec<_> = Parts::new(UpdateHeader::default(), payload.clone(), Proof::Whole).collect();
        assert_eq!(frames.len(), 5);
        assert_eq!(frames[2].as_ptr(), payload.as_ptr());
        assert_eq!(frames[4].as_ptr(), payload[chunks::CHUNK_BYTES..].as_ptr());
    }
}
