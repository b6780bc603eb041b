//! The wire: generated code, validated conversions, and the one mapping between errors and statuses.
//!
//! Wire types do not leave the edge of a program: [`convert`] turns them into domain types and
//! checks every bound on the way in, [`chunks`] streams payloads with offsets and digests,
//! [`parts`] and [`submit`] are the two ends of an update on its way, and [`error`] maps the closed list of error codes to gRPC statuses and back.

pub mod chunks;
pub mod convert;
pub mod error;
pub mod parts;
pub mod submit;

/// Messages and services of `conclave.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("conclave.v1");
}

/// The Open Inference Protocol v2 over gRPC.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The oldest and newest protocol that this build speaks.
pub const PROTOCOL: std::ops::RangeInclusive<u32> = 1..=3;

/// The ALPN protocol of connections without a client certificate, which reach [`v1::enrolment_server`] only.
pub const ALPN_ENROL: &[u8] = b"conclave-enrol/1";

/// The ALPN protocol of every other connection; a client certificate is required.
pub const ALPN: &[u8] = b"h2";

/// The paths of all RPCs, for instance `/conclave.v1.Training/Poll`.
pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));
