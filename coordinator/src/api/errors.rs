//! Domain errors as refusals. Detail that helps the caller goes out; what only an operator of this
//! host can mend is logged here and goes out as "internal".

use proto::error::{ErrorCode, WireError};

use crate::{
    compute::ComputeError,
    plan::PlanError,
    predict::PredictError,
    registry::RegistryError,
    runs::{DriveError, RunError},
    store::{NoRoom, StoreError},
};

/// How long a caller waits when a queue is full.
const BUSY: std::time::Duration = std::time::Duration::from_millis(200);

/// How long a caller waits for room on the disk.
const ROOM: std::time::Duration = std::time::Duration::from_secs(2);

/// A defect or a fault of this host: logged whole, told in one word.
pub(crate) fn internal(error: &dyn std::fmt::Display) -> WireError {
    tracing::error!(%error, "internal error");
    WireError::internal()
}

/// The disk is too full for anything new.
pub(super) fn no_room(full: &NoRoom) -> WireError {
    WireError::new(ErrorCode::Busy, full.to_string()).retry_after(ROOM)
}

pub(super) fn from_registry(error: RegistryError) -> WireError {
    match error {
        RegistryError::NoModel { .. } | RegistryError::NoVersion { .. } => {
            WireError::not_found(error.to_string())
        }
        RegistryError::Store(StoreError::Damaged { .. } | StoreError::Missing(_)) => {
            // No secret, and no passing fault: whoever asks has to know that this version is gone.
            tracing::error!(%error, "a version cannot be served");
            let next = "run `conclave-coordinator check` on its host, and restore what it names";
            WireError::new(ErrorCode::Internal, format!("this version cannot be served: {error}; {next}"))
        }
        RegistryError::Manifest { .. } | RegistryError::Store(_) => internal(&error),
    }
}

pub(super) fn from_run(error: RunError) -> WireError {
    match error {
        RunError::NotFound(_) => WireError::not_found(error.to_string()),
        RunError::Ended { .. } => WireError::new(ErrorCode::Conflict, error.to_string()),
        RunError::Name { .. } => WireError::invalid(error.to_string()),
        RunError::Plan(PlanError::Store(StoreError::Missing(digest))) => {
            WireError::not_found(format!("no uploaded file has digest {digest}; upload it first"))
        }
        RunError::Plan(PlanError::Store(error)) => internal(&error),
        RunError::Unknown(_) => internal(&error),
        RunError::Plan(error) => WireError::invalid(error.to_string()),
        RunError::Drive(error) => from_drive(error),
    }
}

fn from_drive(error: DriveError) -> WireError {
    match error {
        DriveError::Registry(error) => from_registry(error),
        other => internal(&other),
    }
}

pub(super) fn from_predict(error: PredictError) -> WireError {
    match error {
        PredictError::Registry(error) => from_registry(error),
        PredictError::Input(message) => WireError::invalid(message),
        PredictError::Compute(ComputeError::Busy) => {
            WireError::new(ErrorCode::Busy, error.to_string()).retry_after(BUSY)
        }
        PredictError::Compute(ComputeError::Lost)
        | PredictError::Model(_)
        | PredictError::Params(_)
        | PredictError::Panicked(_) => internal(&error),
    }
}
