//! What workers say about themselves, bounded, and what they are handed, in the words of the wire.

use params::Digest;
use proto::{
    PROTOCOL, convert,
    error::{ErrorCode, WireError},
    v1,
};

use super::EXAMPLES_MAX;
use crate::{
    runs::{Found, Offer},
    workers::Dataset,
};

/// Bounds on what a worker says about itself.
const DATASETS_MAX: usize = 64;
const ENCODINGS_MAX: usize = 64;
const COLUMNS_MAX: usize = 10_000;
const TEXT_CHARS_MAX: usize = 120;

/// The largest loss, either sign.
const LOSS_MAX: f64 = 1e30;

/// The length of an update that is what the run asks for.
pub(super) fn awaited(
    view: &Found,
    header: &v1::UpdateHeader,
    announced: &v1::BlobRef,
) -> Result<u64, WireError> {
    let exchange = &view.context.exchange;
    let (sent, asked) = (header.encoding.as_str(), exchange.encoding.name());
    let sent = if sent.is_empty() { update::Encoding::F32.name() } else { sent };
    if sent != asked {
        let sent = shorten(sent);
        return Err(WireError::invalid(format!(
            "update in encoding '{sent}', run {} asks for '{asked}'",
            view.context.run
        )));
    }
    let expected = exchange.form.bytes(&exchange.encoding);
    if announced.bytes != expected {
        return Err(WireError::invalid(format!(
            "update of {} bytes, run {} asks for {expected} in encoding '{asked}'",
            announced.bytes, view.context.run
        )));
    }
    Ok(expected)
}

/// A loss that can be averaged over any number of examples and stay finite.
pub(super) fn loss(what: &str, value: f64) -> Result<f64, WireError> {
    if convert::finite(what, value)?.abs() > LOSS_MAX {
        return Err(WireError::invalid(format!(
            "{what} is {value:e}, at most {LOSS_MAX:e} is taken: training diverged"
        )));
    }
    Ok(value)
}

/// The newest protocol that both sides speak.
pub(super) fn negotiate(min: u32, max: u32) -> Result<u32, WireError> {
    let common = max.min(*PROTOCOL.end());
    if min > max || common < min || common < *PROTOCOL.start() {
        return Err(WireError::new(
            ErrorCode::Version,
            format!(
                "the worker speaks protocol {min} to {max}, this coordinator {} to {}: upgrade the older one",
                PROTOCOL.start(),
                PROTOCOL.end()
            ),
        ));
    }
    Ok(common)
}

pub(super) fn datasets(offered: Vec<v1::Dataset>) -> Result<Vec<Dataset>, WireError> {
    if offered.len() > DATASETS_MAX {
        return Err(WireError::invalid(format!(
            "{} datasets, at most {DATASETS_MAX} are allowed",
            offered.len()
        )));
    }
    offered
        .into_iter()
        .map(|d| {
            let name = convert::name("dataset", &d.name)?;
            if d.rows > EXAMPLES_MAX || d.columns.len() > COLUMNS_MAX {
                return Err(WireError::invalid(format!(
                    "dataset '{name}' has {} rows and {} columns, at most {EXAMPLES_MAX} and {COLUMNS_MAX} are allowed",
                    d.rows,
                    d.columns.len()
                )));
            }
            Ok(Dataset { name, rows: d.rows, })
        })
        .collect()
}

/// What a worker can send; one that says nothing sends `f32`, as before protocol 3.
pub(super) fn encodings(offered: Vec<String>) -> Result<Vec<String>, WireError> {
    if offered.len() > ENCODINGS_MAX {
        let found = offered.len();
        return Err(WireError::invalid(format!("{found} encodings, at most {ENCODINGS_MAX} are allowed")));
    }
    let plain = update::Encoding::F32.name();
    Ok(if offered.is_empty() { vec![plain.to_owned()] } else { offered.iter().map(|e| shorten(e)).collect() })
}

/// Text of a worker for people: bounded, on one line.
pub(super) fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

pub(super) fn to_wire(found: &Found, offer: &Offer) -> v1::Work {
    let Offer { assignment, owed, deadline_ms } = offer;
    let context = &found.context;
    let kind = match assignment.kind {
        round::WorkKind::Train => v1::WorkKind::Train,
        round::WorkKind::Evaluate => v1::WorkKind::Evaluate,
    };
    let bytes = found.board.read().model.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
    let shards = context.prepared.shards.as_ref();
    let shard = assignment.shard.and_then(|index| shards?.get(index as usize));
    v1::Work {
        run: context.run.to_string(),
        round: assignment.round,
        lease: assignment.lease,
        kind: kind.into(),
        job: context.job_text.clone(),
        model: Some(convert::blob_ref(assignment.model, bytes)),
        shard: shard.and_then(|s| Some(convert::blob_ref(s.table.digest.parse().ok()?, s.table.bytes))),
        features: context.prepared.features.clone(),
        classes: context.prepared.classes.clone(),
        examples_max: assignment.examples_max,
        deadline_ms: *deadline_ms,
        owed: owed.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default(),
        part: assignment.shard.unwrap_or(0),
        base_before: Vec::new(),
        difference: None,
    }
}

/// Whether the work of a worker names a file: its bytes where the run holds them, `Some(None)` where
/// they are to be read.
pub(super) fn named(found: &Found, offer: &Offer, digest: &Digest) -> Option<Option<bytes::Bytes>> {
    let assignment = &offer.assignment;
    if assignment.model == *digest {
        let posted = found.board.read();
        let kept = posted.model.as_ref().filter(|(kept, _)| kept == digest);
        return Some(kept.map(|(_, bytes)| bytes.clone()));
    }
    if let Some(bytes) = found.board.read().difference(&assignment.model, digest) {
        return Some(Some(bytes));
    }
    let shards = found.context.prepared.shards.as_ref()?;
    let shard = shards.get(assignment.shard? as usize)?;
    (shard.table.digest == digest.to_string()).then_some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_negotiated() {
        assert_eq!(negotiate(1, 1), Ok(1));
        assert_eq!(negotiate(1, 9), Ok(3));
        assert_eq!(negotiate(2, 2), Ok(2));
        for (min, max) in [(4, 9), (0, 0), (3, 2)] {
            assert_eq!(negotiate(min, max).unwrap_err().code, ErrorCode::Version);
        }
    }

    #[test]
    fn workers_cannot_flood_the_table() {
        let dataset = |name: &str, rows| v1::Dataset { name: name.into(), rows, columns: vec![] };
        assert!(datasets(vec![dataset("iris", 150)]).is_ok());
        assert!(datasets(vec![dataset("../iris", 150)]).is_err());
        assert!(datasets(vec![dataset("iris", u64::MAX)]).is_err());
        assert!(datasets(vec![dataset("iris", 1); DATASETS_MAX + 1]).is_err());
        assert_eq!(shorten("a\u{1b}[31m\nb"), "a[31mb");
    }
}
