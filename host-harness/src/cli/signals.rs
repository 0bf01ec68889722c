//! SIGINT and SIGTERM.
//!
//! Why: the first signal ends the work in good order; whoever sends a second
//! one does not want to wait for that. State is whole either way, because
//! every change of it is one transaction.

use tokio::signal::unix::{SignalKind, signal};

use super::error::CliError;

/// Waits for signals. From its making on the process no longer ends by them
/// on its own.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts to listen.
    pub(super) fn listen() -> Result<Self, CliError> {
        let listen =
            |kind| signal(kind).map_err(|error| CliError::failed(format!("cannot listen for signals: {error}")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The exit code that goes with the next signal: 130 or 143.
    pub(super) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}
