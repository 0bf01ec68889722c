//! What a guest writes to its standard error.
//!
//! What: the first kilobytes are kept until the step ends, and told only when the step traps: there a language's
//! runtime says why it panicked. Everything else is discarded, and nothing is ever written anywhere.
//! Not guaranteed: that a guest says anything.

use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Most bytes that are kept.
const KEPT: usize = 4 * 1024;

/// What one write may hold.
const WRITE: usize = 64 * 1024;

/// How the last line of a panic of Rust's begins.
const ADVICE: &str = "note: run with `RUST_BACKTRACE=";

/// A standard error that remembers its beginning. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Stderr {
    kept: Arc<Mutex<Vec<u8>>>,
}

impl Stderr {
    /// What was kept, as text, without the runtime's advice to set a variable: guests have no environment.
    pub(super) fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(ADVICE)).collect();
        lines.join("\n").trim().to_owned()
    }
}

#[async_trait]
impl Pollable for Stderr {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Stderr {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

impl IsTerminal for Stderr {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stderr {
    /// Not used by the interfaces that are linked; it discards.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_that_nobody_can_follow_is_left_out() {
        let mut stderr = Stderr::default();
        let text = "\nthread '<unnamed>' panicked at src/lib.rs:1:2:\nboom\n\
                    note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        stderr.write(Bytes::from_static(text.as_bytes())).unwrap();
        assert_eq!(stderr.text(), "thread '<unnamed>' panicked at src/lib.rs:1:2:\nboom");
    }

    #[test]
    fn only_the_beginning_is_kept() {
        let mut stderr = Stderr::default();
        let shared = stderr.clone();
        stderr.write(Bytes::from_static(b"thread panicked\n")).unwrap();
        for _ in 0..100 {
            stderr.write(Bytes::from(vec![b'x'; 1000])).unwrap();
        }
        assert!(shared.text().starts_with("thread panicked\nxxx"));
        assert_eq!(shared.text().len(), KEPT);
    }
}
