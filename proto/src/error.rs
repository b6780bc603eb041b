//! The closed list of error codes, and its one mapping to gRPC statuses and back.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};

pub use crate::v1::ErrorCode;
use crate::v1::ErrorDetail;

/// A refusal as it travels: a code for programs, a message for people, a hint when to try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// What the caller can do about it.
    pub code: ErrorCode,
    /// Lowercase, with the value, the bound and the next step.
    pub message: String,
    /// How long to wait before the same call can succeed; `None`: do not repeat it unchanged.
    pub retry_after: Option<Duration>,
}

impl WireError {
    /// A refusal that is final for this request.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The same with a hint when to try again.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// A value breaks a bound.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    /// A defect or a fault of the coordinator's host, which logs the cause and tells nobody else.
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "internal error, the coordinator's log has the cause")
    }

    /// The thing asked for does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }
}

/// The gRPC code of each of ours.
fn to_grpc(code: ErrorCode) -> Code {
    match code {
        ErrorCode::Invalid => Code::InvalidArgument,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::Forbidden => Code::PermissionDenied,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::Conflict => Code::AlreadyExists,
        ErrorCode::Stale => Code::FailedPrecondition,
        ErrorCode::Corrupt => Code::DataLoss,
        ErrorCode::Busy => Code::ResourceExhausted,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::Version => Code::Unimplemented,
        ErrorCode::Internal | ErrorCode::Unspecified => Code::Internal,
    }
}

/// Our code for a status that carries no [`ErrorDetail`]: it was made by the transport.
fn from_grpc(code: Code) -> ErrorCode {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorCode::Invalid,
        Code::Unauthenticated => ErrorCode::Unauthenticated,
        Code::PermissionDenied => ErrorCode::Forbidden,
        Code::NotFound => ErrorCode::NotFound,
        Code::AlreadyExists => ErrorCode::Conflict,
        Code::FailedPrecondition | Code::Aborted => ErrorCode::Stale,
        Code::DataLoss => ErrorCode::Corrupt,
        Code::ResourceExhausted => ErrorCode::Busy,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorCode::Unavailable,
        Code::Unimplemented => ErrorCode::Version,
        Code::Ok | Code::Unknown | Code::Internal => ErrorCode::Internal,
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Self {
        let wait = error.retry_after.map_or(0, |w| u64::try_from(w.as_millis()).unwrap_or(u64::MAX));
        let detail = ErrorDetail { code: error.code.into(), retry_after_ms: wait };
        Status::with_details(to_grpc(error.code), error.message, detail.encode_to_vec().into())
    }
}

impl From<Status> for WireError {
    fn from(status: Status) -> Self {
        let detail = ErrorDetail::decode(status.details()).unwrap_or_default();
        let code = match detail.code() {
            ErrorCode::Unspecified => from_grpc(status.code()),
            code => code,
        };
        let wait = Duration::from_millis(detail.retry_after_ms);
        Self { code, message: status.message().to_owned(), retry_after: (!wait.is_zero()).then_some(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ErrorCode; 11] = [
        ErrorCode::Invalid,
        ErrorCode::Unauthenticated,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::Conflict,
        ErrorCode::Stale,
        ErrorCode::Corrupt,
        ErrorCode::Busy,
        ErrorCode::Unavailable,
        ErrorCode::Version,
        ErrorCode::Internal,
    ];

    #[test]
    fn every_code_comes_back() {
        for code in ALL {
            let error = WireError::new(code, "why").retry_after(Duration::from_millis(250));
            assert_eq!(WireError::from(Status::from(error.clone())), error);
            // Also from a peer that strips the details.
            let bare = Status::new(to_grpc(code), "why");
            assert_eq!(WireError::from(bare), WireError::new(code, "why"));
        }
    }

    #[test]
    fn damaged_details_are_ignored() {
        let status = Status::with_details(Code::NotFound, "gone", vec![0xff; 9].into());
        assert_eq!(WireError::from(status), WireError::not_found("gone"));
    }
}
