//! The log: one line per event on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

/// The environment variable with the filter, for instance `info,coordinator=debug`.
pub const FILTER_VARIABLE: &str = "CONCLAVE_LOG";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error(
        "{FILTER_VARIABLE}='{value}' is not a log filter ({why}); write for instance 'info' or 'info,coordinator=debug'"
    )]
    Filter {
        /// The text of the variable.
        value: String,
        /// What the parser says.
        why: String,
    },
    /// [`init`] was called before.
    #[error("the log is set up already")]
    Twice,
}

/// Sets up the log of this process: standard error, filtered by [`FILTER_VARIABLE`] (default
/// `default_filter`, for instance `info`), coloured only on a terminal. Panics are logged too, once each.
///
/// # Errors
/// The filter does not parse, or the log is set up already.
pub fn init(default_filter: &str) -> Result<(), TelemetryError> {
    let value = match std::env::var(FILTER_VARIABLE) {
        Ok(value) if !value.trim().is_empty() => value,
        _ => default_filter.to_owned(),
    };
    let filter = parse(&value)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .finish()
        .try_init()
        .map_err(|_| TelemetryError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
        tracing::error!("panic at {place}: {what}");
    }));
    Ok(())
}

fn parse(value: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(value)
        .map_err(|e| TelemetryError::Filter { value: value.to_owned(), why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        assert!(parse("info,coordinator=debug").is_ok());
        let error = parse("coordinator=loud").unwrap_err().to_string();
        assert!(error.starts_with("CONCLAVE_LOG='coordinator=loud' is not a log filter"), "{error}");
    }
}
