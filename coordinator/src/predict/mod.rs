//! Prediction: any published version, over gRPC and HTTP, by the Open Inference Protocol v2.
//!
//! [`Engine`] loads versions and computes; [`oip`] is the protocol without a transport; the two
//! transports are in `api`.

mod engine;
pub(crate) mod oip;

pub(crate) use engine::{Answer, Engine, PredictError};
