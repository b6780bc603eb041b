use proptest::prelude::*;

use super::*;
use crate::v1::{self, UpdatePart, update_part::Part};

/// A part, as the stream means it: pieces of data together.
#[derive(Clone, Debug, PartialEq)]
enum Whole {
    Header(UpdateHeader),
    Chunk(v1::Chunk),
    Other,
}

/// All events of a stream in frames that end at `cuts`, with the pieces of each chunk put together.
fn read(stream: &[u8], cuts: &[usize]) -> Result<Vec<Whole>, WireError> {
    let (mut decoder, mut whole, mut data) = (Decoder::default(), Vec::new(), Vec::new());
    let mut from = 0;
    for to in cuts.iter().copied().chain([stream.len()]) {
        decoder.feed(Bytes::copy_from_slice(&stream[from..to]));
        from = to;
        while let Some(event) = decoder.step()? {
            match event {
                Event::Header(header) => whole.push(Whole::Header(header)),
                Event::Data { piece, of } => {
                    assert!(!piece.is_empty());
                    data.extend_from_slice(&piece);
                    assert!(data.len() <= of && of <= CHUNK_BYTES_MAX);
                }
                Event::End { offset, digest } => {
                    let data = std::mem::take(&mut data).into();
                    whole.push(Whole::Chunk(v1::Chunk { offset, data, digest }));
                }
                Event::Other => whole.push(Whole::Other),
            }
        }
    }
    decoder.finish().map(|()| whole)
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let one = |message: &Vec<u8>| [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    messages.iter().flat_map(one).collect()
}

/// What is wrong with one message.
fn fault(message: &[u8]) -> String {
    read(&framed(&[message.to_vec()]), &[]).unwrap_err().message
}

fn chunk(fields: &[u8]) -> Vec<u8> {
    [&[0x12, fields.len() as u8], fields].concat()
}

#[test]
fn any_order_and_unknown_fields_are_taken() {
    let expected = |offset, digest: &[u8]| {
        let (data, digest) = (Bytes::from_static(b"abc"), digest.to_vec());
        Ok(vec![Whole::Chunk(v1::Chunk { offset, data, digest })])
    };
    let one = |fields: &[u8]| read(&framed(&[chunk(fields)]), &[]);
    assert_eq!(one(b"\x08\x07\x12\x03abc\x1a\x02de"), expected(7, b"de"));
    assert_eq!(one(b"\x1a\x02de\x12\x03abc\x08\x07"), expected(7, b"de"));
    // Not in the shortest form, which protobuf allows.
    assert_eq!(one(b"\x12\x83\x80\x00abc\x08\x87\x00"), expected(7, b""));
    // A number, eight bytes, four bytes and a text that are not known.
    let unknown = b"\x20\xff\x01\x29........\x35....\x3a\x02xy";
    assert_eq!(one(&[unknown, &b"\x12\x03abc"[..], unknown].concat()), expected(0, b""));
    let outside = [&unknown[..], &chunk(b"\x12\x03abc"), unknown].concat();
    assert_eq!(read(&framed(&[outside]), &[]), expected(0, b""));
    assert_eq!(read(&framed(&[vec![], unknown.to_vec()]), &[]), Ok(vec![Whole::Other, Whole::Other]));
    assert_eq!(one(b"").unwrap(), [Whole::Chunk(v1::Chunk::default())]);
    assert_eq!(read(&[], &[]), Ok(vec![]));
}

#[test]
fn what_is_malformed_is_named() {
    let starts = "the stream is no update: ";
    for (message, why) in [
        (&b"\x12\x05"[..], "a field has 5 bytes where 0 are left"),
        (b"\x12\x03\x12\x05a", "a field has 5 bytes where 1 are left"),
        (b"\x12", "a field ends inside a number"),
        (b"\x20\x80", "a field ends inside a number"),
        (b"\x12\x02\x08\x80\x20\x00", "a field ends inside a number"),
        (b"\x00\x00", "a field has number 0"),
        (b"\x80\x80\x80\x80\x10\x00", "a field has number 536870912"),
        (b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "a number has more than 64 bits"),
        (b"\x10\x00", "field 2 has wire type 0"),
        (b"\x12\x02\x10\x00", "field 2 has wire type 0"),
        (b"\x12\x02\x0a\x00", "field 1 has wire type 2"),
        (b"\x23\x24", "field 4 has wire type 3"),
        (b"\x26", "field 4 has wire type 6"),
        (b"\x21....", "a field has 8 bytes where 4 are left"),
        (b"\x0a\x00\x12\x00", "a part has a field twice, or is both header and chunk"),
        (b"\x12\x00\x12\x00", "a part has a field twice, or is both header and chunk"),
        (b"\x12\x04\x12\x00\x12\x00", "a part has a field twice, or is both header and chunk"),
        (b"\x12\x04\x08\x00\x08\x00", "a part has a field twice, or is both header and chunk"),
        (b"\x12\x04\x1a\x00\x1a\x00", "a part has a field twice, or is both header and chunk"),
    ] {
        assert_eq!(fault(message), format!("{starts}{why}"), "{message:?}");
    }
    assert!(fault(b"\x0a\x01\x08").starts_with("the stream is no update: its header: "));
    let flag = read(&[1, 0, 0, 0, 0], &[]).unwrap_err().message;
    assert_eq!(flag, format!("{starts}a message has flag 1, only plain ones (0) are taken"));
    let long = read(&[0, 255, 255, 255, 255], &[]).unwrap_err().message;
    assert_eq!(long, format!("{starts}a message has 4294967295 bytes, at most 1114112 are allowed"));
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let message = |prefix: &[u8], bytes: u32| [&[0][..], &bytes.to_be_bytes(), prefix].concat();
    let data = |bytes: usize| {
        let mut part = Vec::new();
        for length in [bytes + 4, bytes] {
            part.push(0x12);
            prost::encoding::encode_varint(length as u64, &mut part);
        }
        read(&message(&part, (bytes + part.len()) as u32), &[]).unwrap_err().message
    };
    assert_eq!(data(CHUNK_BYTES_MAX + 1), "chunk of 1048577 bytes, 1 to 1048576 are allowed");
    assert_eq!(data(CHUNK_BYTES_MAX), "the stream is no update: it ends inside a message");
    // 65 537 bytes of a header, and of a digest.
    for part in [&b"\x0a\x81\x80\x04"[..], b"\x12\x85\x80\x04\x1a\x81\x80\x04"] {
        let found = read(&message(part, 70_000), &[]).unwrap_err().message;
        assert_eq!(found, "the stream is no update: a field has 65537 bytes, at most 65536 are allowed");
    }
}

#[test]
fn a_stream_ends_between_messages_only() {
    let stream = framed(&[chunk(b"\x08\x07\x12\x03abc\x1a\x02de"), chunk(b"\x12\x01f")]);
    let between = 5 + 2 + 11;
    for end in 0..=stream.len() {
        let whole = [0, between, stream.len()].contains(&end);
        assert_eq!(read(&stream[..end], &[]).is_ok(), whole, "{end}");
    }
}

#[test]
fn data_is_a_slice_of_its_frame_and_errors_stay() {
    let mut decoder = Decoder::default();
    let frame = Bytes::from(framed(&[chunk(b"\x12\x03abc"), b"\x00\x00".to_vec()]));
    decoder.feed(frame.clone());
    let Ok(Some(Event::Data { piece, of: 3 })) = decoder.step() else { panic!("data") };
    assert_eq!(piece.as_ptr(), frame[9..].as_ptr());
    assert_eq!(decoder.step(), Ok(Some(Event::End { offset: 0, digest: Vec::new() })));
    assert!(decoder.step().is_err());
    decoder.feed(framed(&[chunk(b"\x12\x03abc")]).into());
    assert_eq!(decoder.step().unwrap_err().message, "the stream is no update: it was refused before");
    assert!(decoder.finish().is_err());
}

fn parts() -> impl Strategy<Value = Vec<UpdatePart>> {
    let header = (any::<u64>(), any::<i32>(), ".{0,9}").prop_map(|(session, loss, encoding)| {
        let train_loss = f64::from(loss);
        let payload = Some(v1::BlobRef { digest: vec![7; 32], bytes: session / 3 });
        let header = UpdateHeader { session, train_loss, payload, encoding, ..UpdateHeader::default() };
        UpdatePart { part: Some(Part::Header(header)) }
    });
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let chunk = (any::<u64>(), bytes(), bytes()).prop_map(|(offset, data, digest)| {
        let chunk = v1::Chunk { offset, data: data.into(), digest };
        UpdatePart { part: Some(Part::Chunk(chunk)) }
    });
    prop::collection::vec(prop_oneof![header, chunk, Just(UpdatePart { part: None })], 0..6)
}

fn whole(part: UpdatePart) -> Whole {
    match part.part {
        Some(Part::Header(header)) => Whole::Header(header),
        Some(Part::Chunk(chunk)) => Whole::Chunk(chunk),
        None => Whole::Other,
    }
}

proptest! {
    /// Also holds the field numbers against the generated code.
    #[test]
    fn any_frames_of_a_stream_mean_the_same(parts in parts(), cuts: Vec<prop::sample::Index>) {
        let messages: Vec<_> = parts.iter().map(UpdatePart::encode_to_vec).collect();
        let stream = framed(&messages);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let expected: Vec<_> = parts.into_iter().map(whole).collect();
        prop_assert_eq!(read(&stream, &cuts), Ok(expected.clone()));
        let bytes: Vec<_> = (0..stream.len()).collect();
        prop_assert_eq!(read(&stream, &bytes), Ok(expected));
    }

    #[test]
    fn arbitrary_bytes_never_panic(stream: Vec<u8>) {
        let _ = read(&stream, &[]);
    }

    /// What is taken means what the generated decoder says.
    #[test]
    fn arbitrary_messages_are_taken_as_protobuf_has_them(
        fields in prop::collection::vec((0u8..40, prop::collection::vec(0u8..40, 0..9)), 0..4),
        inside: bool,
    ) {
        let mut message: Vec<u8> =
            fields.iter().flat_map(|(key, value)| [&[*key], &value[..]].concat()).collect();
        if inside {
            message = chunk(&message);
        }
        let generated = UpdatePart::decode(&message[..]);
        if let Ok(found) = read(&framed(&[message]), &[]) {
            prop_assert_eq!(found, [whole(generated.unwrap())]);
        }
    }
}
