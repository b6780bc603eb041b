//! The request stream of `SubmitUpdate`, decoded while it arrives: gRPC messages around [`UpdatePart`]s. Bytes of a
//! payload come out as slices of the frames that they came in. No generated decoder does that: those want a whole
//! message in one piece, and copy frames to make one.
//!
//! What protobuf allows is taken: fields in any order, and fields that are not known. A field that is there twice is
//! refused, which no encoder writes and which would mean that bytes which are gone out were not meant.
//!
//! [`UpdatePart`]: crate::v1::UpdatePart

use bytes::{Buf, Bytes};
use prost::Message;

use crate::{chunks::CHUNK_BYTES_MAX, error::WireError, v1::UpdateHeader};

/// The largest header of an update, and the largest of all that is not payload, in bytes.
pub const SMALL_BYTES_MAX: usize = 64 << 10;

/// The largest message: a chunk and what is around it.
const MESSAGE_BYTES_MAX: usize = CHUNK_BYTES_MAX + SMALL_BYTES_MAX;

/// gRPC's prefix of a message: a flag, and the length in four bytes.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Field numbers of `UpdatePart` and `Chunk`, which are held by a test.
pub(crate) const HEADER: u64 = 1;
pub(crate) const CHUNK: u64 = 2;
pub(crate) const OFFSET: u64 = 1;
pub(crate) const DATA: u64 = 2;
pub(crate) const DIGEST: u64 = 3;

/// Wire types of protobuf.
pub(crate) const VARINT: u64 = 0;
const FIXED64: u64 = 1;
pub(crate) const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// What comes next in the stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A part that is a header.
    Header(UpdateHeader),
    /// Bytes of the data of a chunk, never none: a slice of the frame that they came in.
    Data {
        /// The bytes.
        piece: Bytes,
        /// How many bytes the data has in all, at most [`CHUNK_BYTES_MAX`].
        of: usize,
    },
    /// The end of a chunk; all its data came before.
    End {
        /// Where its data begins in the payload.
        offset: u64,
        /// The digest of its data; empty: none was sent.
        digest: Vec<u8>,
    },
    /// A part that is neither header nor chunk.
    Other,
}

/// Decodes a stream, frame by frame: after [`feed`](Self::feed), [`step`](Self::step) until it gives nothing.
/// After an error it gives errors.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What was fed and not read.
    input: Bytes,
    state: State,
    /// Bytes that are left of the message, or of the chunk that is read in it.
    left: usize,
    /// The chunk that is read.
    chunk: Option<Chunk>,
    /// Whether the message had its header or chunk.
    had_part: bool,
    /// A number, or a small field, that is not all there.
    number: Number,
    small: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    /// Before the prefix of a message, or in it.
    #[default]
    Prefix,
    /// Before the key of a field, or at the end of a chunk or message.
    Key,
    /// Before the length of a field.
    Length(Field),
    /// Before a number.
    Varint(Field),
    /// In a field that is kept until it is whole.
    Small(Field, usize),
    /// In the data of a chunk: of so many bytes, so many are left.
    Data { of: usize, left: usize },
    /// In what is not known.
    Skip(usize),
    /// Nothing more is read.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Header,
    Chunk,
    Offset,
    Data,
    Digest,
    Unknown,
}

#[derive(Debug, Default)]
struct Chunk {
    offset: Option<u64>,
    has_data: bool,
    digest: Option<Vec<u8>>,
    /// Bytes of the message behind it.
    behind: usize,
}

/// A varint, as far as it was read.
#[derive(Debug, Default)]
struct Number {
    value: u64,
    bits: u32,
}

impl Decoder {
    /// Gives the next bytes of the stream. What is left of the ones before is kept in front, at the price of a copy:
    /// step until there is nothing.
    pub fn feed(&mut self, frame: Bytes) {
        match self.input.is_empty() {
            true => self.input = frame,
            false => self.input = [&self.input[..], &frame[..]].concat().into(),
        }
    }

    /// The next event; `None`: more bytes are needed.
    ///
    /// # Errors
    /// What breaks the framing of gRPC or protobuf, a chunk or header that is too large, and a field that is there
    /// twice.
    pub fn step(&mut self) -> Result<Option<Event>, WireError> {
        loop {
            match self.advance() {
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Ok(Step::On) => {}
                Ok(Step::Wait) => return Ok(None),
                Err(error) => {
                    self.state = State::Broken;
                    return Err(error);
                }
            }
        }
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// It ended inside a message.
    pub fn finish(&self) -> Result<(), WireError> {
        if self.state == State::Prefix && self.small.is_empty() && self.input.is_empty() {
            return Ok(());
        }
        Err(malformed("it ends inside a message"))
    }

    fn advance(&mut self) -> Result<Step, WireError> {
        match self.state {
            State::Prefix => self.prefix(),
            State::Key if self.left == 0 && self.number.bits == 0 => Ok(self.end()),
            State::Key => self.key(),
            State::Length(field) => {
                let Some(length) = self.varint()? else { return Ok(Step::Wait) };
                self.length(field, length)
            }
            State::Varint(field) => {
                let Some(value) = self.varint()? else { return Ok(Step::Wait) };
                if let (Field::Offset, Some(chunk)) = (field, &mut self.chunk) {
                    once(chunk.offset.replace(value).is_none())?;
                }
                self.go(State::Key)
            }
            State::Small(field, bytes) => self.small(field, bytes),
            State::Data { left: 0, .. } | State::Skip(0) => self.go(State::Key),
            _ if self.input.is_empty() => Ok(Step::Wait),
            State::Data { of, left } => {
                let piece = self.take(left);
                self.state = State::Data { of, left: left - piece.len() };
                Ok(Step::Event(Event::Data { piece, of }))
            }
            State::Skip(bytes) => {
                let skipped = self.take(bytes).len();
                self.go(State::Skip(bytes - skipped))
            }
            State::Broken => Err(malformed("it was refused before")),
        }
    }

    fn go(&mut self, state: State) -> Result<Step, WireError> {
        self.state = state;
        Ok(Step::On)
    }

    fn prefix(&mut self) -> Result<Step, WireError> {
        let Some(prefix) = self.collect(PREFIX_BYTES) else { return Ok(Step::Wait) };
        let flag = prefix[0];
        if flag != 0 {
            return Err(malformed(format!("a message has flag {flag}, only plain ones (0) are taken")));
        }
        let bytes = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if bytes > MESSAGE_BYTES_MAX {
            return Err(malformed(format!(
                "a message has {bytes} bytes, at most {MESSAGE_BYTES_MAX} are allowed"
            )));
        }
        self.left = bytes;
        self.had_part = false;
        self.go(State::Key)
    }

    /// The end of a chunk, or of a message.
    fn end(&mut self) -> Step {
        if let Some(chunk) = self.chunk.take() {
            self.left = chunk.behind;
            let (offset, digest) = (chunk.offset.unwrap_or(0), chunk.digest.unwrap_or_default());
            return Step::Event(Event::End { offset, digest });
        }
        self.state = State::Prefix;
        match self.had_part {
            true => Step::On,
            false => Step::Event(Event::Other),
        }
    }

    fn key(&mut self) -> Result<Step, WireError> {
        let Some(key) = self.varint()? else { return Ok(Step::Wait) };
        let (number, kind) = (key >> 3, key & 7);
        if number == 0 || key > u64::from(u32::MAX) {
            return Err(malformed(format!("a field has number {number}")));
        }
        let field = match (self.chunk.is_some(), number) {
            (false, HEADER) => Field::Header,
            (false, CHUNK) => Field::Chunk,
            (true, OFFSET) => Field::Offset,
            (true, DATA) => Field::Data,
            (true, DIGEST) => Field::Digest,
            _ => Field::Unknown,
        };
        match (field, kind) {
            (Field::Offset | Field::Unknown, VARINT) => self.go(State::Varint(field)),
            (Field::Unknown, FIXED64) => self.skip(8),
            (Field::Unknown, FIXED32) => self.skip(4),
            (Field::Offset, _) => Err(malformed(format!("field {number} has wire type {kind}"))),
            (_, BYTES) => self.go(State::Length(field)),
            _ => Err(malformed(format!("field {number} has wire type {kind}"))),
        }
    }

    /// Begins a field of `length` bytes.
    fn length(&mut self, field: Field, length: u64) -> Result<Step, WireError> {
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= self.left) else {
            return Err(malformed(format!("a field has {length} bytes where {} are left", self.left)));
        };
        if matches!(field, Field::Header | Field::Digest) && length > SMALL_BYTES_MAX {
            return Err(malformed(format!(
                "a field has {length} bytes, at most {SMALL_BYTES_MAX} are allowed"
            )));
        }
        match field {
            Field::Header | Field::Chunk => once(!std::mem::replace(&mut self.had_part, true))?,
            Field::Data => {
                if length > CHUNK_BYTES_MAX {
                    return Err(WireError::invalid(crate::chunks::chunk_length(length)));
                }
                once(self.chunk.as_mut().is_none_or(|chunk| !std::mem::replace(&mut chunk.has_data, true)))?;
            }
            _ => {}
        }
        match field {
            Field::Chunk => {
                self.chunk = Some(Chunk { behind: self.left - length, ..Chunk::default() });
                self.left = length;
                self.go(State::Key)
            }
            Field::Data => self.go(State::Data { of: length, left: length }),
            Field::Header | Field::Digest => self.go(State::Small(field, length)),
            Field::Offset | Field::Unknown => self.go(State::Skip(length)),
        }
    }

    fn skip(&mut self, bytes: usize) -> Result<Step, WireError> {
        self.length(Field::Unknown, bytes as u64)
    }

    fn small(&mut self, field: Field, bytes: usize) -> Result<Step, WireError> {
        let Some(whole) = self.collect(bytes) else { return Ok(Step::Wait) };
        self.left -= bytes;
        self.state = State::Key;
        if let (Field::Digest, Some(chunk)) = (field, &mut self.chunk) {
            once(chunk.digest.replace(whole).is_none())?;
            return Ok(Step::On);
        }
        let header = UpdateHeader::decode(&whole[..]).map_err(|e| malformed(format!("its header: {e}")))?;
        Ok(Step::Event(Event::Header(header)))
    }

    /// `bytes` in one piece, once they are there.
    fn collect(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let more = self.input.len().min(bytes - self.small.len());
        self.small.extend_from_slice(&self.input.split_to(more));
        (self.small.len() == bytes).then(|| std::mem::take(&mut self.small))
    }

    /// At most `bytes` of what is there, of this message.
    fn take(&mut self, bytes: usize) -> Bytes {
        let taken = self.input.split_to(self.input.len().min(bytes));
        self.left -= taken.len();
        taken
    }

    /// A number, once all of it is there.
    fn varint(&mut self) -> Result<Option<u64>, WireError> {
        loop {
            if self.left == 0 {
                return Err(malformed("a field ends inside a number"));
            }
            if self.input.is_empty() {
                return Ok(None);
            }
            let byte = self.input.get_u8();
            self.left -= 1;
            let Number { value, bits } = &mut self.number;
            if *bits == 63 && byte > 1 {
                return Err(malformed("a number has more than 64 bits"));
            }
            *value |= u64::from(byte & 0x7f) << *bits;
            *bits += 7;
            if byte & 0x80 == 0 {
                return Ok(Some(std::mem::take(&mut self.number).value));
            }
        }
    }
}

enum Step {
    Event(Event),
    /// Another state, which may need no more bytes.
    On,
    /// More bytes are needed.
    Wait,
}

fn once(first: bool) -> Result<(), WireError> {
    match first {
        true => Ok(()),
        false => Err(malformed("a part has a field twice, or is both header and chunk")),
    }
}

fn malformed(why: impl std::fmt::Display) -> WireError {
    WireError::invalid(format!("the stream is no update: {why}"))
}

#[cfg(test)]
mod tests;
