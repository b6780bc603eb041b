//! The journal: an append-only, hash-chained, crash-safe log of opaque payloads, with snapshots.
//!
//! ```text
//! segment   <first seq, 20 digits>.seg    header, frames
//! snapshot  <seq, 20 digits>.snap         header, frames, trailer
//! header    magic [8] | format u32 | seq u64 | hash [32]
//! frame     len u32 | check u32 | seq u64 | synced u64 | prev [32] | payload [len]
//! trailer   a frame without payload: seq is the count of frames, prev is their last hash
//! ```
//!
//! Numbers are little-endian. The hash of a frame is BLAKE3(seq ‖ synced ‖ prev ‖ payload) and `check` is its
//! first four bytes: a frame verifies itself and names its predecessor. Sequence numbers start at 1 and have no gap.
//! `synced` is the last number that was durable when the frame was appended (0 in a snapshot).
//! The header of a segment has the first sequence number and the hash before it, the header of a snapshot has
//! the frame after which the state was taken, and the hash of that frame.
//!
//! What is promised: [`Journal::sync`] returns when the frames are on the disk. After a crash, [`Journal::open`]
//! gives every frame that was synced, in order, and perhaps some that were only written. The frames
//! of one unsynced write can reach the disk in any order and in part, so bytes of the last segment that are no
//! frame are the torn end of such a write, and cut off with all that is behind them, unless a frame behind them
//! says with its `synced` that the one in their place was durable. That is damage, and so is anything else that
//! does not fit: it stops the opening, changes nothing, and is mended by [`recover`].
//!
//! What this cannot tell: rot in the last write, before a later one has followed, looks torn. An owner that knows
//! which frame it has seen last says so ([`Options::least`]), and then it is refused.
//!
//! One process writes. A second one is noticed by the length of the segment ([`WriteError::Fenced`]), but
//! keeping it out is the business of the owner's lock.
//!
//! Reading order: [`Journal`], [`Mark`] (snapshots), [`read`], [`verify`], [`recover`].

#![forbid(unsafe_code)]

pub mod entry;
mod error;
mod folder;
mod format;
mod frame;
mod open;
mod options;
mod read;
mod recover;
mod retire;
mod snapshot;
mod verify;
mod walk;
mod write;

pub use error::{AppendError, Damage, Fault, OpenError, Reason, WriteError};
pub use format::FORMAT;
pub use open::{Item, Opened, Torn};
pub use options::{CRASH_POINTS, Options};
pub use read::{first_seq, read};
pub use recover::{Recovered, recover};
pub use retire::Retired;
pub use snapshot::Mark;
pub use verify::{Finding, Kind, Report, verify};
pub use write::Journal;
