//! The configuration file, looked at again and again.
//!
//! Its content decides, not its times: editors replace files, and volumes of
//! orchestrators swing links. An edit that is not sound is reported, once, and
//! the configuration before it stays in force.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::board::Board;
use crate::config::{self, Config, ConfigError, Problem};
use crate::sandbox::Clock;

/// Time between two looks; an edit takes effect after the second that shows it.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Reads the file.
///
/// # Errors
///
/// That it cannot be read, or what is wrong with it.
pub fn read(path: &Path) -> Result<(String, Config), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
        path: path.to_owned(),
        problems: vec![Problem { line: 0, message: format!("cannot be read: {error}") }],
    })?;
    let config = config::parse(path, &text)?;
    Ok((text, config))
}

/// Watches the file for as long as anybody listens.
pub async fn watch(path: PathBuf, first: String, changed: watch::Sender<Arc<Config>>, board: Board, clock: Clock) {
    let mut text = Ok(first);
    loop {
        tokio::time::sleep(INTERVAL).await;
        if changed.is_closed() {
            return;
        }
        let file = path.clone();
        let Ok(outcome) = tokio::task::spawn_blocking(move || read(&file)).await else { continue };
        match outcome {
            Ok((new, _)) if text.as_ref().is_ok_and(|old| *old == new) => {}
            Ok((new, config)) => {
                tracing::info!("configuration taken from {}: {} instances", path.display(), config.instances.len());
                text = Ok(new);
                board.host(|host| {
                    host.configured = Some(clock.now());
                    host.configuration_problems.clear();
                });
                changed.send_replace(Arc::new(config));
            }
            Err(error) => {
                if text.as_ref().err() != Some(&error) {
                    for line in error.to_string().lines() {
                        tracing::error!("configuration not taken, the one before stays in force: {line}");
                    }
                }
                board.host(|host| host.configuration_problems.clone_from(&error.problems));
                text = Err(error);
            }
        }
    }
}
