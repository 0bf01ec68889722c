//! SIGINT and SIGTERM, and SIGHUP.
//!
//! Why: the first signal ends the work in good order; whoever sends a second
//! one does not want to wait for that. State is whole either way, because
//! every change of it is one transaction.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::CliError;

/// SIGHUP, which from now on ends the process no more. By custom it tells a service to read its configuration again, or to
/// open its log files anew, neither of which this one has to be told. What it cannot notice by itself is that something was
/// put right at a vendor.
pub(super) struct Hangup(Signal);

impl Hangup {
    /// Starts to listen.
    pub(super) fn listen() -> Result<Self, CliError> {
        listen(SignalKind::hangup()).map(Self)
    }

    /// Does this at every one.
    pub(super) fn heed(mut self, retry: impl Fn() + Send + 'static) {
        tokio::spawn(async move {
            while self.0.recv().await.is_some() {
                tracing::info!(
                    "SIGHUP: instances that are failed or degraded are polled within seconds, unless their vendor \
                     asked for more; the configuration and secrets are looked at all the time"
                );
                retry();
            }
        });
    }
}

/// From now on writing beyond the limit of a file's size (`ulimit -f`) fails, as on a full disk, and does not end the
/// process. Where that cannot be, it stays as it was.
pub(super) fn survive_size_limits() {
    /// SIGXFSZ, on Linux and macOS.
    const SIGXFSZ: i32 = 25;
    // The handler stays when the listener goes.
    drop(signal(SignalKind::from_raw(SIGXFSZ)));
}

/// Listens for one kind.
fn listen(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|error| CliError::failed(format!("cannot listen for signals: {error}")))
}

/// Waits for signals. From its making on the process no longer ends by them
/// on its own.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts to listen.
    pub(super) fn listen() -> Result<Self, CliError> {
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
