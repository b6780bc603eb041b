//! SIGINT and SIGTERM: the first asks for an orderly end, the second ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::task::{OnFailure, Tasks};

/// Exit status after a second SIGINT: 128 + 2.
pub const STATUS_INTERRUPT: i32 = 130;

/// Exit status after a second SIGTERM: 128 + 15.
pub const STATUS_TERMINATE: i32 = 143;

/// Cancels the shutdown token of `tasks` at the first signal and exits at the second.
///
/// # Errors
/// The operating system does not let us handle signals.
pub fn on_signals(tasks: &Tasks) -> io::Result<()> {
    let interrupt = signal(SignalKind::interrupt())?;
    let terminate = signal(SignalKind::terminate())?;
    let shutdown = tasks.shutdown().clone();
    // Not one of `tasks`: it lives as long as the process, and nobody waits for it.
    Tasks::new().spawn("signals", OnFailure::Log, watch(interrupt, terminate, shutdown));
    Ok(())
}

async fn watch(mut interrupt: Signal, mut terminate: Signal, shutdown: CancellationToken) {
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping; once more to stop at once"),
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping; once more to stop at once"),
        // Stopping for another reason: a first signal now asks for an end at once.
        () = shutdown.cancelled() => {}
    }
    shutdown.cancel();
    let status = tokio::select! {
        _ = interrupt.recv() => STATUS_INTERRUPT,
        _ = terminate.recv() => STATUS_TERMINATE,
    };
    tracing::warn!(status, "second signal: exiting at once");
    std::process::exit(status);
}
